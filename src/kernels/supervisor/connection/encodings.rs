//! Payloads in the legacy framing that several connections write: encoded once, kept until the last of
//! them is past it.
//!
//! Knows numbers and bytes; in the v1 framing an entry is its own payload.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::kernels::supervisor::journal::{Entry, Route, Seq};
use crate::kernels::supervisor::sessions::ConnectionId;
use crate::protocol::legacy::{EncodeError, Payload};

/// Beyond this the oldest go: a connection that is far behind encodes for itself.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the connections of one kernel share.
#[derive(Clone, Debug, Default)]
pub(in crate::kernels::supervisor) struct Encodings {
    kept: Rc<RefCell<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Up to where each connection has written.
    written: BTreeMap<ConnectionId, Seq>,
    payloads: BTreeMap<Seq, Payload>,
    bytes: usize,
}

/// A connection among those that share; dropped, it is waited for no more.
#[derive(Debug)]
pub(super) struct Place {
    kept: Rc<RefCell<Kept>>,
    id: ConnectionId,
}

impl Encodings {
    /// A connection that has written everything up to `written`.
    pub(super) fn join(&self, id: ConnectionId, written: Seq) -> Place {
        self.kept.borrow_mut().written.insert(id, written);
        Place {
            kept: Rc::clone(&self.kept),
            id,
        }
    }
}

impl Place {
    /// The payload of the entry with this number.
    pub(super) fn payload(&self, seq: Seq, entry: &Entry) -> Result<Payload, EncodeError> {
        let mut kept = self.kept.borrow_mut();
        if let Some(payload) = kept.payloads.get(&seq) {
            return Ok(payload.clone());
        }
        let payload = entry.legacy()?;
        if entry.route == Route::Everyone && kept.is_awaited(seq, self.id) {
            kept.keep(seq, payload.clone());
        }
        Ok(payload)
    }

    /// This connection has written everything up to `seq`.
    pub(super) fn wrote(&self, seq: Seq) {
        let mut kept = self.kept.borrow_mut();
        kept.written.insert(self.id, seq);
        kept.release();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut kept = self.kept.borrow_mut();
        kept.written.remove(&self.id);
        kept.release();
    }
}

impl Kept {
    /// Whether a connection besides `but` has yet to write the entry.
    fn is_awaited(&self, seq: Seq, but: ConnectionId) -> bool {
        let mut others = self.written.iter().filter(|(id, _)| **id != but);
        others.any(|(_, written)| *written < seq)
    }

    fn keep(&mut self, seq: Seq, payload: Payload) {
        if bytes(&payload).len() > BYTES_MAX {
            return;
        }
        self.bytes += bytes(&payload).len();
        self.payloads.insert(seq, payload);
        while self.bytes > BYTES_MAX {
            self.pop();
        }
    }

    fn release(&mut self) {
        let by_all = self.written.values().min().copied();
        while let Some(oldest) = self.payloads.keys().next()
            && by_all.is_none_or(|by_all| *oldest <= by_all)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, payload)) = self.payloads.pop_first() {
            self.bytes -= bytes(&payload).len();
        }
    }
}

fn bytes(payload: &Payload) -> &Bytes {
    match payload {
        Payload::Text(bytes) | Payload::Binary(bytes) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::supervisor::journal::Mark;
    use crate::protocol::message::{Channel, Message};

    fn entry(text_bytes: usize, route: Route) -> Entry {
        let message = Message {
            header: Bytes::from_static(br#"{"msg_id":"a","msg_type":"b"}"#),
            content: Bytes::from(vec![b'1'; text_bytes]),
            ..Message::empty()
        };
        Entry::new(Channel::Iopub, message, route, Mark::Plain)
    }

    fn address(payload: &Payload) -> *const u8 {
        bytes(payload).as_ptr()
    }

    #[test]
    fn a_payload_is_encoded_once_and_goes_when_all_are_past_it() {
        let encodings = Encodings::default();
        let places = [1, 2, 3].map(|id| encodings.join(id, 7));
        let entry = entry(10, Route::Everyone);
        let first = places[0].payload(8, &entry).unwrap();
        for place in &places {
            let payload = place.payload(8, &entry).unwrap();
            assert_eq!(address(&payload), address(&first));
        }
        let [a, b, c] = places;
        a.wrote(8);
        b.wrote(8);
        assert_eq!(encodings.kept.borrow().payloads.len(), 1);
        drop(c);
        assert!(encodings.kept.borrow().payloads.is_empty());
        assert_eq!(encodings.kept.borrow().bytes, 0);
    }

    #[test]
    fn what_nobody_else_will_write_is_not_kept() {
        let encodings = Encodings::default();
        let alone = encodings.join(1, 0);
        alone.payload(1, &entry(10, Route::Everyone)).unwrap();
        let _ahead = encodings.join(2, 5);
        alone.payload(5, &entry(10, Route::Everyone)).unwrap();
        alone
            .payload(6, &entry(10, Route::Session("a".into())))
            .unwrap();
        assert!(encodings.kept.borrow().payloads.is_empty());
    }

    #[test]
    fn a_connection_that_stands_still_costs_no_more_than_the_bound() {
        let encodings = Encodings::default();
        let (reads, _stands) = (encodings.join(1, 0), encodings.join(2, 0));
        for seq in 1..=20 {
            let payload = reads.payload(seq, &entry(BYTES_MAX / 4, Route::Everyone));
            assert!(payload.is_ok());
            reads.wrote(seq);
            assert!(encodings.kept.borrow().bytes <= BYTES_MAX);
        }
        assert!(encodings.kept.borrow().payloads.contains_key(&20));
        reads
            .payload(21, &entry(BYTES_MAX, Route::Everyone))
            .unwrap();
        assert!(!encodings.kept.borrow().payloads.contains_key(&21));
    }
}
