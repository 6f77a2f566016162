//! Which cells there were: where in the journal each begins, whether it is over, and which of them stay whole there for
//! a while longer. Pure.
//!
//! A notebook is saved long after its page has shown an output, and a page may be closed before. So whoever opens
//! it later asks for cells whole (`http/journal`), and the newest of them are needed, up to a bound, also once every
//! client has them. Knows numbers and sizes of entries; the journal has them.

use std::collections::VecDeque;

use super::journal::{RequestKey, Seq};

/// What is needed for this is at most so much.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// So many cells are known.
const CELLS_MAX: usize = 1024;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub request: RequestKey,
    /// What it said follows this entry; nothing before it has begun.
    pub after: Option<Seq>,
    /// Its begin was told to an earlier supervisor.
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

/// The newest cells, oldest first, and the entries that are needed for them.
#[derive(Debug, Default)]
pub struct Kept {
    cells: VecDeque<Cell>,
    segments: VecDeque<Segment>,
    bytes: usize,
}

impl Kept {
    /// A cell waits for the kernel.
    pub fn asked(&mut self, request: &RequestKey) {
        self.add(request, None, false);
    }

    /// A cell runs that an earlier supervisor had; where it begins is not known.
    pub fn taken_over(&mut self, request: &RequestKey) {
        self.add(request, Some(0), true);
    }

    fn add(&mut self, request: &RequestKey, after: Option<Seq>, is_taken_over: bool) {
        self.cells.push_back(Cell {
            request: RequestKey::clone(request),
            after,
            is_taken_over,
            idle: false,
        });
        if self.cells.len() > CELLS_MAX {
            self.cells.pop_front();
        }
    }

    /// The first entry of this request follows the entry `last`.
    pub fn begun(&mut self, request: &str, last: Seq) {
        let waits = |cell: &&mut Cell| *cell.request == *request && cell.after.is_none();
        if let Some(cell) = self.cells.iter_mut().rfind(waits) {
            cell.after = Some(last);
            self.cut(last);
        }
    }

    /// The kernel has done with this request.
    pub fn done(&mut self, request: &str) {
        let cells = self.cells.iter_mut();
        for cell in cells.filter(|cell| !cell.idle && *cell.request == *request) {
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
        if newest.bytes > BYTES_MAX / 2 {
            self.cut(seq);
        }
        while self.bytes > BYTES_MAX
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

    /// The entries after this one are needed; none is when absent.
    pub fn needs_after(&self) -> Option<Seq> {
        Some(self.segments.front()?.after)
    }

    /// The newest cell with this msg_id.
    pub fn find(&self, msg_id: &str) -> Option<&Cell> {
        let is_it = |cell: &&Cell| is_request(&cell.request, msg_id);
        self.cells.iter().rfind(is_it)
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

    const TENTH: usize = BYTES_MAX / 10;

    #[test]
    fn a_cell_is_known_from_its_request_to_long_after_its_end() {
        let mut kept = Kept::default();
        kept.asked(&"s\na".into());
        assert_eq!(kept.find("a").unwrap().after, None);
        assert!(kept.find("s").is_none() && kept.needs_after().is_none());
        kept.begun("s\na", 7);
        // A magic begins, then the kernel does.
        kept.begun("s\na", 9);
        kept.done("s\na");
        kept.taken_over(&"s\nb".into());
        let cell = kept.find("a").unwrap();
        assert_eq!(
            (cell.after, cell.idle, cell.is_taken_over),
            (Some(7), true, false)
        );
        let cell = kept.find("b").unwrap();
        assert_eq!(
            (cell.after, cell.idle, cell.is_taken_over),
            (Some(0), false, true)
        );
        assert_eq!(kept.needs_after(), Some(7));
        for n in 0..CELLS_MAX {
            kept.asked(&format!("s\n{n}").into());
        }
        assert!(kept.find("a").is_none() && kept.find("0").is_some());
    }

    #[test]
    fn the_oldest_cells_go_and_of_a_long_one_the_end_stays() {
        let mut kept = Kept::default();
        for (n, key) in ["s\na", "s\nb"].into_iter().enumerate() {
            kept.asked(&key.into());
            kept.begun(key, n as Seq);
            kept.appended(n as Seq + 1, 4 * TENTH);
        }
        assert_eq!(kept.needs_after(), Some(0));
        kept.appended(3, 4 * TENTH);
        assert_eq!(kept.needs_after(), Some(1));
        for seq in 4..100 {
            kept.appended(seq, TENTH);
        }
        let after = kept.needs_after().unwrap();
        assert!((89..97).contains(&after), "{after}");
        // One that is larger than all there is room for.
        kept.appended(100, 2 * BYTES_MAX);
        assert_eq!((kept.needs_after(), kept.bytes), (Some(100), 0));
    }

    proptest! {
        #[test]
        fn the_bound_holds(steps in prop::collection::vec((0..4u8, 0..7 * TENTH), 1..200)) {
            let mut kept = Kept::default();
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
                prop_assert!(held <= BYTES_MAX);
            }
        }
    }
}
