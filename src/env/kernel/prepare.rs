//! What a kernel that starts gets: its environment made, and brought to what its notebook asks for.
//!
//! Nothing here fails a start: what could not be had is a note.

use std::path::PathBuf;

use tokio::task::spawn_blocking;

use super::{Home, KernelEnvironment, Kind, Prepared};
use crate::env::named::{Named, Trust, pythons};
use crate::env::notebook::{Asks, Lock};
use crate::env::overlay::Overlay;
use crate::env::pip::{Failure, Typed};
use crate::env::{Say, Uv};

impl KernelEnvironment {
    /// What is there for a kernel to start in. What could not be made ready is a note: it starts without, if it can.
    pub async fn prepare(&self, typed: &Typed<'_>, say: Say<'_>) -> Prepared {
        match self.home() {
            Ok(Home::Overlays(overlays)) => self.prepare_overlays(&overlays, typed, say).await,
            Ok(Home::Named(named)) => self.prepare_named(&named, typed, say).await,
            Err(failure) => Prepared {
                notes: vec![failure.message],
                ..Prepared::default()
            },
        }
    }

    async fn prepare_overlays(
        &self,
        overlays: &[Overlay; 2],
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Prepared {
        let mut prepared = Prepared::default();
        for overlay in overlays.iter().rev() {
            let find_uv = async || Ok(Uv::find(&self.data, say).await?);
            match overlay.prepare(typed, find_uv, say).await {
                Ok(true) => {
                    prepared.path.insert(0, overlay.layer().join("bin"));
                    prepared.python = Some(overlay.layer_python());
                }
                Ok(false) => {}
                Err(failure) => prepared.notes.push(format!(
                    "What was added to PyCX ({}) does not go with the release {} and was left out: {} \
                     `%nb reset` forgets it, `%pip install` tries again.",
                    overlay.asked().join(", "),
                    overlay.release,
                    failure.message,
                )),
            }
        }
        if let Some(bin) = overlays[0].python.parent() {
            prepared.path.push(bin.to_owned());
        }
        prepared
    }

    async fn prepare_named(&self, named: &Named, typed: &Typed<'_>, say: Say<'_>) -> Prepared {
        let find_uv = async || Ok(Uv::find(&self.data, say).await?);
        let mut notes = Vec::new();
        let is_notebooks = self.kind == Kind::Pip;
        let asks = match is_notebooks {
            true => self.asks().await,
            false => Ok(Asks::default()),
        };
        // A block that makes no sense fails its own cell.
        let asks = asks.unwrap_or_default();
        let lock = asks.lock.clone();
        let notebook = is_notebooks.then_some(&*self.whose);
        if let Some(Ok(lock)) = lock.as_ref().filter(|_| is_notebooks && !named.is_there())
            && let Ok(uv) = find_uv().await
        {
            let made = named.make_locked(lock, Trust::Opened, &self.whose, typed, &uv, say);
            // What cannot be had so is tried in the usual way, which says why it fails.
            if let Err(failure) = made.await {
                tracing::debug!(failure.message, "no environment of the lock");
            }
        }
        let python = match named.is_there() {
            true => None,
            false => asked_python(&asks, find_uv).await,
        };
        if let Err(failure) = named
            .make(notebook, python.as_deref(), typed, find_uv, say)
            .await
        {
            notes.push(format!(
                "The environment could not be made: {}",
                failure.told()
            ));
        }
        let (what, followed) = match lock {
            _ if !is_notebooks => ("", Ok(())),
            Some(Ok(lock)) => (
                "this notebook's lock",
                named.follow_lock(&lock, typed, find_uv, say).await,
            ),
            Some(Err(why)) => ("this notebook's lock", Err(Failure::new(why))),
            None => (
                "requirements.txt beside this notebook",
                named.follow_requirements(typed, find_uv, say).await,
            ),
        };
        if let Err(failure) = followed {
            notes.push(format!(
                "What {what} asks for could not be installed: {}",
                failure.told()
            ));
        }
        named.touch();
        Prepared {
            python: Some(named.python()),
            path: vec![named.environment().join("bin")],
            notes,
        }
    }

    /// What the notebook's file says, if it is on this machine.
    async fn asks(&self) -> Result<Asks, String> {
        let notebook = PathBuf::from(&self.whose);
        let looked = spawn_blocking(move || Asks::look(&notebook)).await;
        looked.ok().flatten().unwrap_or_else(|| Ok(Asks::default()))
    }
}

/// A Python as the notebook asks for it, if there is one; any other will do until a cell asks.
async fn asked_python(
    asks: &Asks,
    find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
) -> Option<String> {
    let lock = asks.lock.as_ref().and_then(|lock| lock.as_ref().ok());
    let asked = lock.and_then(Lock::requires_python);
    let asked = asked.or(asks.requires_python.as_deref())?;
    let versions = pythons(Some(asked)).ok()?;
    find_uv().await.ok()?.find_python(&versions).await.ok()
}
