//! The order of cells: one at a time, and after one that failed none of those that waited; so many wait, and no more. Pure.

use std::collections::VecDeque;

/// All cells that wait: one that would make them more is not taken.
pub(super) const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a cell takes beside its text.
const CELL_BYTES: usize = 1024;

/// Cells; `C` is whatever the owner needs to answer one.
#[derive(Debug)]
pub(super) struct Cells<C> {
    running: Option<C>,
    /// Each with its bytes.
    waiting: VecDeque<(C, usize)>,
    waiting_bytes: usize,
}

impl<C> Default for Cells<C> {
    fn default() -> Self {
        Self {
            running: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }
}

impl<C> Cells<C> {
    /// One has come, whose text has so many bytes; given back when too much waits.
    pub(super) fn submit(&mut self, cell: C, bytes: usize) -> Result<(), C> {
        let bytes = bytes.saturating_add(CELL_BYTES);
        let all = self.waiting_bytes.saturating_add(bytes);
        if all > WAITING_BYTES_MAX {
            return Err(cell);
        }
        self.waiting_bytes = all;
        self.waiting.push_back((cell, bytes));
        Ok(())
    }

    /// The next one, if none runs.
    pub(super) fn begin(&mut self) -> Option<&C> {
        if self.running.is_none() {
            let (cell, bytes) = self.waiting.pop_front()?;
            self.waiting_bytes -= bytes;
            return Some(self.running.insert(cell));
        }
        None
    }

    /// The one that runs.
    pub(super) fn running(&self) -> Option<&C> {
        self.running.as_ref()
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut C> {
        self.running.as_mut()
    }

    /// The one that ran has ended.
    pub(super) fn end(&mut self) -> Option<C> {
        self.running.take()
    }

    /// Those that waited behind one that failed.
    pub(super) fn abort(&mut self) -> impl Iterator<Item = C> + use<C> {
        self.waiting_bytes = 0;
        let all = std::mem::take(&mut self.waiting);
        all.into_iter().map(|(cell, _)| cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_after_the_other() {
        let mut cells = Cells::default();
        assert_eq!(cells.begin(), None);
        cells.submit(1, 0).unwrap();
        cells.submit(2, 0).unwrap();
        assert_eq!(cells.begin(), Some(&1));
        assert_eq!(cells.begin(), None);
        assert_eq!(cells.end(), Some(1));
        assert_eq!(cells.running(), None);
        assert_eq!(cells.begin(), Some(&2));
        cells.submit(3, 0).unwrap();
        assert_eq!(cells.abort().collect::<Vec<_>>(), [3]);
        assert_eq!((cells.end(), cells.begin()), (Some(2), None));
    }

    #[test]
    fn so_much_waits_and_no_more() {
        let mut cells = Cells::default();
        assert_eq!(cells.submit(0, usize::MAX), Err(0));
        let half = WAITING_BYTES_MAX / 2 - CELL_BYTES;
        cells.submit(1, half).unwrap();
        cells.submit(2, half).unwrap();
        assert_eq!(cells.submit(3, 0), Err(3));
        // The one that runs does not wait.
        assert_eq!(cells.begin(), Some(&1));
        cells.submit(3, half).unwrap();
        assert_eq!(cells.submit(4, 0), Err(4));
        assert_eq!(cells.abort().count(), 2);
        cells.submit(4, half).unwrap();
    }
}
