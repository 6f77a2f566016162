//! The journal whose newest entries are in memory and whose older ones, as far as somebody needs them, in files.
//!
//! ```text
//! append --> tail --save--> in flight --written--> segments --reading--> bring --> read
//!            (memory)       (memory, and the        (files; an index
//!                            writer's)               is in memory)
//! ```
//!
//! Whatever a client that is away needs goes to the writer, a batch each time that [`Journal::keep`] is called; with
//! clients that are there, only what does not fit into the tail does. The writer is a thread of its own, which first
//! finds what earlier supervisors have left: when the disk stalls, memory fills up to its bound, then the oldest in the
//! tail go. Files go by whole segments: the oldest, beyond a bound, and whichever cannot be read.

mod bounds;
mod bring;
mod folder;
mod found;
mod growing;
mod reading;
mod record;
mod segment;
mod share;
mod writer;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::tail::Tail;
use super::{Batch, Cause, Dropped, Entry, Journal, Keeping, Label, Needs, Read, Seq};
use bring::Brought;
pub use folder::About;
use found::Found;
use reading::Readings;
use record::Unwritten;
use segment::Segment;
use writer::Writer;

use crate::kernels::supervisor::clock::now;

/// So much, and at most this share of what may be there, stays in memory of what need not be written.
const TAIL_BYTES: usize = 4 * 1024 * 1024;
const TAIL_SHARE: usize = 4;

/// An entry over this share of it is large: the newest such one stays beside it, as clients that are there want it.
const LARGE_SHARE: usize = 4;

/// No more than this, and this share of what may be in memory, is on its way to the disk.
const IN_FLIGHT_BYTES: usize = 4 * 1024 * 1024;
const IN_FLIGHT_SHARE: usize = 2;

/// About how much is sent to the writer at once: a kernel that is not listened to meanwhile drops what it says.
const BATCH_BYTES: usize = 64 * 1024;

/// A larger entry is not written, nor what follows it until it has gone from memory.
const ENTRY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Of the bound, a segment is this share, within these limits.
const SEGMENT_SHARE: u64 = 16;
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How often it is looked whether what is on its way has arrived.
const SAVE_EVERY: Duration = Duration::from_millis(250);

/// How often it is looked how much others of the user have.
const WEIGH_EVERY: Duration = Duration::from_secs(2);

/// What a journal may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In files.
    pub bytes_max: u64,
    /// In memory.
    pub memory_bytes_max: usize,
    /// In files, all kernels of the owner together.
    pub user_bytes_max: u64,
    /// What nobody needs any more goes after this time.
    pub retention: Duration,
}

/// The entry that a record of a segment holds; for whoever has one from elsewhere.
pub fn decode(mut record: Bytes) -> Option<(Seq, Entry)> {
    let record = record::decode(&mut record).ok()?;
    Some((record.seen.seq, record.into_entry()))
}

/// Entries in memory and in files; the oldest go first.
#[derive(Debug)]
pub struct DiskJournal {
    folder: PathBuf,
    about: About,
    bounds: Bounds,
    tail: Tail,
    in_flight: VecDeque<(Seq, Rc<Entry>)>,
    in_flight_bytes: usize,
    /// What no file can hold, until it is told to be gone.
    unwritten: VecDeque<(Seq, Label)>,
    /// What is in files, oldest first.
    segments: VecDeque<Segment>,
    found: Found,
    /// No entry has a number up to this one, but those of earlier supervisors.
    begin: Seq,
    /// This segment goes, entry by entry, and why.
    dropping: Option<(u64, Cause)>,
    writer: Writer,
    brought: Rc<RefCell<Brought>>,
    readings: Rc<Readings>,
    needs: Needs,
    weighed: Option<Instant>,
}

impl DiskJournal {
    /// Goes on with what is in the folder, as soon as the disk gives it. No entry gets a number up to `last`.
    pub fn new(folder: PathBuf, about: About, bounds: Bounds, last: Seq) -> io::Result<Self> {
        let writer = Writer::start(&folder, about.clone(), segment_bytes_max(bounds))?;
        Ok(Self {
            folder,
            about,
            bounds,
            found: Found::not_yet(),
            begin: last,
            tail: Tail::new(last, tail_bytes_max(bounds) / LARGE_SHARE),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            unwritten: VecDeque::new(),
            segments: VecDeque::new(),
            dropping: None,
            writer,
            brought: Rc::default(),
            readings: Rc::new(Readings::new(bounds.memory_bytes_max)),
            needs: Needs::nothing_up_to(0),
            weighed: None,
        })
    }

    /// Ends when it is known what earlier supervisors have left.
    pub fn is_ready(&self) -> impl Future<Output = ()> + use<> {
        self.writer.is_ready()
    }

    /// Whether something is on its way to the disk.
    #[cfg(test)]
    pub(crate) fn is_writing(&mut self) -> bool {
        self.collect();
        !self.in_flight.is_empty()
    }

    /// What was there has been found, and what was in flight and has arrived.
    fn collect(&mut self) {
        if let Some(found) = self.writer.found() {
            self.take_in(found);
        }
        for report in self.writer.reports() {
            let mut written = report.records.iter().map(|record| record.seq).peekable();
            while let Some((seq, entry)) =
                self.in_flight.pop_front_if(|(seq, _)| *seq <= report.last)
            {
                self.in_flight_bytes -= entry.bytes();
                if written.next_if_eq(&seq).is_none() {
                    let damage = "it is too large, or the id of its request is".to_owned();
                    self.brought.borrow_mut().damaged(damage);
                    self.unwritten.push_back((seq, entry.label()));
                }
            }
            if report.records.is_empty() {
                continue;
            }
            let newest = self.segments.back_mut();
            let segment = match newest.filter(|newest| newest.number == report.segment) {
                Some(_) => self.segments.back_mut(),
                None => {
                    self.segments.iter_mut().for_each(Segment::seal);
                    self.segments.push_back(Segment::new(report.segment));
                    self.segments.back_mut()
                }
            };
            if let Some(segment) = segment {
                report
                    .records
                    .into_iter()
                    .for_each(|record| segment.push(record));
            }
        }
    }

    /// Sends the oldest of the tail to the writer: a batch, unless the tail has `tail_bytes` or too much is on its way
    /// before. Whether there is more that could be sent at once.
    fn save(&mut self, tail_bytes: usize, spares_large: bool) -> bool {
        self.collect();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let has_more = |journal: &Self| {
            journal.tail_bytes(spares_large) > tail_bytes
                && journal.in_flight_bytes < journal.in_flight_bytes_max()
                && journal.tail.first_bytes() <= ENTRY_BYTES_MAX
        };
        while bytes < BATCH_BYTES && has_more(self) {
            let Some((seq, entry)) = self.tail.pop() else {
                break;
            };
            if seq > self.needs.useless_up_to() {
                batch.push(Unwritten::of(seq, &entry));
                bytes += entry.bytes();
                self.in_flight_bytes += entry.bytes();
                self.in_flight.push_back((seq, entry));
            }
        }
        if !batch.is_empty() {
            self.writer.write(batch);
        }
        has_more(self)
    }

    fn tail_bytes(&self, spares_large: bool) -> usize {
        match spares_large {
            true => self.tail.bytes_beside_large(),
            false => self.tail.bytes(),
        }
    }

    /// With this on its way, no more is sent; the last that was may exceed it.
    fn in_flight_bytes_max(&self) -> usize {
        IN_FLIGHT_BYTES.min(self.bounds.memory_bytes_max / IN_FLIGHT_SHARE)
    }

    fn weigh(&mut self) {
        let is_due = |weighed: Instant| now().duration_since(weighed) >= WEIGH_EVERY;
        if self.segments.is_empty() || !self.weighed.is_none_or(is_due) {
            return;
        }
        self.weighed = Some(now());
        if let Some(journals) = self.folder.parent() {
            self.writer.weigh(share::Question {
                journals: journals.to_owned(),
                owner: self.about.owner.clone(),
                bytes_max: self.bounds.user_bytes_max,
            });
        }
    }
}

impl Journal for DiskJournal {
    fn append(&mut self, entry: Entry) -> Seq {
        let seq = self.tail.push(entry);
        let bytes_max = tail_bytes_max(self.bounds);
        if self.tail.bytes_beside_large() > bytes_max {
            let _more = self.save(bytes_max.saturating_sub(BATCH_BYTES), true);
        }
        seq
    }

    fn read(&mut self, after: Seq, bytes_max: usize) -> Read {
        if let Some(batch) = self.brought.borrow_mut().take(after) {
            return Read::Ready(batch);
        }
        self.collect();
        if let Some(waiting) = self.wait_for_found(after) {
            return waiting;
        }
        for segment in &self.segments {
            if segment.last().is_none_or(|last| last <= after)
                || self.brought.borrow().is_broken(segment.number)
            {
                continue;
            }
            if let Some(piece) = segment.piece(after, bytes_max as u64) {
                let path = folder::path(&self.folder, segment.number);
                let brought = Rc::clone(&self.brought);
                let (readings, number) = (Rc::clone(&self.readings), segment.number);
                let bring = bring::bring(brought, readings, path, number, piece, after);
                return Read::Loading(Box::pin(bring));
            }
        }
        let mut bytes = 0;
        let mut batch = Batch::new();
        let skip = self.in_flight.partition_point(|(seq, _)| *seq <= after);
        for (seq, entry) in self.in_flight.iter().skip(skip) {
            if bytes >= bytes_max {
                return Read::Ready(batch);
            }
            bytes += entry.bytes();
            batch.push((*seq, Rc::clone(entry)));
        }
        self.tail.read(after, bytes_max, bytes, &mut batch);
        Read::Ready(batch)
    }

    fn last(&self) -> Seq {
        self.tail.last()
    }

    fn recovered(&mut self) -> Option<Seq> {
        self.collect();
        let of_before = self.segments.iter().filter_map(Segment::last);
        of_before.filter(|last| *last <= self.begin).max()
    }

    fn count(&self, after: Seq) -> u64 {
        let in_files = self.segments.iter().map(|segment| segment.count(after));
        let in_flight = self.in_flight.partition_point(|(seq, _)| *seq <= after);
        let in_flight = self.in_flight.len() - in_flight;
        (in_files.sum::<usize>() + in_flight) as u64 + self.tail.count(after)
    }

    fn release(&mut self, needs: Needs) {
        self.needs = needs;
        while !self.tail.is_empty()
            && self.tail.bytes() > tail_bytes_max(self.bounds)
            && self.tail.first() <= needs.useless_up_to()
        {
            self.tail.pop();
        }
    }

    fn drop_oldest(&mut self) -> Option<Dropped> {
        self.drop_unwritten()
            .or_else(|| self.drop_from_segment())
            .or_else(|| self.drop_from_memory())
    }

    fn damage(&self) -> Option<String> {
        let damage = self.brought.borrow().damage();
        damage.or_else(|| self.writer.fault())
    }

    fn unread(&self) -> Option<Seq> {
        (self.found != Found::Whole).then_some(self.begin)
    }

    fn bytes(&self) -> usize {
        let files = usize::try_from(self.file_bytes()).unwrap_or(usize::MAX);
        self.tail.bytes().saturating_add(files)
    }

    fn keep(&mut self) -> Keeping {
        let (is_away, after) = (self.needs.away_after.is_some(), self.needs.after);
        let tail_bytes = if is_away {
            0
        } else {
            tail_bytes_max(self.bounds)
        };
        // Clients that are there get it from memory; nobody else waits for it.
        let spares_large = !is_away && self.tail.large().is_some_and(|large| large > after);
        let can_go_on = self.save(tail_bytes, spares_large);
        self.retire();
        self.weigh();
        let has_brought = self.brought.borrow_mut().waits();
        let again = if can_go_on {
            Some(Duration::ZERO)
        } else if has_brought || !self.in_flight.is_empty() || self.is_unprepared() {
            Some(SAVE_EVERY)
        } else {
            (!self.segments.is_empty()).then_some(WEIGH_EVERY)
        };
        Keeping {
            again,
            fault: self.writer.fault(),
        }
    }
}

/// With this, memory takes no more of what need not be written.
fn tail_bytes_max(bounds: Bounds) -> usize {
    TAIL_BYTES.min(bounds.memory_bytes_max / TAIL_SHARE)
}

/// With this, a file takes no more; the last that it took may exceed it.
fn segment_bytes_max(bounds: Bounds) -> u64 {
    let bytes = bounds.bytes_max / SEGMENT_SHARE;
    bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

#[cfg(test)]
mod tests;
