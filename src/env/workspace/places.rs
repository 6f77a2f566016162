//! Where workspaces and their mirrors are, and who may change one.
//!
//! A folder of ours goes while its lock is held, so whoever gets a lock looks whether it is still that of the folder.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::private_folder;
use crate::env::{Say, hex, lock};
use crate::error::{Error, reason};

const LOCK: &str = "lock";

/// The folder of all workspaces of a user.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    root: PathBuf,
}

/// As long as it lives, nobody else changes what is in the folder.
#[must_use]
#[derive(Debug)]
pub(super) struct Held {
    pub(super) folder: PathBuf,
    _lock: File,
}

impl Folders {
    pub(super) fn new(data: &Path) -> Self {
        Self {
            root: data.join("workspaces"),
        }
    }

    /// The tree of a workspace: what its user works in.
    pub(super) fn tree(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What nb keeps of a workspace beside its tree.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        self.all().join(name)
    }

    /// What has the folders of all workspaces, those that are being made too.
    pub(super) fn all(&self) -> PathBuf {
        self.root.join(".nb/made")
    }

    /// What is kept of a repository for all its workspaces.
    pub(super) fn mirror(&self, address: &str) -> PathBuf {
        let hash = hex(&Sha256::digest(address)[..8]);
        self.root.join(".nb/mirrors").join(hash)
    }

    /// Waits for whoever changes one of these folders; it is made if it is not there.
    pub(super) async fn hold(&self, folder: PathBuf, say: Say<'_>) -> Result<Held, Error> {
        loop {
            self.make(&folder)?;
            let path = folder.join(LOCK);
            match lock::exclusive(&path, say).await {
                Ok(held) if is_at(&held, &path) => {
                    return Ok(Held {
                        folder,
                        _lock: held,
                    });
                }
                // Whoever had it has removed the folder.
                Ok(_) => {}
                Err(_) if !folder.exists() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The same without a wait; nothing if somebody changes it.
    pub(super) fn try_hold(&self, folder: PathBuf) -> Result<Option<Held>, Error> {
        self.make(&folder)?;
        let path = folder.join(LOCK);
        let held = lock::try_exclusive(&path)?.filter(|held| is_at(held, &path));
        Ok(held.map(|held| Held {
            folder,
            _lock: held,
        }))
    }

    fn make(&self, folder: &Path) -> Result<(), Error> {
        private_folder(&self.root)?;
        private_folder(folder)
    }
}

impl Held {
    /// Removes the folder and all that is in it.
    pub(super) fn remove(self) -> Result<(), Error> {
        remove(&self.folder)
    }
}

/// Removes what may not be there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(|error| unusable(path, &error))
}

pub(super) fn unusable(path: &Path, error: &std::io::Error) -> Error {
    let (path, why) = (path.display(), reason(error));
    Error::user(format!("{path} cannot be used: {why}"))
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_cannot_be_made_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let folders = Folders::new(data.path());
        let folder = folders.own("w");
        private_folder(&folders.root).unwrap();
        private_folder(&folder).unwrap();
        // As on a disk that is full, or cannot be written to.
        std::os::unix::fs::symlink("none/lock", folder.join(LOCK)).unwrap();
        let refused = folders.hold(folder, &|_| ()).await.unwrap_err();
        assert!(refused.message.contains("cannot be taken"), "{refused}");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_folder_that_goes_gets_the_next_one() {
        let data = tempfile::tempdir().unwrap();
        let folders = Folders::new(data.path());
        let first = folders.hold(folders.own("w"), &|_| ()).await.unwrap();
        assert!(folders.try_hold(folders.own("w")).unwrap().is_none());
        let waits = folders.hold(folders.own("w"), &|_| ());
        let removes = async { first.remove().unwrap() };
        let (second, ()) = tokio::join!(waits, removes);
        assert!(second.unwrap().folder.join(LOCK).exists());
    }
}
