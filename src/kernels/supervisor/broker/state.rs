//! What the broker's methods do to its state: routing of replies, the pending requests, what a connection is told first.
//!
//! Synchronous, and called with the state already borrowed: nothing here may call back into the handle.

use std::rc::Rc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::debug;

use super::{PENDING_BYTES_MAX, PENDING_MAX, Pending, Phase, Request, State};
use crate::kernels::supervisor::catch_up::CatchUp;
use crate::kernels::supervisor::journal::{Entry, Mark, RequestKey, Route, request_key};
use crate::kernels::supervisor::queue::{Action, CellQueue};
use crate::protocol::message::{Channel, HeaderPeek, Message};

impl State {
    /// What a connection is told first: of the cell that it catches up on, if that is over, as of one that
    /// runs, since its end follows.
    pub(super) fn true_state(&self, catch_up: Option<&CatchUp>) -> Rc<Entry> {
        let over = catch_up.filter(|catch_up| catch_up.idle.is_some());
        let state = match self.execution_state() {
            "idle" if over.is_some() => "busy",
            // Clients take the word for a death that happens now, and connect anew, for ever.
            "restarting" => "starting",
            state => state,
        };
        let content = json!({"execution_state": state});
        let running = self.activity.running().map(|(_, header)| header);
        let parent = running.or(over.map(|catch_up| &catch_up.header));
        let parent = parent.map_or(Bytes::from_static(b"{}"), Bytes::clone);
        plain(self.composer.message("status", parent, &content))
    }

    pub(super) fn execution_state(&self) -> &'static str {
        match self.phase {
            Phase::Starting => "starting",
            Phase::Restarting { .. } => "restarting",
            Phase::Dead(_) => "dead",
            Phase::Running if self.activity.running().is_some() => "busy",
            Phase::Running => "idle",
        }
    }

    pub(super) fn remember(&mut self, key: RequestKey, mut pending: Pending) {
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

    /// Whether the kernel may be asked more.
    pub(super) fn has_room(&self) -> bool {
        self.pending_bytes <= PENDING_BYTES_MAX && self.pending.len() <= PENDING_MAX
    }

    pub(super) fn forget(&mut self, key: &str) {
        if let Some(pending) = self.pending.remove(key) {
            self.pending_bytes -= pending.bytes;
        }
        // Answers come mostly in order, so the front is cleared as they come.
        while let Some(front) = self.pending_order.front()
            && !self.pending.contains_key(front)
        {
            self.pending_order.pop_front();
        }
    }

    pub(super) fn act(&mut self, actions: Vec<Action<Request>>) {
        for action in actions {
            match action {
                Action::Forward(request) => self.send(request.channel, request.message),
                Action::Run(request) => self.run_ours(request),
                Action::Abort(request) => {
                    if let Some(pending) = self.pending.get(&request.key) {
                        let (session, header) =
                            (Rc::clone(&pending.session), pending.header.clone());
                        let content = json!({"status": "aborted"});
                        self.forget(&request.key);
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
        if self.queues.get(subshell).is_some_and(CellQueue::is_empty) {
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

    pub(super) fn published(&mut self, message: Message) {
        let mut mark = Mark::Plain;
        let mut note = None;
        let parent = HeaderPeek::read(&message.parent_header);
        if let Some(parent) = &parent
            && self.composer.owns(&parent.session)
        {
            let id = parent.msg_id.clone().into_owned();
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
        self.append(Channel::Iopub, message, Route::Everyone, mark);
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
            return self.hidden_said(&id, &message);
        }
        let key = request_key(&parent);
        let subshell = parent.subshell_id.as_deref().map(str::to_owned);
        let Some(pending) = self.pending.get(&key) else {
            if channel == Channel::Stdin {
                self.questions.ask_nobody();
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
            return self.append(channel, message, route, Mark::Plain);
        }
        self.questions.over(&key);
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
        self.append(channel, message, route, mark);
        self.forget(&key);
        self.act(actions.unwrap_or_default());
        self.forget_queue(&subshell);
    }

    /// Answers a request in place of the kernel, with the idle that completes it; a cell shows its error.
    pub(super) fn answer(
        &mut self,
        session: &Rc<str>,
        channel: Channel,
        msg_type: &str,
        header: &Bytes,
        content: &Value,
    ) {
        let Some(stem) = msg_type.strip_suffix("_request") else {
            return;
        };
        let reply = self
            .composer
            .message(&format!("{stem}_reply"), header.clone(), content);
        let route = Route::Session(Rc::clone(session));
        if msg_type == "execute_request" && content["status"] == "error" {
            // Notebooks keep what is shown, and nothing of a reply.
            let shown = json!({
                "ename": content["ename"], "evalue": content["evalue"],
                "traceback": content["traceback"],
            });
            let error = self.composer.message("error", header.clone(), &shown);
            self.append(Channel::Iopub, error, route.clone(), Mark::Plain);
        }
        self.append(channel, reply, route.clone(), Mark::Plain);
        let idle = json!({"execution_state": "idle"});
        let idle = self.composer.message("status", header.clone(), &idle);
        let mark = HeaderPeek::read(header).map(|peek| Mark::Idle(request_key(&peek)));
        self.append(Channel::Iopub, idle, route, mark.unwrap_or(Mark::Plain));
    }

    pub(super) fn publish_state(&mut self, execution_state: &str) {
        let content = json!({"execution_state": execution_state});
        let message = self.composer.orphan("status", &content);
        let mark = match execution_state {
            "restarting" => Mark::Once,
            _ => Mark::Plain,
        };
        self.append(Channel::Iopub, message, Route::Everyone, mark);
    }

    pub(super) fn append(&mut self, channel: Channel, message: Message, route: Route, mark: Mark) {
        let done = match &mark {
            Mark::Idle(request) => Some(RequestKey::clone(request)),
            _ => None,
        };
        let seq = self
            .journal
            .append(Entry::new(channel, message, route, mark));
        if let Some(request) = done {
            self.sessions.done(&request, seq);
        }
        while let Some((seq, entry)) = self.journal.drop_oldest() {
            self.sessions.dropped(seq, &entry);
        }
        if self.sessions.acknowledged_by_all().is_none() {
            self.release();
        }
        for line in self.lines.values() {
            line.wake.notify_one();
        }
    }

    pub(super) fn release(&mut self) {
        let last = self.journal.last();
        let needed_after = self.sessions.acknowledged_by_all().unwrap_or(last);
        self.journal.release(needed_after);
    }
}

pub(super) fn plain(message: Message) -> Rc<Entry> {
    Rc::new(Entry::new(
        Channel::Iopub,
        message,
        Route::Everyone,
        Mark::Plain,
    ))
}

/// What a reply says that tells of an error.
pub(in crate::kernels::supervisor) fn error_content(ename: &str, reason: &str) -> Value {
    // The traceback is what most clients show.
    let traceback = [format!("{ename}: {reason}")];
    json!({
        "status": "error", "ename": ename, "evalue": reason, "traceback": traceback,
        "execution_count": null,
    })
}

pub(super) fn field(content: &[u8], name: &str) -> Option<Value> {
    serde_json::from_slice::<Value>(content)
        .ok()?
        .get_mut(name)
        .map(Value::take)
}

fn execution_state(content: &[u8]) -> Option<String> {
    match field(content, "execution_state")? {
        Value::String(state) => Some(state),
        _ => None,
    }
}

pub(super) fn stops_on_error(content: &[u8]) -> bool {
    field(content, "stop_on_error") != Some(Value::Bool(false))
}

pub(super) fn is_silent(content: &[u8]) -> bool {
    field(content, "silent") == Some(Value::Bool(true))
}

fn is_error(content: &[u8]) -> bool {
    field(content, "status").is_some_and(|status| status == "error")
}
