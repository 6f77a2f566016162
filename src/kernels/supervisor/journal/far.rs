//! A second journal, for tests: what is read has to be brought from elsewhere first, as from a disk.
//!
//! Shows that nobody who reads a journal depends on its entries being at hand.

use std::cell::Cell;
use std::future;
use std::rc::Rc;

use super::memory::MemoryJournal;
use super::{Dropped, Entry, Journal, Needs, Read, Seq};

/// A [`MemoryJournal`] behind a distance: each read is refused once, and gives one entry.
#[derive(Debug)]
pub(crate) struct FarJournal {
    entries: MemoryJournal,
    /// What follows this entry has been brought, and can be read once.
    brought: Rc<Cell<Option<Seq>>>,
    /// Nothing is ever brought.
    is_stuck: bool,
}

impl FarJournal {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self::after(0, bytes_max)
    }

    pub(crate) fn after(last: Seq, bytes_max: usize) -> Self {
        Self {
            entries: MemoryJournal::after(last, bytes_max),
            brought: Rc::default(),
            is_stuck: false,
        }
    }

    /// As of a disk that does not answer.
    pub(crate) fn stuck(bytes_max: usize) -> Self {
        Self {
            is_stuck: true,
            ..Self::new(bytes_max)
        }
    }
}

impl Journal for FarJournal {
    fn append(&mut self, entry: Entry) -> Seq {
        self.entries.append(entry)
    }

    fn read(&mut self, after: Seq, _bytes_max: usize) -> Read {
        if after >= self.last() || self.brought.take() == Some(after) {
            return self.entries.read(after, 1);
        }
        if self.is_stuck {
            return Read::Loading(Box::pin(future::pending()));
        }
        let brought = Rc::clone(&self.brought);
        Read::Loading(Box::pin(async move {
            tokio::task::yield_now().await;
            brought.set(Some(after));
        }))
    }

    fn last(&self) -> Seq {
        self.entries.last()
    }

    fn count(&self, after: Seq) -> u64 {
        self.entries.count(after)
    }

    fn release(&mut self, needs: Needs) {
        self.entries.release(needs);
    }

    fn drop_oldest(&mut self) -> Option<Dropped> {
        self.entries.drop_oldest()
    }

    fn bytes(&self) -> usize {
        self.entries.bytes()
    }
}
