//! Messages of our own: a kernel's that is ours, and what a supervisor says in place of one.
//!
//! Knows how a message is composed, not when one is due.

use std::cell::Cell;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::protocol::message::Message;

/// The version of the messaging protocol that our own messages follow.
const PROTOCOL_VERSION: &str = "5.4";

/// Composes messages of one session, numbered as Jupyter's own clients number theirs.
#[derive(Debug)]
pub struct Composer {
    session: String,
    count: Cell<u64>,
}

impl Composer {
    /// A composer with a session id of its own.
    pub fn new() -> Self {
        Self {
            session: uuid::Uuid::new_v4().simple().to_string(),
            count: Cell::new(0),
        }
    }

    /// Whether a header with this `session` came from here.
    pub fn owns(&self, session: &str) -> bool {
        self.session == session
    }

    /// A message that answers `parent_header`, or nothing when that is `{}`.
    pub fn message(&self, msg_type: &str, parent_header: Bytes, content: &Value) -> Message {
        self.count.set(self.count.get() + 1);
        let header = json!({
            "msg_id": format!("{}_{}", self.session, self.count.get()),
            "msg_type": msg_type,
            "username": "nb",
            "session": self.session,
            "date": timestamp(Timestamp::now()),
            "version": PROTOCOL_VERSION,
        });
        Message {
            header: header.to_string().into(),
            parent_header,
            metadata: Bytes::from_static(b"{}"),
            content: content.to_string().into(),
            buffers: Vec::new(),
        }
    }

    /// A message that answers nothing.
    pub fn orphan(&self, msg_type: &str, content: &Value) -> Message {
        self.message(msg_type, Bytes::from_static(b"{}"), content)
    }
}

impl Default for Composer {
    fn default() -> Self {
        Self::new()
    }
}

/// A time in the one format that every client parses: UTC, microseconds, a literal `Z`.
pub fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_zero_fractions() {
        assert_eq!(
            timestamp(Timestamp::UNIX_EPOCH),
            "1970-01-01T00:00:00.000000Z"
        );
    }

    #[test]
    fn message_ids_differ_and_are_recognised() {
        let composer = Composer::new();
        let [one, two] = [1, 2].map(|n| composer.orphan("status", &json!({ "n": n })));
        assert_ne!(one.header, two.header);
        let header: Value = serde_json::from_slice(&one.header).unwrap();
        assert!(composer.owns(header["session"].as_str().unwrap()));
    }
}
