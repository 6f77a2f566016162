//! The environment of a notebook by its lock: `nb env lock|sync|export`.

use std::path::Path;

use super::{Home, KernelEnvironment, Kind};
use crate::env::named::{Named, Trust};
use crate::env::notebook::{Asks, Lock};
use crate::env::pip::{Changes, Failure, Typed};
use crate::env::venvs::known_as;
use crate::env::{Say, Uv};

impl KernelEnvironment {
    /// The one that a kernel of the kernelspec `pip` has for the notebook with this full path.
    pub fn of_notebook(data: &Path, notebook: &Path) -> Self {
        let known = known_as(data, notebook);
        Self {
            kind: Kind::Pip,
            data: data.to_owned(),
            release: None,
            whose: known.unwrap_or_else(|| notebook.to_string_lossy().into_owned()),
        }
    }

    /// The lock of what a notebook with this text asks for. What its lock has pinned before stays, unless that is to be
    /// upgraded.
    pub async fn lock(
        &self,
        notebook: &str,
        upgrade: bool,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Lock, Failure> {
        let mut asks = Asks::read(notebook, typed.folder).map_err(Failure::new)?;
        let before = asks.lock.take().filter(|_| !upgrade);
        // One that is not sound is made anew.
        let before = before.and_then(Result::ok);
        let uv = Uv::find(&self.data, say).await?;
        self.named()?
            .resolve(&asks, before.as_ref(), typed, &uv, say)
            .await
    }

    /// Makes the environment what the lock says; whether it was made for that, and what has changed.
    pub async fn sync(
        &self,
        lock: &Lock,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<(bool, Changes), Failure> {
        let named = self.named()?;
        let uv = Uv::find(&self.data, say).await?;
        let made = named.make_locked(lock, Trust::Asked, &self.whose, typed, &uv, say);
        let is_new = made.await?;
        let changes = match is_new {
            true => named.locked_packages(lock),
            false => named.sync(lock, Trust::Asked, typed, &uv, say).await?,
        };
        named.settle_files().await;
        Ok((is_new, changes))
    }

    /// A lock as a `pylock.toml`.
    pub async fn pylock(
        &self,
        lock: &Lock,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<String, Failure> {
        let uv = Uv::find(&self.data, say).await?;
        self.named()?.pylock(lock, typed, &uv, say).await
    }

    /// The name of its folder.
    pub(in crate::env) fn name(&self) -> Option<String> {
        let named = self.named().ok()?;
        Some(named.folder.file_name()?.to_str()?.to_owned())
    }

    fn named(&self) -> Result<Named, Failure> {
        match self.home()? {
            Home::Named(named) => Ok(named),
            Home::Overlays(_) => Err(Failure::new("A release of PyCX has no lock of a notebook.")),
        }
    }
}
