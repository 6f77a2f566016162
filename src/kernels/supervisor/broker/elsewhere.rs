//! What the other kernels of the notebook say and are told: cells that run there, questions, comms.
//!
//! A request goes there with the header that its client gave it, so what comes of it needs no more than to be passed on. Of
//! a cell that runs there, its begin, its count and its end are said here. Knows nothing of how those kernels are reached.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::{oneshot, watch};
use tracing::debug;

use super::ours::OurCell;
use super::progress::Progress;
use super::requests::noted;
use super::state::{error_content, field};
use super::{Broker, Outbox, State};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route, request_key};
use crate::kernels::supervisor::ledger::{Note, RunsElsewhere};
use crate::magics::OtherKernel;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// Comms that are known, of all other kernels.
const COMMS_MAX: usize = 65_536;

/// What the state keeps of the other kernels.
#[derive(Default)]
pub(super) struct Elsewhere {
    outboxes: BTreeMap<OtherKernel, Outbox>,
    running: HashMap<RequestKey, Running>,
    comms: HashMap<String, Comm>,
    /// What was said on those and is not done with.
    told: HashMap<RequestKey, OtherKernel>,
    /// What the kernel was asked for its comms, by the request: those of one target, or all.
    asked: HashMap<RequestKey, Option<String>>,
}

/// A cell that runs there.
struct Running {
    runs: RunsElsewhere,
    reply: Option<Value>,
    idle: bool,
    progress: watch::Sender<Progress>,
    /// Nobody, when it was an earlier supervisor.
    asker: Option<oneshot::Sender<Value>>,
}

/// A cell that is sent to another kernel, for whoever waits for it.
#[derive(Debug)]
pub struct Sent {
    /// What it replies once it is idle; nothing comes when that kernel is gone.
    pub ended: oneshot::Receiver<Value>,
    /// How far it is, until it has ended.
    pub progress: watch::Receiver<Progress>,
}

struct Comm {
    kernel: OtherKernel,
    target: String,
}

impl Running {
    fn says(&self, channel: Channel, msg_type: &str) {
        self.progress
            .send_modify(|at| *at = at.hears(channel, msg_type));
    }
}

impl Elsewhere {
    /// The kernel of the notebook is another process now.
    pub(super) fn new_epoch(&mut self) {
        self.asked.clear();
    }

    /// An earlier supervisor was waiting for this cell.
    pub(super) fn recall(&mut self, key: &RequestKey, runs: &RunsElsewhere) {
        self.begin(key, runs.clone(), None, watch::Sender::default());
    }

    fn begin(
        &mut self,
        key: &RequestKey,
        runs: RunsElsewhere,
        asker: Option<oneshot::Sender<Value>>,
        progress: watch::Sender<Progress>,
    ) {
        let running = Running {
            runs,
            reply: None,
            idle: false,
            progress,
            asker,
        };
        self.running.insert(RequestKey::clone(key), running);
    }

    fn forget_comms(&mut self, kernel: &OtherKernel) {
        self.comms.retain(|_, comm| comm.kernel != *kernel);
    }

    fn send(&self, kernel: &OtherKernel, channel: Channel, message: Message) {
        let outbox = self.outboxes.get(kernel);
        if outbox.is_none_or(|outbox| outbox.send((channel, message)).is_err()) {
            debug!(%kernel, "dropped what is for a kernel that is gone");
        }
    }
}

impl Broker {
    /// Another kernel of the notebook runs, and takes requests here.
    pub fn other_is_there(&self, kernel: &OtherKernel, outbox: Outbox) {
        let mut state = self.state.borrow_mut();
        state.elsewhere.outboxes.insert(kernel.clone(), outbox);
    }

    /// Another kernel of the notebook is restarted: what it had is gone.
    pub fn other_restarts(&self, kernel: &OtherKernel) {
        self.state.borrow_mut().lose_comms_of(kernel);
        self.changed.notify_waiters();
    }

    /// The kernels with a cell for which an earlier supervisor was waiting: no cell of ours is interrupted with it.
    pub fn recalled_elsewhere(&self) -> Vec<OtherKernel> {
        let state = self.state.borrow();
        let running = state.elsewhere.running.values();
        let recalled = running.filter(|running| running.asker.is_none());
        recalled
            .map(|running| running.runs.kernel.clone())
            .collect()
    }

    /// The headers of the cells in this kernel for which an earlier supervisor was waiting.
    pub fn recalled_in(&self, kernel: &OtherKernel) -> Vec<Bytes> {
        let state = self.state.borrow();
        let running = state.elsewhere.running.iter();
        let recalled = running
            .filter(|(_, running)| running.asker.is_none() && running.runs.kernel == *kernel);
        let pending = recalled.filter_map(|(key, _)| state.pending.get(key));
        pending.map(|pending| pending.header.clone()).collect()
    }

    /// Another kernel of the notebook is gone. Whoever waits for a cell there is told by the end of the wait.
    pub fn other_is_gone(&self, kernel: &OtherKernel, why: &str) {
        debug!(%kernel, why, "a kernel of the notebook is gone");
        let mut state = self.state.borrow_mut();
        state.elsewhere.outboxes.remove(kernel);
        state.lose_comms_of(kernel);
        state.lose_cells_of(|running| running == kernel);
        drop(state);
        self.changed.notify_waiters();
    }

    /// All other kernels that an earlier supervisor had started are there again, but for those that are gone.
    pub fn others_are_found(&self) {
        let mut state = self.state.borrow_mut();
        let there: Vec<_> = state.elsewhere.outboxes.keys().cloned().collect();
        state.lose_cells_of(|kernel| !there.contains(kernel));
        drop(state);
        self.changed.notify_waiters();
    }

    /// Another kernel of the notebook said something.
    pub fn other_said(&self, kernel: &OtherKernel, channel: Channel, message: Message) {
        let mut state = self.state.borrow_mut();
        match channel {
            Channel::Iopub => state.other_published(kernel, message),
            Channel::Shell | Channel::Control | Channel::Stdin => {
                state.other_replied(channel, message);
            }
        }
        drop(state);
        if channel == Channel::Stdin {
            self.crowd.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    /// The comms that another kernel has, by its own answer to a comm_info_request.
    pub fn other_has_comms(&self, kernel: &OtherKernel, reply: &Value) {
        let known = &mut self.state.borrow_mut().elsewhere.comms;
        for (id, about) in reply["comms"].as_object().into_iter().flatten() {
            let target = about["target_name"].as_str().unwrap_or_default().to_owned();
            let kernel = kernel.clone();
            if known.len() < COMMS_MAX {
                known.entry(id.clone()).or_insert(Comm { kernel, target });
            }
        }
    }

    /// Our cell begins, and has this count: what was typed is shown.
    pub fn our_cell_begins(&self, cell: &OurCell, count: Option<i64>) {
        cell.counts_as(count);
        let mut state = self.state.borrow_mut();
        state.say_input(&cell.message, count);
    }

    /// Runs code in another kernel as our cell, which may go on after. What it replies is our cell's.
    pub fn run_elsewhere(
        &self,
        cell: &OurCell,
        kernel: &OtherKernel,
        code: &str,
        goes_on: bool,
    ) -> Sent {
        let (asker, ended) = oneshot::channel();
        let (at, progress) = watch::channel(Progress::Sent);
        let sent = Sent { ended, progress };
        let mut state = self.state.borrow_mut();
        let mut content: Value =
            serde_json::from_slice(&cell.message.content).unwrap_or_else(|_| json!({}));
        content["code"] = json!(code);
        let message = Message {
            header: without_subshell(&cell.message.header),
            content: content.to_string().into(),
            ..cell.message.clone()
        };
        if !state.elsewhere.outboxes.contains_key(kernel) {
            return sent;
        }
        let key = RequestKey::clone(&cell.key);
        let runs = RunsElsewhere {
            kernel: kernel.clone(),
            count: cell.count.get(),
            goes_on,
        };
        if let Some(pending) = state.pending.get_mut(&key) {
            pending.elsewhere = Some(runs.clone());
        }
        state.ledger.write(&Note::Elsewhere {
            request: key.to_string(),
            runs: runs.clone(),
        });
        state.elsewhere.begin(&key, runs, Some(asker), at);
        state.elsewhere.send(kernel, Channel::Shell, message);
        sent
    }

    /// What another kernel has replied to our cell, but for its count, is our cell's reply. An error in it was shown.
    pub fn our_cell_replies(&self, cell: &OurCell, reply: Value) {
        cell.reply.replace(Some(reply));
    }
}

impl State {
    fn other_published(&mut self, kernel: &OtherKernel, message: Message) {
        let msg_type = HeaderPeek::read(&message.header).map(|peek| peek.msg_type.into_owned());
        let msg_type = msg_type.unwrap_or_default();
        let parent = HeaderPeek::read(&message.parent_header);
        let parent = parent.filter(|parent| !parent.msg_id.is_empty());
        let key = parent.as_ref().map(request_key);
        match msg_type.as_str() {
            "comm_open" => self.other_opens(kernel, &message),
            "comm_close" => {
                if let Some(id) = comm_id(&message.content) {
                    self.elsewhere.comms.remove(&id);
                }
            }
            _ => {}
        }
        let running = key
            .as_ref()
            .and_then(|key| self.elsewhere.running.get_mut(key));
        if let Some(running) = &running {
            running.says(Channel::Iopub, &msg_type);
        }
        let message = match (msg_type.as_str(), running) {
            // Its life is its own.
            ("status", None) if parent.is_none() => {
                let state = field(&message.content, "execution_state");
                if state.is_some_and(|state| state == "restarting" || state == "dead") {
                    self.lose_comms_of(kernel);
                }
                return;
            }
            ("status", Some(running)) => {
                running.idle |=
                    field(&message.content, "execution_state").is_some_and(|state| state == "idle");
                return self.ends_elsewhere(key);
            }
            ("execute_input", Some(_)) => return,
            ("execute_result", Some(running)) => counted(message, running.runs.count),
            // What was asked of it in passing, and answers to what nobody knows any more.
            ("status", None) => {
                if let Some(key) = key
                    && field(&message.content, "execution_state")
                        .is_some_and(|state| state == "idle")
                {
                    self.elsewhere.told.remove(&key);
                }
                return self.published(message);
            }
            _ => message,
        };
        self.append(Channel::Iopub, message, Route::Everyone, Mark::Plain);
    }

    fn other_replied(&mut self, channel: Channel, message: Message) {
        let key = HeaderPeek::read(&message.parent_header).map(|parent| request_key(&parent));
        let running = key
            .as_ref()
            .and_then(|key| self.elsewhere.running.get_mut(key));
        if let Some(running) = &running {
            running.says(channel, "");
        }
        match running {
            Some(running) if channel == Channel::Shell => {
                running.reply = serde_json::from_slice(&message.content).ok();
                self.ends_elsewhere(key);
            }
            _ => self.replied(channel, message),
        }
    }

    /// A cell that runs elsewhere is over once its reply and its idle are there, in whatever order.
    fn ends_elsewhere(&mut self, key: Option<RequestKey>) {
        let running = &mut self.elsewhere.running;
        let is_over = |key: &RequestKey| {
            running
                .get(key)
                .is_some_and(|running| running.idle && running.reply.is_some())
        };
        if let Some(key) = key.filter(is_over)
            && let Some(Running {
                runs, reply, asker, ..
            }) = running.remove(&key)
        {
            let reply = reply.unwrap_or_default();
            match asker {
                Some(asker) => {
                    self.is_back(&key);
                    let _gone = asker.send(reply);
                }
                None if runs.goes_on && reply["status"] == "ok" => {
                    let reason = "the supervisor of this kernel died while the cell ran, and what it was to do \
                                  after was not done";
                    let reply = error_content("SupervisorDied", reason);
                    self.ends(&key, reply, runs.count, false);
                }
                None => self.ends(&key, reply, runs.count, true),
            }
        }
    }

    /// What follows in a cell that ran elsewhere is ours: a successor of ours has nothing to wait for there.
    fn is_back(&mut self, key: &RequestKey) {
        if let Some(pending) = self.pending.get_mut(key) {
            pending.elsewhere = None;
            self.ledger.write(&Note::Asked(noted(key, pending)));
        }
    }

    /// The cells that run in these kernels come to no end there. Who waits for one is told by the end of the wait.
    fn lose_cells_of(&mut self, is_gone: impl Fn(&OtherKernel) -> bool) {
        let running = &mut self.elsewhere.running;
        let lost = running.extract_if(|_, running| is_gone(&running.runs.kernel));
        for (key, Running { runs, asker, .. }) in lost.collect::<Vec<_>>() {
            if asker.is_none() {
                let kernel = &runs.kernel;
                let reason = format!("the kernel in {kernel} has ended before it answered");
                let reply = error_content("KernelDied", &reason);
                self.ends(&key, reply, runs.count, false);
            }
        }
    }

    /// What was said on the comms of this kernel comes to no end there.
    fn lose_comms_of(&mut self, kernel: &OtherKernel) {
        self.elsewhere.forget_comms(kernel);
        let lost = self.elsewhere.told.extract_if(|_, told| told == kernel);
        for (key, _) in lost.collect::<Vec<_>>() {
            self.activity.idle(&key, Timestamp::now());
            if let Some(pending) = self.pending.get(&key) {
                let header = pending.header.clone();
                let mark = Mark::Idle(RequestKey::clone(&key));
                self.say_idle(&header, Route::Everyone, mark);
            }
            self.forget(&key);
        }
    }

    /// An answer to a question that was asked for this request.
    pub(super) fn send_answer(&mut self, asked: &RequestKey, answer: Message) {
        match self.elsewhere.running.get(asked) {
            Some(running) => {
                let kernel = &running.runs.kernel;
                self.elsewhere.send(kernel, Channel::Stdin, answer);
            }
            None => self.send(Channel::Stdin, answer),
        }
    }

    fn other_opens(&mut self, kernel: &OtherKernel, message: &Message) {
        let (Some(id), Some(Value::String(target))) = (
            comm_id(&message.content),
            field(&message.content, "target_name"),
        ) else {
            return;
        };
        if self.elsewhere.comms.len() < COMMS_MAX {
            let kernel = kernel.clone();
            self.elsewhere.comms.insert(id, Comm { kernel, target });
        }
    }

    /// Whether this is said on a comm of another kernel.
    pub(super) fn is_others_comm(&self, message: &Message) -> bool {
        !self.elsewhere.comms.is_empty()
            && comm_id(&message.content).is_some_and(|id| self.elsewhere.comms.contains_key(&id))
    }

    /// Says it there: its kernel has an order of its own.
    pub(super) fn send_comm(&mut self, message: Message) {
        let id = comm_id(&message.content).unwrap_or_default();
        let is_close =
            HeaderPeek::read(&message.header).is_some_and(|peek| peek.msg_type == "comm_close");
        let Some(comm) = self.elsewhere.comms.get(&id) else {
            return;
        };
        if let Some(peek) = HeaderPeek::read(&message.header) {
            let told = comm.kernel.clone();
            self.elsewhere.told.insert(request_key(&peek), told);
        }
        self.elsewhere.send(&comm.kernel, Channel::Shell, message);
        if is_close {
            self.elsewhere.comms.remove(&id);
        }
    }

    /// A client asks the kernel for its comms: those of the others belong to the answer.
    pub(super) fn expects_comms(&mut self, key: &RequestKey, msg_type: &str, message: &Message) {
        if msg_type == "comm_info_request" && !self.elsewhere.comms.is_empty() {
            let target = field(&message.content, "target_name");
            let target = target.and_then(|target| target.as_str().map(str::to_owned));
            let target = target.filter(|target| !target.is_empty());
            self.elsewhere.asked.insert(RequestKey::clone(key), target);
        }
    }

    /// The kernel's answer to that, with the comms of the others.
    pub(super) fn with_others_comms(
        &mut self,
        key: &RequestKey,
        message: &Message,
    ) -> Option<Message> {
        let target = self.elsewhere.asked.remove(key)?;
        let content = serde_json::from_slice::<Map<String, Value>>(&message.content);
        let mut content = content.ok()?;
        let comms = content.entry("comms").or_insert_with(|| json!({}));
        for (id, comm) in &self.elsewhere.comms {
            if target.as_ref().is_none_or(|target| *target == comm.target) {
                comms[id.as_str()] = json!({"target_name": comm.target});
            }
        }
        Some(Message {
            content: Value::Object(content).to_string().into(),
            ..message.clone()
        })
    }
}

fn comm_id(content: &[u8]) -> Option<String> {
    match field(content, "comm_id") {
        Some(Value::String(id)) => Some(id),
        _ => None,
    }
}

/// A header without the subshell of the notebook's kernel, of which another one has never heard.
fn without_subshell(header: &Bytes) -> Bytes {
    if HeaderPeek::read(header).is_none_or(|peek| peek.subshell_id.is_none()) {
        return header.clone();
    }
    let fields = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(header);
    let bare = fields.and_then(|mut fields| {
        fields.remove("subshell_id");
        serde_json::to_vec(&fields)
    });
    bare.map_or_else(|_| header.clone(), Bytes::from)
}

/// A result with the count of the cell as its client sees it; all else stays as it was written.
fn counted(message: Message, count: Option<i64>) -> Message {
    let Ok(mut content) =
        serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(&message.content)
    else {
        return message;
    };
    let count = serde_json::value::to_raw_value(&count);
    let counted = count.and_then(|count| {
        content.insert("execution_count".to_owned(), count);
        serde_json::to_vec(&content)
    });
    match counted {
        Ok(content) => Message {
            content: content.into(),
            ..message
        },
        Err(_) => message,
    }
}
