//! The journal that keeps everything in memory, up to a bound.

use super::tail::Tail;
use super::{Batch, Cause, Dropped, Entry, Journal, Needs, Read, Seq};

/// An entry over this share of the bound is large.
const LARGE_SHARE: usize = 2;

/// So much that nobody needs is held for whoever asks for it all the same, at most this share of the bound.
const HISTORY_BYTES: usize = 1024 * 1024;
const HISTORY_SHARE: usize = 8;

/// The same of cells that are not done.
const CELLS_BYTES: usize = 4 * HISTORY_BYTES;

/// Entries in a ring; the oldest go first.
#[derive(Debug)]
pub struct MemoryJournal {
    tail: Tail,
    bytes_max: usize,
    needs: Needs,
}

impl MemoryJournal {
    /// An empty journal that holds up to `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self::after(0, bytes_max)
    }

    /// As [`MemoryJournal::new`]; no entry gets a number up to `last`.
    pub fn after(last: Seq, bytes_max: usize) -> Self {
        Self {
            tail: Tail::new(last, bytes_max / LARGE_SHARE),
            bytes_max,
            needs: Needs::nothing_up_to(last),
        }
    }

    /// How much may be held when the oldest entry is this one, which nobody has yet to get.
    fn history_bytes(&self, oldest: Seq) -> usize {
        let bytes = match oldest > self.needs.cells_after {
            true => CELLS_BYTES,
            false => HISTORY_BYTES,
        };
        bytes.min(self.bytes_max / HISTORY_SHARE)
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, entry: Entry) -> Seq {
        self.tail.push(entry)
    }

    fn read(&mut self, after: Seq, bytes_max: usize) -> Read {
        let mut batch = Batch::new();
        self.tail.read(after, bytes_max, 0, &mut batch);
        Read::Ready(batch)
    }

    fn last(&self) -> Seq {
        self.tail.last()
    }

    fn count(&self, after: Seq) -> u64 {
        self.tail.count(after)
    }

    fn release(&mut self, needs: Needs) {
        self.needs = needs;
        while !self.tail.is_empty()
            && self.tail.first() <= self.needs.useless_up_to()
            && self.tail.bytes() > self.history_bytes(self.tail.first())
        {
            self.tail.pop();
        }
    }

    fn drop_oldest(&mut self) -> Option<Dropped> {
        loop {
            let oldest = self.tail.first();
            let is_over = match oldest > self.needs.after {
                true => self.tail.bytes_beside_large() > self.bytes_max,
                false => self.tail.bytes() > self.history_bytes(oldest),
            };
            let (seq, entry) = is_over.then(|| self.tail.pop()).flatten()?;
            if seq > self.needs.useless_up_to() {
                return Some(Dropped {
                    seq,
                    label: entry.label(),
                    is_oldest: true,
                    cause: Cause::Full,
                });
            }
        }
    }

    fn bytes(&self) -> usize {
        self.tail.bytes()
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

    fn dropped(journal: &mut MemoryJournal) -> Vec<Seq> {
        std::iter::from_fn(|| Some(journal.drop_oldest()?.seq)).collect()
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
            dropped(&mut journal)
        };
        assert!(append(1000).is_empty());
        assert!(append(20_000).is_empty());
        assert!(append(1000).is_empty());
        // Of two only the newer is beside the bound.
        assert_eq!(append(30_000), [1, 2]);
        assert!(append(1000).is_empty());
        assert_eq!(numbers(&mut journal, 0, usize::MAX), [3, 4, 5]);
        journal.release(Needs::nothing_up_to(4));
        assert!(journal.bytes() < 5000);
    }

    #[test]
    fn what_nobody_needs_is_held_for_a_while_and_goes_unsaid() {
        const BOUND: usize = 100_000;
        let mut journal = MemoryJournal::new(BOUND);
        for _ in 0..50 {
            let seq = journal.append(entry(1000));
            // Its cell runs on.
            let needs = Needs {
                cells_after: 20,
                ..Needs::nothing_up_to(seq)
            };
            journal.release(needs);
            let gone = dropped(&mut journal);
            assert!(gone.iter().all(|gone| *gone > 20), "{gone:?}");
        }
        let held = numbers(&mut journal, 0, usize::MAX);
        assert_eq!(held.last(), Some(&50));
        assert!((5..20).contains(&held.len()), "{held:?}");
    }

    proptest! {
        /// Against the plainest model: a list of numbers that are needed.
        #[test]
        fn what_is_read_holds_all_that_was_neither_released_nor_dropped(
            steps in prop::collection::vec((0..3u8, 0..400usize), 1..60),
        ) {
            let mut journal = MemoryJournal::new(5000);
            let mut needed = Vec::new();
            let mut released = 0;
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        needed.push(journal.append(entry(number)));
                        for seq in dropped(&mut journal) {
                            prop_assert_eq!(seq, needed.remove(0));
                        }
                    }
                    _ => {
                        released = released.max((number as u64) % (journal.last() + 1));
                        journal.release(Needs::nothing_up_to(released));
                        needed.retain(|seq| *seq > released);
                    }
                }
                let held = numbers(&mut journal, 0, usize::MAX);
                prop_assert!(held.ends_with(&needed), "{:?} {:?}", held, needed);
                prop_assert!(journal.bytes() <= 5000);
                prop_assert!(!needed.is_empty() || journal.bytes() <= 5000 / HISTORY_SHARE);
            }
        }
    }
}
