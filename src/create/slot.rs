//! What one notebook server has to itself: its folders, its logs, its kernels.
//!
//! Ending one ends every kernel of its gateway, so no two may share a runtime folder. One with a name has its own; of those without the first takes
//! `up`, one beside it `up2`, and so on. A later one finds again what a killed one left. Starts nothing.

use std::fs::File;
use std::path::PathBuf;

use crate::config::{Places, private_folder};
use crate::env::lock::{exclusive_but_for_looks, try_exclusive};
use crate::error::Error;

/// Whoever has it is the server.
pub(super) const LOCK: &str = "lock";

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
            let state = places.state.join(&name);
            private_folder(&state)?;
            if let Some(held) = try_exclusive(&state.join(LOCK))? {
                return Self::held(held, state, runtime, places);
            }
        }
        Err(Error::user(format!("{SLOTS} `nb up` run already; end one")))
    }

    /// Takes this one, unless somebody has it; who looks whether somebody has is waited for.
    pub(super) async fn at(
        state: PathBuf,
        runtime: PathBuf,
        places: &Places,
    ) -> Result<Option<Self>, Error> {
        private_folder(&state)?;
        let held = exclusive_but_for_looks(&state.join(LOCK)).await?;
        held.map(|held| Self::held(held, state, runtime, places))
            .transpose()
    }

    fn held(held: File, state: PathBuf, runtime: PathBuf, places: &Places) -> Result<Self, Error> {
        let ports = places.state.join("ports");
        private_folder(&ports)?;
        Ok(Self {
            state,
            runtime,
            ports,
            _held: held,
        })
    }

    /// Reserves a port among all of this user: their Labs share a token, so an answer there would not tell whose it is.
    ///
    /// Nothing if another has it.
    pub(super) fn reserve(&self, port: u16) -> Result<Option<File>, Error> {
        try_exclusive(&self.ports.join(port.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

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
