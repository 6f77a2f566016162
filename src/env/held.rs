//! The folder of an environment that may be changed: whoever does holds its lock, and finds it as the last whole change has left it.
//!
//! Knows nothing of what is in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::pip::{Failure, Stop};
use super::undo::Undo;
use super::{Say, leftovers, lock};
use crate::config::private_folder;
use crate::error::reason;

/// The lock of a folder.
pub(super) fn lock_of(folder: &Path) -> PathBuf {
    folder.join(LOCK)
}

/// Its name.
pub(super) const LOCK: &str = "lock";

/// As long as it lives, nobody else changes what is in the folder.
#[must_use]
#[derive(Clone, Debug)]
pub(super) struct Held {
    _lock: Arc<File>,
}

impl Held {
    fn of(lock: File) -> Self {
        Self {
            _lock: Arc::new(lock),
        }
    }

    /// Does what blocks on the file system, on a thread that may: a supervisor has one for all that it does. The folder is held
    /// until that is done, whoever has lost interest.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let held = self.clone();
        let done = spawn_blocking(move || {
            let done = work();
            drop(held);
            done
        });
        done.await.map_err(io::Error::other)?
    }
}

/// Nobody else changes the environment in this folder as long as what is returned lives; what somebody has left half done is
/// undone. The folder is made if it is not there.
///
/// Whoever gives it up waits for nobody.
pub(super) async fn hold(
    folder: &Path,
    environment: &Path,
    stop: &dyn Stop,
    say: Say<'_>,
) -> Result<Held, Failure> {
    let parents: Vec<&Path> = folder.ancestors().take(3).collect();
    for folder in parents.into_iter().rev() {
        private_folder(folder)?;
    }
    let lock = lock_of(folder);
    let held = tokio::select! {
        held = lock::exclusive(&lock, say) => Held::of(held?),
        () = stop.stopped() => return Err(Failure::interrupt()),
    };
    recover(folder, environment, &held).await?;
    Ok(held)
}

/// Takes back what a process that was killed has left half done, unless another one is at it.
pub(super) async fn tidy(folder: &Path, environment: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Ok(());
    }
    match lock::try_exclusive(&lock_of(folder))? {
        Some(held) => recover(folder, environment, &Held::of(held)).await,
        None => Ok(()),
    }
}

async fn recover(folder: &Path, environment: &Path, held: &Held) -> Result<(), Failure> {
    leftovers::end(folder).await?;
    let environment = environment.to_owned();
    match held.aside(move || Undo::recover(&environment)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(unusable(folder, &error)),
    }
}

/// What becomes of whoever wants to change it then.
pub(super) fn unusable(folder: &Path, error: &io::Error) -> Failure {
    let folder = folder.display();
    let why = reason(error);
    Failure::new(format!("The folder {folder} cannot be used: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::pip::Never;
    use futures_util::future::{self, LocalBoxFuture};
    use std::sync::mpsc;

    struct AtOnce;

    impl Stop for AtOnce {
        fn stopped(&self) -> LocalBoxFuture<'_, ()> {
            Box::pin(future::ready(()))
        }
    }

    #[tokio::test]
    async fn who_gives_up_waits_for_nobody() {
        let root = tempfile::tempdir().unwrap();
        let (folder, environment) = (
            root.path().join("data/venvs/a"),
            root.path().join("data/venvs/a/env"),
        );
        let held = hold(&folder, &environment, &Never, &|_| ()).await.unwrap();
        let other = hold(&folder, &environment, &AtOnce, &|_| ()).await;
        assert!(other.unwrap_err().is_interrupt);
        drop(held);
        let other = hold(&folder, &environment, &Never, &|_| ()).await;
        drop(other.unwrap());
    }

    #[tokio::test]
    async fn what_blocks_holds_nobody_up_and_is_done_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let (folder, environment) = (
            root.path().join("data/venvs/a"),
            root.path().join("data/venvs/a/env"),
        );
        let held = hold(&folder, &environment, &Never, &|_| ()).await.unwrap();
        let (go, goes) = mpsc::channel();
        let work = held.aside(move || goes.recv().map_err(io::Error::other));
        let (work, sent) = tokio::join!(work, async { go.send(7) });
        assert_eq!((work.unwrap(), sent), (7, Ok(())));

        // Whoever gives it up does not free what is still being changed.
        let (go, goes) = mpsc::channel();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let work = held.aside(move || {
            let _waits = begun.send(());
            goes.recv().map_err(io::Error::other)
        });
        tokio::select! {
            _ = work => unreachable!("nobody has said so"),
            begins = begins => begins.unwrap(),
        }
        drop(held);
        let lock = lock_of(&folder);
        assert!(lock::try_exclusive(&lock).unwrap().is_none());
        go.send(()).unwrap();
        lock::exclusive(&lock, &|_| ()).await.unwrap();
    }
}
