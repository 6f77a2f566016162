//! The broker's rules, told from outside: what a kernel says and what each client then reads.

mod adoption;
mod elsewhere;
mod kept;
mod ours;
mod probes;
mod questions;

use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{Broker, Farewell, OurCell, Phase, Takeover, Wants, Work};
use crate::kernels::contract::RequestPhase;
use crate::kernels::supervisor::journal::memory::MemoryJournal;
use crate::kernels::supervisor::journal::{Entry, Mark, Read, Seq};
use crate::kernels::supervisor::sessions::{Access, Holder};
use crate::magics::{Claim, Failure, Front, Registry, Setting};
use crate::protocol::message::{Channel, Message};

type Requests = mpsc::UnboundedReceiver<(Channel, Message)>;

const JOURNAL_BYTES: usize = 1 << 20;

fn holder(identity: &str) -> Holder {
    Holder {
        identity: identity.into(),
        credential: "1".into(),
    }
}

fn me() -> Holder {
    holder("me")
}

fn message(header: &Value, parent: Bytes, content: &Value) -> Message {
    Message {
        header: header.to_string().into(),
        parent_header: parent,
        content: content.to_string().into(),
        ..Message::empty()
    }
}

fn request(session: &str, id: &str, msg_type: &str) -> Message {
    let header = json!({"msg_id": id, "msg_type": msg_type, "session": session});
    message(&header, Bytes::from_static(b"{}"), &json!({}))
}

fn from_kernel(msg_type: &str, parent: &Message, content: &Value) -> Message {
    let header = json!({"msg_id": "k", "msg_type": msg_type, "session": "kernel"});
    message(&header, parent.header.clone(), content)
}

fn status(parent: &Message, state: &str) -> Message {
    from_kernel("status", parent, &json!({"execution_state": state}))
}

/// The kernel answers a message of ours.
fn answers(broker: &Broker, channel: Channel, probe: &Message) {
    broker.kernel_said(Channel::Iopub, status(probe, "idle"));
    let reply = from_kernel("kernel_info_reply", probe, &json!({"status": "ok"}));
    broker.kernel_said(channel, reply);
}

fn broker() -> Broker {
    Broker::new(Box::new(MemoryJournal::new(JOURNAL_BYTES)))
}

fn running() -> (Broker, Requests) {
    let broker = broker();
    let (outbox, requests) = mpsc::unbounded_channel();
    broker.open_epoch(outbox);
    (broker, requests)
}

/// A kernel that is not IPython.
struct Plain(Registry);

impl Takeover for Plain {
    fn claim(&self, source: &str) -> Option<Claim> {
        self.0.claim(source, Front::Plain)
    }

    fn knows(&self, source: &str, cursor: usize) -> bool {
        self.0.knows(source, cursor, Front::Plain)
    }
}

/// What is ours in it.
fn taken_over(broker: &Broker) -> mpsc::UnboundedReceiver<Work> {
    let (runner, ours) = mpsc::unbounded_channel();
    broker.take_over(
        Box::new(Plain(Registry::standard(&Setting {
            has_others: true,
            ..Setting::default()
        }))),
        runner,
    );
    ours
}

/// The next cell of ours.
fn next_cell(ours: &mut mpsc::UnboundedReceiver<Work>) -> Result<OurCell, TryRecvError> {
    match ours.try_recv()? {
        Work::Cell(cell) => Ok(*cell),
        Work::Hint(hint) => panic!("{hint:?}"),
    }
}

fn entries(broker: &Broker, session: &str, after: Seq) -> Vec<Rc<Entry>> {
    let Read::Ready(batch) = broker.read(after, usize::MAX) else {
        panic!("a memory journal is never loading");
    };
    let entries = batch.into_iter().map(|(_, entry)| entry);
    entries
        .filter(|entry| entry.route.is_for(session))
        .collect()
}

fn kinds(heard: &[String]) -> Vec<&str> {
    heard
        .iter()
        .filter_map(|said| said.split(' ').next())
        .collect()
}

fn shown(entry: &Entry) -> String {
    let (_, message) = entry.message();
    let header: Value = serde_json::from_slice(&message.header).unwrap();
    let content: Value = serde_json::from_slice(&message.content).unwrap();
    let detail = ["execution_state", "status", "text", "evalue"]
        .iter()
        .find_map(|key| content[*key].as_str());
    format!(
        "{} {}",
        header["msg_type"].as_str().unwrap(),
        detail.unwrap_or_default()
    )
}

fn read(broker: &Broker, session: &str, after: Seq) -> Vec<String> {
    entries(broker, session, after)
        .iter()
        .map(|entry| shown(entry))
        .collect()
}

#[test]
fn output_goes_to_everyone_and_a_reply_to_its_asker() {
    let (broker, mut requests) = running();
    let (a, b) = ("a".into(), "b".into());
    let (ticket_a, ticket_b) = (broker.join(&a, &me()), broker.join(&b, &me()));
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    assert_eq!(requests.try_recv().unwrap().1, cell);
    broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
    assert_eq!(broker.snapshot().execution_state, "busy");
    broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    assert_eq!(
        read(&broker, "b", ticket_b.after),
        ["status busy", "status idle"]
    );
    let all = ["status busy", "status idle", "execute_reply ok"];
    assert_eq!(read(&broker, "a", ticket_a.after), all);
    assert_eq!(broker.snapshot().execution_state, "idle");
}

#[test]
fn a_reply_that_overtakes_its_idle_is_marked_with_it() {
    let (broker, _requests) = running();
    let ticket = broker.join(&"a".into(), &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&"a".into(), Channel::Shell, cell.clone());
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    let entries = entries(&broker, "a", ticket.after);
    let [reply, idle] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    let Mark::EarlyReply(early) = &reply.mark else {
        panic!("{:?}", reply.mark);
    };
    assert_eq!(idle.mark, Mark::Idle(Rc::clone(early)));
}

#[test]
fn a_new_session_is_told_busy_and_what_the_running_cell_has_said() {
    let (broker, _requests) = running();
    broker.join(&"a".into(), &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&"a".into(), Channel::Shell, cell.clone());
    broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
    let output = from_kernel("stream", &cell, &json!({"text": "so far"}));
    broker.kernel_said(Channel::Iopub, output);
    let ticket = broker.join(&"new".into(), &me());
    let (_, told) = ticket.first.message();
    assert_eq!(shown(&ticket.first), "status busy");
    assert_eq!(told.parent_header, cell.header);
    let Read::Ready(batch) = broker.read(ticket.after, usize::MAX) else {
        panic!("a memory journal is never loading");
    };
    let mine = batch
        .iter()
        .filter(|(seq, entry)| ticket.share.has(*seq, entry));
    let mine: Vec<_> = mine.map(|(_, entry)| shown(entry)).collect();
    assert_eq!(mine, ["status busy", "stream so far"]);
}

#[test]
fn requests_wait_for_the_kernel_and_go_in_order() {
    let broker = broker();
    broker.join(&"a".into(), &me());
    for id in ["1", "2"] {
        broker.submit(
            &"a".into(),
            Channel::Shell,
            request("a", id, "execute_request"),
        );
    }
    assert_eq!(broker.snapshot().execution_state, "starting");
    let (outbox, mut requests) = mpsc::unbounded_channel();
    broker.open_epoch(outbox);
    for id in ["1", "2"] {
        let (_, sent) = requests.try_recv().unwrap();
        assert_eq!(sent, request("a", id, "execute_request"));
    }
}

#[test]
fn death_answers_what_was_asked_and_closes_every_line() {
    let (broker, _requests) = running();
    let ticket = broker.join(&"a".into(), &me());
    broker.submit(
        &"a".into(),
        Channel::Shell,
        request("a", "1", "execute_request"),
    );
    broker.close_epoch(
        Phase::Restarting { asked: false },
        "KernelDied",
        "was killed",
    );
    assert_eq!(ticket.line.closing(), None);
    let heard = [
        "error was killed",
        "execute_reply error",
        "status idle",
        "status restarting",
    ];
    assert_eq!(read(&broker, "a", ticket.after), heard);
    broker.close_epoch(Phase::Dead("no more".to_owned()), "KernelDied", "no more");
    assert_eq!(ticket.line.closing().unwrap().0, 1000);
    assert_eq!(broker.snapshot().reason.unwrap(), "no more");
    // And whatever is asked after that.
    let late = broker.join(&"b".into(), &me());
    broker.submit(
        &"b".into(),
        Channel::Shell,
        request("b", "1", "complete_request"),
    );
    assert_eq!(
        read(&broker, "b", late.after),
        ["complete_reply error", "status idle"]
    );
}

#[test]
fn what_comes_of_our_own_messages_is_kept_back() {
    let (broker, _requests) = running();
    let ticket = broker.join(&"a".into(), &me());
    let probe = broker.compose("kernel_info_request", &json!({}));
    broker.kernel_said(Channel::Iopub, status(&probe, "busy"));
    let reply = from_kernel("kernel_info_reply", &probe, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    assert_eq!(read(&broker, "a", ticket.after), Vec::<String>::new());
    assert_eq!(broker.snapshot().execution_state, "idle");
}

#[test]
fn a_note_is_said_with_the_first_cell_that_is_shown_only() {
    let (broker, _requests) = running();
    let ticket = broker.join(&"a".into(), &me());
    broker.say_with_next_cell("elsewhere");
    let mut silent = request("a", "0", "execute_request");
    silent.content = json!({"silent": true}).to_string().into();
    broker.submit(&"a".into(), Channel::Shell, silent.clone());
    broker.kernel_said(Channel::Iopub, status(&silent, "busy"));
    broker.kernel_said(Channel::Iopub, status(&silent, "idle"));
    for id in ["1", "2"] {
        let cell = request("a", id, "execute_request");
        broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
        broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    }
    let heard = [
        "status busy",
        "status idle",
        "status busy",
        "stream elsewhere\n",
        "status idle",
        "status busy",
        "status idle",
    ];
    assert_eq!(read(&broker, "a", ticket.after), heard);
}

#[test]
fn ended_access_closes_the_connections_of_that_identity_only() {
    let (broker, _requests) = running();
    let mine = broker.join(&"a".into(), &me());
    let theirs = broker.join(&"b".into(), &holder("them"));
    assert_eq!(broker.end_access(Access::Identity("them")), 1);
    assert_eq!(theirs.line.closing().unwrap().0, 4401);
    assert_eq!(mine.line.closing(), None);
    assert_eq!(broker.client_sessions().len(), 1);
}

#[test]
fn requests_that_a_death_answers_are_answered_in_the_order_in_which_they_came() {
    let (broker, _requests) = running();
    let a = "a".into();
    let ticket = broker.join(&a, &me());
    for (id, msg_type) in [("2", "execute_request"), ("1", "inspect_request")] {
        broker.submit(&a, Channel::Shell, request("a", id, msg_type));
    }
    broker.close_epoch(Phase::Dead("gone".to_owned()), "KernelDied", "gone");
    let replies = read(&broker, "a", ticket.after);
    let replies: Vec<_> = (replies.iter())
        .filter(|said| said.contains("_reply"))
        .collect();
    assert_eq!(replies, ["execute_reply error", "inspect_reply error"]);
}

#[test]
fn requests_with_one_id_fill_the_room_as_others_do() {
    let (broker, _requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let half: Bytes = vec![0; 1 + super::requests::PENDING_BYTES_MAX / 2].into();
    for _ in 0..2 {
        let cell = Message {
            buffers: vec![half.clone()],
            ..request("a", "1", "execute_request")
        };
        broker.submit(&a, Channel::Shell, cell);
    }
    assert!(broker.room().now_or_never().is_none());
    let cell = request("a", "1", "execute_request");
    broker.kernel_said(
        Channel::Shell,
        from_kernel("execute_reply", &cell, &json!({})),
    );
    assert!(broker.room().now_or_never().is_some());
}

#[test]
fn requests_fill_the_room_by_number_but_for_those_that_the_kernel_is_done_with() {
    let (broker, _requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let odd = request("a", "odd", "odd_request");
    broker.submit(&a, Channel::Shell, odd.clone());
    for n in 0..super::requests::PENDING_MAX {
        let inspect = request("a", &n.to_string(), "inspect_request");
        broker.submit(&a, Channel::Shell, inspect);
    }
    assert!(broker.room().now_or_never().is_none());
    // A kernel does not answer what it does not know, and says that it is idle again.
    broker.kernel_said(Channel::Iopub, status(&odd, "idle"));
    let last = request("a", "last", "inspect_request");
    broker.submit(&a, Channel::Shell, last.clone());
    assert!(broker.room().now_or_never().is_none());
    let reply = from_kernel("inspect_reply", &last, &json!({}));
    broker.kernel_said(Channel::Shell, reply);
    assert!(broker.room().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_ignores_a_shutdown_request_dies_later_by_itself() {
    let (broker, _requests) = running();
    let mut goodbye = request("a", "1", "shutdown_request");
    goodbye.content = json!({"restart": false}).to_string().into();
    broker.submit(&"a".into(), Channel::Control, goodbye);
    assert_eq!(broker.farewell(), Some(Farewell::End));
    tokio::time::advance(std::time::Duration::from_secs(120)).await;
    assert_eq!(broker.farewell(), None);
}

#[test]
fn a_kernel_that_dies_between_reply_and_idle_leaves_no_cell_without_an_end() {
    let (broker, _requests) = running();
    let a = "a".into();
    let ticket = broker.join(&a, &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    broker.close_epoch(Phase::Restarting { asked: false }, "KernelDied", "it died");
    let all = [
        "status busy",
        "execute_reply ok",
        "status idle",
        "status restarting",
    ];
    assert_eq!(read(&broker, "a", ticket.after), all);
}
