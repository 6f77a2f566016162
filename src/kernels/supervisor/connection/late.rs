//! What a client that resumes a cell gets later than the rest: all that answers that cell.
//!
//! VS Code listens for it only when its connection is set up, five seconds after the handshake where it knows
//! nothing of the kernel yet; and the first message that it hears of the cell makes it listen, and is lost.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::kernels::supervisor::catch_up::CatchUp;
use crate::kernels::supervisor::journal::{Entry, Seq};

/// When the client is told that the cell runs, so that it listens.
const TOLD_AFTER: Duration = Duration::from_secs(7);

/// How much later the rest follows.
const LISTENS_WITHIN: Duration = Duration::from_secs(1);

/// More is not kept back.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is kept back, in its order.
#[derive(Debug)]
pub(super) struct Late {
    on: CatchUp,
    entries: Vec<(Seq, Rc<Entry>)>,
    bytes: usize,
    told: bool,
    due: Instant,
}

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    /// The client is to be told that this request runs.
    Busy(CatchUp),
    Everything(Vec<(Seq, Rc<Entry>)>),
}

impl Late {
    /// Nothing is kept back yet.
    pub(super) fn new(on: CatchUp, now: Instant) -> Self {
        Self {
            on,
            entries: Vec::new(),
            bytes: 0,
            told: false,
            due: now + TOLD_AFTER,
        }
    }

    /// Keeps the entry back if it is of that cell. Once the client listens for that one, what is of others
    /// would end it: it waits too.
    pub(super) fn keeps(&mut self, seq: Seq, entry: &Rc<Entry>) -> bool {
        let keeps = self.told || self.on.has(entry);
        if keeps {
            self.bytes += entry.bytes();
            self.entries.push((seq, Rc::clone(entry)));
        }
        keeps
    }

    /// When to look at it again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// What is due; after everything there is nothing more. `ends` when the connection is about to.
    pub(super) fn take(&mut self, now: Instant, ends: bool) -> Option<Due> {
        if !ends && self.bytes <= BYTES_MAX && now < self.due {
            return None;
        }
        if self.told {
            return Some(Due::Everything(std::mem::take(&mut self.entries)));
        }
        self.told = true;
        self.due = now + LISTENS_WITHIN;
        Some(Due::Busy(self.on.clone()))
    }
}
