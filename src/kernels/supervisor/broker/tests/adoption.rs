//! A kernel whose supervisor died: what its successor knows, and when it answers for what it cannot know.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};

use super::{
    answers, broker, from_kernel, kinds, me, next_cell, read, request, running, status, taken_over,
};
use crate::kernels::supervisor::ledger::{Acknowledged, Asked, End, Joined, Ledger, Left, Note};
use crate::kernels::supervisor::sessions::Loss;
use crate::protocol::message::{Channel, Message};

fn joined(session: &str) -> Joined {
    Joined {
        session: session.to_owned(),
        identity: "me".to_owned(),
        credential: "1".to_owned(),
        cursor: 0,
        lost: Loss::default(),
        catches_up: None,
    }
}

/// A client is there, and has asked for this cell.
fn left_with(cell: &Message) -> Left {
    Left {
        asked: vec![asked(Channel::Shell, cell, "1", "execute_request", false)],
        joined: vec![joined("a")],
        ..Left::default()
    }
}

fn asked(channel: Channel, request: &Message, id: &str, msg_type: &str, held: bool) -> Asked {
    Asked {
        request: format!("a\n{id}"),
        session: "a".to_owned(),
        channel: channel.name().to_owned(),
        msg_type: msg_type.to_owned(),
        header: String::from_utf8(request.header.to_vec()).unwrap(),
        stop_on_error: true,
        held,
        elsewhere: None,
        end: None,
    }
}

/// The kernel does what comes on one channel beside what comes on the other.
#[test]
fn what_was_asked_on_a_channel_is_made_good_once_the_kernel_has_answered_there() {
    let broker = broker();
    let cell = request("a", "1", "execute_request");
    let debug = request("a", "2", "debug_request");
    let left = Left {
        asked: vec![
            asked(Channel::Shell, &cell, "1", "execute_request", false),
            asked(Channel::Control, &debug, "2", "debug_request", false),
        ],
        joined: vec![joined("a")],
        ..Left::default()
    };
    broker.recall(&left);
    let (outbox, mut requests) = mpsc::unbounded_channel();
    broker.adopt(outbox, &left);
    let (shell, on_shell) = requests.try_recv().unwrap();
    let (control, on_control) = requests.try_recv().unwrap();
    assert_eq!((shell, control), (Channel::Shell, Channel::Control));
    answers(&broker, Channel::Shell, &on_shell);
    let reply = from_kernel("debug_reply", &debug, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Control, reply);
    answers(&broker, Channel::Control, &on_control);
    let heard = read(&broker, "a", 0);
    assert!(
        heard[0].contains("the supervisor of this kernel died"),
        "{heard:?}"
    );
    assert_eq!(
        heard[1..],
        [
            "execute_reply ok",
            "status idle",
            "debug_reply ok",
            "status idle"
        ]
    );
}

/// A kernel that learns late of our subscription says what is idle to nobody.
#[tokio::test(start_paused = true)]
async fn what_replied_before_its_output_was_heard_gets_its_idle() {
    let broker = broker();
    let cell = request("a", "1", "execute_request");
    let left = left_with(&cell);
    broker.recall(&left);
    // Who comes back while the kernel is connected to.
    assert_eq!(broker.snapshot().execution_state, "busy");
    let (outbox, mut requests) = mpsc::unbounded_channel();
    broker.adopt(outbox, &left);
    let replies = |to: &Message, msg_type: &str| {
        let reply = from_kernel(msg_type, to, &json!({"status": "ok"}));
        broker.kernel_said(Channel::Shell, reply);
    };
    let (_, probe) = requests.try_recv().unwrap();
    assert!(broker.probe_due().is_none());
    replies(&cell, "execute_reply");
    replies(&probe, "kernel_info_reply");
    // Another one comes before the subscription has arrived.
    let next = request("a", "2", "execute_request");
    broker.submit(&Rc::from("a"), Channel::Shell, next.clone());
    requests.try_recv().unwrap();
    replies(&next, "execute_reply");

    let due = broker.probe_due().unwrap();
    broker.probe_again();
    assert!(requests.try_recv().is_err());
    sleep_until(due.into()).await;
    broker.probe_again();
    let (_, probe) = requests.try_recv().unwrap();
    assert_eq!(broker.snapshot().execution_state, "busy");
    answers(&broker, Channel::Shell, &probe);
    let heard = read(&broker, "a", 0);
    let said = [
        "execute_reply ok",
        "execute_reply ok",
        "status idle",
        "status idle",
    ];
    assert_eq!(heard[1..], said);
    assert_eq!(broker.snapshot().execution_state, "idle");
    assert!(broker.probe_due().is_none());
    // It was heard: no answer is lost from here on.
    replies(&request("b", "3", "execute_request"), "execute_reply");
    assert!(broker.probe_due().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_publishes_nothing_is_not_asked_for_ever() {
    let broker = broker();
    let cell = request("a", "1", "execute_request");
    let left = left_with(&cell);
    broker.recall(&left);
    let (outbox, mut requests) = mpsc::unbounded_channel();
    broker.adopt(outbox, &left);
    let mut asked = 0;
    loop {
        while let Ok((channel, probe)) = requests.try_recv() {
            asked += 1;
            let reply = from_kernel("kernel_info_reply", &probe, &json!({"status": "ok"}));
            broker.kernel_said(channel, reply);
        }
        let Some(due) = broker.probe_due() else { break };
        sleep_until(due.into()).await;
        broker.probe_again();
    }
    assert!((2..100).contains(&asked), "{asked}");
    let heard = read(&broker, "a", 0);
    assert_eq!(heard[1..], ["execute_reply ok", "status idle"]);
}

/// Whoever comes while the kernel is still being connected to finds things as they are.
#[test]
fn what_is_asked_before_the_kernel_is_there_follows_what_it_was_asked_before() {
    let broker = broker();
    let mut ours = taken_over(&broker);
    let cell = request("a", "1", "execute_request");
    let left = Left {
        asked: vec![asked(Channel::Shell, &cell, "1", "execute_request", false)],
        joined: vec![joined("a"), joined("away")],
        ..Left::default()
    };
    broker.recall(&left);
    let a = Rc::from("a");
    broker.join(&a, &me());
    let mut magic = request("a", "2", "execute_request");
    magic.content = json!({"code": "%nb status"}).to_string().into();
    broker.submit(&a, Channel::Shell, magic);
    assert!(next_cell(&mut ours).is_err());
    let (outbox, _requests) = mpsc::unbounded_channel();
    broker.adopt(outbox, &left);
    assert!(next_cell(&mut ours).is_err());
    broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    assert!(next_cell(&mut ours).is_ok());
    let heard = read(&broker, "away", 0);
    assert_eq!(heard[1..3], ["status idle", "status busy"]);
    assert_eq!(broker.snapshot().lost.messages, 0);
}

/// This one may die too, before its answer has arrived.
#[test]
fn what_the_kernel_never_had_is_answered_until_its_client_has_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests");
    let held = request("a", "1", "execute_request");
    let left = Left {
        asked: vec![asked(Channel::Shell, &held, "1", "execute_request", true)],
        joined: vec![joined("a")],
        ..Left::default()
    };
    let (mut ledger, _) = Ledger::open(&path, folder.path());
    left.notes().for_each(|note| ledger.write(&note));
    drop(ledger);
    let recalls = || {
        let (ledger, left) = Ledger::open(&path, folder.path());
        let broker = broker();
        broker.keep(ledger);
        broker.recall(&left);
        read(&broker, "a", 0)
    };
    assert_eq!(recalls().len(), 3);
    assert_eq!(
        kinds(&recalls()),
        ["stream", "error", "execute_reply", "status"]
    );
    let (mut ledger, left) = Ledger::open(&path, folder.path());
    let acknowledged = Acknowledged {
        session: "a".to_owned(),
        cursor: left.said,
        lost: Loss::default(),
    };
    ledger.write(&Note::Acknowledged(acknowledged));
    drop(ledger);
    assert!(recalls().is_empty());
}

/// An answer that was in no file when the supervisor died, and whose client had not acknowledged it.
#[test]
fn an_answer_that_is_lost_is_made_up_and_told() {
    let cell = request("a", "1", "execute_request");
    let end = |seq| End {
        seq,
        status: "ok".to_owned(),
        execution_count: Some(4),
    };
    let over = |seq| Asked {
        end: Some(end(seq)),
        ..asked(Channel::Shell, &cell, "1", "execute_request", false)
    };
    let left = |seq| Left {
        asked: vec![over(seq)],
        joined: vec![joined("a"), joined("b")],
        said: seq,
        ..Left::default()
    };
    let broker = broker();
    broker.recall(&left(7));
    let heard = read(&broker, "a", 0);
    assert!(heard[0].contains("may be lost"), "{heard:?}");
    assert_eq!(heard[1..], ["execute_reply ok", "status idle"]);
    // The other one has its gap told with the next cell.
    broker.kernel_said(
        Channel::Iopub,
        status(&request("b", "2", "execute_request"), "busy"),
    );
    assert_eq!(kinds(&read(&broker, "b", 0)), ["status", "stream"]);
}

/// As a system does that clears up after a login.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_removed_while_nothing_happens_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests");
    let (broker, _requests) = running();
    let (ledger, _) = Ledger::open(&path, folder.path());
    broker.keep(ledger);
    broker.submit(
        &Rc::from("a"),
        Channel::Shell,
        request("a", "1", "execute_request"),
    );
    let keeps = async {
        sleep(Duration::from_secs(60)).await;
        fs::remove_file(fs::read_link(&path).unwrap()).unwrap();
        sleep(Duration::from_secs(60)).await;
        fs::read_to_string(&path)
    };
    let notes = tokio::select! {
        notes = keeps => notes.unwrap(),
        () = broker.keep_journal() => unreachable!(),
    };
    assert!(notes.contains("execute_request"), "{notes}");
}
