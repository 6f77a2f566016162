//! When a kernel that died is started again. Pure.
//!
//! The limits are jupyter_client's (`KernelRestarter`): five times in a row, and a kernel that lived
//! for ten seconds begins anew.

use std::time::Duration;

const LIMIT: u32 = 5;
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Counts the deaths in a row.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    in_a_row: u32,
    total: u32,
}

impl Restarts {
    /// The kernel died after it had lived for `lived`: whether it is to be started again.
    pub(super) fn died_after(&mut self, lived: Duration) -> bool {
        if lived >= STABLE_AFTER {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        let again = self.in_a_row <= LIMIT;
        self.total += u32::from(again);
        again
    }

    /// So many restarts there were before an earlier supervisor died.
    pub(super) fn resume(&mut self, total: u32) {
        self.total = total;
    }

    /// Somebody asked for a restart: a fresh count.
    pub(super) fn asked(&mut self) {
        self.in_a_row = 0;
        self.total += 1;
    }

    /// All restarts, asked for or not.
    pub(super) fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_row_then_dead_and_a_stable_life_begins_anew() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            assert!(restarts.died_after(Duration::from_secs(1)));
        }
        assert!(restarts.died_after(STABLE_AFTER));
        for _ in 0..4 {
            assert!(restarts.died_after(Duration::ZERO));
        }
        assert!(!restarts.died_after(Duration::ZERO));
        restarts.asked();
        assert!(restarts.died_after(Duration::ZERO));
    }
}
