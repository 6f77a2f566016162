//! What one notebook server has to itself: its folders, its logs, its kernels.
//!
//! Ending one ends every kernel of its gateway, so no two may share a runtime folder. One with a name has its own; of those without the first takes
//! `up`, one beside it `up2`, and so on. A later one finds again what a killed one left. Starts nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::config::{Places, private_folder};
use crate::error::Error;

/// How many without a name may run beside each other.
const SLOTS: u32 = 32;

/// The folders of one, held until it is dropped.
#[derive(Debug)]
pub struct Slot {
    /// Logs.
    pub(super) state: PathBuf,
    /// Where the gateway has its kernels.
    pub(super) runtime: PathBuf,
    ports: PathBuf,
    _held: File,
}

impl Slot {
    /// Takes the first that is free of those without a name.
    pub fn take(places: &Places) -> Result<Self, Error> {
        for number in 1..=SLOTS {
            let name = match number {
                1 => "up".to_owned(),
                number => format!("up{number}"),
            };
            let runtime = places.runtime.join(&name);
            if let Some(slot) = Self::at(places.state.join(&name), runtime, places)? {
                return Ok(slot);
            }
        }
        Err(Error::user(format!("{SLOTS} `nb up` run already; end one")))
    }

    /// Takes this one, unless somebody has it.
    pub(super) fn at(
        state: PathBuf,
        runtime: PathBuf,
        places: &Places,
    ) -> Result<Option<Self>, Error> {
        private_folder(&state)?;
        let Some(held) = try_lock(&state.join("lock"))? else {
            return Ok(None);
        };
        let ports = places.state.join("ports");
        private_folder(&ports)?;
        Ok(Some(Self {
            state,
            runtime,
            ports,
            _held: held,
        }))
    }

    /// Reserves a port among all of this user: their Labs share a token, so an answer there would not tell whose it is.
    ///
    /// Nothing if another has it.
    pub(super) fn reserve(&self, port: u16) -> Result<Option<File>, Error> {
        try_lock(&self.ports.join(port.to_string()))
    }
}

/// The lock if nobody else has it; the operating system frees it when its holder dies.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let failed =
        |error: io::Error| Error::user(format!("{} cannot be locked: {error}", path.display()));
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: &Path) -> Places {
        Places {
            runtime: root.join("run"),
            state: root.join("state"),
            data: root.join("data"),
        }
    }

    #[test]
    fn two_ups_never_share_a_folder_and_a_later_one_finds_it_again() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let first = Slot::take(&places).unwrap();
        let second = Slot::take(&places).unwrap();
        assert!(first.runtime != second.runtime && first.state != second.state);
        let runtime = first.runtime.clone();
        drop(first);
        assert_eq!(Slot::take(&places).unwrap().runtime, runtime);
    }
    #[test]
    fn a_port_belongs_to_one_up() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let first = Slot::take(&places).unwrap();
        let second = Slot::take(&places).unwrap();
        let held = first.reserve(8888).unwrap();
        assert!(held.is_some() && second.reserve(8888).unwrap().is_none());
        drop(held);
        assert!(second.reserve(8888).unwrap().is_some());
    }
}
