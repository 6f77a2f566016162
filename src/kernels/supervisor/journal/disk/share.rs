//! How much of what one user's journals may have together is one kernel's.
//!
//! Supervisors do not talk to each other: each looks at what lies there and keeps to the same level, so that the
//! largest give way and the small ones are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder;

/// Asks for the share of a kernel.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Where the journals of all kernels are.
    pub(super) journals: PathBuf,
    pub(super) owner: String,
    /// What all of them may have.
    pub(super) bytes_max: u64,
}

impl Question {
    /// Reads what is there. Blocks on the file system.
    pub(super) fn answer(&self) -> u64 {
        let folders = fs::read_dir(&self.journals).into_iter().flatten().flatten();
        let folders = folders.map(|folder| folder.path());
        let of_owner = |path: &PathBuf| {
            folder::About::read(path).is_some_and(|about| about.owner == self.owner)
        };
        let sizes = folders.filter(of_owner).map(|path| size(&path)).collect();
        level(sizes, self.bytes_max)
    }
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.sum()
}

/// The most that each may have so that all have `bytes_max` together; no bound while they have less.
fn level(mut sizes: Vec<u64>, bytes_max: u64) -> u64 {
    if sizes.iter().sum::<u64>() <= bytes_max {
        return u64::MAX;
    }
    sizes.sort_unstable();
    let mut left = bytes_max;
    let mut count = sizes.len() as u64;
    for size in sizes {
        if size > left / count {
            break;
        }
        left -= size;
        count -= 1;
    }
    left / count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_give_way() {
        assert_eq!(level(vec![10, 20, 30], 60), u64::MAX);
        assert_eq!(level(vec![10, 20, 31], 60), 30);
        assert_eq!(level(vec![100, 10, 100], 60), 25);
        assert_eq!(level(vec![], 0), u64::MAX);
        assert_eq!(level(vec![1, 1], 0), 0);
    }

    proptest! {
        #[test]
        fn all_together_keep_to_the_bound(
            sizes in prop::collection::vec(0..1000u64, 0..20),
            bytes_max in 0..5000u64,
        ) {
            let level = level(sizes.clone(), bytes_max);
            let total: u64 = sizes.iter().map(|size| (*size).min(level)).sum();
            prop_assert!(total <= bytes_max);
            // And none of it is wasted, but for what cannot be split.
            if sizes.iter().sum::<u64>() > bytes_max {
                prop_assert!(total + sizes.len() as u64 > bytes_max);
            }
        }
    }
}
