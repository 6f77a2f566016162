//! What goes of a journal on the disk, and when: beyond a bound, or because nobody needs it any more.

use std::time::Instant;

use super::super::{Cause, Dropped};
use super::segment::Segment;
use super::{DiskJournal, segment_bytes_max};
use crate::kernels::supervisor::clock::now;

impl DiskJournal {
    /// What all files have.
    pub(super) fn file_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// What the newest segment has that holds one large entry beside others: an output that is larger than the bound
    /// would else reach nobody.
    fn large_bytes(&self) -> u64 {
        let is_large = |segment: &&Segment| segment.bytes > 2 * segment_bytes_max(self.bounds);
        let large = self.segments.iter().rev().find(is_large);
        large.map_or(0, |segment| segment.bytes)
    }

    /// The segment that has to go, if one has, and why.
    fn to_drop(&self) -> Option<(u64, Cause)> {
        let brought = self.brought.borrow();
        let mut numbers = self.segments.iter().map(|segment| segment.number);
        if let Some(broken) = numbers.find(|number| brought.is_broken(*number)) {
            return Some((broken, Cause::Damage));
        }
        let oldest = self.segments.front()?;
        let bytes_max = self.bounds.bytes_max.min(self.writer.share());
        let is_whole = self.segments.len() > 1;
        let bytes = self.file_bytes() - self.large_bytes();
        (is_whole && bytes > bytes_max).then_some((oldest.number, Cause::Full))
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.segments.iter().position(|s| s.number == number)
    }

    pub(super) fn delete(&mut self, position: usize) {
        if let Some(segment) = self.segments.remove(position) {
            self.brought.borrow_mut().forget(segment.number);
            self.writer.delete(segment.number);
        }
    }

    /// The next entry that goes with a segment.
    pub(super) fn drop_from_segment(&mut self) -> Option<Dropped> {
        loop {
            self.dropping = self.dropping.or_else(|| self.to_drop());
            let (number, cause) = self.dropping?;
            let Some(position) = self.position(number) else {
                self.dropping = None;
                continue;
            };
            match self.segments[position].pop() {
                Some((seq, label)) if seq > self.needs.useless_up_to() => {
                    return Some(Dropped {
                        seq,
                        label,
                        is_oldest: position == 0,
                        cause,
                    });
                }
                Some(_) => {}
                None => {
                    self.delete(position);
                    self.dropping = None;
                }
            }
        }
    }

    /// The next entry that is gone because no file can hold it.
    pub(super) fn drop_unwritten(&mut self) -> Option<Dropped> {
        loop {
            let (seq, label) = self.unwritten.pop_front()?;
            if seq > self.needs.useless_up_to() {
                return Some(Dropped {
                    seq,
                    label,
                    is_oldest: false,
                    cause: Cause::Damage,
                });
            }
        }
    }

    /// The next entry that goes because memory is full.
    pub(super) fn drop_from_memory(&mut self) -> Option<Dropped> {
        let bytes_max = self.bounds.memory_bytes_max;
        while self.in_flight_bytes.min(self.in_flight_bytes_max()) + self.tail.bytes_beside_large()
            > bytes_max
        {
            let (seq, entry) = self.tail.pop()?;
            if seq > self.needs.useless_up_to() {
                return Some(Dropped {
                    seq,
                    label: entry.label(),
                    is_oldest: self.segments.is_empty()
                        && self.in_flight.is_empty()
                        && !self.is_unprepared(),
                    cause: Cause::Full,
                });
            }
        }
        None
    }

    /// Files that nobody needs go after a while.
    pub(super) fn retire(&mut self) {
        let useless_up_to = self.needs.useless_up_to();
        for segment in &mut self.segments {
            if segment.last().is_some_and(|last| last > useless_up_to) {
                break;
            }
            segment.useless_since.get_or_insert_with(now);
        }
        let retention = self.bounds.retention;
        let is_due = |since: Instant| now().duration_since(since) >= retention;
        // What is on its way may go to the newest.
        while self.in_flight.is_empty()
            && let Some(oldest) = self.segments.front()
            && oldest.useless_since.is_some_and(is_due)
        {
            self.delete(0);
        }
    }
}
