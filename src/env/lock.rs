//! One at a time across processes: a lock on a file that is never removed.
//!
//! The kernel frees it when its holder dies, however that comes. Knows nothing of what it guards.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Say;
use crate::error::{Error, reason};

/// How often a lock that another process holds is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// Whoever looks whether somebody has a lock has it for a moment: what is held so often, and so long apart, is held.
pub(super) const LOOKS: u32 = 10;
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// So long another process is waited for: no environment takes longer to be made.
const WITHIN: Duration = Duration::from_secs(10 * 60);

/// Waits until no other process holds `path`; what is returned holds it until it is dropped.
///
/// Asks again and again instead of blocking, so that the wait can be cancelled.
pub(super) async fn exclusive(path: &Path, say: Say<'_>) -> Result<File, Error> {
    exclusive_within(path, WITHIN, say).await
}

async fn exclusive_within(path: &Path, within: Duration, say: Say<'_>) -> Result<File, Error> {
    let mut told = false;
    let deadline = Instant::now() + within;
    loop {
        if let Some(held) = try_exclusive(path)? {
            return Ok(held);
        }
        if Instant::now() >= deadline {
            return Err(Error::user(too_long(path, within)));
        }
        if !told {
            told = true;
            say("waiting for another nb that is at it");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// [`exclusive`] without a wait; nothing when another process holds it.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<File>, Error> {
    try_lock(path, open(path))
}

/// The same with a folder that is there for a lock, which goes where that goes.
pub(super) fn try_folder(path: &Path) -> Result<Option<File>, Error> {
    try_lock(path, File::open(path))
}

fn try_lock(path: &Path, file: io::Result<File>) -> Result<Option<File>, Error> {
    let failed = |reason: String| {
        Error::user(format!(
            "the lock {} cannot be taken: {reason}",
            path.display()
        ))
    };
    let file = file.map_err(|error| failed(reason(&error)))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// [`try_exclusive`], but whoever only looks is waited for.
pub(crate) async fn exclusive_but_for_looks(path: &Path) -> Result<Option<File>, Error> {
    for _moment in 1..LOOKS {
        if let Some(held) = try_exclusive(path)? {
            return Ok(Some(held));
        }
        tokio::time::sleep(LOOK).await;
    }
    try_exclusive(path)
}

fn too_long(path: &Path, waited: Duration) -> String {
    let who = match holder(path) {
        Some(pid) => format!("the process {pid}{}", command(pid)),
        None => "another process".to_owned(),
    };
    format!(
        "{} is held by {who}, which was waited for for {} s: try again when it has ended, or end it",
        path.display(),
        waited.as_secs()
    )
}

/// Which process holds the lock, as far as the system tells.
fn holder(path: &Path) -> Option<u32> {
    let about = fs::metadata(path).ok()?;
    holder_in(&fs::read_to_string("/proc/locks").ok()?, about.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 3881 fe:00:1234 0 EOF`. One that waits has an arrow behind its number.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, _, _) = (words.next()?, words.next()?, words.next()?);
        let (pid, file) = (words.next()?, words.next()?);
        let is_it = kind == "FLOCK" && file.rsplit(':').next()?.parse() == Ok(inode);
        // Of another container it is none of ours.
        pid.parse().ok().filter(|pid| is_it && *pid != 0)
    })
}

/// Its program and what that does, for people: no more of its arguments, which may hold secrets.
fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split('\0').filter(|word| !word.is_empty());
    let Some(program) = words.next() else {
        return String::new();
    };
    let program = program.rsplit('/').next().unwrap_or(program);
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
    let does: Vec<&str> = words.take_while(is_word).take(2).collect();
    format!(" ({})", [&[program], &does[..]].concat().join(" "))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = exclusive(&path, &|_| ()).await.unwrap();
        let said = std::cell::Cell::new(0);
        let late = exclusive_within(&path, RETRY, &|_| said.set(said.get() + 1)).await;
        let why = late.unwrap_err().message;
        let own = format!("is held by the process {} (nb-", std::process::id());
        assert!(why.contains(&own), "{why}");
        assert_eq!(said.get(), 1);
        drop(held);
        exclusive(&path, &|_| ()).await.unwrap();
    }

    #[test]
    fn the_holder_is_read_of_what_the_system_lists() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 0 fe:00:13 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 81 fe:00:12 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 82 fe:00:12 0 EOF\nx\n";
        assert_eq!(holder_in(locks, 12), Some(81));
        assert_eq!(holder_in(locks, 13), None);
        assert_eq!(holder_in(locks, 14), None);
    }
}
