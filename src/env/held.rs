//! The folder of an environment that may be changed: whoever does holds its lock, and finds it as the last whole change has left it.
//!
//! Knows nothing of what is in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::pip::Failure;
use super::undo::Undo;
use super::{Say, leftovers, lock};
use crate::config::private_folder;

/// The lock of a folder.
pub(super) fn lock_of(folder: &Path) -> PathBuf {
    folder.join(LOCK)
}

/// Its name.
pub(super) const LOCK: &str = "lock";

/// Nobody else changes the environment in this folder as long as what is returned lives; what somebody has left half done is
/// undone. The folder is made if it is not there.
pub(super) async fn hold(folder: &Path, environment: &Path, say: Say<'_>) -> Result<File, Failure> {
    let parents: Vec<&Path> = folder.ancestors().take(3).collect();
    for folder in parents.into_iter().rev() {
        private_folder(folder)?;
    }
    let held = lock::exclusive(&lock_of(folder), say).await?;
    recover(folder, environment).await?;
    Ok(held)
}

/// Takes back what a process that was killed has left half done, unless another one is at it.
pub(super) async fn tidy(folder: &Path, environment: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Ok(());
    }
    match lock::try_exclusive(&lock_of(folder))? {
        Some(_held) => recover(folder, environment).await,
        None => Ok(()),
    }
}

async fn recover(folder: &Path, environment: &Path) -> Result<(), Failure> {
    leftovers::end(folder).await?;
    match Undo::recover(environment) {
        Ok(_) => Ok(()),
        Err(error) => Err(unusable(folder, &error)),
    }
}

/// What becomes of whoever wants to change it then.
pub(super) fn unusable(folder: &Path, error: &io::Error) -> Failure {
    let folder = folder.display();
    Failure::new(format!("The folder {folder} cannot be used: {error}."))
}
