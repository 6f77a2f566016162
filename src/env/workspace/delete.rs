//! The end of a workspace, unless something of it would be lost.

use std::fs;
use std::path::Path;

use super::look;
use super::mirror::Mirror;
use super::places::{remove, unusable};
use super::repository::Repository;
use super::{Workspace, Workspaces};
use crate::env::{Say, leftovers};
use crate::error::Error;

/// What went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether all that was kept of the repository went too, since no other workspace is of it.
    pub with_mirror: bool,
}

impl Workspaces {
    /// Removes a workspace. Without `force` nothing goes that is nowhere else, nor what a process works in.
    pub async fn delete(
        &self,
        name: &str,
        force: bool,
        keep_mirror: bool,
        say: Say<'_>,
    ) -> Result<Deleted, Error> {
        let workspace = self.find(name)?;
        let own = self.folders.own(name);
        let held = self.folders.hold(own.clone(), say).await?;
        // Somebody else may have removed it meanwhile.
        self.find(name)?;
        if !force {
            self.refuse_losses(&workspace).await?;
        }
        let _completing = self.stop_completing(name, say).await?;
        if !force {
            // What was done while that ended.
            self.refuse_losses(&workspace).await?;
        }
        let gone = own.join("gone");
        remove(&gone)?;
        fs::rename(&workspace.path, &gone).map_err(|error| unusable(&workspace.path, &error))?;
        held.remove()?;
        let url = &workspace.record.url;
        let is_needed = keep_mirror || self.list()?.iter().any(|other| other.record.url == *url);
        let mirror = self.folders.mirror(url);
        if is_needed || !mirror.exists() {
            return Ok(Deleted { with_mirror: false });
        }
        Mirror::open(self.folders.hold(mirror, say).await?)
            .await?
            .remove()?;
        Ok(Deleted { with_mirror: true })
    }

    async fn refuse_losses(&self, workspace: &Workspace) -> Result<(), Error> {
        let name = &workspace.name;
        if let Some(pid) = process_below(&workspace.path) {
            return Err(Error::user(format!(
                "the process {pid} works in {name}: end it first, or say --force"
            )));
        }
        let losses = self.look(workspace).await.map_err(|error| {
            Error::user(format!(
                "what is in {name} cannot be told: --force deletes it all the same. {error}"
            ))
        })?;
        let losses = losses.losses();
        match losses.is_empty() {
            true => Ok(()),
            false => Err(Error::user(format!(
                "{name} has {}: `nb workspace delete {name} --force` loses that for ever. It is in {}",
                losses.join(", "),
                workspace.path.display()
            ))),
        }
    }

    /// Asks git what of a workspace is nowhere else.
    pub async fn look(&self, workspace: &Workspace) -> Result<look::Look, Error> {
        let works_in = self.folders.own(&workspace.name);
        let tree = Repository::of_tree(workspace.path.clone(), works_in);
        let mirror = self.folders.mirror(&workspace.record.url).join("git");
        let mirror = mirror
            .join("HEAD")
            .exists()
            .then(|| Repository::bare(mirror.clone(), mirror));
        let commit = workspace.record.commit.as_deref();
        look::look(&tree, mirror.as_ref(), commit).await
    }

    /// Removes what creations and deletions that were killed have left.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        for entry in fs::read_dir(self.folders.all())
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(name) = entry.file_name().to_str() {
                self.sweep_one(name).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn sweep_one(&self, name: &str) -> Result<(), Error> {
        let own = self.folders.own(name);
        if !own.exists() || self.find(name).is_ok() {
            return Ok(());
        }
        let Some(held) = self.folders.try_hold(own.clone())? else {
            return Ok(());
        };
        if self.find(name).is_ok() {
            return Ok(());
        }
        leftovers::end(&own).await?;
        let _completing = self.stop_completing(name, &|_| ()).await?;
        held.remove()
    }
}

/// A process that works below a folder, as far as we may know.
fn process_below(folder: &Path) -> Option<u32> {
    let folder = folder.canonicalize().ok()?;
    let ourselves = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .find(|pid| {
            let works_in = fs::read_link(format!("/proc/{pid}/cwd"));
            *pid != ourselves && works_in.is_ok_and(|works_in| works_in.starts_with(&folder))
        })
}
