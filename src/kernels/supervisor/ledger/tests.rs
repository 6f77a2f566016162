//! What notes leave, read again.

use std::fs::OpenOptions;
use std::io::Write;

use super::*;
use proptest::prelude::*;

fn asked(request: &str) -> Asked {
    Asked {
        request: request.to_owned(),
        session: "a".to_owned(),
        channel: "shell".to_owned(),
        msg_type: "execute_request".to_owned(),
        header: "{\"x\": 1}".to_owned(),
        stop_on_error: true,
        held: false,
        elsewhere: None,
        end: None,
    }
}

fn over(request: &str, seq: u64) -> Note {
    Note::Over(Over {
        request: request.to_owned(),
        end: End {
            seq,
            status: "ok".to_owned(),
            execution_count: Some(4),
        },
    })
}

#[test]
fn what_is_left_is_what_was_asked_and_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests");
    let (mut ledger, left) = Ledger::open(&path, folder.path());
    assert_eq!(left, Left::default());
    let question = Question {
        request: "2".to_owned(),
        message: "{}".to_owned(),
    };
    let joined = Joined {
        session: "a".to_owned(),
        identity: "me".to_owned(),
        credential: "c".to_owned(),
        cursor: 3,
        lost: Loss::default(),
        catches_up: Some(CatchesUp {
            request: "s\n1".to_owned(),
            header: "{}".to_owned(),
            after: 1,
            until: 5,
            with_reply: true,
        }),
    };
    let lost = Loss {
        messages: 2,
        bytes: 9,
        ..Loss::default()
    };
    let gone = Joined {
        session: "b".to_owned(),
        ..joined.clone()
    };
    for note in [
        Note::Joined(joined.clone()),
        Note::Joined(gone),
        Note::Parted("b".to_owned()),
        Note::Acknowledged(Acknowledged {
            session: "a".to_owned(),
            cursor: 7,
            lost,
        }),
        Note::Asked(asked("1")),
        Note::Asked(asked("2")),
        Note::Asked(asked("3")),
        Note::Held("3".to_owned()),
        Note::Done("1".to_owned()),
        Note::Question(question.clone()),
        Note::Said(8),
        // One that its client knows to be over, and one that it may not know.
        Note::Asked(asked("4")),
        over("4", 7),
        Note::Asked(asked("5")),
        over("5", 9),
    ] {
        ledger.write(&note);
    }
    drop(ledger);
    let Note::Over(Over { end, .. }) = over("5", 9) else {
        unreachable!();
    };
    let ended = Asked {
        end: Some(end),
        ..asked("5")
    };
    let held = Asked {
        held: true,
        ..asked("3")
    };
    let expected = Left {
        asked: vec![asked("2"), held, ended],
        question: Some(question),
        joined: vec![Joined {
            cursor: 7,
            lost,
            ..joined
        }],
        said: 9,
    };
    let (mut ledger, left) = Ledger::open(&path, folder.path());
    assert_eq!(left, expected);
    ledger.write(&Note::Sent("3".to_owned()));
    ledger.write(&Note::Answered);
    drop(ledger);
    // Half a line.
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"done\":\"2").unwrap();
    let (mut ledger, left) = Ledger::open(&path, folder.path());
    assert_eq!((left.asked.len(), left.question), (3, None));
    assert!(!left.asked[1].held);
    ledger.compact(Left::default());
    drop(ledger);
    let (_, left) = Ledger::open(&path, folder.path());
    assert_eq!(left, Left::default());
}

proptest! {
    #[test]
    fn any_lines_are_read(lines in prop::collection::vec(any::<u8>(), 0..400)) {
        let _left = Left::of(&lines);
    }

    /// Writing what is left anew leaves the same.
    #[test]
    fn notes_of_what_is_left_leave_it(steps in prop::collection::vec((0..7u8, 0..6u8), 0..60)) {
        let mut lines = Vec::new();
        for (step, key) in steps {
            let key = key.to_string();
            let note = match step {
                0 | 1 => Note::Asked(asked(&key)),
                2 => Note::Held(key),
                3 => Note::Sent(key),
                4 => over(&key, 3),
                5 => Note::Said(key.parse().unwrap()),
                _ => Note::Done(key),
            };
            lines.extend(serde_json::to_vec(&note).unwrap());
            lines.push(b'\n');
        }
        let left = Left::of(&lines);
        let again = left.clone().notes().flat_map(|note| {
            let mut line = serde_json::to_vec(&note).unwrap();
            line.push(b'\n');
            line
        });
        prop_assert_eq!(Left::of(&again.collect::<Vec<_>>()), left);
    }
}
