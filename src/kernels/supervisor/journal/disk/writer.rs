//! The thread that writes. A disk that is slow, full or gone stops it and nobody else.
//!
//! Owns the files of one kernel's journal, but for reading back: it finds what is there, and writes and deletes from
//! then on. Knows nothing of who needs what.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::super::Seq;
use super::folder::{self, About, Found, path};
use super::growing::Growing;
use super::record::{Seen, Unwritten};
use super::share;

/// What could not be written is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// With files that cannot be read after so many attempts it goes on without them.
const ATTEMPTS_MAX: u32 = 10;

/// A disk that has not taken something for so long is said to be stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What the writer is told.
#[derive(Debug)]
enum Command {
    Write(Vec<Unwritten>),
    Delete(u64),
    /// Looks how much of what a user may have is this kernel's.
    Weigh(share::Question),
}

/// What is in a file from now on. What was sent before the last of it and is not among the records is in none.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) segment: u64,
    pub(super) records: Vec<Seen>,
    pub(super) last: Seq,
}

/// What the writer tells.
#[derive(Debug)]
struct Progress {
    share: AtomicU64,
    /// It is asked for the share.
    weighs: AtomicBool,
    /// What was there has been found.
    is_ready: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was there, until it is fetched.
    found: Option<Found>,
    reports: Vec<Report>,
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
    /// Finds what is in this folder, and writes into it from then on: files of about `segment_bytes_max`.
    pub(super) fn start(folder: &Path, about: About, segment_bytes_max: u64) -> io::Result<Self> {
        let (commands, told) = channel();
        let progress = Arc::new(Progress {
            share: AtomicU64::new(u64::MAX),
            weighs: AtomicBool::new(false),
            is_ready: watch::Sender::new(false),
            state: Mutex::default(),
        });
        let thread = Thread {
            folder: folder.to_owned(),
            about: Some(about),
            attempts: 0,
            progress: Arc::clone(&progress),
            number: 0,
            segment_bytes_max,
            open: None,
            encoded: None,
            waiting: VecDeque::new(),
        };
        let builder = thread::Builder::new().name("journal".to_owned());
        builder.spawn(move || thread.run(&told))?;
        Ok(Self { commands, progress })
    }

    /// In the order of their numbers.
    pub(super) fn write(&self, entries: Vec<Unwritten>) {
        self.tell(Command::Write(entries));
    }

    pub(super) fn delete(&self, segment: u64) {
        self.tell(Command::Delete(segment));
    }

    /// One question at a time: a disk that does not answer is not asked more.
    pub(super) fn weigh(&self, question: share::Question) {
        if !self.progress.weighs.swap(true, Ordering::AcqRel) {
            self.tell(Command::Weigh(question));
        }
    }

    fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the journal's writer is gone");
        }
    }

    /// What was there, once.
    pub(super) fn found(&self) -> Option<Found> {
        self.progress.state().found.take()
    }

    /// Ends when it is known what was there.
    pub(super) fn is_ready(&self) -> impl Future<Output = ()> + use<> {
        let mut is_ready = self.progress.is_ready.subscribe();
        async move {
            if is_ready.wait_for(|is_ready| *is_ready).await.is_err() {
                tracing::error!("the journal's writer is gone");
            }
        }
    }

    /// What has been written since this was last asked.
    pub(super) fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.progress.state().reports)
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
    /// Whose the folder is, until that is there.
    about: Option<About>,
    /// So often it was tried in vain to find what is there.
    attempts: u32,
    progress: Arc<Progress>,
    /// The last file that was begun.
    number: u64,
    segment_bytes_max: u64,
    open: Option<Growing>,
    /// What is to be written first.
    encoded: Option<Encoded>,
    waiting: VecDeque<Vec<Unwritten>>,
}

struct Encoded {
    pieces: Vec<Bytes>,
    records: Vec<Seen>,
    /// The last that was to be encoded; not all can be.
    last: Seq,
}

impl Encoded {
    fn of(entries: Vec<Unwritten>) -> Self {
        let last = entries.last().map_or(0, |entry| entry.seq);
        let mut pieces = Vec::new();
        let records = entries
            .into_iter()
            .filter_map(|entry| entry.encode(&mut pieces))
            .collect();
        Self {
            pieces,
            records,
            last,
        }
    }
}

impl Thread {
    fn run(mut self, told: &Receiver<Command>) {
        self.prepare();
        loop {
            let command = match (&self.about, &self.encoded) {
                (None, None) => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => told.recv_timeout(AGAIN),
            };
            match command {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Files to be deleted make room.
            told.try_iter().for_each(|command| self.obey(command));
            if self.prepare() {
                self.flush();
            }
        }
    }

    /// Finds what is there, if that has not been done; whether it is done.
    fn prepare(&mut self) -> bool {
        let Some(about) = &self.about else {
            return true;
        };
        let is_enough = self.attempts >= ATTEMPTS_MAX;
        self.progress.state().busy_since = Some(Instant::now());
        let found = folder::prepare(&self.folder, about, is_enough);
        let mut state = self.progress.state();
        state.busy_since = None;
        state.fault = found.as_ref().err().map(ToString::to_string);
        match found {
            Ok(found) => {
                self.number = found.number;
                state.found = Some(found);
                drop(state);
                self.about = None;
                self.progress.is_ready.send_replace(true);
                true
            }
            Err(error) => {
                drop(state);
                self.attempts += 1;
                tracing::warn!(%error, "the journal is not there");
                false
            }
        }
    }

    fn obey(&mut self, command: Command) {
        self.progress.state().busy_since = Some(Instant::now());
        match command {
            Command::Write(entries) => self.waiting.push_back(entries),
            Command::Delete(segment) => {
                self.open.take_if(|open| open.segment == segment);
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
                self.progress.weighs.store(false, Ordering::Release);
            }
        }
        self.progress.state().busy_since = None;
    }

    fn flush(&mut self) {
        loop {
            let next = || Some(Encoded::of(self.waiting.pop_front()?));
            let Some(encoded) = self.encoded.take().or_else(next) else {
                return;
            };
            self.progress.state().busy_since = Some(Instant::now());
            let written = self.append(&encoded.pieces);
            let mut state = self.progress.state();
            state.busy_since = None;
            state.fault = written.as_ref().err().map(ToString::to_string);
            match written {
                Ok(segment) => state.reports.push(Report {
                    segment,
                    records: encoded.records,
                    last: encoded.last,
                }),
                Err(error) => {
                    drop(state);
                    self.encoded = Some(encoded);
                    return tracing::warn!(%error, "the journal is not written");
                }
            }
        }
    }

    /// The segment that has it now.
    fn append(&mut self, pieces: &[Bytes]) -> io::Result<u64> {
        if pieces.is_empty() {
            return Ok(self.number);
        }
        let bytes_max = self.segment_bytes_max;
        self.open.take_if(|open| open.bytes >= bytes_max);
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let fresh = Growing::create(&self.folder, self.number + 1)?;
                self.number += 1;
                none.insert(fresh)
            }
        };
        open.append(pieces)?;
        Ok(open.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Entry, Mark, Route};
    use super::super::record::MAGIC;
    use super::*;
    use crate::protocol::message::{Channel, Message};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    fn until(mut what: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(20), "in time");
            thread::yield_now();
        }
    }

    fn entries(seqs: std::ops::Range<u64>) -> Vec<Unwritten> {
        let entry = |seq| {
            let message = Message {
                content: vec![b'x'; 1000].into(),
                ..Message::empty()
            };
            let entry = Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain);
            Unwritten::of(seq, &entry)
        };
        seqs.map(entry).collect()
    }

    #[test]
    fn while_the_disk_does_not_answer_it_is_asked_for_the_share_once() {
        let root = tempfile::tempdir().unwrap();
        let (folder, other) = (root.path().join("k"), root.path().join("other"));
        let about = About {
            owner: "ada".to_owned(),
            kernel: PathBuf::from("/nowhere"),
        };
        fs::create_dir(&other).unwrap();
        fs::write(path(&other, 1), [0; 1000]).unwrap();
        let writer = Writer::start(&folder, about.clone(), 3000).unwrap();
        until(|| writer.found().is_some());
        let pipe = other.join("about.json");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for bytes_max in [500, u64::MAX, u64::MAX] {
            writer.weigh(share::Question {
                journals: root.path().to_owned(),
                owner: about.owner.clone(),
                bytes_max,
            });
        }
        assert_eq!(writer.share(), u64::MAX);
        fs::write(pipe, serde_json::to_vec(&about).unwrap()).unwrap();
        until(|| writer.share() <= 500);
        until(|| !writer.progress.weighs.load(Ordering::Acquire));
        assert!(writer.share() <= 500);
    }

    #[test]
    fn what_cannot_be_written_is_written_once_it_can_be_and_files_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        let parent = root.path().join("not yet there");
        let folder = parent.join("k");
        let about = About {
            owner: "ada".to_owned(),
            kernel: PathBuf::from("/nowhere"),
        };
        let writer = Writer::start(&folder, about, 3000).unwrap();
        for first in [1, 4, 7] {
            writer.write(entries(first..first + 3));
        }
        until(|| writer.fault().is_some());
        assert!(writer.reports().is_empty());
        assert!(writer.found().is_none());
        fs::create_dir(&parent).unwrap();
        let mut reports = Vec::new();
        until(|| {
            reports.extend(writer.reports());
            reports.len() == 3
        });
        assert_eq!(writer.fault(), None);
        let segments: Vec<_> = reports.iter().map(|report| report.segment).collect();
        assert_eq!(segments, [1, 2, 3]);
        assert!(writer.found().is_some());
        let seqs = reports.iter().flat_map(|report| &report.records);
        assert!(seqs.map(|record| record.seq).eq(1..10));
        for report in &reports {
            let length = fs::metadata(path(&folder, report.segment)).unwrap().len();
            let records = report.records.iter().map(|record| u64::from(record.bytes));
            assert_eq!(length, MAGIC.len() as u64 + records.sum::<u64>());
        }
        writer.delete(3);
        writer.write(entries(10..11));
        until(|| {
            reports.extend(writer.reports());
            reports.len() == 4
        });
        assert_eq!(reports[3].segment, 4);
        assert!(!path(&folder, 3).exists());
    }
}
