//! Who gets what, told as clients come, go and acknowledge.

use super::super::journal::{Entry, Mark, Route};
use super::forgotten::{AWAY_MAX, EXPIRES_AFTER};
use std::time::Duration;

use super::*;
use crate::protocol::message::{Channel, Message};

fn holder(identity: &str, credential: &str) -> Holder {
    Holder {
        identity: identity.into(),
        credential: credential.into(),
    }
}

/// The oldest entry of all had to go.
fn gone(seq: Seq, entry: &Entry) -> Dropped {
    Dropped {
        seq,
        label: entry.label(),
        is_oldest: true,
        cause: Cause::Full,
    }
}

fn entry(route: Route) -> Entry {
    Entry::new(Channel::Iopub, Message::empty(), route, Mark::Plain)
}

/// What a new session gets of a request whose messages after the entry `after` it lacks, its reply included.
fn catch_up_on(request: &str, after: Seq) -> CatchUp {
    CatchUp {
        request: request.into(),
        header: Bytes::new(),
        after,
        with_reply: true,
        takes_over: false,
        idle: None,
        shown_only: false,
    }
}

/// What the kernel says of the request of session `s` with this id.
fn said_of(id: &str, channel: Channel, route: Route) -> Entry {
    let message = Message {
        header: Bytes::from_static(br#"{"msg_type":"stream"}"#),
        parent_header: format!(r#"{{"session":"s","msg_id":"{id}"}}"#).into(),
        ..Message::empty()
    };
    Entry::new(channel, message, route, Mark::Plain)
}

#[test]
fn whoever_comes_back_goes_on_after_what_was_acknowledged() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, me) = (Rc::from("a"), holder("me", "1"));
    assert_eq!(sessions.join(&a, &me, 1, 7, None, now).after, 7);
    sessions.wrote("a", 1, 12);
    sessions.acknowledge("a", 1, 9);
    sessions.acknowledge("a", 1, 8);
    sessions.leave("a", 1, now);
    let again = sessions.join(&a, &me, 2, 20, None, now);
    assert_eq!((again.after, again.written, again.replaces), (9, 12, None));
    let twice = sessions.join(&a, &me, 3, 20, None, now);
    assert_eq!(twice.replaces, Some(2));
    // What the replaced connection still says counts no more.
    sessions.acknowledge("a", 2, 15);
    sessions.leave("a", 2, now);
    assert_eq!((sessions.cursor("a"), sessions.counts()), (Some(9), (1, 0)));
}

#[test]
fn another_identity_never_gets_a_sessions_messages() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let a = Rc::from("a");
    sessions.join(&a, &holder("alice", "1"), 1, 0, None, now);
    let joined = sessions.join(&a, &holder("bob", "2"), 2, 5, None, now);
    assert_eq!(
        (joined.after, joined.written, joined.replaces),
        (5, 5, Some(1))
    );
}

#[test]
fn a_new_session_catches_up_on_one_request_however_often_its_line_breaks() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, me) = (Rc::from("a"), holder("me", "1"));
    let of_it = said_of("1", Channel::Iopub, Route::Everyone);
    let other = said_of("2", Channel::Iopub, Route::Everyone);
    let reply = said_of("1", Channel::Shell, Route::Session("s".into()));
    let catch_up = catch_up_on("s\n1", 4);
    sessions.join(&a, &me, 1, 9, Some(catch_up.clone()), now);
    sessions.acknowledge("a", 1, 6);
    let again = sessions.join(&a, &me, 2, 20, Some(catch_up), now);
    assert_eq!(again.after, 6);
    let has = |seq, entry| again.share.has(seq, entry);
    assert_eq!([has(9, &of_it), has(9, &other)], [true, false]);
    assert_eq!([has(10, &of_it), has(10, &other)], [true, true]);
    assert_eq!([has(9, &reply), has(10, &reply)], [true, true]);
    sessions.dropped(&gone(8, &other));
    assert_eq!(sessions.tell_loss("a", 2, 9), None);
    sessions.dropped(&gone(9, &of_it));
    assert_eq!(sessions.tell_loss("a", 2, 9).unwrap().messages, 1);
}

#[test]
fn a_loss_is_told_once_and_only_to_whom_it_concerns() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let me = holder("me", "1");
    for (connection, id) in ["a", "b", "c"].into_iter().enumerate() {
        sessions.join(&Rc::from(id), &me, connection as u64, 0, None, now);
    }
    sessions.acknowledge("c", 2, 2);
    sessions.dropped(&gone(1, &entry(Route::Everyone)));
    sessions.dropped(&gone(2, &entry(Route::Session(Rc::from("b")))));
    let messages = |loss: Option<Loss>| loss.map_or(0, |loss| loss.messages);
    let mut lost = || [("a", 0), ("b", 1), ("c", 2)].map(|(id, at)| sessions.tell_loss(id, at, 2));
    assert_eq!(lost().map(messages), [1, 2, 0]);
    assert_eq!(lost().map(messages), [0, 0, 0]);
    assert_eq!(sessions.lost().messages, 3);
}

#[test]
fn a_loss_that_no_acknowledgement_covers_is_told_to_the_next_connection_with_what_came_since() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, me) = (Rc::from("a"), holder("me", "1"));
    let lose = |sessions: &mut Sessions, seqs: std::ops::RangeInclusive<Seq>| {
        seqs.for_each(|seq| sessions.dropped(&gone(seq, &entry(Route::Everyone))));
    };
    let told = |sessions: &mut Sessions, connection, after| {
        let loss = sessions.tell_loss("a", connection, after);
        loss.map_or(0, |loss| loss.messages)
    };
    sessions.join(&a, &me, 1, 0, None, now);
    lose(&mut sessions, 1..=3);
    assert_eq!(told(&mut sessions, 1, 5), 3);
    lose(&mut sessions, 4..=4);
    assert_eq!(told(&mut sessions, 1, 8), 1);
    // The first note is heard, the second is not.
    sessions.acknowledge("a", 1, 5);
    // That there was nothing else for the client says nothing of what it has heard.
    sessions.pass("a", 1, 9);
    sessions.leave("a", 1, now);
    lose(&mut sessions, 10..=11);
    sessions.join(&a, &me, 2, 20, None, now);
    assert_eq!(told(&mut sessions, 1, 12), 0);
    assert_eq!(told(&mut sessions, 2, 12), 3);
    // It is replaced while it has a connection.
    sessions.join(&a, &me, 3, 20, None, now);
    assert_eq!(told(&mut sessions, 3, 12), 3);
    sessions.acknowledge("a", 3, 12);
    sessions.join(&a, &me, 4, 20, None, now);
    assert_eq!(told(&mut sessions, 4, 12), 0);
    assert_eq!(sessions.lost().messages, 6);
    // More notes than are told apart: none is forgotten.
    for seq in 21..=3000 {
        lose(&mut sessions, seq..=seq);
        assert_eq!(told(&mut sessions, 4, seq), 1);
    }
    sessions.join(&a, &me, 5, 3000, None, now);
    assert_eq!(told(&mut sessions, 5, 3000), 2980);
}

#[test]
fn what_is_dropped_on_its_way_to_a_client_is_lost_only_if_the_line_breaks() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, me) = (Rc::from("a"), holder("me", "1"));
    let told = |sessions: &mut Sessions, connection| {
        let loss = sessions.tell_loss("a", connection, 9);
        loss.map_or(0, |loss| loss.messages)
    };
    sessions.join(&a, &me, 1, 0, None, now);
    sessions.wrote("a", 1, 4);
    (1..=6).for_each(|seq| sessions.dropped(&gone(seq, &entry(Route::Everyone))));
    // Two were never sent.
    assert_eq!((told(&mut sessions, 1), sessions.lost().messages), (2, 2));
    sessions.acknowledge("a", 1, 3);
    sessions.acknowledge("a", 1, 9);
    sessions.leave("a", 1, now);
    sessions.join(&a, &me, 2, 9, None, now);
    assert_eq!((told(&mut sessions, 2), sessions.lost().messages), (0, 2));
    // What another connection was sent is no more on its way.
    sessions.wrote("a", 2, 12);
    sessions.join(&a, &me, 3, 12, None, now);
    sessions.dropped(&gone(10, &entry(Route::Everyone)));
    assert_eq!(told(&mut sessions, 3), 1);
    sessions.wrote("a", 3, 12);
    sessions.dropped(&gone(11, &entry(Route::Everyone)));
    sessions.dropped(&gone(12, &entry(Route::Everyone)));
    assert_eq!((told(&mut sessions, 3), sessions.lost().messages), (0, 3));
    sessions.acknowledge("a", 3, 11);
    sessions.leave("a", 3, now);
    assert_eq!(sessions.lost().messages, 4);
    sessions.join(&a, &me, 4, 12, None, now);
    // With the note whose ping was not answered.
    assert_eq!(told(&mut sessions, 4), 1);
}

/// Clients come back while the kernel is being taken over.
#[test]
fn a_session_that_is_back_before_it_is_restored_keeps_its_connection() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, b, me) = (Rc::from("a"), Rc::from("b"), holder("me", "1"));
    sessions.join(&a, &me, 1, 3, None, now);
    for id in [&a, &b] {
        let lost = Loss {
            messages: 2,
            bytes: 7,
            ..Loss::default()
        };
        sessions.restore(id, &me, Share::new(id, 0, None), 0, lost, now);
    }
    assert_eq!(sessions.counts(), (1, 1));
    sessions.acknowledge("a", 1, 7);
    assert_eq!(sessions.cursor("a"), Some(7));
    assert_eq!(sessions.join(&b, &me, 2, 9, None, now).after, 0);
    // What only an earlier supervisor knew to be lost is told.
    let told = sessions.tell_loss("b", 2, 9);
    assert_eq!(told.map(|loss| loss.messages), Some(2));
}

#[test]
fn who_comes_back_within_a_day_goes_on_and_then_is_new() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, me) = (Rc::from("a"), holder("me", "1"));
    sessions.join(&a, &me, 1, 3, None, now);
    sessions.acknowledge("a", 1, 5);
    sessions.leave("a", 1, now);
    let minute = Duration::from_secs(60);
    let again = sessions.expire(now + EXPIRES_AFTER - minute);
    assert_eq!(again, Some(now + EXPIRES_AFTER));
    assert_eq!(sessions.cursor("a"), Some(5));
    assert_eq!(sessions.expire(now + EXPIRES_AFTER), None);
    assert_eq!(sessions.cursor("a"), None);
    assert_eq!(sessions.take_parted(), [Rc::from("a")]);
    assert_eq!(sessions.join(&a, &me, 2, 9, None, now).after, 9);
}

#[test]
fn of_too_many_that_are_away_the_oldest_are_forgotten() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let me = holder("me", "1");
    for id in 0..AWAY_MAX as u64 + 10 {
        let at = now + Duration::from_millis(id);
        let name: Rc<str> = id.to_string().into();
        sessions.join(&name, &me, id, 0, None, at);
        sessions.leave(&name, id, at);
    }
    assert_eq!(sessions.counts(), (0, AWAY_MAX));
    assert!(sessions.get("9").is_none() && sessions.get("10").is_some());
}

#[test]
fn access_ends_by_identity_or_by_the_credential_that_a_session_last_came_with() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (a, b): (Rc<str>, Rc<str>) = ("a".into(), "b".into());
    sessions.join(&a, &holder("ada", "1"), 1, 0, None, now);
    sessions.join(&b, &holder("ada", "2"), 2, 0, None, now);
    sessions.join(&a, &holder("ada", "3"), 3, 0, None, now);
    assert!(sessions.end_access(Access::Credential("1")).is_empty());
    assert_eq!(sessions.end_access(Access::Credential("3")), [3]);
    assert_eq!(sessions.end_access(Access::Identity("ada")), [2]);
    assert_eq!(sessions.counts(), (0, 0));
}

#[test]
fn a_cell_is_caught_up_on_while_it_runs_and_once_it_is_over_by_who_resumes_it() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let (ada, bob) = (holder("ada", "1"), holder("bob", "2"));
    let at = |seconds| now + Duration::from_secs(seconds);
    let (first, second): (RequestKey, RequestKey) = ("1".into(), "2".into());
    for (connection, (id, cell)) in [("older", &first), ("newer", &second)]
        .into_iter()
        .enumerate()
    {
        let connection = connection as u64;
        sessions.join(&id.into(), &ada, connection, 10, None, now);
        sessions.asked(id, cell, &Bytes::new(), 10);
        sessions.leave(id, connection, at(connection));
    }
    let none = |_: &RequestKey| false;
    let runs = |key: &RequestKey| *key == first;
    let caught = |sessions: &Sessions, who, resumes, running: &dyn Fn(&RequestKey) -> bool| {
        let on = sessions.catch_up(who, resumes, running);
        on.map(|on| (on.request.to_string(), on.after, on.with_reply))
    };
    let first_of = |with_reply| Some(("1".to_owned(), 10, with_reply));
    assert_eq!(caught(&sessions, &ada, false, &runs), first_of(true));
    assert_eq!(caught(&sessions, &bob, true, &runs), first_of(false));
    // The kernel has not done with either: nothing is over, and nothing runs.
    assert_eq!(caught(&sessions, &ada, true, &none), None);
    sessions.done(&first, 20);
    sessions.done(&second, 30);
    let over = Some(("2".to_owned(), 10, true));
    assert_eq!(caught(&sessions, &ada, true, &none), over);
    assert_eq!(caught(&sessions, &ada, false, &none), None);
    assert_eq!(caught(&sessions, &bob, true, &none), None);
    // Whoever takes the asker's place answers for it.
    let on = sessions.catch_up(&ada, true, none);
    sessions.join(&"third".into(), &ada, 9, 40, on, at(5));
    assert_eq!(caught(&sessions, &ada, true, &none), over);
    sessions.acknowledge("third", 9, 30);
    sessions.leave("third", 9, at(6));
    assert_eq!(caught(&sessions, &ada, true, &none), None);
}

/// A page that was loaded anew while a cell ran, whose line breaks in the next cell.
#[test]
fn a_session_that_is_made_whole_still_gets_what_it_catches_up_on() {
    let (mut sessions, now, ada) = (Sessions::default(), Instant::now(), holder("ada", "1"));
    let shown = |id| said_of(id, Channel::Iopub, Route::Everyone);
    let reply = |id| said_of(id, Channel::Shell, Route::Session("s".into()));
    let catch_up = catch_up_on("s\n1", 4);
    sessions.join(&"a".into(), &ada, 1, 9, Some(catch_up), now);
    sessions.asked("a", &"s\n2".into(), &Bytes::new(), 12);
    sessions.acknowledge("a", 1, 15);
    let (share, after) = sessions.make_whole("a").unwrap();
    assert_eq!(after, 12);
    let before = [share.has(13, &shown("1")), share.has(13, &shown("2"))];
    assert_eq!(before, [false, true]);
    assert_eq!(
        [share.has(16, &shown("1")), share.has(16, &shown("3"))],
        [true; 2]
    );
    assert_eq!(
        [share.has(16, &reply("1")), share.has(16, &reply("3"))],
        [true, false]
    );
}

#[test]
fn a_cell_of_a_lossy_session_stays_whole_until_its_end_is_acknowledged() {
    let (mut sessions, now, ada) = (Sessions::default(), Instant::now(), holder("ada", "1"));
    let (id, cell): (Rc<str>, RequestKey) = ("a".into(), "1".into());
    sessions.join(&id, &ada, 1, 10, None, now);
    assert!(sessions.make_whole("a").is_none());
    sessions.asked("a", &cell, &Bytes::new(), 12);
    sessions.acknowledge("a", 1, 20);
    assert_eq!(sessions.needs(50).after, 12);
    let (share, after) = sessions.make_whole("a").unwrap();
    assert_eq!((after, share.catch_up().unwrap().shown_only), (12, true));
    // Over, and not acknowledged.
    sessions.done(&cell, 30);
    assert!(sessions.make_whole("a").is_some());
    sessions.acknowledge("a", 1, 30);
    assert!(sessions.make_whole("a").is_none());
    assert_eq!(sessions.needs(50).after, 30);
    // Half a cell is not shown as a whole one.
    sessions.asked("a", &"2".into(), &Bytes::new(), 31);
    sessions.acknowledge("a", 1, 40);
    let entry = Entry::new(
        Channel::Iopub,
        Message::empty(),
        Route::Everyone,
        Mark::Plain,
    );
    sessions.dropped(&gone(32, &entry));
    assert!(sessions.make_whole("a").is_none());
    assert_eq!(sessions.tell_loss("a", 1, 40), None);
}

#[test]
fn whoever_passes_over_what_cannot_be_read_is_told_that_it_may_have_missed_something() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let me = holder("me", "1");
    for (session, cursor) in [("behind", 3), ("away", 3), ("there", 100)] {
        let share = Share::new(&session.into(), 0, None);
        sessions.restore(&session.into(), &me, share, cursor, Loss::default(), now);
    }
    for (connection, session) in [(1, "behind"), (2, "there")] {
        sessions.join(&session.into(), &me, connection, 101, None, now);
        sessions.passes(session, connection, 100, 100);
        sessions.wrote(session, connection, 100);
        assert_eq!(sessions.tell_loss(session, connection, 100), None);
    }
    sessions.join(&"behind".into(), &me, 3, 101, None, now);
    for (connection, session) in [(3, "behind"), (2, "there")] {
        sessions.passes(session, connection, 100, 101);
        sessions.wrote(session, connection, 101);
    }
    let more = Loss {
        more: true,
        ..Loss::default()
    };
    assert_eq!(sessions.tell_loss("behind", 3, 101), Some(more));
    assert_eq!(sessions.tell_loss("behind", 3, 101), None);
    assert_eq!(sessions.tell_loss("there", 2, 101), None);
    assert_eq!(sessions.untold("away"), Loss::default());
    // Until it is known to have heard of it.
    sessions.leave("behind", 3, now);
    assert_eq!(sessions.untold("behind"), more);
}
