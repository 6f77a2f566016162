//! The thread that writes. A disk that is slow, full or gone stops it and nobody else.
//!
//! Owns the files of one kernel's journal, but for reading. Knows nothing of what it writes.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::Seq;
use super::record::MAGIC;
use super::share;

/// What could not be written is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// A disk that has not taken something for so long is said to be stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// Pieces of one system call.
const SLICES_MAX: usize = 256;

/// What the writer is told.
#[derive(Debug)]
enum Command {
    Write(Batch),
    Delete(u64),
    /// Looks how much of what a user may have is this kernel's.
    Weigh(share::Question),
}

/// Records for one file.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) segment: u64,
    pub(super) pieces: Vec<Bytes>,
    /// The number of the last.
    pub(super) last: Seq,
}

/// What the writer tells.
#[derive(Debug)]
struct Progress {
    written: AtomicU64,
    share: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when it has been at what it does.
    busy_since: Option<Instant>,
    fault: Option<String>,
}

/// The way to the thread, which ends with it and leaves the files.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Sender<Command>,
    progress: Arc<Progress>,
}

impl Writer {
    /// Writes into this folder from now on.
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let (commands, told) = channel();
        let progress = Arc::new(Progress {
            written: AtomicU64::new(0),
            share: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
        });
        let thread = Thread {
            folder: folder.to_owned(),
            progress: Arc::clone(&progress),
            open: None,
            waiting: VecDeque::new(),
        };
        let builder = thread::Builder::new().name("journal".to_owned());
        builder.spawn(move || thread.run(&told))?;
        Ok(Self { commands, progress })
    }

    pub(super) fn write(&self, batch: Batch) {
        self.tell(Command::Write(batch));
    }

    pub(super) fn delete(&self, segment: u64) {
        self.tell(Command::Delete(segment));
    }

    pub(super) fn weigh(&self, question: share::Question) {
        self.tell(Command::Weigh(question));
    }

    fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the journal's writer is gone");
        }
    }

    /// Everything up to this entry is in a file.
    pub(super) fn written(&self) -> Seq {
        self.progress.written.load(Ordering::Acquire)
    }

    /// So much may be there, as far as the kernel's user is concerned.
    pub(super) fn share(&self) -> u64 {
        self.progress.share.load(Ordering::Acquire)
    }

    /// Why nothing is written, if so.
    pub(super) fn fault(&self) -> Option<String> {
        let state = self.progress.state();
        let is_stalled = |since: Instant| since.elapsed() > STALLED_AFTER;
        let stalled = || "the disk does not take it".to_owned();
        let is_stalled = state.busy_since.is_some_and(is_stalled);
        state.fault.clone().or_else(|| is_stalled.then(stalled))
    }
}

impl Progress {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Thread {
    folder: PathBuf,
    progress: Arc<Progress>,
    open: Option<Open>,
    waiting: VecDeque<Batch>,
}

/// The file that grows.
struct Open {
    segment: u64,
    file: File,
    /// So much of it is whole.
    bytes: u64,
}

impl Thread {
    fn run(mut self, told: &Receiver<Command>) {
        loop {
            let command = if self.waiting.is_empty() {
                told.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                told.recv_timeout(AGAIN)
            };
            match command {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Files to be deleted make room.
            told.try_iter().for_each(|command| self.obey(command));
            self.flush();
        }
    }

    fn obey(&mut self, command: Command) {
        self.progress.state().busy_since = Some(Instant::now());
        match command {
            Command::Write(batch) => self.waiting.push_back(batch),
            Command::Delete(segment) => {
                self.open.take_if(|open| open.segment == segment);
                self.waiting.retain(|batch| batch.segment != segment);
                match fs::remove_file(path(&self.folder, segment)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(%error, "a file of the journal was not removed");
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            Command::Weigh(question) => {
                let share = question.answer();
                self.progress.share.store(share, Ordering::Release);
            }
        }
        self.progress.state().busy_since = None;
    }

    fn flush(&mut self) {
        while let Some(batch) = self.waiting.front() {
            self.progress.state().busy_since = Some(Instant::now());
            let written = append(&self.folder, &mut self.open, batch);
            let mut state = self.progress.state();
            state.busy_since = None;
            state.fault = written.as_ref().err().map(ToString::to_string);
            drop(state);
            match written {
                Ok(()) => {
                    self.progress.written.store(batch.last, Ordering::Release);
                    self.waiting.pop_front();
                }
                Err(error) => return tracing::warn!(%error, "the journal is not written"),
            }
        }
    }
}

fn append(folder: &Path, slot: &mut Option<Open>, batch: &Batch) -> io::Result<()> {
    let mut open = match slot.take().filter(|open| open.segment == batch.segment) {
        Some(open) => open,
        None => Open::create(folder, batch.segment)?,
    };
    let written = open.append(&batch.pieces);
    *slot = Some(open);
    written
}

impl Open {
    fn create(folder: &Path, segment: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(path(folder, segment))?;
        file.write_all(MAGIC)?;
        Ok(Self {
            segment,
            file,
            bytes: MAGIC.len() as u64,
        })
    }

    /// All of it or, for whoever reads, nothing.
    fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        // An earlier attempt may have left a part.
        self.file.seek(SeekFrom::Start(self.bytes))?;
        let mut written = 0;
        for pieces in pieces.chunks(SLICES_MAX) {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut slices = slices.as_mut_slice();
            while !slices.is_empty() {
                match self.file.write_vectored(slices) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(bytes) => {
                        written += bytes as u64;
                        IoSlice::advance_slices(&mut slices, bytes);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.file.set_len(self.bytes)?;
                        return Err(error);
                    }
                }
            }
        }
        self.bytes += written;
        Ok(())
    }
}

/// The file of a segment.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:08}.segment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(20), "in time");
            thread::yield_now();
        }
    }

    fn batch(segment: u64, last: Seq, bytes: &'static [u8]) -> Batch {
        Batch {
            segment,
            pieces: vec![Bytes::from_static(bytes)],
            last,
        }
    }

    #[test]
    fn what_cannot_be_written_is_written_once_it_can_be() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("not yet there");
        let writer = Writer::start(&folder).unwrap();
        writer.write(batch(1, 3, b"a"));
        writer.write(batch(1, 4, b"b"));
        until(|| writer.fault().is_some());
        assert_eq!(writer.written(), 0);
        fs::create_dir(&folder).unwrap();
        until(|| writer.written() == 4);
        assert_eq!(writer.fault(), None);
        assert_eq!(fs::read(path(&folder, 1)).unwrap(), b"nbjrnl1\nab");
        writer.write(batch(2, 5, b"c"));
        writer.delete(1);
        until(|| writer.written() == 5 && !path(&folder, 1).exists());
    }
}
