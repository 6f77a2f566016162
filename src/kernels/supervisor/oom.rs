//! Whether the system has killed a process for want of memory. Nobody is told so: the counter of the whole
//! machine, which containers' own limits count for, too, is looked at before and after.

use std::cell::Cell;
use std::fs;

/// `proc_vmstat(5)`; absent where it cannot be read.
const COUNTERS: &str = "/proc/vmstat";
const COUNTER: &str = "oom_kill";

/// The counter as it was at the last two looks, the newer one last.
///
/// Somebody else's end just before a SIGKILL from elsewhere is taken for ours: the oftener it is looked at, the more seldom.
#[derive(Debug)]
pub(super) struct OomKills(Cell<[Option<u64>; 2]>);

impl OomKills {
    /// Looks for the first time.
    pub(super) fn watch() -> Self {
        Self(Cell::new([now(); 2]))
    }

    /// Looks again: what was before the last look is no concern any more.
    pub(super) fn look(&self) {
        let [_, last] = self.0.get();
        self.0.set([last, now()]);
    }

    /// Whether there were some since the look before the last: the last may have come between the death and its news.
    pub(super) fn happened(&self) -> bool {
        let [before, _] = self.0.get();
        matches!((before, now()), (Some(before), Some(now)) if now > before)
    }
}

fn now() -> Option<u64> {
    count(&fs::read_to_string(COUNTERS).ok()?)
}

fn count(counters: &str) -> Option<u64> {
    let mut lines = counters.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == COUNTER)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_among_others() {
        assert_eq!(count("oom_kill_x 7\nnr 1\noom_kill 3\n"), Some(3));
        assert_eq!(count("nr 1\n"), None);
        assert_eq!(count("oom_kill many\n"), None);
        assert!(!OomKills::watch().happened());
    }
}
