//! One Jupyter message as opaque parts, and the few ids that may be peeked at.
//!
//! The four JSON parts are kept exactly as they came: nothing here re-serialises them.
//! Does not know how a message is framed on any transport.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

/// The channel of the kernel that a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Shell,
    Control,
    Stdin,
    Iopub,
}

impl Channel {
    /// The channel with this name on the wire.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"shell" => Some(Self::Shell),
            b"control" => Some(Self::Control),
            b"stdin" => Some(Self::Stdin),
            b"iopub" => Some(Self::Iopub),
            _ => None,
        }
    }

    /// The name of this channel on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Control => "control",
            Self::Stdin => "stdin",
            Self::Iopub => "iopub",
        }
    }
}

/// The parts of a message, each exactly as its sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub header: Bytes,
    /// `{}` when the message answers nothing.
    pub parent_header: Bytes,
    pub metadata: Bytes,
    pub content: Bytes,
    /// Raw binary attachments, not covered by the signature.
    pub buffers: Vec<Bytes>,
}

impl Message {
    /// A message whose JSON parts are all `{}`.
    pub fn empty() -> Self {
        let object = Bytes::from_static(b"{}");
        Self {
            header: object.clone(),
            parent_header: object.clone(),
            metadata: object.clone(),
            content: object,
            buffers: Vec::new(),
        }
    }

    /// How many bytes its parts are.
    pub fn bytes(&self) -> usize {
        self.parts().map(Bytes::len).sum()
    }

    /// The four JSON parts in the order in which they are signed and sent.
    pub fn json_parts(&self) -> [&Bytes; 4] {
        [
            &self.header,
            &self.parent_header,
            &self.metadata,
            &self.content,
        ]
    }

    /// All parts in the order in which they are sent: the JSON parts, then the buffers.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        self.json_parts().into_iter().chain(&self.buffers)
    }
}

/// The ids of a header that routing needs; every other key stays unread.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct HeaderPeek<'a> {
    #[serde(borrow, default)]
    pub msg_id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub msg_type: Cow<'a, str>,
    #[serde(borrow, default)]
    pub session: Cow<'a, str>,
    /// Set on shell and stdin messages that belong to a subshell (JEP 91).
    #[serde(borrow, default)]
    pub subshell_id: Option<Cow<'a, str>>,
}

impl<'a> HeaderPeek<'a> {
    /// Reads the ids of a header or parent header; `None` when it is no JSON object of this shape.
    pub fn read(header: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(header).ok()
    }
}

/// A longer msg_id is none.
const MSG_ID_BYTES_MAX: usize = 256;

/// Whether a request can be asked for by this id: clients name theirs so, and no URL needs an escape for it.
pub fn is_msg_id(text: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:~".contains(&byte);
    (1..=MSG_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_characters_and_no_escapes() {
        let longest = "x".repeat(MSG_ID_BYTES_MAX);
        for id in ["a", "88ea_1-2.3:4~5", &longest] {
            assert!(is_msg_id(id), "{id}");
        }
        let longer = format!("{longest}x");
        for junk in [
            "", "a/b", "a b", "%61", "a&b", "a#b", "a+b", "é", "\0", &longer,
        ] {
            assert!(!is_msg_id(junk), "{junk}");
        }
    }

    #[test]
    fn unknown_keys_are_passed_over_and_missing_ones_are_empty() {
        let peek = HeaderPeek::read(br#"{"msg_id":"a\u0062","date":1e3,"x":{"y":[]}}"#).unwrap();
        assert_eq!(peek.msg_id, "ab");
        assert_eq!(peek.msg_type, "");
        assert_eq!(peek.subshell_id, None);
    }

    #[test]
    fn what_is_not_an_object_of_ids_is_refused() {
        for junk in [&b""[..], b"[", b"{\"msg_id\":1}", b"\xff", b"null"] {
            assert_eq!(HeaderPeek::read(junk), None, "{junk:?}");
        }
    }

    #[test]
    fn channel_names_round_trip() {
        for channel in [
            Channel::Shell,
            Channel::Control,
            Channel::Stdin,
            Channel::Iopub,
        ] {
            assert_eq!(Channel::from_name(channel.name().as_bytes()), Some(channel));
        }
        assert_eq!(Channel::from_name(b"hb"), None);
    }
}
