//! One message as the journal keeps it: ready for the v1 framing, compact when small.

use std::rc::Rc;

use bytes::Bytes;

use crate::protocol::legacy::{self, EncodeError, Payload};
use crate::protocol::message::{Channel, HeaderPeek, Message};
use crate::protocol::v1;

/// Messages below this are copied into one block, which frees the buffer that they were read into
/// (often shared with hundreds of others); larger ones are kept and written in their parts.
const COMPACT_BYTES_MAX: usize = 16 * 1024;

/// What an entry costs besides its payload: handles, allocations, its place in the journal.
const OVERHEAD_BYTES: usize = 200;

/// Names a request: its header's session and msg_id.
pub type RequestKey = Rc<str>;

/// The name of the request with this header.
pub fn request_key(peek: &HeaderPeek<'_>) -> RequestKey {
    key(peek).into()
}

fn key(peek: &HeaderPeek<'_>) -> String {
    format!("{}\n{}", peek.session, peek.msg_id)
}

/// Who gets an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Everyone,
    /// The client session with this id.
    Session(Rc<str>),
}

/// What a replay has to know of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    Plain,
    /// A reply that came before the idle of its request.
    EarlyReply(RequestKey),
    /// The idle of a request.
    Idle(RequestKey),
    /// Not to be repeated: clients answer it by connecting anew.
    Once,
}

/// What an entry is to a page that shows a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It changes what stands below the cell.
    Shown,
    Other,
    /// Nobody but the asker gets it: what the cell was, and what is asked on stdin.
    AskersOnly,
}

/// What is known of an entry that is not at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub route: Route,
    pub kind: Kind,
    /// What it answers.
    pub request: Option<RequestKey>,
    /// What it costs to keep.
    pub bytes: usize,
}

/// What a page shows of a cell.
const SHOWN: [&str; 6] = [
    "stream",
    "display_data",
    "update_display_data",
    "execute_result",
    "error",
    "clear_output",
];

/// One message on its way to clients.
#[derive(Debug)]
pub struct Entry {
    pub route: Route,
    pub mark: Mark,
    body: Body,
}

/// The message itself; a copy shares its bytes.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A whole v1 payload.
    Compact(Bytes),
    Parts(Channel, Message),
}

impl Route {
    /// Whether the client session with this id is meant.
    pub fn is_for(&self, session: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Session(id) => id.as_ref() == session,
        }
    }
}

impl Entry {
    /// Takes a message in.
    pub fn new(channel: Channel, message: Message, route: Route, mark: Mark) -> Self {
        let body = if message.bytes() < COMPACT_BYTES_MAX {
            Body::Compact(v1::encode(channel, &message))
        } else {
            Body::Parts(channel, message)
        };
        Self { route, mark, body }
    }

    /// One that was written elsewhere as [`Entry::v1`] gives it.
    pub fn from_v1(payload: Bytes, route: Route, mark: Mark) -> Self {
        let body = Body::Compact(payload);
        Self { route, mark, body }
    }

    /// What is to be known of it where it is not at hand.
    pub fn label(&self) -> Label {
        let (kind, request) = self.body.peek();
        Label {
            route: self.route.clone(),
            kind,
            request: request.map(Into::into),
            bytes: self.bytes(),
        }
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    /// What it costs to keep.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match &self.body {
                Body::Compact(payload) => payload.len(),
                Body::Parts(_, message) => message.bytes(),
            }
    }

    /// The v1 payload, in the pieces to be written one after the other.
    pub fn v1(&self) -> Vec<Bytes> {
        self.body.v1()
    }

    /// The payload in the legacy framing.
    pub fn legacy(&self) -> Result<Payload, EncodeError> {
        let (channel, message) = self.message();
        legacy::encode(channel, &message)
    }

    /// The message itself.
    pub fn message(&self) -> (Channel, Message) {
        self.body.message()
    }
}

impl Body {
    pub(super) fn v1(&self) -> Vec<Bytes> {
        match self {
            Self::Compact(payload) => vec![payload.clone()],
            Self::Parts(channel, message) => {
                let mut pieces = vec![v1::encode_table(*channel, message)];
                pieces.extend(message.parts().cloned());
                pieces
            }
        }
    }

    fn message(&self) -> (Channel, Message) {
        match self {
            Self::Parts(channel, message) => (*channel, message.clone()),
            Self::Compact(payload) => {
                // The payload was encoded by `Entry::new`, so it decodes.
                v1::decode(payload).unwrap_or_else(|_| (Channel::Iopub, Message::empty()))
            }
        }
    }

    /// What it is to a page, and what it answers.
    pub(super) fn peek(&self) -> (Kind, Option<String>) {
        let (channel, message) = self.message();
        let parent = HeaderPeek::read(&message.parent_header);
        let header = HeaderPeek::read(&message.header);
        let msg_type = header.as_ref().map_or("", |peek| &*peek.msg_type);
        let kind = match channel {
            Channel::Stdin => Kind::AskersOnly,
            _ if SHOWN.contains(&msg_type) => Kind::Shown,
            _ if msg_type == "execute_input" => Kind::AskersOnly,
            _ => Kind::Other,
        };
        (kind, parent.map(|parent| key(&parent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_messages_come_out_as_they_went_in() {
        for size in [10, COMPACT_BYTES_MAX] {
            let message = Message {
                content: Bytes::from(vec![b'x'; size]),
                buffers: vec![Bytes::from_static(b"\xff")],
                ..Message::empty()
            };
            let entry = Entry::new(
                Channel::Iopub,
                message.clone(),
                Route::Everyone,
                Mark::Plain,
            );
            assert_eq!(entry.v1().concat(), v1::encode(Channel::Iopub, &message));
            assert_eq!(entry.message(), (Channel::Iopub, message));
            assert!(entry.bytes() > size);
        }
    }
}
