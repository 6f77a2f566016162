//! Of which cells the journal holds all that they said, also once every client has it. Pure.
//!
//! A notebook is saved long after its page has shown an output, and a page may be closed before. So whoever opens
//! it later asks for cells whole (`http/journal`), and the newest of them stay, up to a bound. Knows numbers and
//! sizes of entries; the journal has them.

use std::collections::VecDeque;

use super::journal::{RequestKey, Seq};

/// What is held for this is at most so much of what a journal may hold,
const SHARE: usize = 8;

/// and never more than this.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// So many cells are known.
const CELLS_MAX: usize = 1024;

/// What is known of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub request: RequestKey,
    /// What it said follows this entry; nothing before it has begun.
    pub after: Option<Seq>,
    /// An earlier supervisor had it, and what it heard.
    pub is_taken_over: bool,
    /// The kernel has said that it has done with it.
    pub idle: bool,
}

/// Consecutive entries that go together.
#[derive(Debug)]
struct Segment {
    after: Seq,
    bytes: usize,
}

/// The newest cells, oldest first, and the entries that are held for them.
#[derive(Debug)]
pub struct Kept {
    cells: VecDeque<Known>,
    segments: VecDeque<Segment>,
    bytes: usize,
    bytes_max: usize,
    /// The entries up to this one are gone.
    gone: Seq,
}

impl Kept {
    /// Nothing yet, of a journal that holds up to `journal_bytes_max`.
    pub fn new(journal_bytes_max: usize) -> Self {
        Self {
            cells: VecDeque::new(),
            segments: VecDeque::new(),
            bytes: 0,
            bytes_max: (journal_bytes_max / SHARE).min(BYTES_MAX),
            gone: 0,
        }
    }

    /// A cell waits for the kernel.
    pub fn asked(&mut self, request: &RequestKey) {
        self.add(request, false);
    }

    /// A cell runs that an earlier supervisor had.
    pub fn taken_over(&mut self, request: &RequestKey, last: Seq) {
        self.add(request, true);
        self.begun(request, last);
    }

    fn add(&mut self, request: &RequestKey, is_taken_over: bool) {
        self.cells.push_back(Known {
            request: RequestKey::clone(request),
            after: None,
            is_taken_over,
            idle: false,
        });
        if self.cells.len() > CELLS_MAX {
            self.cells.pop_front();
        }
    }

    /// The first entry of this request follows the entry `last`.
    pub fn begun(&mut self, request: &str, last: Seq) {
        let waits = |cell: &&mut Known| *cell.request == *request && cell.after.is_none();
        if let Some(cell) = self.cells.iter_mut().rfind(waits) {
            cell.after = Some(last);
            self.cut(last);
        }
    }

    /// The kernel has done with this request.
    pub fn done(&mut self, request: &str) {
        let cells = self.cells.iter_mut();
        for cell in cells.filter(|cell| *cell.request == *request) {
            cell.idle = true;
        }
    }

    /// The entry `seq` is there.
    pub fn appended(&mut self, seq: Seq, bytes: usize) {
        let Some(newest) = self.segments.back_mut() else {
            return;
        };
        newest.bytes += bytes;
        self.bytes += bytes;
        // Of one that says more than there is room for, the end stays.
        if newest.bytes > self.bytes_max / 2 {
            self.cut(seq);
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.segments.pop_front()
        {
            self.bytes -= oldest.bytes;
        }
    }

    fn cut(&mut self, after: Seq) {
        self.segments.push_back(Segment { after, bytes: 0 });
        // Cells that say nothing.
        while self.segments.len() > CELLS_MAX
            && let Some(oldest) = self.segments.pop_front()
        {
            self.bytes -= oldest.bytes;
        }
    }

    /// The entries after this one are to stay; nothing is to when absent.
    pub fn needs_after(&self) -> Option<Seq> {
        Some(self.segments.front()?.after)
    }

    /// The journal has nothing any more up to this entry.
    pub fn gone(&mut self, up_to: Seq) {
        self.gone = self.gone.max(up_to);
    }

    /// The newest cell with this msg_id.
    pub fn find(&self, msg_id: &str) -> Option<&Known> {
        let is_it = |cell: &&Known| is_request(&cell.request, msg_id);
        self.cells.iter().rfind(is_it)
    }

    /// Whether all is there that the cell has said.
    pub fn is_whole(&self, cell: &Known) -> bool {
        !cell.is_taken_over && cell.after.is_none_or(|after| after >= self.gone)
    }
}

impl Default for Kept {
    /// Of a journal that holds much.
    fn default() -> Self {
        Self::new(SHARE * BYTES_MAX)
    }
}

/// Whether the request of this key has this msg_id.
pub fn is_request(key: &str, msg_id: &str) -> bool {
    key.split_once('\n').is_some_and(|(_, id)| id == msg_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUND: usize = 1000;

    fn kept() -> Kept {
        Kept::new(BOUND * SHARE)
    }

    #[test]
    fn a_cell_is_known_from_its_request_to_long_after_its_end() {
        let mut kept = kept();
        kept.asked(&"s\na".into());
        assert_eq!(kept.find("a").unwrap().after, None);
        assert!(kept.find("s").is_none() && kept.needs_after().is_none());
        kept.begun("s\na", 7);
        // A magic begins, then the kernel does.
        kept.begun("s\na", 9);
        kept.appended(8, 100);
        kept.done("s\na");
        let known = kept.find("a").unwrap();
        assert_eq!((known.after, known.idle), (Some(7), true));
        assert_eq!(kept.needs_after(), Some(7));
        kept.gone(7);
        assert!(kept.is_whole(kept.find("a").unwrap()));
        kept.gone(8);
        assert!(!kept.is_whole(kept.find("a").unwrap()));
        kept.taken_over(&"s\nb".into(), 9);
        assert!(!kept.is_whole(kept.find("b").unwrap()));
    }

    #[test]
    fn the_oldest_cells_go_and_of_a_long_one_the_end_stays() {
        let mut kept = kept();
        for (n, key) in ["s\na", "s\nb"].into_iter().enumerate() {
            kept.asked(&key.into());
            kept.begun(key, n as Seq);
            kept.appended(n as Seq + 1, 400);
        }
        assert_eq!(kept.needs_after(), Some(0));
        kept.appended(3, 400);
        assert_eq!(kept.needs_after(), Some(1));
        for seq in 4..100 {
            kept.appended(seq, 100);
        }
        let after = kept.needs_after().unwrap();
        assert!((89..97).contains(&after), "{after}");
        // One that is larger than all there is room for.
        kept.appended(100, 5000);
        assert_eq!((kept.needs_after(), kept.bytes), (Some(100), 0));
    }

    proptest! {
        #[test]
        fn the_bound_holds(steps in prop::collection::vec((0..4u8, 0..700usize), 1..200)) {
            let mut kept = kept();
            let mut sizes = Vec::new();
            for (step, bytes) in steps {
                let last = sizes.len() as Seq;
                if step == 0 {
                    let key: RequestKey = format!("s\n{last}").into();
                    kept.asked(&key);
                    kept.begun(&key, last);
                } else {
                    sizes.push(bytes);
                    kept.appended(last + 1, bytes);
                }
                let after = kept.needs_after().map_or(sizes.len(), |after| usize::try_from(after).unwrap());
                let held: usize = sizes[after..].iter().sum();
                prop_assert_eq!(held, kept.bytes);
                prop_assert!(held <= BOUND);
            }
        }
    }
}
