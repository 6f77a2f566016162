//! Entries on their way from a file to a reader.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep;

use super::super::{Batch, Seq};
use super::folder;
use super::reading::Readings;
use super::record;
use super::segment::Piece;
use crate::kernels::supervisor::clock::now;

/// Batches that are not fetched go, oldest first, and in any case after this time: who wanted it is gone.
const BATCHES_MAX: usize = 64;
const FETCHED_WITHIN: Duration = Duration::from_secs(1);

/// What could not be read is tried again after this time.
const AGAIN: Duration = Duration::from_millis(250);

/// A segment that could not be read for so long is given up. An attempt counts as one more of the same trouble within
/// the second time.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);
const TROUBLE_ENDS_AFTER: Duration = Duration::from_secs(5);

/// What has been read and waits for whoever wanted it.
#[derive(Debug, Default)]
pub(super) struct Brought {
    batches: VecDeque<(Seq, Instant, Batch)>,
    /// Segments that cannot be read.
    broken: BTreeSet<u64>,
    /// Segments that could not be read just now: since when, and when last.
    failing: BTreeMap<u64, (Instant, Instant)>,
    damage: Option<String>,
}

impl Brought {
    /// What follows the entry `after`, once.
    pub(super) fn take(&mut self, after: Seq) -> Option<Batch> {
        let at = self.batches.iter().position(|(of, ..)| *of == after)?;
        Some(self.batches.remove(at)?.2)
    }

    /// Whether there is any; what is not fetched is let go.
    pub(super) fn waits(&mut self) -> bool {
        let is_late = |brought: Instant| now().duration_since(brought) > FETCHED_WITHIN;
        self.batches.retain(|(_, brought, _)| !is_late(*brought));
        !self.batches.is_empty()
    }

    pub(super) fn is_broken(&self, segment: u64) -> bool {
        self.broken.contains(&segment)
    }

    /// The segment is gone. A reader that is on its way to it may yet find that it cannot be read.
    pub(super) fn forget(&mut self, segment: u64) {
        self.broken.remove(&segment);
        self.failing.remove(&segment);
    }

    /// Why something is lost.
    pub(super) fn damaged(&mut self, reason: String) {
        self.damage = Some(reason);
    }

    pub(super) fn damage(&self) -> Option<String> {
        self.damage.clone()
    }

    /// The segment could not be read; whether it is to be tried again.
    fn failed(&mut self, segment: u64, reason: &str) -> bool {
        let now = now();
        let (since, last) = self.failing.entry(segment).or_insert((now, now));
        if now.duration_since(*last) > TROUBLE_ENDS_AFTER {
            *since = now;
        }
        *last = now;
        let is_over = now.duration_since(*since) >= GIVEN_UP_AFTER;
        if is_over {
            self.lost(segment, reason);
        } else {
            tracing::warn!(segment, reason, "a part of the journal is not read");
        }
        !is_over
    }

    pub(super) fn lost(&mut self, segment: u64, reason: &str) {
        tracing::error!(segment, reason, "a part of the journal is lost");
        self.failing.remove(&segment);
        self.broken.insert(segment);
        self.damaged(reason.to_owned());
    }
}

/// Reads a piece of a segment for whoever reads on after the entry `after`.
pub(super) async fn bring(
    brought: Rc<RefCell<Brought>>,
    readings: Rc<Readings>,
    path: PathBuf,
    segment: u64,
    piece: Piece,
    after: Seq,
) {
    let read = readings.read(path, segment, piece).await;
    match read.and_then(batch) {
        Ok(batch) => {
            let mut brought = brought.borrow_mut();
            brought.failing.remove(&segment);
            brought.batches.push_back((after, now(), batch));
            if brought.batches.len() > BATCHES_MAX {
                brought.batches.pop_front();
            }
        }
        Err(error) if folder::is_damage(&error) => {
            brought.borrow_mut().lost(segment, &error.to_string());
        }
        Err(error) => {
            if brought.borrow_mut().failed(segment, &error.to_string()) {
                sleep(AGAIN).await;
            }
        }
    }
}

/// The entries that a piece holds.
fn batch(mut content: Bytes) -> io::Result<Batch> {
    let mut batch = Batch::new();
    while !content.is_empty() {
        let record = record::decode_again(&mut content).map_err(io::Error::other)?;
        batch.push((record.seen.seq, Rc::new(record.into_entry())));
    }
    Ok(batch)
}
