//! The kernel's journal as its start asks for it. A disk that does not answer keeps nothing from going on.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

use super::journal::Journal;
use super::journal::disk::{self, About, Bounds, DiskJournal, Prepared};
use super::journal::memory::MemoryJournal;
use super::ledger::Left;
use crate::kernels::contract::{JournalMode, JournalStart, Start};

/// How long the disk may take to have a journal, or to have none any more.
const WITHIN: Duration = Duration::from_secs(5);

/// The journal of the kernel whose folder this is, going on after what is `left`.
pub(super) async fn journal(start: &Start, folder: &Path, left: &Left) -> Box<dyn Journal> {
    let bytes_max = usize::try_from(start.journal_bytes_max).unwrap_or(usize::MAX);
    let in_memory = usize::try_from(start.journal.memory_bytes_max).unwrap_or(usize::MAX);
    if start.journal.mode != JournalMode::Disk {
        return Box::new(MemoryJournal::new(bytes_max));
    }
    let bounds = Bounds {
        bytes_max: start.journal_bytes_max,
        memory_bytes_max: in_memory,
        user_bytes_max: start.journal.user_bytes_max,
        retention: Duration::from_secs(start.journal.retention_s),
    };
    let last = left.joined.iter().map(|session| session.cursor).max();
    let prepared = prepare(start, folder).await;
    match prepared.and_then(|prepared| DiskJournal::new(prepared, bounds, last.unwrap_or(0))) {
        Ok(journal) => Box::new(journal),
        Err(error) => {
            warn!(%error, "the journal is kept in memory alone");
            Box::new(MemoryJournal::new(in_memory))
        }
    }
}

async fn prepare(start: &Start, folder: &Path) -> io::Result<Prepared> {
    let about = About {
        owner: start.owner.clone(),
        kernel: folder.to_owned(),
    };
    let journal = start.journal.folder.clone();
    let prepared = spawn_blocking(move || disk::prepare(&journal, about));
    timeout(WITHIN, prepared).await??
}

/// Removes what the kernel's journal has on the disk: it goes with the kernel.
pub(super) async fn remove(journal: &JournalStart) {
    if journal.mode != JournalMode::Disk {
        return;
    }
    let folder = journal.folder.clone();
    let removed = spawn_blocking(move || std::fs::remove_dir_all(folder));
    match timeout(WITHIN, removed).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => {}
        failed => warn!(?failed, "the journal's files were not removed"),
    }
}
