//! What all of the broker does to its state: the journal grows, requests are answered in place of the kernel.
//!
//! Synchronous, and called with the state already borrowed: nothing here may call back into the handle.

use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Phase, State};
use crate::kernels::supervisor::catch_up::CatchUp;
use crate::kernels::supervisor::journal::{Entry, Mark, RequestKey, Route, request_key};
use crate::kernels::supervisor::ledger::{Asked, Note};
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
        let is_busy = self.activity.running().is_some();
        match self.phase {
            // A kernel that is being taken over runs all the while.
            Phase::Starting if is_busy && self.probes.has_recalled() => "busy",
            Phase::Starting => "starting",
            Phase::Restarting { .. } => "restarting",
            Phase::Dead(_) => "dead",
            Phase::Running if is_busy => "busy",
            Phase::Running => "idle",
        }
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
        let key = HeaderPeek::read(header).map(|peek| request_key(&peek));
        let last = self.journal.last();
        key.iter().for_each(|key| self.kept.begun(key, last));
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
        let mark = key.clone().map_or(Mark::Plain, Mark::Idle);
        self.say_idle(header, route, mark);
        if let Some(key) = key {
            let status = content["status"].as_str().unwrap_or_default();
            let asked = Asked {
                request: key.to_string(),
                session: session.to_string(),
                channel: channel.name().to_owned(),
                msg_type: msg_type.to_owned(),
                header: String::from_utf8_lossy(header).into_owned(),
                stop_on_error: false,
                held: false,
                elsewhere: None,
                end: None,
            };
            self.has_answered(asked, status);
        }
    }

    /// Says in the kernel's place that it has done with the request of this header.
    pub(super) fn say_idle(&mut self, header: &Bytes, route: Route, mark: Mark) {
        let idle = json!({"execution_state": "idle"});
        let idle = self.composer.message("status", header.clone(), &idle);
        self.append(Channel::Iopub, idle, route, mark);
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
        let entry = Entry::new(channel, message, route, mark);
        let bytes = entry.bytes();
        let seq = self.journal.append(entry);
        self.kept.appended(seq, bytes);
        if let Some(request) = done {
            self.sessions.done(&request, seq);
            self.kept.done(&request);
        }
        self.settle();
        for line in self.lines.values() {
            line.wake.notify_one();
        }
        self.unkept.notify_one();
    }

    /// What the journal's bounds demand.
    pub(super) fn settle(&mut self) {
        while let Some(dropped) = self.journal.drop_oldest() {
            self.sessions.dropped(&dropped);
        }
        if self.sessions.is_empty() {
            self.release();
        }
    }

    /// Nobody comes back for this session, unless somebody is there.
    pub(super) fn forget_session(&mut self, session: &str) {
        self.sessions.forget(session);
        self.note_parted();
    }

    /// Writes down whose sessions are forgotten.
    pub(super) fn note_parted(&mut self) {
        for session in self.sessions.take_parted() {
            self.ledger.write(&Note::Parted(session.to_string()));
        }
    }

    pub(super) fn release(&mut self) {
        let last = self.journal.last();
        let mut needs = self.sessions.needs(last);
        if let Some(kept) = self.kept.needs_after().filter(|_| !self.keeps_nothing) {
            needs.cells_after = needs.cells_after.min(kept);
        }
        self.journal.release(needs);
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
pub fn error_content(ename: &str, reason: &str) -> Value {
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

pub(super) fn is_silent(content: &[u8]) -> bool {
    field(content, "silent") == Some(Value::Bool(true))
}
