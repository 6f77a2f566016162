//! The kernel's side: what it says, and the beginning and end of each of its processes.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use tracing::debug;

use super::ended::Outcome;
use super::probes::Probes;
use super::requests::Pending;
use super::state::{error_content, field};
use super::{Broker, Farewell, Outbox, Phase, State, now};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route, request_key};
use crate::kernels::supervisor::ledger::Note;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// How long a kernel may take to do what a `shutdown_request` asks.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);

impl Broker {
    /// The kernel said something.
    pub fn kernel_said(&self, channel: Channel, message: Message) {
        let mut state = self.state.borrow_mut();
        match channel {
            Channel::Iopub => {
                state.probes.heard_output();
                state.published(message);
            }
            Channel::Shell | Channel::Control | Channel::Stdin => state.replied(channel, message),
        }
        drop(state);
        if channel == Channel::Stdin {
            // Its asker may be away.
            self.crowd.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    /// A message of our own to the kernel; what comes of it is shown to nobody.
    pub fn compose(&self, msg_type: &str, content: &Value) -> Message {
        self.state.borrow().composer.orphan(msg_type, content)
    }

    /// A kernel process is ready: what waited for it is sent.
    pub fn open_epoch(&self, outbox: Outbox) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Running;
        state.farewell = None;
        state.outbox = Some(outbox);
        state.activity.clear(Timestamp::now());
        state.publish_state("idle");
        for (channel, message) in std::mem::take(&mut state.waiting) {
            state.send(channel, message);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The kernel process is gone. What it has not answered is answered with `reason`.
    pub fn close_epoch(&self, phase: Phase, ename: &str, reason: &str) {
        let mut state = self.state.borrow_mut();
        state.outbox = None;
        state.waiting.clear();
        state.questions.clear();
        state.queues.clear();
        state.ours.end_all();
        state.elsewhere.new_epoch();
        state.end_halves();
        state.probes = Probes::default();
        state.sessions.forget_cells();
        state.activity.clear(Timestamp::now());
        let content = error_content(ename, reason);
        state.pending_bytes = 0;
        for key in std::mem::take(&mut state.pending_order) {
            let Some(request) = state.pending.remove(&key) else {
                continue;
            };
            let Pending {
                session,
                channel,
                msg_type,
                header,
                ..
            } = request;
            state.answer(&session, channel, &msg_type, &header, &content);
        }
        state.note_anew();
        state.phase = phase;
        match state.phase {
            // Clients take the word for a death, and whoever asked for a restart knows of it.
            Phase::Restarting { asked: true } => {}
            Phase::Dead(_) => state.publish_state("dead"),
            _ => state.publish_state("restarting"),
        }
        if let Phase::Dead(_) = state.phase {
            for line in state.lines.values() {
                line.close((1000, "the kernel is gone"));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A word on stderr to all clients, that belongs to no cell.
    pub fn tell_all(&self, text: &str) {
        let mut state = self.state.borrow_mut();
        let content = json!({"name": "stderr", "text": text});
        let message = state.composer.orphan("stream", &content);
        state.append(Channel::Iopub, message, Route::Everyone, Mark::Plain);
    }

    /// Why the kernel process has ended, when a client had asked it to a while ago. One that ignored it and
    /// ends later has died.
    pub fn farewell(&self) -> Option<Farewell> {
        let (farewell, asked) = self.state.borrow().farewell?;
        (now().duration_since(asked) < LEAVES_WITHIN).then_some(farewell)
    }

    /// Says `text` on stderr of the next cell that is shown, once.
    pub fn say_with_next_cell(&self, text: &str) {
        self.state.borrow_mut().tell_with_next_cell(text);
    }

    /// Waits until the kernel is neither starting nor restarting.
    pub async fn settled(&self) {
        loop {
            let changed = self.changed.notified();
            if let Phase::Running | Phase::Dead(_) = self.state.borrow().phase {
                return;
            }
            changed.await;
        }
    }
}

impl State {
    pub(super) fn published(&mut self, message: Message) {
        let mut mark = Mark::Plain;
        let mut note = None;
        let parent = HeaderPeek::read(&message.parent_header);
        if let Some(parent) = &parent
            && self.composer.owns(&parent.session)
        {
            let id = parent.msg_id.clone().into_owned();
            if field(&message.content, "execution_state").is_some_and(|state| state == "idle") {
                self.probe_said(&id, false);
            }
            return self.hidden_said(&id, &message);
        }
        if let Some(parent) = &parent
            && HeaderPeek::read(&message.header).is_some_and(|peek| peek.msg_type == "status")
            && let Some(state) = execution_state(&message.content)
        {
            let (key, now) = (request_key(parent), Timestamp::now());
            match state.as_str() {
                "busy" => {
                    let header = &message.parent_header;
                    self.activity.busy(&key, &parent.msg_type, header, now);
                    self.kept.begun(&key, self.journal.last());
                    let silent = |pending: &Pending| pending.silent;
                    let is_shown = !self.pending.get(&key).is_some_and(silent);
                    if parent.msg_type == "execute_request" && is_shown {
                        note = self.cell_note.take();
                    }
                }
                "idle" => {
                    self.activity.idle(&key, now);
                    self.idle(&key);
                    mark = Mark::Idle(key);
                }
                _ => {}
            }
        }
        let parent_header = message.parent_header.clone();
        let idle = match &mark {
            Mark::Idle(key) => Some(RequestKey::clone(key)),
            _ => None,
        };
        self.append(Channel::Iopub, message, Route::Everyone, mark);
        if let Some(key) = idle {
            self.is_idle(&key);
        }
        if let Some(text) = note {
            let content = json!({"name": "stderr", "text": format!("{text}\n")});
            let message = self.composer.message("stream", parent_header, &content);
            self.append(Channel::Iopub, message, Route::Everyone, Mark::Plain);
        }
    }

    fn idle(&mut self, key: &RequestKey) {
        let Some(pending) = self.pending.get_mut(key) else {
            return;
        };
        pending.idle_seen = true;
        // Comm messages, and whatever else is no request, are not answered.
        if !pending.msg_type.ends_with("_request") {
            self.forget(key);
        }
    }

    pub(super) fn replied(&mut self, channel: Channel, message: Message) {
        let Some(parent) = HeaderPeek::read(&message.parent_header) else {
            return debug!(channel = channel.name(), "dropped a reply to nothing");
        };
        if self.composer.owns(&parent.session) {
            let id = parent.msg_id.clone().into_owned();
            self.probe_said(&id, true);
            return self.hidden_said(&id, &message);
        }
        let key = request_key(&parent);
        let subshell = parent.subshell_id.as_deref().map(str::to_owned);
        let merged = self.with_others_comms(&key, &message);
        let Some(pending) = self.pending.get(&key) else {
            if channel == Channel::Stdin {
                self.questions.ask_nobody(&key, &message);
            }
            let queue = self.queues.get_mut(&subshell);
            let actions = queue.map(|queue| queue.finished(&key, false));
            self.act(actions.unwrap_or_default());
            return match self.sessions.get(&parent.session) {
                Some(session) => {
                    self.append(channel, message, Route::Session(session), Mark::Plain)
                }
                None => debug!(
                    channel = channel.name(),
                    "dropped a reply that nobody waits for"
                ),
            };
        };
        let route = Route::Session(Rc::clone(&pending.session));
        if channel == Channel::Stdin {
            self.questions.ask(&key, &message, &pending.session);
            let question = self.questions.noted().map(Note::Question);
            question.iter().for_each(|note| self.ledger.write(note));
            return self.append(channel, message, route, Mark::Plain);
        }
        if self.questions.over(&key) {
            self.ledger.write(&Note::Answered);
        }
        let mark = if pending.idle_seen {
            Mark::Plain
        } else {
            Mark::EarlyReply(RequestKey::clone(&key))
        };
        let is_cell = pending.msg_type == "execute_request";
        let stops = pending.stop_on_error;
        let queue = self.queues.get_mut(&subshell).filter(|_| is_cell);
        let actions = queue.map(|queue| {
            let stops = stops && queue.has_waiting() && is_error(&message.content);
            queue.finished(&key, stops)
        });
        let outcome = Outcome::of(pending, &message.content);
        self.append(channel, merged.unwrap_or(message), route, mark);
        if let Some(pending) = self.take_out(&key) {
            self.is_answered(&key, &pending, outcome);
        }
        self.act(actions.unwrap_or_default());
        self.forget_queue(&subshell);
    }
}

fn execution_state(content: &[u8]) -> Option<String> {
    match field(content, "execution_state")? {
        Value::String(state) => Some(state),
        _ => None,
    }
}

fn is_error(content: &[u8]) -> bool {
    field(content, "status").is_some_and(|status| status == "error")
}
