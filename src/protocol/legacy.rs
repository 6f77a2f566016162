//! A message as one payload of the default WebSocket framing, which has no subprotocol name.
//!
//! Without buffers it is one JSON object. With buffers it is a big-endian u32 count `n`, then `n` u32
//! offsets from the start of the payload, then the JSON and each buffer (jupyter_server,
//! `serialize_binary_message`). The JSON is spliced from the raw parts, never re-serialised.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{Channel, Message};

const WORD: usize = size_of::<u32>();

/// Why a payload is not in this framing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the payload ends inside its offset table")]
    Truncated,
    #[error("the offsets do not rise within the payload")]
    BadOffsets,
    #[error("no JSON object with a header: {0}")]
    BadJson(String),
    #[error("unknown channel")]
    UnknownChannel,
}

/// Why a message cannot be sent in this framing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a part of the message is not UTF-8")]
    NotUtf8,
    #[error("the header has no msg_id and msg_type")]
    NoIds,
    #[error("a message with buffers over 4 GiB")]
    TooLarge,
}

/// A payload and the kind of frame that it travels in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Text(Bytes),
    Binary(Bytes),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    header: &'a RawValue,
    #[serde(borrow, default)]
    parent_header: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Ids<'a> {
    #[serde(borrow)]
    msg_id: &'a RawValue,
    #[serde(borrow)]
    msg_type: &'a RawValue,
}

/// Takes a payload apart without copying, told apart by its first byte and not by its frame's opcode:
/// jupyter_server forwards binary payloads in TEXT frames. A missing channel means shell.
pub fn decode(payload: &Bytes) -> Result<(Channel, Message), DecodeError> {
    if payload.trim_ascii_start().first() == Some(&b'{') {
        return decode_json(payload, Vec::new());
    }
    let count = word(payload, 0).ok_or(DecodeError::Truncated)?;
    // The table must fit in what came, so the count bounds every allocation below.
    if count == 0 || count >= payload.len() / WORD {
        return Err(DecodeError::Truncated);
    }
    let region = |index: usize| {
        let start = word(payload, index + 1).unwrap_or(0);
        let end = if index + 1 < count {
            word(payload, index + 2).unwrap_or(0)
        } else {
            payload.len()
        };
        if (count + 1) * WORD <= start && start <= end && end <= payload.len() {
            Ok(payload.slice(start..end))
        } else {
            Err(DecodeError::BadOffsets)
        }
    };
    let buffers = (1..count).map(region).collect::<Result<_, _>>()?;
    decode_json(&region(0)?, buffers)
}

fn decode_json(json: &Bytes, buffers: Vec<Bytes>) -> Result<(Channel, Message), DecodeError> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(json).map_err(|error| DecodeError::BadJson(error.to_string()))?;
    let channel = match envelope.channel {
        Some(name) => Channel::from_name(name.as_bytes()).ok_or(DecodeError::UnknownChannel)?,
        None => Channel::Shell,
    };
    let part = |raw: Option<&RawValue>| match raw.map(RawValue::get) {
        None | Some("null") => Bytes::from_static(b"{}"),
        Some(text) => json.slice_ref(text.as_bytes()),
    };
    let message = Message {
        header: part(Some(envelope.header)),
        parent_header: part(envelope.parent_header),
        metadata: part(envelope.metadata),
        content: part(envelope.content),
        buffers,
    };
    Ok((channel, message))
}

/// The payload that carries `message`, its buffers included.
pub fn encode(channel: Channel, message: &Message) -> Result<Payload, EncodeError> {
    let json_bytes_max = 200
        + message
            .json_parts()
            .iter()
            .map(|part| part.len())
            .sum::<usize>()
        + message.header.len();
    if message.buffers.is_empty() {
        let mut json = BytesMut::with_capacity(json_bytes_max);
        put_json(channel, message, &mut json)?;
        return Ok(Payload::Text(json.freeze()));
    }
    let buffers = &message.buffers;
    let table = (buffers.len() + 2) * WORD;
    let mut blob = BytesMut::with_capacity(
        table + json_bytes_max + buffers.iter().map(Bytes::len).sum::<usize>(),
    );
    blob.put_bytes(0, table);
    put_json(channel, message, &mut blob)?;
    let mut words = vec![buffers.len() + 1, table];
    for buffer in buffers {
        words.push(blob.len());
        blob.put_slice(buffer);
    }
    for (slot, word) in blob.chunks_exact_mut(WORD).zip(words) {
        let word = u32::try_from(word).map_err(|_| EncodeError::TooLarge)?;
        slot.copy_from_slice(&word.to_be_bytes());
    }
    Ok(Payload::Binary(blob.freeze()))
}

/// The ids stand at the top level too: jupyter_server's queue and other tools read them there.
fn put_json(channel: Channel, message: &Message, json: &mut BytesMut) -> Result<(), EncodeError> {
    if message
        .json_parts()
        .iter()
        .any(|part| std::str::from_utf8(part).is_err())
    {
        return Err(EncodeError::NotUtf8);
    }
    let ids: Ids<'_> = serde_json::from_slice(&message.header).map_err(|_| EncodeError::NoIds)?;
    let fields: [(&str, &[u8]); 7] = [
        ("{\"header\":", &message.header),
        (",\"msg_id\":", ids.msg_id.get().as_bytes()),
        (",\"msg_type\":", ids.msg_type.get().as_bytes()),
        (",\"parent_header\":", &message.parent_header),
        (",\"metadata\":", &message.metadata),
        (",\"content\":", &message.content),
        (",\"buffers\":[],\"channel\":\"", channel.name().as_bytes()),
    ];
    for (key, value) in fields {
        json.put_slice(key.as_bytes());
        json.put_slice(value);
    }
    json.put_slice(b"\"}");
    Ok(())
}

fn word(payload: &[u8], index: usize) -> Option<usize> {
    let bytes = payload.get(index * WORD..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(payload: Payload) -> Bytes {
        match payload {
            Payload::Text(bytes) | Payload::Binary(bytes) => bytes,
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(
            text in any::<String>(),
            number in any::<u64>(),
            buffers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..4),
        ) {
            let header = serde_json::json!({"msg_id": text, "msg_type": "x", "n": number});
            let content = serde_json::json!({"text": text});
            let message = Message {
                header: header.to_string().into(),
                parent_header: Bytes::from_static(b"{}"),
                metadata: Bytes::from_static(b"{ \"spaces\" : 1.0e3 }"),
                content: content.to_string().into(),
                buffers: buffers.into_iter().map(Bytes::from).collect(),
            };
            let payload = encode(Channel::Iopub, &message).unwrap();
            prop_assert_eq!(matches!(payload, Payload::Text(_)), message.buffers.is_empty());
            prop_assert_eq!(decode(&bytes_of(payload)), Ok((Channel::Iopub, message)));
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(
            words in prop::collection::vec(0..60u32, 0..8),
            tail in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut payload = BytesMut::new();
            words.iter().for_each(|word| payload.put_u32(*word));
            payload.put_slice(&tail);
            let _ = decode(&payload.freeze());
            let _ = decode(&Bytes::from(tail));
        }
    }

    #[test]
    fn a_missing_channel_means_shell_and_missing_parts_are_empty() {
        let (channel, message) = decode(&Bytes::from_static(
            b" {\"header\":{\"a\":1},\"parent_header\":null}",
        ))
        .unwrap();
        assert_eq!(channel, Channel::Shell);
        assert_eq!(message.header, "{\"a\":1}");
        assert_eq!(
            [message.parent_header, message.metadata, message.content],
            ["{}"; 3]
        );
    }

    #[test]
    fn what_a_text_frame_cannot_carry_is_an_error() {
        let mut message = Message {
            header: Bytes::from_static(b"{\"msg_id\":\"a\",\"msg_type\":\"b\"}"),
            parent_header: Bytes::from_static(b"{}"),
            metadata: Bytes::from_static(b"{}"),
            content: Bytes::from_static(b"{\"a\":\"\xff\"}"),
            buffers: vec![],
        };
        assert_eq!(encode(Channel::Iopub, &message), Err(EncodeError::NotUtf8));
        message.header = Bytes::from_static(b"{}");
        message.content = Bytes::from_static(b"{}");
        assert_eq!(encode(Channel::Iopub, &message), Err(EncodeError::NoIds));
    }
}
