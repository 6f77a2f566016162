//! What clients ask of the kernel: through the queue to it, and remembered until it is answered.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::state::{error_content, field, is_silent};
use super::{Broker, Farewell, Phase, State, now};
use crate::kernels::supervisor::journal::{RequestKey, request_key};
use crate::kernels::supervisor::ledger::{Asked, Note, RunsElsewhere};
use crate::kernels::supervisor::queue::{Action, CellQueue, Kind};
use crate::magics::Claim;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// Requests that wait for a reply; beyond this clients are not read from, but for those that the kernel
/// has done with and never answered, which are forgotten.
pub(super) const PENDING_MAX: usize = 65_536;

/// Bytes of requests that the kernel has not answered; beyond this clients are not read from.
pub(super) const PENDING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A request that the kernel has not answered.
pub(super) struct Pending {
    pub(super) session: Rc<str>,
    pub(super) channel: Channel,
    pub(super) msg_type: String,
    pub(super) header: Bytes,
    pub(super) bytes: usize,
    pub(super) idle_seen: bool,
    pub(super) stop_on_error: bool,
    /// A cell whose output is shown to nobody.
    pub(super) silent: bool,
    /// The kernel does not have it.
    pub(super) held: bool,
    /// Another kernel of the notebook has it.
    pub(super) elsewhere: Option<RunsElsewhere>,
}

/// A request on its way through the queue.
pub(super) struct Request {
    pub(super) key: RequestKey,
    pub(super) channel: Channel,
    pub(super) subshell: Option<String>,
    /// It is ours, as what.
    pub(super) claim: Option<Claim>,
    pub(super) message: Message,
}

/// By subshell.
pub(super) type Queues = HashMap<Option<String>, CellQueue<Request>>;

impl Broker {
    /// Waits while the kernel has too much unanswered.
    pub async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state.borrow().has_room() {
                return;
            }
            changed.await;
        }
    }

    /// A client says something to the kernel. What is no message is logged and ignored.
    pub fn submit(&self, session: &Rc<str>, channel: Channel, message: Message) {
        let mut state = self.state.borrow_mut();
        let Some(peek) = HeaderPeek::read(&message.header) else {
            warn!(%session, "ignored a message without a readable header");
            return;
        };
        let key = request_key(&peek);
        let kind = match &*peek.msg_type {
            "execute_request" => Kind::Execute,
            "comm_open" | "comm_msg" | "comm_close" => Kind::Comm,
            _ => Kind::Passing,
        };
        let subshell = peek.subshell_id.as_deref().map(str::to_owned);
        match channel {
            Channel::Iopub => return,
            Channel::Stdin if state.answered(session, &message) => return,
            Channel::Stdin => {
                let Some(asked) = state.questions.answer(&message) else {
                    return debug!(%session, "dropped an answer to no question");
                };
                if !state.questions.is_asking() {
                    state.ledger.write(&Note::Answered);
                }
                return state.send_answer(&asked, message);
            }
            Channel::Shell | Channel::Control => {}
        }
        if let Phase::Dead(reason) = &state.phase {
            let content = error_content("KernelDied", reason);
            let msg_type = peek.msg_type.into_owned();
            return state.answer(session, channel, &msg_type, &message.header, &content);
        }
        if &*peek.msg_type == "shutdown_request" {
            let restart = field(&message.content, "restart") == Some(Value::Bool(true));
            let farewell = if restart {
                Farewell::Restart
            } else {
                Farewell::End
            };
            state.farewell = Some((farewell, now()));
        }
        let msg_type = peek.msg_type.into_owned();
        let pending = Pending {
            session: Rc::clone(session),
            channel,
            msg_type: msg_type.clone(),
            header: Bytes::copy_from_slice(&message.header),
            bytes: message.bytes(),
            idle_seen: false,
            stop_on_error: kind == Kind::Execute && stops_on_error(&message.content),
            // Only the note wants to know.
            silent: state.cell_note.is_some() && is_silent(&message.content),
            held: false,
            elsewhere: None,
        };
        if kind == Kind::Execute && channel == Channel::Shell && !is_silent(&message.content) {
            let last = state.journal.last();
            state.sessions.asked(session, &key, &pending.header, last);
            state.kept.asked(&key);
        }
        state.remember(RequestKey::clone(&key), pending);
        if channel == Channel::Control {
            return state.send(channel, message);
        }
        if kind == Kind::Comm && state.is_others_comm(&message) {
            return state.send_comm(message);
        }
        state.expects_comms(&key, &msg_type, &message);
        if kind == Kind::Passing && state.hinted(&key, &msg_type, &message) {
            state.hold(&key);
            return;
        }
        let claim = match kind {
            Kind::Execute => state.claim(&message.content),
            _ => None,
        };
        let kind = if claim.is_some() { Kind::Ours } else { kind };
        let request = Request {
            key: RequestKey::clone(&key),
            subshell: subshell.clone(),
            claim,
            channel,
            message,
        };
        let queue = state.queues.entry(subshell.clone()).or_default();
        let actions = queue.submit(RequestKey::clone(&key), kind, request);
        let is_it = |action: &Action<Request>| matches!(action, Action::Forward(request) if request.key == key);
        if !actions.iter().any(is_it) {
            state.hold(&key);
        }
        state.act(actions);
        state.forget_queue(&subshell);
    }
}

impl State {
    pub(super) fn remember(&mut self, key: RequestKey, mut pending: Pending) {
        self.ledger.write(&Note::Asked(noted(&key, &pending)));
        if self.ledger.is_long() {
            self.note_anew();
        }
        self.pending_bytes += pending.bytes;
        self.pending_order.push_back(RequestKey::clone(&key));
        // The kernel has both before it.
        pending.bytes += self.pending.get(&key).map_or(0, |twice| twice.bytes);
        self.pending.insert(key, pending);
        if self.pending.len() > PENDING_MAX {
            let done = |key: &&RequestKey| self.pending.get(*key).is_some_and(|p| p.idle_seen);
            let done: Vec<_> = self.pending_order.iter().filter(done).cloned().collect();
            done.iter().for_each(|key| self.forget(key));
        }
    }

    /// The request stays here for now.
    fn hold(&mut self, key: &RequestKey) {
        if let Some(pending) = self.pending.get_mut(key) {
            pending.held = true;
            self.ledger.write(&Note::Held(key.to_string()));
        }
    }

    /// The request goes to the kernel now.
    pub(super) fn sent(&mut self, key: &RequestKey) {
        if let Some(pending) = self.pending.get_mut(key)
            && pending.held
        {
            pending.held = false;
            self.ledger.write(&Note::Sent(key.to_string()));
        }
    }

    /// Whether the kernel may be asked more.
    pub(super) fn has_room(&self) -> bool {
        self.pending_bytes <= PENDING_BYTES_MAX && self.pending.len() <= PENDING_MAX
    }

    /// Nobody waits for more of this request.
    pub(super) fn forget(&mut self, key: &str) {
        if self.take_out(key).is_some() {
            self.ledger.write(&Note::Done(key.to_owned()));
        }
    }

    /// The request is answered.
    pub(super) fn take_out(&mut self, key: &str) -> Option<Pending> {
        let pending = self.pending.remove(key);
        if let Some(pending) = &pending {
            self.pending_bytes -= pending.bytes;
        }
        // Answers come mostly in order, so the front is cleared as they come.
        while let Some(front) = self.pending_order.front()
            && !self.pending.contains_key(front)
        {
            self.pending_order.pop_front();
        }
        pending
    }

    pub(super) fn act(&mut self, actions: Vec<Action<Request>>) {
        for action in actions {
            match action {
                Action::Forward(request) => {
                    self.sent(&request.key);
                    self.send(request.channel, request.message);
                }
                Action::Run(request) => self.run_ours(request),
                Action::Abort(request) => {
                    if let Some(pending) = self.pending.get(&request.key) {
                        let (session, header) =
                            (Rc::clone(&pending.session), pending.header.clone());
                        let content = json!({"status": "aborted"});
                        self.take_out(&request.key);
                        self.answer(
                            &session,
                            Channel::Shell,
                            "execute_request",
                            &header,
                            &content,
                        );
                    }
                }
            }
        }
    }

    /// Subshells come and go, and a client can name any.
    pub(super) fn forget_queue(&mut self, subshell: &Option<String>) {
        let is_over = self.queues.get(subshell).is_some_and(CellQueue::is_empty);
        if is_over && subshell.is_some() {
            self.queues.remove(subshell);
        }
    }

    pub(super) fn send(&mut self, channel: Channel, message: Message) {
        match &self.outbox {
            Some(outbox) => {
                if outbox.send((channel, message)).is_err() {
                    debug!("the kernel is gone, its requests are answered when this is noticed");
                }
            }
            None => self.waiting.push((channel, message)),
        }
    }
}

fn stops_on_error(content: &[u8]) -> bool {
    field(content, "stop_on_error") != Some(Value::Bool(false))
}

pub(super) fn noted(key: &RequestKey, pending: &Pending) -> Asked {
    Asked {
        request: key.to_string(),
        session: pending.session.to_string(),
        channel: pending.channel.name().to_owned(),
        msg_type: pending.msg_type.clone(),
        header: String::from_utf8_lossy(&pending.header).into_owned(),
        stop_on_error: pending.stop_on_error,
        held: pending.held,
        elsewhere: pending.elsewhere.clone(),
        end: None,
    }
}
