//! Which cells there were: where in the journal each of them begins, and whether it is over. Pure.
//!
//! For whoever opens a notebook later and asks what became of its cells (`http/journal`). What is still held of them
//! is the journal's.

use std::collections::VecDeque;

use super::journal::{RequestKey, Seq};

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

/// The newest cells, oldest first.
#[derive(Debug, Default)]
pub struct Known(VecDeque<Cell>);

impl Known {
    /// A cell waits for the kernel.
    pub fn asked(&mut self, request: &RequestKey) {
        self.add(request, None, false);
    }

    /// A cell runs that an earlier supervisor had; where it begins is not known.
    pub fn taken_over(&mut self, request: &RequestKey) {
        self.add(request, Some(0), true);
    }

    fn add(&mut self, request: &RequestKey, after: Option<Seq>, is_taken_over: bool) {
        self.0.push_back(Cell {
            request: RequestKey::clone(request),
            after,
            is_taken_over,
            idle: false,
        });
        if self.0.len() > CELLS_MAX {
            self.0.pop_front();
        }
    }

    /// The first entry of this request follows the entry `last`.
    pub fn begun(&mut self, request: &str, last: Seq) {
        let waits = |cell: &&mut Cell| *cell.request == *request && cell.after.is_none();
        if let Some(cell) = self.0.iter_mut().rfind(waits) {
            cell.after = Some(last);
        }
    }

    /// The kernel has done with this request.
    pub fn done(&mut self, request: &str) {
        let cells = self.0.iter_mut();
        for cell in cells.filter(|cell| *cell.request == *request) {
            cell.idle = true;
        }
    }

    /// The newest cell with this msg_id.
    pub fn find(&self, msg_id: &str) -> Option<&Cell> {
        let is_it = |cell: &&Cell| is_request(&cell.request, msg_id);
        self.0.iter().rfind(is_it)
    }
}

/// Whether the request of this key has this msg_id.
pub fn is_request(key: &str, msg_id: &str) -> bool {
    key.split_once('\n').is_some_and(|(_, id)| id == msg_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_known_from_its_request_to_long_after_its_end() {
        let mut known = Known::default();
        known.asked(&"s\na".into());
        assert_eq!(known.find("a").unwrap().after, None);
        assert!(known.find("s").is_none());
        known.begun("s\na", 7);
        // A magic begins, then the kernel does.
        known.begun("s\na", 9);
        known.done("s\na");
        known.taken_over(&"s\nb".into());
        let cell = known.find("a").unwrap();
        assert_eq!(
            (cell.after, cell.idle, cell.is_taken_over),
            (Some(7), true, false)
        );
        let cell = known.find("b").unwrap();
        assert_eq!(
            (cell.after, cell.idle, cell.is_taken_over),
            (Some(0), false, true)
        );
        for n in 0..CELLS_MAX {
            known.asked(&format!("s\n{n}").into());
        }
        assert!(known.find("a").is_none() && known.find("0").is_some());
    }
}
