//! One entry as the bytes of a segment file. Pure.
//!
//! A segment begins with [`MAGIC`]. Each record is, little-endian: u32 length of the body, u32 CRC-32 of the body; the
//! body: u64 number, u8 flags, then, where the flags say so, u16 length and session, u16 length and request; then the
//! message as the v1 framing has it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::super::entry::Body;
use super::super::{Entry, Kind, Mark, Route, Seq};

/// What a segment begins with: the format and its version.
pub(super) const MAGIC: &[u8; 8] = b"nbjrnl1\n";

/// A larger record is none.
pub(super) const RECORD_BYTES_MAX: u32 = (1 << 29) - 1;

/// Length and CRC.
const HEAD_BYTES: usize = 8;
const HEAD: u32 = 8;

const MARK: u8 = 0b0000_0011;
const EARLY_REPLY: u8 = 1;
const IDLE: u8 = 2;
const ONCE: u8 = 3;
const KIND_SHIFT: u8 = 2;
const KIND: u8 = 0b0000_1100;
const HAS_SESSION: u8 = 0b0001_0000;
const HAS_REQUEST: u8 = 0b0010_0000;

/// A kind in two bits.
pub(super) fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Shown => 0,
        Kind::Other => 1,
        Kind::AskersOnly => 2,
    }
}

/// The kind with this code.
pub(super) fn kind(code: u8) -> Option<Kind> {
    let kinds = [Kind::Shown, Kind::Other, Kind::AskersOnly];
    kinds.into_iter().find(|kind| self::code(*kind) == code)
}

/// Why bytes are no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record ends early")]
    Torn,
    #[error("a record is not what was written")]
    Damaged,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seen: Seen,
    mark: u8,
    payload: Bytes,
}

/// An entry on its way to another thread; it shares the entry's bytes.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) seq: Seq,
    session: Option<Arc<str>>,
    mark: u8,
    /// The request that the mark names.
    marked: Option<Arc<str>>,
    body: Body,
}

/// What is to be known of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) seq: Seq,
    pub(super) kind: Kind,
    pub(super) session: Option<Arc<str>>,
    pub(super) request: Option<Arc<str>>,
    /// All of it, in the file.
    pub(super) bytes: u32,
}

impl Unwritten {
    /// The entry with this number.
    pub(super) fn of(seq: Seq, entry: &Entry) -> Self {
        let (mark, marked) = match &entry.mark {
            Mark::Plain => (0, None),
            Mark::EarlyReply(request) => (EARLY_REPLY, Some(request)),
            Mark::Idle(request) => (IDLE, Some(request)),
            Mark::Once => (ONCE, None),
        };
        let session = match &entry.route {
            Route::Everyone => None,
            Route::Session(session) => Some((&**session).into()),
        };
        Self {
            seq,
            session,
            mark,
            marked: marked.map(|request| (&**request).into()),
            body: entry.body().clone(),
        }
    }

    /// Adds its record to `pieces`, to be written one after the other; `None` for one that is too large for it,
    /// or whose ids are.
    pub(super) fn encode(self, pieces: &mut Vec<Bytes>) -> Option<Seen> {
        let (kind, request) = self.body.peek();
        // A mark names the request that the entry answers.
        let request = self.marked.or_else(|| request.map(Into::into));
        let mut flags = self.mark | code(kind) << KIND_SHIFT;
        let mut body = BytesMut::with_capacity(192);
        body.put_slice(&[0; HEAD_BYTES]);
        body.put_u64_le(self.seq);
        body.put_u8(0);
        for (text, flag) in [(&self.session, HAS_SESSION), (&request, HAS_REQUEST)] {
            if let Some(text) = text {
                body.put_u16_le(text.len().try_into().ok()?);
                body.put_slice(text.as_bytes());
                flags |= flag;
            }
        }
        body[HEAD_BYTES + 8] = flags;
        let payload = self.body.v1();
        let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
        let body_bytes = u32::try_from(body.len() - HEAD_BYTES + payload_bytes).ok()?;
        let bytes = body_bytes.checked_add(HEAD);
        let bytes = bytes.filter(|bytes| *bytes <= RECORD_BYTES_MAX)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&body[HEAD_BYTES..]);
        payload.iter().for_each(|piece| crc.update(piece));
        body[..4].copy_from_slice(&body_bytes.to_le_bytes());
        body[4..HEAD_BYTES].copy_from_slice(&crc.finalize().to_le_bytes());
        pieces.push(body.freeze());
        pieces.extend(payload);
        Some(Seen {
            seq: self.seq,
            kind,
            session: self.session,
            request,
            bytes,
        })
    }
}

/// Takes the next record off the front.
pub(super) fn decode(input: &mut Bytes) -> Result<Record, RecordError> {
    take(input, true)
}

/// As [`decode`], of what has been decoded before.
pub(super) fn decode_again(input: &mut Bytes) -> Result<Record, RecordError> {
    take(input, false)
}

fn take(input: &mut Bytes, checks: bool) -> Result<Record, RecordError> {
    if input.len() < HEAD_BYTES {
        return Err(RecordError::Torn);
    }
    let (body_bytes, crc) = (input.get_u32_le(), input.get_u32_le());
    let bytes = body_bytes.checked_add(HEAD).ok_or(RecordError::Damaged)?;
    let body_bytes = usize::try_from(body_bytes).map_err(|_| RecordError::Damaged)?;
    if input.len() < body_bytes {
        return Err(RecordError::Torn);
    }
    let mut body = input.split_to(body_bytes);
    if checks && crc32fast::hash(&body) != crc {
        return Err(RecordError::Damaged);
    }
    let seq = body.try_get_u64_le().map_err(|_| RecordError::Damaged)?;
    let flags = body.try_get_u8().map_err(|_| RecordError::Damaged)?;
    let mut text = |flag| -> Result<Option<Arc<str>>, RecordError> {
        if flags & flag == 0 {
            return Ok(None);
        }
        let length = body.try_get_u16_le().map_err(|_| RecordError::Damaged)?;
        let length = usize::from(length);
        if body.len() < length {
            return Err(RecordError::Damaged);
        }
        let text = body.split_to(length);
        let text = str::from_utf8(&text).map_err(|_| RecordError::Damaged)?;
        Ok(Some(text.into()))
    };
    let (session, request) = (text(HAS_SESSION)?, text(HAS_REQUEST)?);
    let mark = flags & MARK;
    if request.is_none() && matches!(mark, EARLY_REPLY | IDLE) {
        return Err(RecordError::Damaged);
    }
    let kind = kind((flags & KIND) >> KIND_SHIFT).ok_or(RecordError::Damaged)?;
    let seen = Seen {
        seq,
        kind,
        session,
        request,
        bytes,
    };
    Ok(Record {
        seen,
        mark,
        payload: body,
    })
}

impl Record {
    /// The entry that was written.
    pub(super) fn into_entry(self) -> Entry {
        let route = match self.seen.session {
            None => Route::Everyone,
            Some(session) => Route::Session((&*session).into()),
        };
        let mark = match (self.mark, self.seen.request) {
            (EARLY_REPLY, Some(request)) => Mark::EarlyReply((&*request).into()),
            (IDLE, Some(request)) => Mark::Idle((&*request).into()),
            (ONCE, _) => Mark::Once,
            _ => Mark::Plain,
        };
        Entry::from_v1(self.payload, route, mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::{Channel, Message};
    use proptest::prelude::*;

    fn of(mark: Mark, route: Route, size: usize) -> Entry {
        let message = Message {
            header: Bytes::from_static(br#"{"msg_type":"stream","msg_id":"2","session":"k"}"#),
            parent_header: Bytes::from_static(br#"{"msg_id":"1","session":"s"}"#),
            content: vec![b'x'; size].into(),
            buffers: vec![Bytes::from_static(b"\xff")],
            ..Message::empty()
        };
        Entry::new(Channel::Iopub, message, route, mark)
    }

    #[test]
    fn what_was_written_is_read() {
        let marks = [
            Mark::Plain,
            Mark::Once,
            Mark::Idle("s\n1".into()),
            Mark::EarlyReply("s\n1".into()),
        ];
        let routes = [Route::Everyone, Route::Session("s".into())];
        let mut file = Vec::new();
        let mut entries = Vec::new();
        for (mark, route) in marks
            .iter()
            .flat_map(|mark| routes.iter().map(move |route| (mark, route)))
        {
            for size in [1, 5000, 50_000] {
                let entry = of(mark.clone(), route.clone(), size);
                let label = entry.label();
                let mut pieces = Vec::new();
                let seen = Unwritten::of(7, &entry).encode(&mut pieces).unwrap();
                let record = pieces.concat();
                assert_eq!(record.len(), seen.bytes as usize);
                file.extend(record);
                entries.push((entry, label, seen));
            }
        }
        let mut input = Bytes::from(file);
        for (entry, label, seen) in entries {
            let record = decode(&mut input).unwrap();
            assert_eq!((seen.seq, seen.kind), (7, label.kind));
            assert_eq!(seen.request.as_deref(), label.request.as_deref());
            assert_eq!(record.seen, seen);
            let read = record.into_entry();
            assert_eq!((&read.mark, &read.route), (&entry.mark, &entry.route));
            assert_eq!(read.message(), entry.message());
        }
        assert_eq!(decode(&mut input), Err(RecordError::Torn));
    }

    #[test]
    fn what_is_torn_or_damaged_is_told_from_what_was_written() {
        let entry = of(Mark::Plain, Route::Everyone, 100);
        let mut pieces = Vec::new();
        Unwritten::of(1, &entry).encode(&mut pieces).unwrap();
        let whole = pieces.concat();
        for length in 0..whole.len() {
            let mut torn = Bytes::copy_from_slice(&whole[..length]);
            assert_eq!(decode(&mut torn), Err(RecordError::Torn), "{length}");
        }
        for at in HEAD_BYTES..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&mut damaged.into()), Err(RecordError::Damaged));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200), right in any::<bool>()) {
            let mut bytes = bytes;
            if right && bytes.len() > HEAD_BYTES {
                // As if that had been written.
                let body = u32::try_from(bytes.len() - HEAD_BYTES).unwrap();
                let crc = crc32fast::hash(&bytes[HEAD_BYTES..]);
                bytes[..4].copy_from_slice(&body.to_le_bytes());
                bytes[4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(record) = decode(&mut bytes.into()) {
                let _entry = record.into_entry().label();
            }
        }
    }
}
