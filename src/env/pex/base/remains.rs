//! How bases go: those in which no kernel is, nor may come back to. A pex that is loaded again has one made again.

use std::fs;
use std::path::Path;

use super::remove;
use crate::env::in_use::process_in;
use crate::env::pip::Failure;
use crate::env::{Say, held, lock};

/// Removes them, but what `is_kept`, by its folder; what that was, from nb's data folder. Without `really` it stays. None goes in which a process
/// runs, or that somebody makes.
pub fn collect_bases(
    data: &Path,
    is_kept: impl Fn(&Path) -> bool,
    really: bool,
    say: Say<'_>,
) -> Result<Vec<String>, Failure> {
    let bases = data.join("pex/bases");
    let mut removed = Vec::new();
    for entry in fs::read_dir(&bases).into_iter().flatten().flatten() {
        let folder = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || is_kept(&folder) {
            continue;
        }
        // What is half made has the lock of what it was to be.
        let Some(_held) = lock::try_exclusive(&folder.with_extension("lock"))? else {
            say(&format!("{} stays: another nb is at it", folder.display()));
            continue;
        };
        // Whoever held the lock may have put a kernel into it.
        if is_kept(&folder) {
            continue;
        }
        if process_in(&folder).is_some() {
            say(&format!("{} stays: a process runs in it", folder.display()));
            continue;
        }
        if really {
            remove(&folder).map_err(|error| held::unusable(&folder, &error))?;
        }
        let folder = folder.strip_prefix(data).unwrap_or(&folder);
        removed.push(folder.to_string_lossy().into_owned());
    }
    removed.sort();
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_no_kernel_is_in_goes() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        let bases = data.join("pex/bases");
        for name in ["aa", "bb", "cc", "dd.part", "ee"] {
            fs::create_dir_all(bases.join(name).join("env/bin")).unwrap();
        }
        let collect = |really| {
            let asked = std::cell::Cell::new(0);
            // In the last one there is a kernel by the time that its lock is had.
            let is_kept = |folder: &Path| {
                let is_last = folder.ends_with("ee");
                asked.set(asked.get() + usize::from(is_last));
                folder.ends_with("aa") || is_last && asked.get() == 2
            };
            collect_bases(data, is_kept, really, &|_| ()).unwrap()
        };
        let held = lock::exclusive(&bases.join("bb.lock"), &|_| ())
            .await
            .unwrap();
        assert_eq!(collect(false), ["pex/bases/cc", "pex/bases/dd.part"]);
        assert_eq!(collect(true), ["pex/bases/cc", "pex/bases/dd.part"]);
        drop(held);
        assert_eq!(collect(true), ["pex/bases/bb"]);
        assert!(collect(true).is_empty());
        let is_there = |name: &str| bases.join(name).exists();
        assert!(is_there("aa") && is_there("bb.lock") && is_there("ee"));
    }

    #[test]
    fn nothing_is_there_to_go() {
        let data = tempfile::tempdir().unwrap();
        assert!(
            collect_bases(data.path(), |_| false, true, &|_| ())
                .unwrap()
                .is_empty()
        );
    }
}
