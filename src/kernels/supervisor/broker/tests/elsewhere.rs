//! Cells that other kernels of the notebook run, and what else those say.

use tokio::sync::oneshot;

use super::*;
use crate::kernels::supervisor::broker::Progress;
use crate::kernels::supervisor::ledger::{Asked, Ledger, Left, RunsElsewhere};
use crate::magics::OtherKernel;

fn old() -> OtherKernel {
    OtherKernel::Venv("old".to_owned())
}

/// What another kernel says to the request `id` of the session `a`.
fn said(id: &str, msg_type: &str, content: &Value) -> Message {
    from_kernel(msg_type, &request("a", id, "execute_request"), content)
}

#[test]
fn a_cell_elsewhere_is_over_once_reply_and_idle_are_there() {
    for reply_first in [true, false] {
        let (broker, _requests) = running();
        let mut ours = taken_over(&broker);
        let (outbox, mut there) = mpsc::unbounded_channel();
        broker.other_is_there(&old(), outbox);
        let ticket = broker.join(&"a".into(), &me());
        let mut cell = request("a", "1", "execute_request");
        cell.content = json!({"code": "%%kernel x\ncode", "x": 1})
            .to_string()
            .into();
        broker.submit(&"a".into(), Channel::Shell, cell.clone());
        let cell_of_ours = next_cell(&mut ours).unwrap();
        broker.our_cell_begins(&cell_of_ours, Some(7));
        let sent = broker.run_elsewhere(&cell_of_ours, &old(), "code", false);
        let mut ended = sent.ended;
        let progress = || *sent.progress.borrow();
        assert_eq!(progress(), Progress::Sent);
        let (channel, sent) = there.try_recv().unwrap();
        // It has the header of its client, and all of its content but the code.
        assert_eq!((channel, &sent.header), (Channel::Shell, &cell.header));
        let content: Value = serde_json::from_slice(&sent.content).unwrap();
        assert_eq!(content, json!({"code": "code", "x": 1}));

        let say = |channel, msg_type: &str, content: Value| {
            broker.other_said(&old(), channel, said("1", msg_type, &content));
        };
        say(Channel::Iopub, "status", json!({"execution_state": "busy"}));
        assert_eq!(progress(), Progress::Taken);
        say(Channel::Iopub, "execute_input", json!({"code": "code"}));
        assert_eq!(progress(), Progress::Runs);
        say(
            Channel::Iopub,
            "execute_result",
            json!({"data": {}, "execution_count": 1}),
        );
        say(Channel::Iopub, "error", json!({"ename": "E"}));
        let idle = || say(Channel::Iopub, "status", json!({"execution_state": "idle"}));
        let reply = || {
            say(
                Channel::Shell,
                "execute_reply",
                json!({"status": "ok", "payload": [3]}),
            )
        };
        match reply_first {
            true => reply(),
            false => idle(),
        }
        assert!(ended.try_recv().is_err());
        match reply_first {
            true => idle(),
            false => reply(),
        }
        let replied = ended.try_recv().unwrap();
        assert_eq!(replied["payload"], json!([3]));
        broker.our_cell_replies(&cell_of_ours, replied);
        broker.our_cell_ends(&cell_of_ours, Ok(()));
        let heard = [
            "status busy",
            "execute_input ",
            "execute_result ",
            "error ",
            "execute_reply ok",
            "status idle",
        ];
        assert_eq!(read(&broker, "a", ticket.after), heard);
    }
}

#[test]
fn the_life_of_another_kernel_is_no_clients() {
    let (broker, _requests) = running();
    let ticket = broker.join(&"a".into(), &me());
    for state in ["starting", "restarting", "dead", "idle"] {
        let status = status(&Message::empty(), state);
        broker.other_said(&old(), Channel::Iopub, status);
    }
    assert!(read(&broker, "a", ticket.after).is_empty());
    assert_eq!(broker.snapshot().execution_state, "idle");
}

#[test]
fn a_cell_whose_kernel_is_gone_ends_with_that() {
    let (broker, _requests) = running();
    let mut ours = taken_over(&broker);
    let (outbox, _there) = mpsc::unbounded_channel();
    broker.other_is_there(&old(), outbox);
    broker.join(&"a".into(), &me());
    let mut cell = request("a", "1", "execute_request");
    cell.content = json!({"code": "%%kernel x\ncode"}).to_string().into();
    broker.submit(&"a".into(), Channel::Shell, cell);
    let cell = next_cell(&mut ours).unwrap();
    let mut ended = broker.run_elsewhere(&cell, &old(), "code", false).ended;
    broker.other_is_gone(&old(), "it has ended");
    assert!(matches!(
        ended.try_recv(),
        Err(oneshot::error::TryRecvError::Closed)
    ));
    // Another one in its place has never heard of it.
    let mut ended = broker.run_elsewhere(&cell, &old(), "code", false).ended;
    assert!(matches!(
        ended.try_recv(),
        Err(oneshot::error::TryRecvError::Closed)
    ));
}

#[test]
fn the_successor_of_a_supervisor_ends_the_cell_that_ran_elsewhere() {
    for (is_found, goes_on) in [(true, false), (true, true), (false, false)] {
        let (broker, _requests) = running();
        let cell = request("a", "1", "execute_request");
        let asked = Asked {
            request: "a\n1".to_owned(),
            session: "a".to_owned(),
            channel: "shell".to_owned(),
            msg_type: "execute_request".to_owned(),
            header: String::from_utf8(cell.header.to_vec()).unwrap(),
            stop_on_error: true,
            held: true,
            elsewhere: Some(RunsElsewhere {
                kernel: old(),
                count: Some(4),
                goes_on,
            }),
            end: None,
        };
        let left = Left {
            asked: vec![asked],
            ..Left::default()
        };
        let ticket = broker.join(&"a".into(), &me());
        broker.recall(&left);
        assert_eq!(broker.snapshot().execution_state, "busy");
        let (outbox, _there) = mpsc::unbounded_channel();
        if is_found {
            broker.other_is_there(&old(), outbox);
        }
        broker.others_are_found();
        let recalled: &[OtherKernel] = if is_found { &[old()] } else { &[] };
        assert_eq!(broker.recalled_elsewhere(), recalled);
        if is_found {
            let reply = json!({"status": "ok"});
            broker.other_said(&old(), Channel::Shell, said("1", "execute_reply", &reply));
            let idle = json!({"execution_state": "idle"});
            broker.other_said(&old(), Channel::Iopub, said("1", "status", &idle));
        }
        let heard = read(&broker, "a", ticket.after);
        let expected: &[&str] = match is_found && !goes_on {
            true => &["stream", "execute_reply", "status"],
            false => &["stream", "error", "execute_reply", "status"],
        };
        assert_eq!(kinds(&heard), expected, "{heard:?}");
        assert_eq!(broker.snapshot().execution_state, "idle");
    }
}

/// A cell that was typed, given to us.
fn typed(broker: &Broker, header: &Value, content: &Value) -> OurCell {
    let mut ours = taken_over(broker);
    let cell = message(header, Bytes::from_static(b"{}"), content);
    broker.submit(&"a".into(), Channel::Shell, cell);
    next_cell(&mut ours).unwrap()
}

#[test]
fn another_kernel_hears_nothing_of_the_subshells_of_this_one() {
    let (broker, _requests) = running();
    let (outbox, mut there) = mpsc::unbounded_channel();
    broker.other_is_there(&old(), outbox);
    broker.join(&"a".into(), &me());
    let mut header = json!({
        "msg_id": "1", "msg_type": "execute_request", "session": "a", "subshell_id": "s", "x": 1.50,
    });
    let cell = typed(&broker, &header, &json!({"code": "%%kernel x\ncode"}));
    let _sent = broker.run_elsewhere(&cell, &old(), "code", false);
    let (_, sent) = there.try_recv().unwrap();
    header.as_object_mut().unwrap().remove("subshell_id");
    let sent: Value = serde_json::from_slice(&sent.header).unwrap();
    assert_eq!(sent, header);
}

#[test]
fn what_was_typed_is_not_shown_of_a_silent_cell() {
    let (broker, _requests) = running();
    let ticket = broker.join(&"a".into(), &me());
    let header = json!({"msg_id": "1", "msg_type": "execute_request", "session": "a"});
    let content = json!({"code": "%%kernel x\ncode", "silent": true});
    let cell = typed(&broker, &header, &content);
    broker.our_cell_begins(&cell, None);
    broker.our_cell_ends(&cell, Ok(()));
    let heard = ["status busy", "execute_reply ok", "status idle"];
    assert_eq!(read(&broker, "a", ticket.after), heard);
}

/// As while `--put` is at work.
#[test]
fn a_successor_does_not_wait_for_a_cell_that_has_replied_already() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests");
    let (broker, _requests) = running();
    broker.keep(Ledger::open(&path, folder.path()).0);
    let (outbox, _there) = mpsc::unbounded_channel();
    broker.other_is_there(&old(), outbox);
    broker.join(&"a".into(), &me());
    let header = json!({"msg_id": "1", "msg_type": "execute_request", "session": "a"});
    let cell = typed(&broker, &header, &json!({"code": "%%kernel x\ncode"}));
    let mut ended = broker.run_elsewhere(&cell, &old(), "code", false).ended;
    let left = || Left::of(&std::fs::read(&path).unwrap());
    let is_elsewhere = || left().asked[0].elsewhere.is_some();
    assert!(is_elsewhere());
    let idle = json!({"execution_state": "idle"});
    broker.other_said(&old(), Channel::Iopub, said("1", "status", &idle));
    let reply = json!({"status": "ok"});
    broker.other_said(&old(), Channel::Shell, said("1", "execute_reply", &reply));
    ended.try_recv().unwrap();
    assert!(!is_elsewhere());

    let (next, _requests) = running();
    let ticket = next.join(&"a".into(), &me());
    next.recall(&left());
    let heard = read(&next, "a", ticket.after);
    assert_eq!(
        kinds(&heard),
        ["error", "execute_reply", "status"],
        "{heard:?}"
    );
    assert_eq!(next.snapshot().execution_state, "idle");
}

/// A widget whose handler ends its kernel, say.
#[test]
fn what_was_said_on_a_comm_is_over_with_its_kernel() {
    for is_gone in [true, false] {
        let (broker, _requests) = running();
        let (outbox, mut there) = mpsc::unbounded_channel();
        broker.other_is_there(&old(), outbox);
        let comms = json!({"comms": {"c": {"target_name": "t"}}});
        broker.other_has_comms(&old(), &comms);
        let ticket = broker.join(&"a".into(), &me());
        let header = |id: &str| json!({"msg_id": id, "msg_type": "comm_msg", "session": "a"});
        let say = |id: &str| {
            let content = json!({"comm_id": "c", "data": {}});
            let said = message(&header(id), Bytes::from_static(b"{}"), &content);
            broker.submit(&"a".into(), Channel::Shell, said.clone());
            broker.other_said(&old(), Channel::Iopub, status(&said, "busy"));
            said
        };
        let first = say("1");
        broker.other_said(&old(), Channel::Iopub, status(&first, "idle"));
        say("2");
        assert!(there.try_recv().is_ok() && there.try_recv().is_ok());
        assert_eq!(broker.snapshot().execution_state, "busy");
        match is_gone {
            true => broker.other_is_gone(&old(), "it has ended"),
            false => {
                let restarting = status(&Message::empty(), "restarting");
                broker.other_said(&old(), Channel::Iopub, restarting);
            }
        }
        let heard = ["status busy", "status idle", "status busy", "status idle"];
        assert_eq!(read(&broker, "a", ticket.after), heard);
        assert_eq!(broker.snapshot().execution_state, "idle");
    }
}
