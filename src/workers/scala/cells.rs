//! The order of cells: one at a time, and after one that failed none of those that waited. Pure.

use std::collections::VecDeque;

/// Cells; `C` is whatever the owner needs to answer one.
#[derive(Debug)]
pub(super) struct Cells<C> {
    running: Option<C>,
    waiting: VecDeque<C>,
}

impl<C> Default for Cells<C> {
    fn default() -> Self {
        Self {
            running: None,
            waiting: VecDeque::new(),
        }
    }
}

impl<C> Cells<C> {
    /// One has come.
    pub(super) fn submit(&mut self, cell: C) {
        self.waiting.push_back(cell);
    }

    /// The next one, if none runs.
    pub(super) fn begin(&mut self) -> Option<&C> {
        if self.running.is_none() {
            self.running = self.waiting.pop_front();
            return self.running.as_ref();
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
    pub(super) fn abort(&mut self) -> VecDeque<C> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_after_the_other() {
        let mut cells = Cells::default();
        assert_eq!(cells.begin(), None);
        cells.submit(1);
        cells.submit(2);
        assert_eq!(cells.begin(), Some(&1));
        assert_eq!(cells.begin(), None);
        assert_eq!(cells.end(), Some(1));
        assert_eq!(cells.running(), None);
        assert_eq!(cells.begin(), Some(&2));
        cells.submit(3);
        assert_eq!(cells.abort(), [3]);
        assert_eq!((cells.end(), cells.begin()), (Some(2), None));
    }
}
