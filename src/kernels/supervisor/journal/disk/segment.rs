//! What is known of one segment file: which entries it holds, where, and what they are. A few bytes for each. Pure.

use std::sync::Arc;
use std::time::Instant;

use super::super::{Kind, Label, Route, Seq};
use super::record::{self, MAGIC, RECORD_BYTES_MAX, Seen};

const LENGTH: u32 = RECORD_BYTES_MAX;
const ROUTED: u32 = 1 << 31;
const KIND_SHIFT: u32 = 29;

/// An entry of more is large.
pub(super) const LARGE_BYTES: u64 = 256 * 1024;

/// The index of one file.
#[derive(Debug)]
pub(super) struct Segment {
    /// Names the file.
    pub(super) number: u64,
    /// Its length once all is written.
    pub(super) bytes: u64,
    /// Since when nobody needs any of it.
    pub(super) useless_since: Option<Instant>,
    /// Length, kind and whether it is one session's.
    entries: Vec<u32>,
    /// From which index on the numbers rise by one from which.
    runs: Vec<(usize, Seq)>,
    /// Whose the entries are that are one session's.
    routed: Vec<(usize, Arc<str>)>,
    /// From which index on entries answer which request.
    requests: Vec<(usize, Option<Arc<str>>)>,
    /// So many of the oldest have been dropped.
    dropped: usize,
}

/// A piece of a file, with what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// How many entries.
    pub(super) entries: usize,
    pub(super) last: Seq,
}

impl Segment {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            bytes: MAGIC.len() as u64,
            useless_since: None,
            entries: Vec::new(),
            runs: Vec::new(),
            routed: Vec::new(),
            requests: Vec::new(),
            dropped: 0,
        }
    }

    /// A record follows.
    pub(super) fn push(&mut self, record: Seen) {
        let Seen {
            seq,
            kind,
            session,
            request,
            bytes,
        } = record;
        let index = self.entries.len();
        let continues = self.runs.last();
        let continues = continues.is_some_and(|(from, first)| first + (index - from) as u64 == seq);
        if !continues {
            self.runs.push((index, seq));
        }
        let known = self.requests.last();
        if known.is_none_or(|(_, known)| *known != request) {
            self.requests.push((index, request));
        }
        let kind = u32::from(record::code(kind));
        let routed = if session.is_some() { ROUTED } else { 0 };
        self.entries
            .push(bytes.min(LENGTH) | kind << KIND_SHIFT | routed);
        self.routed.extend(session.map(|session| (index, session)));
        self.bytes += u64::from(bytes);
    }

    /// No more follows: what room was made for more is given back.
    pub(super) fn seal(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// The newest entry.
    pub(super) fn last(&self) -> Option<Seq> {
        let index = self.entries.len().checked_sub(1)?;
        (index >= self.dropped).then(|| self.seq(index))
    }

    /// What there is after `after`: about `bytes_max`, at least one entry.
    pub(super) fn piece(&self, after: Seq, bytes_max: u64) -> Option<Piece> {
        let from = self.index_after(after).max(self.dropped);
        let before: u64 = self.entries.iter().take(from).map(|e| length(*e)).sum();
        let (mut bytes, mut entries) = (0, 0);
        for entry in self.entries.get(from..).unwrap_or_default() {
            // A large one is a piece of its own, which those who are about to get it have in common.
            let is_apart = entries > 0 && bytes.max(length(*entry)) > LARGE_BYTES;
            if bytes >= bytes_max || is_apart {
                break;
            }
            bytes += length(*entry);
            entries += 1;
        }
        (entries > 0).then(|| Piece {
            offset: MAGIC.len() as u64 + before,
            bytes,
            entries,
            last: self.seq(from + entries - 1),
        })
    }

    /// How many entries follow `after`.
    pub(super) fn count(&self, after: Seq) -> usize {
        let from = self.index_after(after).max(self.dropped);
        self.entries.len().saturating_sub(from)
    }

    /// Drops the oldest entry.
    pub(super) fn pop(&mut self) -> Option<(Seq, Label)> {
        let index = self.dropped;
        let entry = *self.entries.get(index)?;
        self.dropped += 1;
        let code = (entry & !ROUTED) >> KIND_SHIFT;
        let kind = u8::try_from(code).ok().and_then(record::kind);
        let session = match entry & ROUTED {
            0 => None,
            _ => self.routed.binary_search_by_key(&index, |(at, _)| *at).ok(),
        };
        let route = match session.map(|at| &self.routed[at].1) {
            None => Route::Everyone,
            Some(session) => Route::Session((&**session).into()),
        };
        let run = self.requests.partition_point(|(at, _)| *at <= index);
        let request = run.checked_sub(1).and_then(|at| self.requests.get(at));
        let request = request.and_then(|(_, request)| request.as_deref());
        let label = Label {
            route,
            // It was made of one.
            kind: kind.unwrap_or(Kind::Other),
            request: request.map(Into::into),
            bytes: usize::try_from(length(entry)).unwrap_or(usize::MAX),
        };
        Some((self.seq(index), label))
    }

    fn seq(&self, index: usize) -> Seq {
        let run = self.runs.partition_point(|(from, _)| *from <= index);
        let run = run.checked_sub(1).and_then(|at| self.runs.get(at));
        run.map_or(0, |(from, first)| first + (index - from) as u64)
    }

    /// The index of the first entry after `after`.
    fn index_after(&self, after: Seq) -> usize {
        let run = self.runs.partition_point(|(_, first)| *first <= after);
        let Some((from, first)) = run.checked_sub(1).and_then(|at| self.runs.get(at)) else {
            return 0;
        };
        let end = self
            .runs
            .get(run)
            .map_or(self.entries.len(), |(from, _)| *from);
        let past = usize::try_from(after - first + 1).unwrap_or(usize::MAX);
        from.saturating_add(past).min(end)
    }
}

fn length(entry: u32) -> u64 {
    u64::from(entry & LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list.
        #[test]
        fn all_is_found_again(
            steps in prop::collection::vec((1..4u64, prop_oneof![9 => 1..2000u32, 1 => 200_000..300_000u32], 0..3u8, 0..3u8), 1..80),
            after in 0..200u64,
            bytes_max in prop_oneof![1..5000u64, Just(1 << 20)],
            popped in 0..80usize,
        ) {
            let mut segment = Segment::new(1);
            let mut list = Vec::new();
            let (mut seq, mut offset) = (0, MAGIC.len() as u64);
            for (step, bytes, session, request) in steps {
                seq += step;
                let session: Option<Arc<str>> = (session > 0).then(|| session.to_string().into());
                let request = (request > 0).then(|| request.to_string());
                let to_push = (session.clone(), request.as_deref().map(Arc::from));
                segment.push(Seen { seq, kind: Kind::Other, session: to_push.0, request: to_push.1, bytes });
                list.push((seq, offset, u64::from(bytes), session, request));
                offset += u64::from(bytes);
            }
            prop_assert_eq!(segment.bytes, offset);
            for (seq, _, bytes, session, request) in list.drain(..popped.min(list.len())) {
                let route = session.map_or(Route::Everyone, |session| Route::Session((&*session).into()));
                let (at, label) = segment.pop().unwrap();
                prop_assert_eq!((at, label.bytes as u64, label.route), (seq, bytes, route));
                prop_assert_eq!(label.request.as_deref(), request.as_deref());
            }
            prop_assert_eq!(segment.last(), list.last().map(|entry| entry.0));
            let mut there = list.iter().filter(|entry| entry.0 > after).peekable();
            let expected = there.peek().map(|first| first.1).map(|offset| {
                let (mut bytes, mut entries, mut last) = (0, 0, 0);
                for entry in there {
                    if bytes >= bytes_max || (entries > 0 && bytes.max(entry.2) > LARGE_BYTES) {
                        break;
                    }
                    bytes += entry.2;
                    entries += 1;
                    last = entry.0;
                }
                Piece { offset, bytes, entries, last }
            });
            prop_assert_eq!(segment.piece(after, bytes_max), expected);
            prop_assert_eq!(segment.count(after), list.iter().filter(|entry| entry.0 > after).count());
        }
    }
}
