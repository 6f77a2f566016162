//! The journals of a schedule: one in memory, one from which everything has to be brought, the shipped one on the disk.
//!
//! The last one's writer has done its work before anything else happens, so that a seed replays. How it fares when the
//! disk is slow is tested with it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;

use crate::kernels::supervisor::journal::disk::{About, Bounds, DiskJournal};
use crate::kernels::supervisor::journal::far::FarJournal;
use crate::kernels::supervisor::journal::memory::MemoryJournal;
use crate::kernels::supervisor::journal::{Dropped, Entry, Journal, Keeping, Needs, Read, Seq};

/// More than any schedule has.
const MUCH: u64 = 1 << 30;

/// Makes the journal of each supervisor.
#[derive(Clone, Copy)]
pub(super) struct Journals {
    /// In this folder, with so many bytes in memory, and numbers after this one.
    pub(super) make: fn(&Path, usize, Seq) -> Box<dyn Journal>,
    /// What is needed is there after a supervisor's death.
    pub(super) survive: bool,
}

impl Journals {
    pub(super) fn in_memory() -> Self {
        Self {
            make: |_, bytes_max, begin| Box::new(MemoryJournal::after(begin, bytes_max)),
            survive: false,
        }
    }

    pub(super) fn far() -> Self {
        Self {
            make: |_, bytes_max, begin| Box::new(FarJournal::after(begin, bytes_max)),
            survive: false,
        }
    }

    pub(super) fn on_disk() -> Self {
        Self {
            make: |folder, bytes_max, begin| Box::new(Prompt::open(folder, bytes_max, begin)),
            survive: true,
        }
    }
}

struct Prompt(DiskJournal);

impl Prompt {
    fn open(folder: &Path, memory_bytes_max: usize, begin: Seq) -> Self {
        let about = About {
            owner: "me".to_owned(),
            kernel: folder.to_owned(),
        };
        let bounds = Bounds {
            bytes_max: MUCH,
            memory_bytes_max,
            user_bytes_max: MUCH,
            retention: Duration::from_secs(3600),
        };
        let journal = DiskJournal::new(folder.join("journal"), about, bounds, begin).unwrap();
        while journal.is_ready().now_or_never().is_none() {
            thread::yield_now();
        }
        Self(journal)
    }

    fn wait(&mut self) {
        while self.0.is_writing() {
            thread::yield_now();
        }
    }
}

impl Journal for Prompt {
    fn append(&mut self, entry: Entry) -> Seq {
        let seq = self.0.append(entry);
        self.wait();
        seq
    }

    fn read(&mut self, after: Seq, bytes_max: usize) -> Read {
        let loading = match self.0.read(after, bytes_max) {
            Read::Loading(loading) => loading,
            ready => return ready,
        };
        // By a thread, which is waited for here.
        let mut loading = Box::pin(unconstrained(loading));
        while loading.as_mut().now_or_never().is_none() {
            thread::yield_now();
        }
        Read::Loading(Box::pin(yield_now()))
    }

    fn last(&self) -> Seq {
        self.0.last()
    }

    fn recovered(&mut self) -> Option<Seq> {
        self.0.recovered()
    }

    fn count(&self, after: Seq) -> u64 {
        self.0.count(after)
    }

    fn release(&mut self, needs: Needs) {
        self.0.release(needs);
    }

    fn drop_oldest(&mut self) -> Option<Dropped> {
        self.0.drop_oldest()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn keep(&mut self) -> Keeping {
        let keeping = self.0.keep();
        self.wait();
        keeping
    }
}
