//! The newest entries, in memory, without a gap. Knows no bounds.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Batch, Entry, Seq};

/// No entry over this is held beside a bound.
const LARGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Entries in a ring; the oldest go first.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Rc<Entry>>,
    /// The number of the newest entry.
    last: Seq,
    bytes: usize,
    /// An entry over this is large.
    large_over: usize,
    /// The newest large entry, and what of `bytes` it is.
    large: Option<(Seq, usize)>,
}

impl Tail {
    /// Nothing yet after the entry `last`.
    pub(super) fn new(last: Seq, large_over: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            last,
            bytes: 0,
            large_over,
            large: None,
        }
    }

    pub(super) fn push(&mut self, entry: Entry) -> Seq {
        let bytes = entry.bytes();
        self.bytes += bytes;
        self.entries.push_back(Rc::new(entry));
        self.last += 1;
        if bytes > self.large_over && bytes <= LARGE_BYTES_MAX {
            self.large = Some((self.last, bytes));
        }
        self.last
    }

    pub(super) fn pop(&mut self) -> Option<(Seq, Rc<Entry>)> {
        let seq = self.first();
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        self.large = self.large.filter(|(large, _)| *large != seq);
        if self.entries.is_empty() {
            // What a burst took is given back.
            self.entries.shrink_to(64);
        }
        Some((seq, entry))
    }

    /// The number of the oldest entry, if there is one; else of the next.
    pub(super) fn first(&self) -> Seq {
        self.last + 1 - self.entries.len() as u64
    }

    /// How much the oldest entry is.
    pub(super) fn first_bytes(&self) -> usize {
        self.entries.front().map_or(0, |entry| entry.bytes())
    }

    pub(super) fn last(&self) -> Seq {
        self.last
    }

    /// How many entries follow `after`.
    pub(super) fn count(&self, after: Seq) -> u64 {
        let following = self.last.saturating_sub(after);
        following.min(self.entries.len() as u64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Without the newest large entry: one output that is larger than a bound would else reach nobody and take with
    /// it what others still need.
    pub(super) fn bytes_beside_large(&self) -> usize {
        self.bytes - self.large.map_or(0, |(_, bytes)| bytes)
    }

    /// The newest large entry, if it is there.
    pub(super) fn large(&self) -> Option<Seq> {
        self.large.map(|(seq, _)| seq)
    }

    /// Adds the entries after `after` to `batch`, of which `bytes` are there, until it has `bytes_max`.
    pub(super) fn read(&self, after: Seq, bytes_max: usize, mut bytes: usize, batch: &mut Batch) {
        let first = self.first();
        let skip = after.saturating_add(1).saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for (index, entry) in self.entries.iter().enumerate().skip(skip) {
            if bytes >= bytes_max {
                break;
            }
            bytes += entry.bytes();
            batch.push((first + index as u64, Rc::clone(entry)));
        }
    }
}
