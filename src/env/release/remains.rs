//! How releases go: old ones, and what one that failed or was killed has left.
//!
//! Knows nothing of how one is made.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{RECORD, Release, Releases};
use crate::env::in_use::process_in;
use crate::env::{Say, leftovers, lock};
use crate::error::Error;

impl Releases {
    /// Removes all but the current one, the newest `keep`, and those that a process runs in; their names. Without `really`
    /// they stay.
    pub async fn collect(
        &self,
        keep: usize,
        really: bool,
        say: Say<'_>,
    ) -> Result<Vec<String>, Error> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        // Nobody builds meanwhile, so what is unfinished is left over.
        let _held = lock::exclusive(&self.lock(), say).await?;
        if really {
            leftovers::end(&self.folder).await?;
        }
        let kept: Vec<_> = self.list().into_iter().take(keep).collect();
        let stays = |name: &str| {
            let is_it = |release: &Release| release.name == name;
            kept.iter().any(is_it) || self.current().as_ref().is_some_and(is_it)
        };
        let mut removed = Vec::new();
        for folder in self.folders() {
            let name = folder.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| !stays(name)) else {
                continue;
            };
            if process_in(&folder).is_some() {
                say(&format!("{name} stays: a process runs in it"));
                continue;
            }
            if really {
                say(&format!("removes {name}"));
                remove(&folder).map_err(|error| self.unusable(&error))?;
            }
            removed.push(name.to_owned());
        }
        removed.sort();
        Ok(removed)
    }

    /// Removes what is unfinished, unless another process builds.
    pub async fn tidy(&self, say: Say<'_>) -> Result<(), Error> {
        if !self.folder.exists() {
            return Ok(());
        }
        match lock::try_exclusive(&self.lock())? {
            Some(_held) => self.sweep(say).await,
            None => Ok(()),
        }
    }

    /// Ends what still works at a release, and removes what is unfinished. The caller holds the lock, so nobody builds.
    pub(super) async fn sweep(&self, say: Say<'_>) -> Result<(), Error> {
        leftovers::end(&self.folder).await?;
        // One with a record that another nb reads is none of them.
        let is_unfinished = |folder: &PathBuf| !folder.join(RECORD).exists();
        for folder in self.folders().filter(is_unfinished) {
            say(&format!(
                "removes what is unfinished in {}",
                folder.display()
            ));
            remove(&folder).map_err(|error| self.unusable(&error))?;
        }
        Ok(())
    }

    /// The names of all that are there, whole or not.
    pub(in crate::env) fn names(&self) -> Vec<String> {
        let names = self.folders();
        names
            .filter_map(|folder| folder.file_name()?.to_str().map(str::to_owned))
            .collect()
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let folders = folders.map(|folder| folder.path());
        folders.filter(|folder| is_folder(folder))
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

/// Removes a folder whose folders may be read-only.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    set_writable(folder, true)?;
    fs::remove_dir_all(folder)
}

/// Lets its owner change what is below a folder, or nobody.
pub(super) fn set_writable(folder: &Path, is_writable: bool) -> io::Result<()> {
    let set = |path: &Path| {
        let mode = fs::symlink_metadata(path)?.permissions().mode();
        let mode = if is_writable {
            mode | 0o200
        } else {
            mode & !0o222
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    if is_writable {
        set(folder)?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            set_writable(&entry.path(), is_writable)?;
        } else if kind.is_file() {
            set(&entry.path())?;
        }
    }
    if is_writable { Ok(()) } else { set(folder) }
}
