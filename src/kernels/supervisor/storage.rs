//! The kernel's journal as its start asks for it. A disk that is full or does not answer keeps nothing from going on.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

use super::journal::disk::{About, Bounds, DiskJournal};
use super::journal::memory::MemoryJournal;
use super::journal::{Journal, Seq, far_after};
use super::ledger::Left;
use crate::kernels::contract::{JournalMode, JournalStart, Start};

/// So long a kernel waits for what its journal has on the disk; then it goes on, and its clients wait.
const READY_WITHIN: Duration = Duration::from_millis(300);

/// How long the disk may take to have no journal any more.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// The journal of the kernel whose folder this is, with numbers after `begin`.
pub(super) async fn journal(start: &Start, folder: &Path, begin: Seq) -> Box<dyn Journal> {
    let bytes_max = usize::try_from(start.journal_bytes_max).unwrap_or(usize::MAX);
    let in_memory = usize::try_from(start.journal.memory_bytes_max).unwrap_or(usize::MAX);
    if start.journal.mode != JournalMode::Disk {
        return Box::new(MemoryJournal::after(begin, bytes_max));
    }
    let bounds = Bounds {
        bytes_max: start.journal_bytes_max,
        memory_bytes_max: in_memory,
        user_bytes_max: start.journal.user_bytes_max,
        retention: Duration::from_secs(start.journal.retention_s),
    };
    let about = About {
        owner: start.owner.clone(),
        kernel: folder.to_owned(),
    };
    match DiskJournal::new(start.journal.folder.clone(), about, bounds, begin) {
        Ok(journal) => {
            if timeout(READY_WITHIN, journal.is_ready()).await.is_err() {
                warn!("the disk does not give the journal: the kernel goes on meanwhile");
            }
            Box::new(journal)
        }
        Err(error) => {
            warn!(%error, "without a thread, the journal is kept in memory alone");
            Box::new(MemoryJournal::after(begin, in_memory))
        }
    }
}

/// After this number the journal begins of a supervisor that is the `takeovers`th to take over, from those that have
/// `left` this.
pub(super) fn begin(left: &Left, takeovers: usize) -> Seq {
    let noted = left.joined.iter().flat_map(|joined| {
        let until = joined.catches_up.as_ref().map(|on| on.until);
        until.into_iter().chain([joined.cursor])
    });
    let noted = noted.chain([left.said]);
    // Nobody has been told a number.
    let is_first = takeovers == 0 && left.joined.is_empty();
    if is_first {
        0
    } else {
        far_after(noted, takeovers)
    }
}

/// Removes what the kernel's journal has on the disk: it goes with the kernel.
pub(super) async fn remove(journal: &JournalStart) {
    if journal.mode != JournalMode::Disk {
        return;
    }
    let folder = journal.folder.clone();
    let removed = spawn_blocking(move || std::fs::remove_dir_all(folder));
    match timeout(REMOVED_WITHIN, removed).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => {}
        failed => warn!(?failed, "the journal's files were not removed"),
    }
}
