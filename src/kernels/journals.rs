//! What journals leave on the disk when nobody was there to remove it: after a machine's restart, or the death of a
//! kernel together with its supervisor.
//!
//! Blocks on the file system. Knows of a journal only whose it is.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::contract::{JournalMode, JournalStart};
use super::supervisor::journal::disk::About;

/// Removes the journals in this folder whose kernel is gone, of whatever runtime folder it was; how many.
pub fn sweep(journals: &Path) -> usize {
    let folders = fs::read_dir(journals).into_iter().flatten().flatten();
    let is_left = |folder: &PathBuf| {
        let id = folder
            .file_name()
            .and_then(|name| Uuid::try_parse(name.to_str()?).ok());
        let about = id.and_then(|_| About::read(folder));
        about.is_some_and(|about| !about.kernel.exists())
    };
    let left = folders.map(|folder| folder.path()).filter(is_left);
    left.filter(|folder| remove(folder)).count()
}

/// Removes the journal of a kernel that is gone.
pub(super) fn remove_of(start: &JournalStart) {
    if start.mode == JournalMode::Disk && About::read(&start.folder).is_some() {
        remove(&start.folder);
    }
}

fn remove(folder: &Path) -> bool {
    let removed = fs::remove_dir_all(folder);
    removed
        .inspect_err(
            |error| tracing::warn!(folder = %folder.display(), %error, "a journal was not removed"),
        )
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_journals_of_kernels_that_are_gone_go() {
        let root = tempfile::tempdir().unwrap();
        let kernel = root.path().join("kernel");
        fs::create_dir(&kernel).unwrap();
        let journals = root.path().join("journals");
        let put = |name: &str, about: Option<&Path>| {
            let folder = journals.join(name);
            fs::create_dir_all(&folder).unwrap();
            if let Some(kernel) = about {
                let about = serde_json::json!({"owner": "ada", "kernel": kernel});
                fs::write(folder.join("about.json"), about.to_string()).unwrap();
            }
            folder
        };
        let id = |n: u32| format!("00000000-0000-4000-8000-00000000000{n}");
        let lives = put(&id(1), Some(&kernel));
        let gone = put(&id(2), Some(&root.path().join("none")));
        let being_made = put(&id(3), None);
        let other = put("other", Some(&root.path().join("none")));
        assert_eq!(sweep(&journals), 1);
        assert!(!gone.exists());
        assert!(lives.exists() && being_made.exists() && other.exists());
        assert_eq!(sweep(&root.path().join("nowhere")), 0);
    }
}
