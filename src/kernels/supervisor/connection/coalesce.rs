//! Text that a cell printed in many pieces, put together for a client that has missed much. Pure.
//!
//! Only what stands side by side and differs in nothing but its text: the same cell, the same stream. Not what the
//! client may have: it tells what is repeated by the msg_id, and of those that are put together only the last stays.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kernels::supervisor::journal::{Entry, Mark, Route, Seq};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// No more text than this is put together.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The content of a stream message; with anything more it is left as it is.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stream<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// Pieces that are put together.
#[derive(Debug, Default)]
pub(super) struct Run {
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    seq: Seq,
    first: Rc<Entry>,
    /// The newest, without its content.
    last: Message,
    name: String,
    text: String,
    count: usize,
}

/// What a run has come to.
#[derive(Debug)]
pub(super) enum Whole {
    /// One entry, as it is in the journal.
    One(Seq, Rc<Entry>),
    /// Some, which nobody else has so.
    Some(Rc<Entry>),
}

impl Run {
    /// Takes the entry in if it goes on what is there, or begins something; false when it does not.
    pub(super) fn take(&mut self, seq: Seq, entry: &Rc<Entry>) -> bool {
        let Some(message) = piece(entry) else {
            return false;
        };
        let Ok(stream) = serde_json::from_slice::<Stream<'_>>(&message.content) else {
            return false;
        };
        match &mut self.begun {
            Some(begun) => {
                let continues = begun.name == stream.name
                    && begun.last.parent_header == message.parent_header
                    && begun.text.len() + stream.text.len() <= TEXT_BYTES_MAX;
                if continues {
                    begun.text += &stream.text;
                    begun.count += 1;
                    begun.last = bare(&message);
                }
                continues
            }
            None => {
                self.begun = Some(Begun {
                    seq,
                    first: Rc::clone(entry),
                    name: stream.name.into_owned(),
                    text: stream.text.into_owned(),
                    count: 1,
                    last: bare(&message),
                });
                true
            }
        }
    }

    /// What there is; it begins anew.
    pub(super) fn end(&mut self) -> Option<Whole> {
        let begun = self.begun.take()?;
        if begun.count == 1 {
            return Some(Whole::One(begun.seq, begun.first));
        }
        let stream = Stream {
            name: begun.name.into(),
            text: begun.text.into(),
        };
        let Ok(content) = serde_json::to_vec(&stream) else {
            return Some(Whole::One(begun.seq, begun.first));
        };
        let message = Message {
            content: content.into(),
            ..begun.last
        };
        let whole = Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain);
        Some(Whole::Some(Rc::new(whole)))
    }
}

/// The message, if it may be a piece of text.
fn piece(entry: &Entry) -> Option<Message> {
    if entry.route != Route::Everyone || entry.mark != Mark::Plain {
        return None;
    }
    let (channel, message) = entry.message();
    let is_bare = message.buffers.is_empty() && matches!(&*message.metadata, b"{}" | b"");
    let peek = HeaderPeek::read(&message.header)?;
    let is_stream = channel == Channel::Iopub && peek.msg_type == "stream";
    (is_bare && is_stream).then(|| message.clone())
}

fn bare(message: &Message) -> Message {
    Message {
        content: Bytes::new(),
        ..message.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(parent: &str, msg_type: &str, content: &Value) -> Rc<Entry> {
        let message = Message {
            header: json!({"msg_id": "k", "msg_type": msg_type, "session": "kernel"})
                .to_string()
                .into(),
            parent_header: json!({"msg_id": parent, "session": "s"}).to_string().into(),
            metadata: "{}".into(),
            content: content.to_string().into(),
            ..Message::empty()
        };
        Rc::new(Entry::new(
            Channel::Iopub,
            message,
            Route::Everyone,
            Mark::Plain,
        ))
    }

    fn text(parent: &str, name: &str, text: &str) -> Rc<Entry> {
        said(parent, "stream", &json!({"name": name, "text": text}))
    }

    /// The parents and contents that come out.
    fn out(entries: &[Rc<Entry>]) -> Vec<Value> {
        let (mut run, mut out) = (Run::default(), Vec::new());
        let mut tell = |whole: Option<Whole>| {
            if let Some(Whole::One(_, entry) | Whole::Some(entry)) = whole {
                let (_, message) = entry.message();
                out.push(serde_json::from_slice(&message.content).unwrap());
            }
        };
        for entry in entries {
            if !run.take(1, entry) {
                tell(run.end());
                if !run.take(1, entry) {
                    tell(Some(Whole::One(1, Rc::clone(entry))));
                }
            }
        }
        tell(run.end());
        out
    }

    #[test]
    fn only_neighbours_of_one_stream_are_put_together() {
        let stdout = |text: &str| json!({"name": "stdout", "text": text});
        let entries = [
            text("1", "stdout", "a"),
            text("1", "stdout", "\u{1F600}\n"),
            text("1", "stderr", "e"),
            text("1", "stdout", "b"),
            said("1", "display_data", &json!({"data": {}})),
            text("1", "stdout", "c"),
            text("2", "stdout", "d"),
            text("2", "stdout", ""),
            said(
                "2",
                "stream",
                &json!({"name": "stdout", "text": "x", "more": 1}),
            ),
            said("2", "stream", &json!({"name": 7})),
        ];
        let expected = [
            stdout("a\u{1F600}\n"),
            json!({"name": "stderr", "text": "e"}),
            stdout("b"),
            json!({"data": {}}),
            stdout("c"),
            stdout("d"),
            json!({"name": "stdout", "text": "x", "more": 1}),
            json!({"name": 7}),
        ];
        assert_eq!(out(&entries), expected);
    }

    #[test]
    fn what_is_put_together_has_a_bound() {
        let piece = text("1", "stdout", &"x".repeat(TEXT_BYTES_MAX / 2));
        let entries = vec![piece; 5];
        let lengths: Vec<_> = out(&entries)
            .iter()
            .map(|content| content["text"].as_str().unwrap().len())
            .collect();
        assert_eq!(
            lengths,
            [TEXT_BYTES_MAX, TEXT_BYTES_MAX, TEXT_BYTES_MAX / 2]
        );
    }
}
