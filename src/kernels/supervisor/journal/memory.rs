//! The journal that keeps everything in memory, up to a bound.
//!
//! The newest large entry is held beside the bound: one output that is larger than it all would else reach
//! nobody and take with it what others still need.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Batch, Entry, Journal, Read, Seq};

/// An entry over this share of the bound is large.
const LARGE_SHARE: usize = 2;

/// No entry over this is held beside the bound.
const LARGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Entries in a ring; the oldest go first.
#[derive(Debug)]
pub struct MemoryJournal {
    entries: VecDeque<Rc<Entry>>,
    /// The number of the newest entry.
    last: Seq,
    bytes: usize,
    bytes_max: usize,
    /// The newest large entry, and what of `bytes` it is.
    large: Option<(Seq, usize)>,
}

impl MemoryJournal {
    /// An empty journal that holds up to `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            last: 0,
            bytes: 0,
            bytes_max,
            large: None,
        }
    }

    fn first(&self) -> Seq {
        self.last + 1 - self.entries.len() as u64
    }

    fn pop(&mut self) -> Option<(Seq, Rc<Entry>)> {
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
}

impl Journal for MemoryJournal {
    fn append(&mut self, entry: Entry) -> Seq {
        let bytes = entry.bytes();
        self.bytes += bytes;
        self.entries.push_back(Rc::new(entry));
        self.last += 1;
        if bytes > self.bytes_max / LARGE_SHARE && bytes <= LARGE_BYTES_MAX {
            self.large = Some((self.last, bytes));
        }
        self.last
    }

    fn read(&mut self, after: Seq, bytes_max: usize) -> Read {
        let first = self.first();
        let skip =
            usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut batch = Batch::new();
        for (index, entry) in self.entries.iter().enumerate().skip(skip) {
            if bytes >= bytes_max {
                break;
            }
            bytes += entry.bytes();
            batch.push((first + index as u64, Rc::clone(entry)));
        }
        Read::Ready(batch)
    }

    fn last(&self) -> Seq {
        self.last
    }

    fn release(&mut self, up_to: Seq) {
        while !self.entries.is_empty() && self.first() <= up_to {
            self.pop();
        }
    }

    fn drop_oldest(&mut self) -> Option<(Seq, Rc<Entry>)> {
        let beside = self.large.map_or(0, |(_, bytes)| bytes);
        if self.bytes - beside > self.bytes_max {
            self.pop()
        } else {
            None
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mark, Route};
    use super::*;
    use crate::protocol::message::{Channel, Message};
    use proptest::prelude::*;

    fn entry(size: usize) -> Entry {
        let message = Message {
            content: vec![b'x'; size].into(),
            ..Message::empty()
        };
        Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain)
    }

    fn numbers(journal: &mut MemoryJournal, after: Seq, bytes_max: usize) -> Vec<Seq> {
        match journal.read(after, bytes_max) {
            Read::Ready(batch) => batch.iter().map(|(seq, _)| *seq).collect(),
            Read::Loading(_) => unreachable!("all of it is in memory"),
        }
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty_while_there_is_more() {
        let mut journal = MemoryJournal::new(1 << 20);
        (0..5).for_each(|_| {
            journal.append(entry(1000));
        });
        assert_eq!(numbers(&mut journal, 0, 1), [1]);
        assert_eq!(numbers(&mut journal, 1, 2200), [2, 3]);
        assert!(numbers(&mut journal, 5, 2500).is_empty());
        for beyond in [Seq::MAX - 1, Seq::MAX] {
            assert!(numbers(&mut journal, beyond, 2500).is_empty());
        }
    }

    #[test]
    fn one_that_is_larger_than_the_bound_takes_nothing_with_it() {
        let mut journal = MemoryJournal::new(5000);
        let mut append = |size| {
            journal.append(entry(size));
            let mut dropped = Vec::new();
            while let Some((seq, _)) = journal.drop_oldest() {
                dropped.push(seq);
            }
            dropped
        };
        assert!(append(1000).is_empty());
        assert!(append(20_000).is_empty());
        assert!(append(1000).is_empty());
        // Of two only the newer is beside the bound.
        assert_eq!(append(30_000), [1, 2]);
        assert!(append(1000).is_empty());
        assert_eq!(numbers(&mut journal, 0, usize::MAX), [3, 4, 5]);
        journal.release(4);
        assert!(journal.bytes() < 5000 && journal.large.is_none());
    }

    proptest! {
        /// Against the plainest model: a list of numbers that are there.
        #[test]
        fn what_is_read_is_what_was_neither_released_nor_dropped(
            steps in prop::collection::vec((0..3u8, 0..400usize), 1..60),
        ) {
            let mut journal = MemoryJournal::new(5000);
            let mut there = Vec::new();
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        there.push(journal.append(entry(number)));
                        while let Some((seq, _)) = journal.drop_oldest() {
                            prop_assert_eq!(seq, there.remove(0));
                        }
                    }
                    _ => {
                        let up_to = (number as u64) % (journal.last() + 1);
                        journal.release(up_to);
                        there.retain(|seq| *seq > up_to);
                    }
                }
                prop_assert_eq!(&numbers(&mut journal, 0, usize::MAX), &there);
                prop_assert!(journal.bytes() <= 5000);
                prop_assert_eq!(there.is_empty(), journal.bytes() == 0);
            }
        }
    }
}
