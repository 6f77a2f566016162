//! One at a time across processes: a lock on a file that is never removed.
//!
//! The kernel frees it when its holder dies, however that comes. Knows nothing of what it guards.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Say;
use crate::error::Error;

/// How often a lock that another process holds is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// Waits until no other process holds `path`; what is returned holds it until it is dropped.
///
/// Asks again and again instead of blocking, so that the wait can be cancelled.
pub(super) async fn exclusive(path: &Path, say: Say<'_>) -> Result<File, Error> {
    let mut told = false;
    loop {
        if let Some(held) = try_exclusive(path)? {
            return Ok(held);
        }
        if !told {
            told = true;
            say("waiting for another nb that is at it");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// [`exclusive`] without a wait; nothing when another process holds it.
pub(super) fn try_exclusive(path: &Path) -> Result<Option<File>, Error> {
    let failed = |reason: String| {
        Error::user(format!(
            "the lock {} cannot be taken: {reason}",
            path.display()
        ))
    };
    let file = open(path).map_err(|error| failed(error.to_string()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The same for a thread that may block.
pub(super) fn blocking(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}
