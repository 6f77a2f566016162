//! Cells of ours on the queue: what the runner of such a cell says, asks and does in the kernel's place.
//!
//! Knows nothing of magics but that a source may be claimed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::debug;

use super::hints::Hint;
use super::requests::{Request, noted};
use super::state::{field, is_silent};
use super::{Broker, State};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route};
use crate::kernels::supervisor::ledger::Note;
use crate::magics::{Claim, Failure};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// What the magics say of a source.
pub trait Takeover {
    /// Whether this cell is ours.
    fn claim(&self, source: &str) -> Option<Claim>;

    /// Whether what stands at this cursor, counted in characters, is ours to complete and explain.
    fn knows(&self, source: &str, cursor: usize) -> bool;

    /// The kernel's process is gone.
    fn kernel_ended(&self) {}
}

/// What the magics are to do in the kernel's place.
#[derive(Debug)]
pub enum Work {
    Cell(Box<OurCell>),
    Hint(Hint),
}

/// A cell that is to be run instead of the kernel.
#[derive(Debug)]
pub struct OurCell {
    pub claim: Claim,
    pub interrupt: Rc<Interrupt>,
    pub(super) key: RequestKey,
    subshell: Option<String>,
    session: Rc<str>,
    pub(super) message: Message,
    /// Its count, once the kernel has given it one.
    pub(super) count: Cell<Option<i64>>,
    /// What another kernel has replied to it.
    pub(super) reply: RefCell<Option<Value>>,
}

impl OurCell {
    /// The id of the request.
    pub fn msg_id(&self) -> &str {
        self.key.rsplit_once('\n').map_or("", |(_, msg_id)| msg_id)
    }

    /// The cell as it was typed.
    pub fn code(&self) -> String {
        let code = field(&self.message.content, "code");
        code.as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// The kernel has given it this count.
    pub fn counts_as(&self, count: Option<i64>) {
        self.count.set(count);
    }

    /// Whether history is to have it.
    pub fn is_kept(&self) -> bool {
        let is = |name: &str, value| field(&self.message.content, name) == Some(Value::Bool(value));
        !is("silent", true) && !is("store_history", false)
    }
}

/// Rung once.
#[derive(Debug, Default)]
pub struct Interrupt {
    rung: Cell<bool>,
    ringing: Notify,
}

impl Interrupt {
    /// Ends when it is rung; at once when it was.
    pub async fn wait(&self) {
        loop {
            let ringing = self.ringing.notified();
            if self.rung.get() {
                return;
            }
            ringing.await;
        }
    }

    fn ring(&self) {
        self.rung.set(true);
        self.ringing.notify_waiters();
    }
}

/// More than this is printed by no code of ours.
const PRINTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Hidden code that the kernel runs.
struct Hidden {
    printed: String,
    reply: Option<Result<(), Failure>>,
    /// The count of it, where it has one.
    count: Option<i64>,
    idle: bool,
    asker: oneshot::Sender<Result<Said, Failure>>,
}

/// What came of hidden code.
#[derive(Debug, Default)]
pub struct Said {
    /// On stdout.
    pub printed: String,
    pub count: Option<i64>,
}

/// What the state keeps of our cells.
#[derive(Default)]
pub(super) struct Ours {
    takeover: Option<(Box<dyn Takeover>, mpsc::UnboundedSender<Work>)>,
    running: Vec<(RequestKey, Rc<Interrupt>)>,
    questions: Vec<(Rc<str>, oneshot::Sender<String>)>,
    hidden: HashMap<String, Hidden>,
}

impl Ours {
    /// The kernel is another one now.
    pub(super) fn end_all(&mut self) {
        self.interrupt();
        self.questions.clear();
        self.hidden.clear();
        if let Some((takeover, _)) = &self.takeover {
            takeover.kernel_ended();
        }
    }

    fn interrupt(&mut self) -> bool {
        for (_, interrupt) in &self.running {
            interrupt.ring();
        }
        !self.running.is_empty()
    }
}

impl Broker {
    /// From now on what `takeover` says is ours is given to `runner`.
    pub fn take_over(&self, takeover: Box<dyn Takeover>, runner: mpsc::UnboundedSender<Work>) {
        self.state.borrow_mut().ours.takeover = Some((takeover, runner));
    }

    /// Whether this source is ours.
    pub fn claim(&self, source: &str) -> Option<Claim> {
        let state = self.state.borrow();
        let (takeover, _) = state.ours.takeover.as_ref()?;
        takeover.claim(source)
    }

    /// Interrupts our cells that run; false when none does.
    pub fn interrupt_ours(&self) -> bool {
        self.state.borrow_mut().ours.interrupt()
    }

    /// Output of our cell.
    pub fn our_cell_says(&self, cell: &OurCell, msg_type: &str, content: &Value) {
        let mut state = self.state.borrow_mut();
        state.say(&cell.message.header, msg_type, content);
    }

    /// Our cell has ended.
    pub fn our_cell_ends(&self, cell: &OurCell, outcome: Result<(), &Failure>) {
        let mut state = self.state.borrow_mut();
        state.ours.running.retain(|(key, _)| *key != cell.key);
        let said = cell.reply.take();
        let is_ok = |reply: &Value| reply["status"] == "ok";
        let (reply, is_shown) = match (outcome, said) {
            (Err(_), Some(said)) if !is_ok(&said) => (said, true),
            (Err(failure), _) => {
                let reply = json!({
                    "status": "error", "ename": failure.ename, "evalue": failure.message,
                    "traceback": failure.traceback(),
                });
                (reply, false)
            }
            (Ok(()), said) => {
                let nothing = || json!({"status": "ok", "payload": [], "user_expressions": {}});
                (said.unwrap_or_else(nothing), true)
            }
        };
        state.ends(&cell.key, reply, cell.count.get(), is_shown);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Our part of the cell has ended well; the rest is the kernel's, reply included. The cell runs all the while.
    pub fn our_cell_goes_on(&self, cell: &OurCell, rest: &str) {
        let mut state = self.state.borrow_mut();
        state.ours.running.retain(|(key, _)| *key != cell.key);
        if !state.pending.contains_key(&cell.key) {
            return debug!("our cell ended after its kernel");
        }
        let mut content: Value =
            serde_json::from_slice(&cell.message.content).unwrap_or_else(|_| json!({}));
        content["code"] = json!(rest);
        let message = Message {
            content: content.to_string().into(),
            ..cell.message.clone()
        };
        state.sent(&cell.key);
        state.send(Channel::Shell, message);
        let queue = state.queues.get_mut(&cell.subshell);
        let actions = queue.map(|queue| queue.handed_on(&cell.key));
        state.act(actions.unwrap_or_default());
    }

    /// Asks whoever ran our cell. The answer is dropped when the kernel is replaced.
    pub fn ask(&self, cell: &OurCell, prompt: &str, password: bool) -> oneshot::Receiver<String> {
        let (asker, answer) = oneshot::channel();
        let mut state = self.state.borrow_mut();
        let allowed = field(&cell.message.content, "allow_stdin") == Some(Value::Bool(true));
        if allowed {
            let content = json!({"prompt": prompt, "password": password});
            let header = cell.message.header.clone();
            let question = state.composer.message("input_request", header, &content);
            let route = Route::Session(Rc::clone(&cell.session));
            state.append(Channel::Stdin, question, route, Mark::Plain);
            state.ours.questions.push((Rc::clone(&cell.session), asker));
        }
        answer
    }

    /// Runs code in the kernel, unseen, and gives what it printed.
    pub fn run_hidden(&self, code: &str) -> oneshot::Receiver<Result<Said, Failure>> {
        self.run_unseen(code, false)
    }

    /// The same, with the code in history and counted.
    pub fn run_kept(&self, code: &str) -> oneshot::Receiver<Result<Said, Failure>> {
        self.run_unseen(code, true)
    }

    fn run_unseen(&self, code: &str, kept: bool) -> oneshot::Receiver<Result<Said, Failure>> {
        let (asker, answer) = oneshot::channel();
        let mut state = self.state.borrow_mut();
        let content = json!({
            "code": code, "silent": !kept, "store_history": kept, "allow_stdin": false,
            "stop_on_error": false, "user_expressions": {},
        });
        let request = state.composer.orphan("execute_request", &content);
        let id = HeaderPeek::read(&request.header).map(|peek| peek.msg_id.into_owned());
        let hidden = Hidden {
            printed: String::new(),
            reply: None,
            count: None,
            idle: false,
            asker,
        };
        state.ours.hidden.extend(id.map(|id| (id, hidden)));
        state.send(Channel::Shell, request);
        answer
    }
}

impl State {
    /// Whether this execute_request is ours.
    pub(super) fn claim(&self, content: &[u8]) -> Option<Claim> {
        let (takeover, _) = self.ours.takeover.as_ref()?;
        // Every magic has one: most cells need not be looked at further.
        content.contains(&b'%').then_some(())?;
        takeover.claim(field(content, "code")?.as_str()?)
    }

    /// Whether what stands at this cursor is ours.
    pub(super) fn knows(&self, source: &str, cursor: usize) -> bool {
        let takeover = self.ours.takeover.as_ref();
        takeover.is_some_and(|(takeover, _)| takeover.knows(source, cursor))
    }

    /// Gives a question to the magics; false when they are not there any more.
    pub(super) fn give_hint(&self, hint: Hint) -> bool {
        let takeover = self.ours.takeover.as_ref();
        takeover.is_some_and(|(_, runner)| runner.send(Work::Hint(hint)).is_ok())
    }

    pub(super) fn run_ours(&mut self, request: Request) {
        let session = self.pending.get(&request.key);
        let session = session.map(|pending| Rc::clone(&pending.session));
        let (Some(claim), Some(session)) = (request.claim, session) else {
            return self.send(request.channel, request.message);
        };
        let header = request.message.header.clone();
        let now = Timestamp::now();
        self.activity
            .busy(&request.key, "execute_request", &header, now);
        self.kept.begun(&request.key, self.journal.last());
        self.say(&header, "status", &json!({"execution_state": "busy"}));
        if !claim.elsewhere {
            self.say_input(&request.message, None);
        }
        let interrupt = Rc::<Interrupt>::default();
        let running = (RequestKey::clone(&request.key), Rc::clone(&interrupt));
        self.ours.running.push(running);
        let cell = OurCell {
            claim,
            interrupt,
            key: request.key,
            subshell: request.subshell,
            session,
            message: request.message,
            count: Cell::new(None),
            reply: RefCell::default(),
        };
        if let Some((_, runner)) = &self.ours.takeover
            && runner.send(Work::Cell(Box::new(cell))).is_err()
        {
            debug!("our cells are not run any more: the supervisor ends");
        }
    }

    /// An answer on stdin; true when one of our cells had asked.
    pub(super) fn answered(&mut self, session: &str, message: &Message) -> bool {
        let waits = |(asked, asker): &(Rc<str>, oneshot::Sender<String>)| {
            asked.as_ref() == session && !asker.is_closed()
        };
        let Some(at) = self.ours.questions.iter().position(waits) else {
            return false;
        };
        let (_, asker) = self.ours.questions.remove(at);
        let value = field(&message.content, "value");
        let value = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        asker.send(value.to_owned()).is_ok()
    }

    /// What came of a message of our own.
    pub(super) fn hidden_said(&mut self, parent_id: &str, message: &Message) {
        let Some(hidden) = self.ours.hidden.get_mut(parent_id) else {
            return;
        };
        let text = |name| match field(&message.content, name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let msg_type = HeaderPeek::read(&message.header).map(|peek| peek.msg_type.into_owned());
        match msg_type.as_deref() {
            Some("stream") if text("name") == "stdout" => {
                hidden.printed += &text("text");
                if hidden.printed.len() > PRINTED_BYTES_MAX {
                    let failure = Failure::new("MemoryError", "It printed too much.");
                    if let Some(hidden) = self.ours.hidden.remove(parent_id) {
                        let _gone = hidden.asker.send(Err(failure));
                    }
                    return;
                }
            }
            Some("status") => hidden.idle |= text("execution_state") == "idle",
            Some("execute_reply") if text("status") == "ok" => {
                hidden.count = field(&message.content, "execution_count").and_then(|n| n.as_i64());
                hidden.reply = Some(Ok(()));
            }
            Some("execute_reply") => {
                hidden.reply = Some(Err(Failure::new(text("ename"), text("evalue"))));
            }
            _ => {}
        }
        if hidden.idle
            && hidden.reply.is_some()
            && let Some(hidden) = self.ours.hidden.remove(parent_id)
        {
            let (printed, count) = (hidden.printed, hidden.count);
            let outcome = hidden
                .reply
                .unwrap_or(Ok(()))
                .map(|()| Said { printed, count });
            let _gone = hidden.asker.send(outcome);
        }
    }

    /// A cell that the kernel does not run has ended with this reply, and has this count. Whether what may be wrong was shown
    /// tells `is_shown`.
    pub(super) fn ends(
        &mut self,
        key: &RequestKey,
        mut reply: Value,
        count: Option<i64>,
        is_shown: bool,
    ) {
        let Some(pending) = self.pending.get(key) else {
            return debug!("our cell ended after its kernel");
        };
        let (header, session) = (pending.header.clone(), Rc::clone(&pending.session));
        let is_error = reply["status"] == "error";
        let stops = pending.stop_on_error && is_error;
        if is_error && !is_shown {
            let error = json!({
                "ename": reply["ename"], "evalue": reply["evalue"], "traceback": reply["traceback"],
            });
            self.say(&header, "error", &error);
        }
        reply["execution_count"] = json!(count);
        let reply = self
            .composer
            .message("execute_reply", header.clone(), &reply);
        self.append(Channel::Shell, reply, Route::Session(session), Mark::Plain);
        self.activity.idle(key, Timestamp::now());
        let mark = Mark::Idle(RequestKey::clone(key));
        self.say_idle(&header, Route::Everyone, mark);
        if self.questions.over(key) {
            self.ledger.write(&Note::Answered);
        }
        if let Some(pending) = self.take_out(key) {
            let status = if is_error { "error" } else { "ok" };
            self.has_answered(noted(key, &pending), status);
        }
        let subshell = HeaderPeek::read(&header);
        let subshell = subshell.and_then(|peek| peek.subshell_id.as_deref().map(str::to_owned));
        let queue = self.queues.get_mut(&subshell);
        let actions = queue.map(|queue| queue.finished(key, stops));
        self.act(actions.unwrap_or_default());
        self.forget_queue(&subshell);
    }

    /// What was typed, as a kernel shows it: of a silent cell nothing.
    pub(super) fn say_input(&mut self, cell: &Message, count: Option<i64>) {
        if !is_silent(&cell.content) {
            let code = field(&cell.content, "code");
            let content = json!({"code": code, "execution_count": count});
            self.say(&cell.header, "execute_input", &content);
        }
    }

    fn say(&mut self, header: &Bytes, msg_type: &str, content: &Value) {
        let message = self.composer.message(msg_type, header.clone(), content);
        self.append(Channel::Iopub, message, Route::Everyone, Mark::Plain);
    }
}
