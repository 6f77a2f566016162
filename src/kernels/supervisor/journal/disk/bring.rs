//! Entries on their way from a file to a reader.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::task::spawn_blocking;

use super::super::{Batch, Seq};
use super::folder;
use super::record::Record;
use super::segment::Piece;

/// Batches that are not fetched go, oldest first.
const BATCHES_MAX: usize = 8;

/// What has been read and waits for whoever wanted it.
#[derive(Debug, Default)]
pub(super) struct Brought {
    batches: VecDeque<(Seq, Batch)>,
    /// Segments that cannot be read.
    broken: BTreeSet<u64>,
}

impl Brought {
    /// What follows the entry `after`, once.
    pub(super) fn take(&mut self, after: Seq) -> Option<Batch> {
        let at = self.batches.iter().position(|(of, _)| *of == after)?;
        Some(self.batches.remove(at)?.1)
    }

    /// The oldest segment that cannot be read.
    pub(super) fn broken(&self) -> Option<u64> {
        self.broken.first().copied()
    }

    pub(super) fn is_broken(&self, segment: u64) -> bool {
        self.broken.contains(&segment)
    }

    pub(super) fn forget(&mut self, segment: u64) {
        self.broken.remove(&segment);
    }
}

/// Reads a piece of a segment for whoever reads on after the entry `after`.
pub(super) async fn bring(
    brought: Rc<RefCell<Brought>>,
    path: PathBuf,
    segment: u64,
    piece: Piece,
    after: Seq,
) {
    let read = spawn_blocking(move || folder::piece(&path, piece.offset, piece.bytes));
    let records = match read.await {
        Ok(Ok(records)) if is_all(&records, piece) => records,
        Ok(Ok(_)) => return lost(&brought, segment, "it holds something else"),
        Ok(Err(error)) => return lost(&brought, segment, &error.to_string()),
        Err(error) => return lost(&brought, segment, &error.to_string()),
    };
    let entries = records
        .into_iter()
        .map(|record| (record.seen.seq, Rc::new(record.into_entry())));
    let mut brought = brought.borrow_mut();
    brought.batches.push_back((after, entries.collect()));
    if brought.batches.len() > BATCHES_MAX {
        brought.batches.pop_front();
    }
}

fn is_all(records: &[Record], piece: Piece) -> bool {
    let last = records.last().map(|record| record.seen.seq);
    records.len() == piece.entries && last == Some(piece.last)
}

fn lost(brought: &RefCell<Brought>, segment: u64, reason: &str) {
    tracing::error!(segment, reason, "a part of the journal is lost");
    brought.borrow_mut().broken.insert(segment);
}
