//! What a client that takes only text, and no more than so much of it at once, is sent instead of a message
//! that would end its connection. Pure.
//!
//! A stream is split, so nothing of it is lost; other output gives way to a note, a reply to an error, a
//! question to a word about it. Every other client is sent the message itself.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::protocol::legacy::{self, EncodeError, Payload};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// What goes in a message's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// One after the other; not one when even its header does not fit.
    Messages(Vec<Message>),
    /// A word to the cell that it came from.
    Note(String),
}

#[derive(Deserialize, Serialize)]
struct Stream {
    text: String,
    /// The name, and whatever a kernel adds.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Messages whose frames are text of at most `bytes_max` bytes.
pub(super) fn instead(
    channel: Channel,
    mut message: Message,
    bytes_max: usize,
) -> Result<Instead, EncodeError> {
    message.buffers.clear();
    let bytes = frame_bytes(channel, &message)?;
    if bytes <= bytes_max {
        return Ok(Instead::Messages(vec![message]));
    }
    let about = format!("{bytes} bytes: JupyterLab's server takes at most 10 MiB at once");
    let is_stream = HeaderPeek::read(&message.header).is_some_and(|peek| peek.msg_type == "stream");
    match channel {
        Channel::Iopub if is_stream => {
            if let Some(pieces) = split(&message, bytes_max)? {
                return Ok(Instead::Messages(pieces));
            }
            Ok(Instead::Note(format!("[nb] left out text of {about}\n")))
        }
        Channel::Iopub => Ok(Instead::Note(format!("[nb] left out output of {about}\n"))),
        Channel::Shell | Channel::Control => {
            let count = field(&message, "execution_count");
            let content = json!({
                "status": "error",
                "ename": "ReplyTooLarge",
                "evalue": format!("[nb] left out a reply of {about}"),
                "traceback": [],
                "execution_count": count.filter(Value::is_number),
            });
            replaced(channel, message, &content, bytes_max)
        }
        Channel::Stdin => {
            let content = json!({
                "prompt": format!("[nb] left out a question of {about} "),
                "password": field(&message, "password") == Some(Value::Bool(true)),
            });
            replaced(channel, message, &content, bytes_max)
        }
    }
}

/// With other content, and without metadata where they are what is too large.
fn replaced(
    channel: Channel,
    mut message: Message,
    content: &Value,
    bytes_max: usize,
) -> Result<Instead, EncodeError> {
    message.content = content.to_string().into();
    if frame_bytes(channel, &message)? > bytes_max {
        message.metadata = Message::empty().metadata;
    }
    let fits = frame_bytes(channel, &message)? <= bytes_max;
    Ok(Instead::Messages(
        fits.then_some(message).into_iter().collect(),
    ))
}

/// The stream in pieces that fit; nothing if none does, or if it is no stream after all.
fn split(message: &Message, bytes_max: usize) -> Result<Option<Vec<Message>>, EncodeError> {
    let Ok(Stream { text, rest }) = serde_json::from_slice(&message.content) else {
        return Ok(None);
    };
    let piece = |text: &str| {
        let rest = rest.clone();
        let stream = Stream {
            text: text.to_owned(),
            rest,
        };
        // Strings and what was read as JSON can always be written.
        let content = serde_json::to_vec(&stream).unwrap_or_default();
        Message {
            content: content.into(),
            ..message.clone()
        }
    };
    let room = bytes_max.saturating_sub(frame_bytes(Channel::Iopub, &piece(""))?);
    if room == 0 {
        // Something besides the text is too large.
        return Ok(None);
    }
    let (mut pieces, mut from, mut taken) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        let bytes = escaped_bytes(character);
        if bytes > room {
            return Ok(None);
        }
        if taken + bytes > room {
            pieces.push(piece(&text[from..at]));
            (from, taken) = (at, 0);
        }
        taken += bytes;
    }
    pieces.push(piece(&text[from..]));
    Ok(Some(pieces))
}

/// How long a character is in the JSON that we write.
fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

/// The length of the text frame of a message without buffers.
fn frame_bytes(channel: Channel, message: &Message) -> Result<usize, EncodeError> {
    match legacy::encode(channel, message)? {
        Payload::Text(text) | Payload::Binary(text) => Ok(text.len()),
    }
}

fn field(message: &Message, name: &str) -> Option<Value> {
    let content: Value = serde_json::from_slice(&message.content).ok()?;
    content.get(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message(msg_type: &str, content: &Value) -> Message {
        let header = json!({"msg_id": "k", "msg_type": msg_type});
        Message {
            header: header.to_string().into(),
            parent_header: Bytes::from_static(b"{\"msg_id\":\"cell\"}"),
            metadata: Bytes::from_static(b"{\"a\": 1.0e3}"),
            content: content.to_string().into(),
            buffers: vec![Bytes::from_static(b"\xff")],
        }
    }

    fn messages(instead: Instead) -> Vec<Message> {
        match instead {
            Instead::Messages(messages) => messages,
            Instead::Note(note) => panic!("{note}"),
        }
    }

    fn content(message: &Message) -> Value {
        serde_json::from_slice(&message.content).unwrap()
    }

    proptest! {
        #[test]
        fn a_stream_comes_whole_in_pieces_that_fit(
            text in "(\\PC|[\"\\\\\n\r\t\u{0}-\u{1f}é€😀]){0,400}",
            room in 12..300usize,
        ) {
            let whole = message("stream", &json!({"name": "stdout", "text": text, "more": [1]}));
            let empty = message("stream", &json!({"name": "stdout", "text": "", "more": [1]}));
            let bare = Message { buffers: Vec::new(), ..empty };
            let bytes_max = frame_bytes(Channel::Iopub, &bare).unwrap() + room;
            let pieces = messages(instead(Channel::Iopub, whole.clone(), bytes_max).unwrap());
            let mut joined = String::new();
            for piece in &pieces {
                prop_assert!(frame_bytes(Channel::Iopub, piece).unwrap() <= bytes_max);
                prop_assert_eq!(&piece.parent_header, &whole.parent_header);
                prop_assert_eq!(&piece.metadata, &whole.metadata);
                prop_assert!(piece.buffers.is_empty());
                let content = content(piece);
                prop_assert_eq!(&content["name"], "stdout");
                prop_assert_eq!(&content["more"], &json!([1]));
                joined += content["text"].as_str().unwrap();
            }
            prop_assert_eq!(joined, text);
            for full in pieces.iter().rev().skip(1) {
                // There was no room for another character.
                prop_assert!(frame_bytes(Channel::Iopub, full).unwrap() + 6 > bytes_max);
            }
        }

        #[test]
        fn whatever_comes_of_any_message_fits(
            msg_type in "stream|display_data|execute_reply|input_request",
            raw in "[ -~]{0,300}",
            channel in 0..4usize,
            is_json in any::<bool>(),
            padding in 0..200usize,
            bytes_max in 0..600usize,
        ) {
            let channel = [Channel::Shell, Channel::Control, Channel::Stdin, Channel::Iopub][channel];
            let mut message = message(&msg_type, &json!({"text": raw}));
            if !is_json {
                message.content = raw.into_bytes().into();
            }
            message.parent_header = json!({"padding": "x".repeat(padding)}).to_string().into();
            if let Instead::Messages(messages) = instead(channel, message, bytes_max).unwrap() {
                for message in messages {
                    prop_assert!(frame_bytes(channel, &message).unwrap() <= bytes_max);
                }
            }
        }
    }

    #[test]
    fn only_buffers_are_taken_from_what_fits() {
        let whole = message("comm_msg", &json!({"data": 1}));
        let expected = Message {
            buffers: Vec::new(),
            ..whole.clone()
        };
        let sent = messages(instead(Channel::Iopub, whole, 1000).unwrap());
        assert_eq!(sent, [expected]);
    }

    #[test]
    fn output_gives_way_to_a_note_a_reply_to_an_error_a_question_to_a_short_one() {
        let large = "x".repeat(2000);
        let output = message("display_data", &json!({ "data": large }));
        let Instead::Note(note) = instead(Channel::Iopub, output, 1000).unwrap() else {
            panic!("it was sent");
        };
        assert!(note.contains("10 MiB"), "{note}");

        let reply = json!({"status": "ok", "execution_count": 7, "payload": large});
        let mut reply = message("execute_reply", &reply);
        reply.metadata = json!({ "large": large }).to_string().into();
        let sent = messages(instead(Channel::Shell, reply, 1000).unwrap());
        let told = content(&sent[0]);
        assert_eq!(
            (&told["status"], &told["execution_count"]),
            (&"error".into(), &7.into())
        );
        assert_eq!(sent[0].metadata, "{}");

        let question = json!({"prompt": large, "password": true});
        let question = message("input_request", &question);
        let sent = messages(instead(Channel::Stdin, question, 1000).unwrap());
        assert_eq!(content(&sent[0])["password"], true);

        let mut orphan = message("execute_reply", &json!({}));
        orphan.parent_header = json!({ "large": large }).to_string().into();
        assert_eq!(messages(instead(Channel::Shell, orphan, 1000).unwrap()), []);
    }
}
