//! Writes lines to a file from a thread of its own: whoever has something to write down never waits for the disk.
//!
//! What cannot be written is not tried again: the file is to be written anew, as a whole. Knows nothing of notes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

/// A file that has grown by more than this is to be written anew, without what is over.
const LONG_BYTES: u64 = 1024 * 1024;

/// More does not wait for a disk that does not answer.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the end of this waits until all is written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Since it was written anew.
    bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    /// There is some, or none any more.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    /// The whole file.
    anew: Option<Vec<u8>>,
    /// What is to be put at its end.
    more: Vec<u8>,
    is_writing: bool,
    has_failed: bool,
    ends: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (path, work) = (path.to_owned(), Arc::clone(&shared));
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || run(&path, &work))?;
        Ok(Self { shared, bytes: 0 })
    }

    pub(super) fn write(&mut self, line: &[u8]) {
        self.bytes += line.len() as u64;
        let mut work = self.shared.lock();
        if work.has_failed {
            return;
        }
        if work.more.len() + line.len() > WAITING_BYTES_MAX {
            work.more = Vec::new();
            work.has_failed = true;
            return;
        }
        work.more.extend_from_slice(line);
        drop(work);
        self.shared.changed.notify_all();
    }

    pub(super) fn write_anew(&mut self, content: Vec<u8>) {
        self.bytes = 0;
        let mut work = self.shared.lock();
        work.more.clear();
        work.anew = Some(content);
        work.has_failed = false;
        drop(work);
        self.shared.changed.notify_all();
    }

    pub(super) fn is_long(&self) -> bool {
        self.bytes > LONG_BYTES
    }

    pub(super) fn has_failed(&self) -> bool {
        self.shared.lock().has_failed
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.changed.notify_all();
        let work = self.shared.lock();
        let is_at_it =
            |work: &mut Work| work.is_writing || work.anew.is_some() || !work.more.is_empty();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(work, WRITTEN_WITHIN, is_at_it);
        drop(waited);
    }
}

fn run(path: &Path, shared: &Shared) {
    let mut file = None;
    let mut is_mended = true;
    loop {
        let (anew, more) = {
            let mut work = shared.lock();
            work.is_writing = false;
            shared.changed.notify_all();
            while work.anew.is_none() && work.more.is_empty() {
                if work.ends {
                    return;
                }
                work = shared
                    .changed
                    .wait(work)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            work.is_writing = true;
            (work.anew.take(), mem::take(&mut work.more))
        };
        let written = write(path, &mut file, anew.as_deref(), &more);
        match written {
            Ok(()) if is_mended => {}
            Ok(()) => {
                info!("requests are written down again");
                is_mended = true;
            }
            Err(error) => {
                if is_mended {
                    warn!(%error, "requests are not written down");
                }
                is_mended = false;
                file = None;
                let mut work = shared.lock();
                // Unless it was told to begin anew meanwhile.
                work.has_failed = work.anew.is_none();
                if work.has_failed {
                    work.more.clear();
                }
            }
        }
    }
}

fn write(path: &Path, file: &mut Option<File>, anew: Option<&[u8]>, more: &[u8]) -> io::Result<()> {
    if let Some(content) = anew {
        let fresh: PathBuf = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut begun = options.open(&fresh)?;
        begun.write_all(content)?;
        fs::rename(fresh, path)?;
        *file = Some(begun);
    }
    match file {
        Some(file) => file.write_all(more),
        // It is to be written anew.
        None => Ok(()),
    }
}
