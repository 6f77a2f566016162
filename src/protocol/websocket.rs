//! WebSocket frames (RFC 6455): masked from clients, unmasked from servers.
//!
//! Ours because no crate offers all of: TEXT payloads that are not UTF-8 (jupyter_server sends binary
//! messages so), one encoded payload shared by many connections, vectored writes, and caps that hold
//! before anything is allocated. Does not know what a payload means.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Control frames carry at most this many payload bytes (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;

/// The kind of a frame that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// What the peer sent: whole messages, fragments joined.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Not checked to be UTF-8.
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// With the code that the peer gave, if any.
    Close(Option<u16>),
}

/// Why the connection has to be closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a message over {0} bytes")]
    TooLarge(usize),
    #[error("a frame that breaks the protocol: {0}")]
    Protocol(&'static str),
}

impl DecodeError {
    /// The close code for this fault (RFC 6455, section 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 1009,
            Self::Protocol(_) => 1002,
        }
    }

    /// What the peer is told beside the code.
    pub fn close_reason(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "a message is larger than limits.message_bytes_max allows",
            Self::Protocol(what) => what,
        }
    }
}

/// Takes messages out of the bytes of one connection.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// Whether the peer is a client, which masks its frames.
    masked: bool,
    /// The kind of the fragmented message under way and what came of it.
    partial: Option<(Opcode, BytesMut)>,
}

struct FrameHead {
    fin: bool,
    opcode: u8,
    head_bytes: usize,
    mask: [u8; MASK_BYTES],
    payload_bytes: usize,
}

impl Decoder {
    /// A decoder of what a client sends that refuses messages over `message_bytes_max`, announced or joined
    /// from fragments.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            masked: true,
            partial: None,
        }
    }

    /// The same of what a server sends.
    pub fn of_server(message_bytes_max: usize) -> Self {
        Self {
            masked: false,
            ..Self::new(message_bytes_max)
        }
    }

    /// The next message in `input`, or `None` when more bytes are needed.
    ///
    /// Room for a message is reserved only once its announced size is known to be allowed.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Event>, DecodeError> {
        loop {
            let Some(head) = self.read_head(input)? else {
                return Ok(None);
            };
            let frame_bytes = head.head_bytes + head.payload_bytes;
            if input.len() < frame_bytes {
                input.reserve(frame_bytes - input.len());
                return Ok(None);
            }
            input.advance(head.head_bytes);
            let mut payload = input.split_to(head.payload_bytes);
            unmask(&mut payload, head.mask);
            if let Some(event) = self.take(&head, payload)? {
                return Ok(Some(event));
            }
        }
    }

    fn read_head(&self, input: &[u8]) -> Result<Option<FrameHead>, DecodeError> {
        let [first, second, ..] = *input else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(DecodeError::Protocol("reserved bits without an extension"));
        }
        match (self.masked, second & MASKED != 0) {
            (true, false) => return Err(DecodeError::Protocol("a client frame without a mask")),
            (false, true) => return Err(DecodeError::Protocol("a server frame with a mask")),
            _ => {}
        }
        let (length, length_bytes) = match second & !MASKED {
            126 => (
                input
                    .get(2..)
                    .and_then(|b| b.first_chunk())
                    .map(|b| u64::from(u16::from_be_bytes(*b))),
                2,
            ),
            127 => (
                input
                    .get(2..)
                    .and_then(|b| b.first_chunk())
                    .map(|b| u64::from_be_bytes(*b)),
                8,
            ),
            short => (Some(u64::from(short)), 0),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let opcode = first & 0x0f;
        let fin = first & FIN != 0;
        if opcode & 0x8 != 0 && (!fin || length > CONTROL_BYTES_MAX as u64) {
            return Err(DecodeError::Protocol(
                "a control frame that is fragmented or too long",
            ));
        }
        let before = self.partial.as_ref().map_or(0, |(_, joined)| joined.len());
        let payload_bytes = usize::try_from(length)
            .ok()
            .filter(|length| {
                length.saturating_add(before) <= self.message_bytes_max || opcode & 0x8 != 0
            })
            .ok_or(DecodeError::TooLarge(self.message_bytes_max))?;
        let mask_at = 2 + length_bytes;
        if !self.masked {
            return Ok(Some(FrameHead {
                fin,
                opcode,
                head_bytes: mask_at,
                mask: [0; MASK_BYTES],
                payload_bytes,
            }));
        }
        Ok(input
            .get(mask_at..)
            .and_then(|bytes| bytes.first_chunk())
            .map(|mask| FrameHead {
                fin,
                opcode,
                head_bytes: mask_at + MASK_BYTES,
                mask: *mask,
                payload_bytes,
            }))
    }

    fn take(&mut self, head: &FrameHead, payload: BytesMut) -> Result<Option<Event>, DecodeError> {
        let data = match (head.opcode, self.partial.take()) {
            (0x0, Some((opcode, mut joined))) => {
                joined.unsplit(payload);
                Some((opcode, joined))
            }
            (0x0, None) => return Err(DecodeError::Protocol("a continuation of nothing")),
            (0x1 | 0x2, Some(_)) => {
                return Err(DecodeError::Protocol(
                    "a new message inside a fragmented one",
                ));
            }
            (0x1, None) => Some((Opcode::Text, payload)),
            (0x2, None) => Some((Opcode::Binary, payload)),
            (control, partial) => {
                self.partial = partial;
                let payload = payload.freeze();
                return match control {
                    0x8 if payload.len() == 1 => {
                        Err(DecodeError::Protocol("a close frame with half a code"))
                    }
                    0x8 => Ok(Some(Event::Close(
                        payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
                    ))),
                    0x9 => Ok(Some(Event::Ping(payload))),
                    0xa => Ok(Some(Event::Pong(payload))),
                    _ => Err(DecodeError::Protocol("an unknown opcode")),
                };
            }
        };
        match data {
            Some((Opcode::Text, joined)) if head.fin => Ok(Some(Event::Text(joined.freeze()))),
            Some((_, joined)) if head.fin => Ok(Some(Event::Binary(joined.freeze()))),
            data => {
                self.partial = data;
                Ok(None)
            }
        }
    }
}

/// A whole frame as a client sends it.
pub fn encode_masked(
    opcode: Opcode,
    payload: &[u8],
    mask: [u8; MASK_BYTES],
    output: &mut BytesMut,
) {
    let head = output.len();
    encode_head(opcode, payload.len(), output);
    if let Some(length) = output.get_mut(head + 1) {
        *length |= MASKED;
    }
    output.put_slice(&mask);
    let start = output.len();
    output.put_slice(payload);
    unmask(&mut output[start..], mask);
}

/// Masks as well: the two are the same.
fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let word = u64::from_ne_bytes([mask, mask].concat().try_into().unwrap_or_default());
    let mut words = payload.chunks_exact_mut(size_of::<u64>());
    for chunk in &mut words {
        if let Some(bytes) = chunk.first_chunk_mut() {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
    }
    for (byte, mask) in words
        .into_remainder()
        .iter_mut()
        .zip(mask.into_iter().cycle())
    {
        *byte ^= mask;
    }
}

/// The head of an unmasked frame with a payload of this size; the payload follows it as it is.
pub fn encode_head(opcode: Opcode, payload_bytes: usize, output: &mut BytesMut) {
    output.put_u8(FIN | opcode as u8);
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short @ 0..126), _) => output.put_u8(short),
        (_, Ok(medium)) => {
            output.put_u8(126);
            output.put_u16(medium);
        }
        _ => {
            output.put_u8(127);
            output.put_u64(payload_bytes as u64);
        }
    }
}

/// A whole close frame. `reason` is cut to what a control frame holds.
pub fn encode_close(code: u16, reason: &str, output: &mut BytesMut) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    encode_head(Opcode::Close, 2 + reason.len(), output);
    output.put_u16(code);
    output.put_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1 << 20;

    proptest! {
        #[test]
        fn what_either_side_sends_the_other_reads_and_no_third(
            payload in prop::collection::vec(any::<u8>(), 0..70_000),
            mask in any::<[u8; 4]>(),
        ) {
            let (mut masked, mut plain) = (BytesMut::new(), BytesMut::new());
            encode_masked(Opcode::Binary, &payload, mask, &mut masked);
            encode_head(Opcode::Binary, payload.len(), &mut plain);
            plain.put_slice(&payload);
            prop_assert!(Decoder::of_server(MAX).decode(&mut masked.clone()).is_err());
            prop_assert!(Decoder::new(MAX).decode(&mut plain.clone()).is_err());
            let event = Some(Event::Binary(payload.into()));
            prop_assert_eq!(Decoder::new(MAX).decode(&mut masked).unwrap(), event.as_ref().map(same));
            prop_assert_eq!(Decoder::of_server(MAX).decode(&mut plain).unwrap(), event);
        }
    }

    fn same(event: &Event) -> Event {
        match event {
            Event::Binary(payload) => Event::Binary(payload.clone()),
            _ => unreachable!("no other event is made here"),
        }
    }

    fn client_frame(fin: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        encode_head(Opcode::Text, payload.len(), &mut frame);
        frame[0] = if fin { FIN | opcode } else { opcode };
        frame[1] |= MASKED;
        frame.put_slice(&mask);
        frame.extend(
            payload
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ mask[at % 4]),
        );
        frame
    }

    proptest! {
        #[test]
        fn fragments_cut_anywhere_come_out_whole(
            payload in prop::collection::vec(any::<u8>(), 0..70_000),
            mask in any::<[u8; 4]>(),
            cut in any::<prop::sample::Index>(),
            step in 1..5000usize,
        ) {
            let at = cut.index(payload.len() + 1);
            let mut wire = client_frame(false, 0x1, mask, &payload[..at]);
            wire.extend(client_frame(true, 0x9, mask, b"now"));
            wire.extend(client_frame(true, 0x0, mask, &payload[at..]));
            let (mut decoder, mut input, mut events) = (Decoder::new(MAX), BytesMut::new(), vec![]);
            for chunk in wire.chunks(step) {
                input.extend_from_slice(chunk);
                while let Some(event) = decoder.decode(&mut input).unwrap() {
                    events.push(event);
                }
            }
            let ping = Event::Ping(Bytes::from_static(b"now"));
            prop_assert_eq!(events, vec![ping, Event::Text(payload.into())]);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic_or_a_large_allocation(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (mut decoder, mut input) = (Decoder::new(1000), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = decoder.decode(&mut input) {}
            prop_assert!(input.capacity() < 4096);
        }
    }

    #[test]
    fn an_announced_size_over_the_cap_is_refused_before_its_payload() {
        let mut frame = client_frame(true, 0x2, [0; 4], &[0; 101]);
        frame.truncate(8);
        let error = Decoder::new(100).decode(&mut frame).unwrap_err();
        assert_eq!(
            (error.close_code(), error),
            (1009, DecodeError::TooLarge(100))
        );
    }

    #[test]
    fn fragments_count_together_against_the_cap() {
        let mut wire = client_frame(false, 0x2, [7; 4], &[0; 60]);
        wire.extend(client_frame(true, 0x0, [7; 4], &[0; 60]));
        assert_eq!(
            Decoder::new(100).decode(&mut wire),
            Err(DecodeError::TooLarge(100))
        );
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut frame = BytesMut::new();
        encode_close(1000, &"ü".repeat(100), &mut frame);
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
