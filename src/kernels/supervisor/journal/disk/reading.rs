//! Pieces of files as they are read, or as somebody still has them: each is read once for all who want it.
//!
//! A disk that does not answer keeps a few threads waiting, however many come back and go. Large pieces have a bound of
//! bytes for as long as anybody has them. Knows nothing of what is in a piece, but for whether it is what was written.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::folder;
use super::segment::{LARGE_BYTES, Piece};

/// So much is read at once.
const THREADS_MAX: usize = 4;

/// What is held of large pieces is this share of what may be in memory.
const LARGE_SHARE: usize = 4;

/// Whoever is next waits so long for room, since others that do not read on may have it: then the bound gives way.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// Segment, offset, length.
type Place = (u64, u64, u64);

/// All that is being read, or held.
#[derive(Debug)]
pub(super) struct Readings {
    known: RefCell<HashMap<Place, Weak<Reading>>>,
    threads: Arc<Semaphore>,
    /// In KiB.
    room: Arc<Semaphore>,
    room_kib: u32,
    next: Mutex<()>,
}

/// One piece; what it was read into goes with the last who has some of it.
#[derive(Debug)]
struct Reading {
    content: OnceLock<io::Result<Bytes>>,
    is_done: Notify,
    _room: Option<OwnedSemaphorePermit>,
}

/// Some of a piece.
struct Held(Arc<Reading>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        match self.0.content.get() {
            Some(Ok(content)) => content,
            Some(Err(_)) | None => &[],
        }
    }
}

/// Tells those who wait, whatever happens.
struct Under(Arc<Reading>);

impl Drop for Under {
    fn drop(&mut self) {
        let ended = || Err(io::Error::other("it was not read to its end"));
        self.0.content.get_or_init(ended);
        self.0.is_done.notify_waiters();
    }
}

impl Readings {
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        // No more than a semaphore can count.
        let room_kib = (memory_bytes_max / LARGE_SHARE / 1024).clamp(1, 1 << 28);
        let room_kib = u32::try_from(room_kib).unwrap_or(1 << 28);
        Self {
            known: RefCell::default(),
            threads: Arc::new(Semaphore::new(THREADS_MAX)),
            room: Arc::new(Semaphore::new(room_kib as usize)),
            room_kib,
            next: Mutex::new(()),
        }
    }

    /// This piece of the segment, which is at `path`. Waits for the disk for as long as it takes.
    pub(super) async fn read(
        &self,
        path: PathBuf,
        segment: u64,
        piece: Piece,
    ) -> io::Result<Bytes> {
        let place = (segment, piece.offset, piece.bytes);
        if let Some(reading) = self.known(place) {
            return content(reading).await;
        }
        let room = match piece.bytes > LARGE_BYTES {
            true => self.room(piece.bytes).await,
            false => None,
        };
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        // Somebody else may have begun meanwhile.
        if let Some(reading) = self.known(place) {
            return content(reading).await;
        }
        let reading = Arc::new(Reading {
            content: OnceLock::new(),
            is_done: Notify::new(),
            _room: room,
        });
        self.begun(place, &reading);
        let under = Under(Arc::clone(&reading));
        spawn_blocking(move || {
            let content = folder::piece(&path, piece);
            let _ours = under.0.content.set(content);
            drop((under, thread));
        });
        content(reading).await
    }

    fn begun(&self, place: Place, reading: &Arc<Reading>) {
        let mut known = self.known.borrow_mut();
        known.retain(|_, reading| reading.strong_count() > 0);
        known.insert(place, Arc::downgrade(reading));
    }

    fn known(&self, place: Place) -> Option<Arc<Reading>> {
        self.known.borrow().get(&place)?.upgrade()
    }

    /// Room for so much.
    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let _next = self.next.lock().await;
        let room = Arc::clone(&self.room).acquire_many_owned(kib.min(self.room_kib));
        match timeout(ROOM_WITHIN, room).await {
            Ok(room) => room.ok(),
            Err(_) => {
                tracing::warn!(bytes, "clients that do not read on hold what was read");
                None
            }
        }
    }
}

async fn content(reading: Arc<Reading>) -> io::Result<Bytes> {
    {
        let is_done = reading.is_done.notified();
        if reading.content.get().is_none() {
            is_done.await;
        }
    }
    if let Some(Err(error)) = reading.content.get() {
        return Err(io::Error::new(error.kind(), error.to_string()));
    }
    Ok(Bytes::from_owner(Held(reading)))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Entry, Mark, Route};
    use super::super::record::{MAGIC, Unwritten};
    use super::*;
    use crate::protocol::message::{Channel, Message};
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use tempfile::TempDir;

    const LARGE: usize = 2_000_000;

    fn segment(root: &TempDir, number: u64) -> (PathBuf, Piece) {
        let message = Message {
            content: vec![b'x'; LARGE].into(),
            ..Message::empty()
        };
        let entry = Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain);
        let mut pieces = vec![Bytes::from_static(MAGIC)];
        let seen = Unwritten::of(number, &entry).encode(&mut pieces).unwrap();
        let path = root.path().join(number.to_string());
        fs::write(&path, pieces.concat()).unwrap();
        let piece = Piece {
            offset: MAGIC.len() as u64,
            bytes: seen.bytes.into(),
            entries: 1,
            last: number,
        };
        (path, piece)
    }

    #[tokio::test]
    async fn whoever_wants_the_same_shares_it_until_the_last_has_let_go_of_it() {
        let root = tempfile::tempdir().unwrap();
        let readings = Readings::new(4 * 3_000_000);
        let (path, piece) = segment(&root, 1);
        let read = || readings.read(path.clone(), 1, piece);
        let contents: Vec<Bytes> = join_all((0..20).map(|_| read()))
            .await
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        let later = read().await.unwrap();
        assert!(
            contents
                .iter()
                .all(|content| content.as_ptr() == later.as_ptr())
        );
        drop(contents);
        let part = later.slice(100..200);
        drop(later);
        assert!(readings.known((1, piece.offset, piece.bytes)).is_some());
        drop(part);
        // The thread lets go of it, and of its room, a moment after it has told.
        let is_held = || {
            readings.known((1, piece.offset, piece.bytes)).is_some()
                || readings.room.available_permits() < readings.room_kib as usize
        };
        let begun = std::time::Instant::now();
        while is_held() {
            assert!(begun.elapsed() < Duration::from_secs(20), "in time");
            tokio::task::yield_now().await;
        }
    }

    /// Nor does anybody wait for ever for one that does not read on.
    #[tokio::test(start_paused = true)]
    async fn what_is_large_has_a_bound_that_gives_way_to_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let readings = Readings::new(4 * 3_000_000);
        let segments: Vec<_> = (1..=4).map(|number| segment(&root, number)).collect();
        let read = |number: usize| {
            let (path, piece) = segments[number].clone();
            readings.read(path, number as u64, piece)
        };
        let first = read(0).await.unwrap();
        let (mut second, mut third) = (Box::pin(read(1)), Box::pin(read(2)));
        assert!(timeout(ROOM_WITHIN / 2, &mut second).await.is_err());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        let second = second.await.unwrap();
        assert!(timeout(ROOM_WITHIN / 2, &mut third).await.is_err());
        let third = third.await.unwrap();
        let fourth = timeout(ROOM_WITHIN / 2, read(3)).await;
        assert!(fourth.is_err());
        drop((second, third));
        read(3).await.unwrap();
    }

    /// A pipe that nobody writes to is such a disk.
    #[tokio::test]
    async fn a_disk_that_does_not_answer_keeps_few_threads_however_often_somebody_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let readings = Readings::new(1 << 27);
        let (path, piece) = segment(&root, 1);
        let pipe = root.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for number in 1..50 {
            for _ in 0..3 {
                let read = readings.read(pipe.clone(), number, piece);
                assert!(read.now_or_never().is_none());
            }
        }
        assert_eq!(readings.threads.available_permits(), 0);
        assert!(
            readings
                .read(path.clone(), 99, piece)
                .now_or_never()
                .is_none()
        );
        // It answers.
        let opens = move || fs::OpenOptions::new().write(true).open(&pipe);
        let _open = spawn_blocking(opens).await.unwrap().unwrap();
        readings.read(path, 99, piece).await.unwrap();
    }
}
