//! A message as one payload of the `v1.kernel.websocket.jupyter.org` subprotocol.
//!
//! Layout (jupyter_server, "WebSocket kernel wire protocol"): a little-endian u64 count `n`, then `n`
//! u64 offsets from the start of the payload, then the regions they delimit: channel name, header,
//! parent header, metadata, content, each buffer. The last offset is the length of the payload.

use bytes::{BufMut, Bytes, BytesMut};

use super::message::{Channel, Message};

/// The subprotocol's name in `Sec-WebSocket-Protocol`.
pub const SUBPROTOCOL: &str = "v1.kernel.websocket.jupyter.org";

const WORD: usize = size_of::<u64>();
/// Channel and the four JSON parts.
const FIXED_REGIONS: usize = 5;

/// Why a payload is not in this framing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the payload ends inside its offset table")]
    Truncated,
    #[error("{0} offsets, at least 6 are needed")]
    TooFewOffsets(u64),
    #[error("the offsets do not rise within the payload")]
    BadOffsets,
    #[error("unknown channel")]
    UnknownChannel,
}

/// The payload that carries `message`.
pub fn encode(channel: Channel, message: &Message) -> Bytes {
    let body = message.parts().map(Bytes::len).sum();
    let mut payload = BytesMut::new();
    put_table(channel, message, body, &mut payload);
    for part in message.parts() {
        payload.put_slice(part);
    }
    payload.freeze()
}

/// The payload up to the message's parts, which follow as they are: for writing without a copy.
pub fn encode_table(channel: Channel, message: &Message) -> Bytes {
    let mut table = BytesMut::new();
    put_table(channel, message, 0, &mut table);
    table.freeze()
}

fn put_table(channel: Channel, message: &Message, more_bytes: usize, payload: &mut BytesMut) {
    let regions = FIXED_REGIONS + message.buffers.len();
    let mut offset = (regions + 2) * WORD;
    let name = channel.name().as_bytes();
    payload.reserve(offset + name.len() + more_bytes);
    payload.put_u64_le((regions + 1) as u64);
    payload.put_u64_le(offset as u64);
    for length in std::iter::once(name.len()).chain(message.parts().map(Bytes::len)) {
        offset += length;
        payload.put_u64_le(offset as u64);
    }
    payload.put_slice(name);
}

/// Takes a payload apart without copying: every part is a slice of `payload`.
pub fn decode(payload: &Bytes) -> Result<(Channel, Message), DecodeError> {
    let count = word(payload, 0).ok_or(DecodeError::Truncated)?;
    if count <= FIXED_REGIONS as u64 {
        return Err(DecodeError::TooFewOffsets(count));
    }
    // The table must fit in what came, so the count bounds every allocation below.
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count < payload.len() / WORD)
        .ok_or(DecodeError::Truncated)?;
    let region = |index: usize| {
        let start = word(payload, index + 1).and_then(|offset| usize::try_from(offset).ok());
        let end = word(payload, index + 2).and_then(|offset| usize::try_from(offset).ok());
        match (start, end) {
            (Some(start), Some(end))
                if (count + 1) * WORD <= start && start <= end && end <= payload.len() =>
            {
                Ok(payload.slice(start..end))
            }
            _ => Err(DecodeError::BadOffsets),
        }
    };
    let channel = Channel::from_name(&region(0)?).ok_or(DecodeError::UnknownChannel)?;
    let message = Message {
        header: region(1)?,
        parent_header: region(2)?,
        metadata: region(3)?,
        content: region(4)?,
        buffers: (FIXED_REGIONS..count - 1)
            .map(region)
            .collect::<Result<_, _>>()?,
    };
    Ok((channel, message))
}

fn word(payload: &[u8], index: usize) -> Option<u64> {
    let bytes = payload.get(index * WORD..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(
            parts in prop::array::uniform4(prop::collection::vec(any::<u8>(), 0..50)),
            buffers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..4),
        ) {
            let [header, parent_header, metadata, content] = parts.map(Bytes::from);
            let buffers = buffers.into_iter().map(Bytes::from).collect();
            let message = Message { header, parent_header, metadata, content, buffers };
            let payload = encode(Channel::Iopub, &message);
            prop_assert_eq!(decode(&payload), Ok((Channel::Iopub, message)));
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(
            count in any::<u64>(),
            small in 0..12u64,
            offsets in prop::collection::vec(0..200u64, 0..12),
            tail in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            for count in [count, small] {
                let mut payload = BytesMut::new();
                payload.put_u64_le(count);
                offsets.iter().for_each(|offset| payload.put_u64_le(*offset));
                payload.put_slice(&tail);
                let _ = decode(&payload.freeze());
            }
            let _ = decode(&Bytes::from(tail));
        }
    }
}
