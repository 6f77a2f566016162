//! What is completed and explained in the kernel's place, since it stands in a call of ours.
//!
//! Such a request goes past the queue and makes no kernel busy. Knows nothing of magics but that a cursor may be
//! theirs.

use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Value, json};
use tracing::debug;

use super::{Broker, State};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route};
use crate::protocol::message::{Channel, Message};

/// What a client wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// `complete_request`
    Completion,
    /// `inspect_request`
    Inspection,
}

/// A question about a place in a source.
#[derive(Debug)]
pub struct Hint {
    pub wants: Wants,
    pub source: String,
    /// In characters.
    pub cursor: usize,
    key: RequestKey,
}

impl Broker {
    /// Answers; `content` is that of the reply.
    pub fn hint(&self, hint: &Hint, content: &Value) {
        let mut state = self.state.borrow_mut();
        let Some(pending) = state.pending.get(&hint.key) else {
            return debug!("a hint came after the end of its kernel");
        };
        let (session, header) = (Rc::clone(&pending.session), pending.header.clone());
        let msg_type = pending.msg_type.clone();
        state.take_out(&hint.key);
        state.answer(&session, Channel::Shell, &msg_type, &header, content);
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    /// Gives a request that is remembered already to the magics, when it is theirs.
    pub(super) fn hinted(&mut self, key: &RequestKey, msg_type: &str, message: &Message) -> bool {
        let wants = match msg_type {
            "complete_request" => Wants::Completion,
            "inspect_request" => Wants::Inspection,
            _ => return false,
        };
        let Some((source, cursor)) = place(&message.content) else {
            return false;
        };
        if !self.knows(&source, cursor) {
            return false;
        }
        let hint = Hint {
            wants,
            source,
            cursor,
            key: RequestKey::clone(key),
        };
        let is_given = self.give_hint(hint);
        if is_given {
            self.tell_busy(key, &message.header);
        }
        is_given
    }

    fn tell_busy(&mut self, key: &RequestKey, header: &Bytes) {
        let Some(pending) = self.pending.get(key) else {
            return;
        };
        let route = Route::Session(Rc::clone(&pending.session));
        let content = json!({"execution_state": "busy"});
        let busy = self.composer.message("status", header.clone(), &content);
        self.append(Channel::Iopub, busy, route, Mark::Plain);
    }
}

/// The source and the cursor in it.
fn place(content: &[u8]) -> Option<(String, usize)> {
    // Every magic has one: most sources need not be looked at further.
    content.contains(&b'%').then_some(())?;
    let content: Value = serde_json::from_slice(content).ok()?;
    let source = content.get("code")?.as_str()?.to_owned();
    let cursor = content.get("cursor_pos").and_then(Value::as_u64);
    // Clients that name none mean the end.
    let cursor = cursor.map_or(usize::MAX, |cursor| {
        usize::try_from(cursor).unwrap_or(usize::MAX)
    });
    Some((source, cursor))
}
