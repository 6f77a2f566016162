//! The broker's rules, told from outside: what a kernel says and what each client then reads.

mod adoption;

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
use crate::magics::{Claim, Failure, Front, Registry};
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
    broker.take_over(Box::new(Plain(Registry::standard())), runner);
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
    broker.say_with_next_cell("elsewhere".to_owned());
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
fn what_is_ours_at_a_cursor_is_answered_here_though_a_cell_of_ours_runs() {
    let (broker, mut requests) = running();
    let mut ours = taken_over(&broker);
    let ticket = broker.join(&"a".into(), &me());
    let ask = |id, msg_type, content: Value| {
        let mut question = request("a", id, msg_type);
        question.content = content.to_string().into();
        broker.submit(&"a".into(), Channel::Shell, question);
    };
    ask("1", "execute_request", json!({"code": "%nb status"}));
    let cell = next_cell(&mut ours).unwrap();
    ask(
        "2",
        "complete_request",
        json!({"code": "%nb st", "cursor_pos": 6}),
    );
    let Ok(Work::Hint(hint)) = ours.try_recv() else {
        panic!("it is not ours");
    };
    assert_eq!((hint.wants, hint.cursor), (Wants::Completion, 6));
    broker.hint(&hint, &json!({"status": "ok", "matches": ["status"]}));
    // It is answered once.
    broker.hint(&hint, &json!({"status": "ok"}));
    broker.our_cell_ends(&cell, Ok(()));
    let heard = [
        "status busy",
        "execute_input ",
        "status busy",
        "complete_reply ok",
        "status idle",
        "execute_reply ok",
        "status idle",
    ];
    assert_eq!(read(&broker, "a", ticket.after), heard);
    // The kernel's own, and what nobody can read.
    ask(
        "3",
        "complete_request",
        json!({"code": "pri", "cursor_pos": 3}),
    );
    ask(
        "4",
        "complete_request",
        json!({"code": "%ls ", "cursor_pos": 3}),
    );
    ask(
        "5",
        "inspect_request",
        json!({"code": 5, "cursor_pos": "%"}),
    );
    assert_eq!(std::iter::from_fn(|| requests.try_recv().ok()).count(), 3);
    assert!(ours.try_recv().is_err());
}

#[test]
fn a_cell_of_ours_is_run_here_and_its_failure_aborts_those_behind_it() {
    let (broker, mut requests) = running();
    let mut ours = taken_over(&broker);
    let ticket = broker.join(&"a".into(), &me());
    for (id, code) in [("1", "%nb status"), ("2", "x"), ("3", "y")] {
        let mut cell = request("a", id, "execute_request");
        cell.content = json!({"code": code, "allow_stdin": true})
            .to_string()
            .into();
        broker.submit(&"a".into(), Channel::Shell, cell);
    }
    let cell = next_cell(&mut ours).unwrap();
    assert!(requests.try_recv().is_err());
    assert_eq!(broker.snapshot().execution_state, "busy");
    let mut answer = broker.ask(&cell, "name?", false);
    let mut reply = request("a", "4", "input_reply");
    reply.content = json!({"value": "Ada"}).to_string().into();
    broker.submit(&"a".into(), Channel::Stdin, reply);
    assert_eq!(answer.try_recv().unwrap(), "Ada");
    broker.our_cell_ends(&cell, Err(&Failure::usage("No.")));
    let heard = [
        "status busy",
        "execute_input ",
        "input_request ",
        "error No.",
        "execute_reply error",
        "status idle",
        "execute_reply aborted",
        "status idle",
        "execute_reply aborted",
        "status idle",
    ];
    assert_eq!(read(&broker, "a", ticket.after), heard);
    assert_eq!(broker.snapshot().execution_state, "idle");
}

/// Whoever comes between the two parts of a cell finds it running, and hears the end of it.
#[test]
fn a_cell_that_goes_on_in_the_kernel_runs_all_the_while() {
    let (broker, mut requests) = running();
    let mut ours = taken_over(&broker);
    let (a, b) = ("a".into(), "b".into());
    broker.join(&a, &me());
    let mut cell = request("a", "1", "execute_request");
    cell.content = json!({"code": "%nb status\nx"}).to_string().into();
    broker.submit(&a, Channel::Shell, cell.clone());
    let our_part = next_cell(&mut ours).unwrap();
    broker.our_cell_goes_on(&our_part, "x");
    assert_eq!(broker.snapshot().execution_state, "busy");
    let ticket = broker.join(&b, &me());
    assert_eq!(requests.try_recv().unwrap().1.header, cell.header);
    for state in ["busy", "idle"] {
        broker.kernel_said(Channel::Iopub, status(&cell, state));
    }
    assert_eq!(broker.snapshot().execution_state, "idle");
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    let Read::Ready(batch) = broker.read(ticket.after, usize::MAX) else {
        panic!("a memory journal is never loading");
    };
    let mine = (batch.iter()).filter(|(seq, entry)| ticket.share.has(*seq, entry));
    let mine: Vec<_> = mine.map(|(_, entry)| shown(entry)).collect();
    let heard = [
        "status busy",
        "status busy",
        "status idle",
        "execute_reply ok",
    ];
    assert_eq!(mine, heard);
}

#[test]
fn hidden_code_gives_what_it_printed_once_it_is_answered_and_idle() {
    let (broker, mut requests) = running();
    let mut printed = broker.run_hidden("1");
    let (_, hidden) = requests.try_recv().unwrap();
    let text = json!({"name": "stdout", "text": "out"});
    broker.kernel_said(
        Channel::Shell,
        from_kernel("execute_reply", &hidden, &json!({"status": "ok"})),
    );
    broker.kernel_said(Channel::Iopub, from_kernel("stream", &hidden, &text));
    assert!(printed.try_recv().is_err());
    broker.kernel_said(Channel::Iopub, status(&hidden, "idle"));
    assert_eq!(printed.try_recv().unwrap().unwrap(), "out");
}

/// It could only be taken for the answer to a question that the next process asks later.
#[test]
fn an_answer_that_no_kernel_process_has_asked_for_is_not_kept_for_the_next() {
    let (broker, _requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let phase = Phase::Restarting { asked: true };
    broker.close_epoch(phase, "KernelRestarted", "again");
    broker.submit(&a, Channel::Stdin, request("a", "1", "input_reply"));
    let cell = request("a", "2", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    let (outbox, mut requests) = mpsc::unbounded_channel();
    broker.open_epoch(outbox);
    assert_eq!(requests.try_recv().unwrap().1, cell);
    assert!(requests.try_recv().is_err());
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

/// Whoever fills the room waits for it, and a cell of ours that ends makes some.
#[tokio::test]
async fn a_cell_of_ours_that_ends_lets_those_who_wait_for_room_go_on() {
    let (broker, _requests) = running();
    let mut ours = taken_over(&broker);
    let a = "a".into();
    broker.join(&a, &me());
    let cell = Message {
        content: json!({"code": "%nb"}).to_string().into(),
        // Never touched, so no memory stands behind it.
        buffers: vec![vec![0; 1 + super::requests::PENDING_BYTES_MAX].into()],
        ..request("a", "1", "execute_request")
    };
    broker.submit(&a, Channel::Shell, cell);
    let cell = next_cell(&mut ours).unwrap();
    let mut room = std::pin::pin!(broker.room());
    assert!(futures_util::poll!(&mut room).is_pending());
    broker.our_cell_ends(&cell, Ok(()));
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, room)
        .await
        .expect("nobody goes on");
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

#[test]
fn a_late_reply_to_a_forgotten_cell_still_lets_ours_run() {
    let (broker, _requests) = running();
    let mut ours = taken_over(&broker);
    let a = "a".into();
    broker.join(&a, &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    let magic = Message {
        content: json!({"code": "%nb"}).to_string().into(),
        ..request("a", "2", "execute_request")
    };
    broker.submit(&a, Channel::Shell, magic);
    assert!(next_cell(&mut ours).is_err());
    broker.state.borrow_mut().forget("a\n1");
    let reply = from_kernel("execute_reply", &cell, &json!({}));
    broker.kernel_said(Channel::Shell, reply);
    assert!(next_cell(&mut ours).is_ok());
}

/// A kernel that does not read takes one answer, not as many as a client likes to send.
#[test]
fn a_question_is_answered_once() {
    let (broker, mut requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    assert_eq!(requests.try_recv().unwrap().1, cell);
    let answers = ["2", "3", "4"].map(|id| request("a", id, "input_reply"));
    let answer = |n: usize| broker.submit(&a, Channel::Stdin, answers[n].clone());
    answer(0);
    assert!(requests.try_recv().is_err());
    let question = from_kernel("input_request", &cell, &json!({"prompt": "?"}));
    broker.kernel_said(Channel::Stdin, question);
    answer(1);
    answer(2);
    assert_eq!(
        requests.try_recv().unwrap(),
        (Channel::Stdin, answers[1].clone())
    );
    assert!(requests.try_recv().is_err());
}

/// Two clients may be asked the same, and one may be asked twice: the second answer is not one to the next question.
#[test]
fn an_answer_is_one_to_the_question_that_it_names() {
    let (broker, mut requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let mut sent = || {
        let sent = std::iter::from_fn(|| requests.try_recv().ok());
        let ids = sent.filter(|(channel, _)| *channel == Channel::Stdin);
        ids.map(|(_, answer)| answer.parent_header)
            .collect::<Vec<_>>()
    };
    let asks = |cell: &Message, id: &str| {
        let header = json!({"msg_id": id, "msg_type": "input_request", "session": "kernel"});
        let question = message(&header, cell.header.clone(), &json!({"prompt": "?"}));
        broker.kernel_said(Channel::Stdin, question.clone());
        question.header
    };
    let answers = |question: &Bytes| {
        let answer = Message {
            parent_header: question.clone(),
            ..request("a", "answer", "input_reply")
        };
        broker.submit(&a, Channel::Stdin, answer);
    };
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    let [one, two] = ["one", "two"].map(|id| asks(&cell, id));
    answers(&one);
    answers(&one);
    answers(&two);
    answers(&two);
    assert_eq!(sent(), [one, two]);
    // One that is interrupted waits for no answer, named or not; and then the kernel may ask again.
    let three = asks(&cell, "three");
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "error"}));
    broker.kernel_said(Channel::Shell, reply);
    let nothing = Bytes::from_static(b"{}");
    answers(&three);
    answers(&nothing);
    assert_eq!(sent(), Vec::<Bytes>::new());
    let next = request("a", "2", "execute_request");
    broker.submit(&a, Channel::Shell, next.clone());
    let four = asks(&next, "four");
    answers(&three);
    // What names something else than a question says nothing of which.
    answers(&next.header);
    answers(&four);
    assert_eq!(sent(), [next.header]);
}

/// Whoever was asked is gone: after five seconds the same user's other clients are, and nobody else's. What
/// one of them answers goes to the kernel once.
#[tokio::test(start_paused = true)]
async fn a_question_whose_asker_is_away_goes_to_the_same_users_other_clients() {
    let (broker, mut requests) = running();
    let [asker, other, theirs] = ["asker", "other", "theirs"].map(Rc::<str>::from);
    let connection = broker.join(&asker, &me()).id;
    let cell = request("asker", "1", "execute_request");
    broker.submit(&asker, Channel::Shell, cell.clone());
    assert_eq!(requests.try_recv().unwrap().1, cell);
    let question = from_kernel("input_request", &cell, &json!({"text": "name?"}));
    broker.kernel_said(Channel::Stdin, question.clone());
    broker.leave(&asker, connection);
    let ticket = broker.join(&other, &me());
    let stranger = broker.join(&theirs, &holder("them"));
    let passes = broker.pass_questions_on();
    let seconds = |seconds| std::time::Duration::from_secs(seconds);
    tokio::pin!(passes);
    assert!(
        tokio::time::timeout(seconds(1), passes.as_mut())
            .await
            .is_err()
    );
    assert!(read(&broker, "other", ticket.after).is_empty());
    assert!(
        tokio::time::timeout(seconds(10), passes.as_mut())
            .await
            .is_err()
    );
    assert_eq!(
        read(&broker, "other", ticket.after),
        ["input_request name?"]
    );
    assert!(read(&broker, "theirs", stranger.after).is_empty());
    let answer = request("other", "2", "input_reply");
    broker.submit(&other, Channel::Stdin, answer.clone());
    assert_eq!(requests.try_recv().unwrap(), (Channel::Stdin, answer));
    broker.submit(&asker, Channel::Stdin, request("asker", "3", "input_reply"));
    assert!(requests.try_recv().is_err());
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

/// What a page showed and did not save is there for the next one.
#[test]
fn a_cell_stays_whole_after_everybody_has_it_and_its_state_is_told() {
    let (broker, _requests) = running();
    let state = |id: &str| {
        let known = broker.request_state(id);
        (known.state, known.whole)
    };
    let a = "a".into();
    let ticket = broker.join(&a, &me());
    let (first, second) = (
        request("a", "1", "execute_request"),
        request("a", "2", "execute_request"),
    );
    assert_eq!(state("1"), (RequestPhase::Unknown, false));
    for cell in [&first, &second] {
        broker.submit(&a, Channel::Shell, cell.clone());
    }
    assert_eq!(state("1"), (RequestPhase::Waiting, true));
    broker.kernel_said(Channel::Iopub, status(&first, "busy"));
    assert_eq!(state("1"), (RequestPhase::Running, true));
    let text = from_kernel("stream", &first, &json!({"name": "stdout", "text": "x"}));
    broker.kernel_said(Channel::Iopub, text);
    let reply = from_kernel("execute_reply", &first, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    assert_eq!(state("1"), (RequestPhase::Running, true));
    broker.kernel_said(Channel::Iopub, status(&first, "idle"));
    assert_eq!(state("1"), (RequestPhase::Over, true));
    broker.acknowledge("a", ticket.id, broker.last());
    let after = broker.request_state("1").after.unwrap();
    let all = ["status busy", "stream x", "execute_reply ok", "status idle"];
    assert_eq!(read(&broker, "a", after), all);
    // The kernel dies before the other begins.
    broker.close_epoch(Phase::Restarting { asked: false }, "KernelDied", "gone");
    assert_eq!(state("2"), (RequestPhase::Over, true));
    let after = broker.request_state("2").after.unwrap();
    assert!(read(&broker, "a", after).contains(&"error gone".to_owned()));
}

#[test]
fn of_what_everybody_has_no_more_than_a_share_stays() {
    let (broker, _requests) = running();
    let a = "a".into();
    let ticket = broker.join(&a, &me());
    for n in 0..20 {
        let cell = request("a", &n.to_string(), "execute_request");
        broker.submit(&a, Channel::Shell, cell.clone());
        broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
        for _ in 0..10 {
            let text = json!({"name": "stdout", "text": "x".repeat(1000)});
            broker.kernel_said(Channel::Iopub, from_kernel("stream", &cell, &text));
        }
        let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
        broker.kernel_said(Channel::Shell, reply);
        broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
        broker.acknowledge("a", ticket.id, broker.last());
    }
    // An eighth of the journal's bound.
    let held = broker.snapshot().journal_bytes;
    assert!((100_000..=128 * 1024).contains(&held), "{held}");
    let newest = broker.request_state("19").after.unwrap();
    assert_eq!(read(&broker, "a", newest).len(), 13);
    // A session that is not there any more needs nothing, and the newest cells stay all the same.
    broker.leave("a", ticket.id);
    broker.kernel_said(
        Channel::Iopub,
        status(&request("b", "1", "comm_msg"), "busy"),
    );
    assert_eq!(read(&broker, "a", newest).len(), 14);
}
