//! All of a repository, once for all workspaces of a user: what is had of it is not had again.
//!
//! Trees share its packs and never need it: what is tidied here, and even its end, breaks none. Whoever changes it holds its folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::places::{Held, unusable};
use super::remote::Reference;
use super::repository::Repository;
use crate::env::git::Address;
use crate::env::{Say, leftovers};
use crate::error::Error;

/// It says that all was had once: what comes later is little.
const COMPLETE: &str = "complete";

/// Where its branches are.
const BRANCHES: &str = "refs/heads";

/// What git does about a mirror's packs: a larger one is not written anew when it is tidied, since trees share it.
const SHARED_PACK: &str = "gc.bigPackThreshold=32m";

/// What is fetched comes as a pack, however little it is: loose objects are not shared.
const AS_A_PACK: &str = "fetch.unpackLimit=1";

/// A mirror that nobody else changes.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) repository: Repository,
    held: Held,
}

impl Mirror {
    /// Ends what was at work in it when its nb was killed.
    pub(super) async fn open(held: Held) -> Result<Self, Error> {
        leftovers::end(&held.folder).await?;
        let git = held.folder.join("git");
        remove_locks(&git)?;
        let repository = Repository::bare(git, held.folder.clone());
        Ok(Self { repository, held })
    }

    /// Whether all was had once.
    pub(super) fn is_complete(&self) -> bool {
        self.held.folder.join(COMPLETE).exists()
    }

    /// Brings what a tree is to be made of; the commit.
    pub(super) async fn bring(
        &self,
        address: &Address,
        reference: &Reference,
        say: Say<'_>,
    ) -> Result<String, Error> {
        self.fetch(address, &[&reference.refspec(BRANCHES)], say)
            .await?;
        let kept = match reference {
            Reference::Branch(name) => format!("{BRANCHES}/{name}"),
            Reference::Tag(name) => format!("refs/tags/{name}"),
            Reference::Commit(hash) => hash.clone(),
        };
        let commit = format!("{kept}^{{commit}}");
        let commit = self
            .repository
            .answer(&["rev-parse", "--verify", &commit])
            .await?;
        Ok(commit.trim().to_owned())
    }

    /// Brings all branches and tags with all that is in them, and forgets those that are gone.
    pub(super) async fn complete(&self, address: &Address, say: Say<'_>) -> Result<(), Error> {
        self.repository.init(&["--bare", "--template="]).await?;
        let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.fetch(address, &[&["--prune"], &all[..]].concat(), say)
            .await?;
        let marker = self.held.folder.join(COMPLETE);
        fs::write(&marker, "").map_err(|error| unusable(&marker, &error))
    }

    /// Removes it.
    pub(super) fn remove(self) -> Result<(), Error> {
        self.held.remove()
    }

    async fn fetch(&self, address: &Address, more: &[&str], say: Say<'_>) -> Result<(), Error> {
        let (flags, refspecs): (Vec<&str>, Vec<&str>) =
            more.iter().partition(|argument| argument.starts_with("--"));
        let mut arguments = vec![
            "-c",
            SHARED_PACK,
            "-c",
            AS_A_PACK,
            "fetch",
            "--progress",
            "--force",
        ];
        arguments.extend([
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ]);
        arguments.extend(flags);
        arguments.extend(["--", &address.bare]);
        arguments.extend(refspecs);
        self.repository.ask(address, &arguments, say).await
    }
}

/// What a git that was killed leaves; nobody is at work here.
fn remove_locks(git: &Path) -> Result<(), Error> {
    let mut folders: Vec<PathBuf> = vec![git.to_owned(), git.join("objects"), git.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && path.starts_with(git.join("refs")) {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "lock") {
                fs::remove_file(&path).map_err(|error| unusable(&path, &error))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_a_killed_git_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path();
        fs::create_dir_all(git.join("refs/heads/a")).unwrap();
        let (lock, other) = (git.join("refs/heads/a/b.lock"), git.join("refs/heads/a/b"));
        for path in [&lock, &other, &git.join("shallow.lock")] {
            fs::write(path, "").unwrap();
        }
        remove_locks(git).unwrap();
        assert!(!lock.exists() && !git.join("shallow.lock").exists() && other.exists());
    }
}
