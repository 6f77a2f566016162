//! A repository on this machine, and git at work in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::env::Say;
use crate::env::git::{self, Address};
use crate::env::tool::{self, Failure};
use crate::error::Error;

/// A first look at a large repository takes long; one that makes no way ends before.
const FETCH_LIMIT: Duration = Duration::from_hours(6);

/// What git says of a repository: names of branches and of what was changed.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Where it is, and what its processes are found by.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    git_dir: PathBuf,
    tree: Option<PathBuf>,
    works_in: PathBuf,
}

impl Repository {
    /// One without a tree.
    pub(super) fn bare(git_dir: PathBuf, works_in: PathBuf) -> Self {
        Self {
            git_dir,
            tree: None,
            works_in,
        }
    }

    /// That of a tree.
    pub(super) fn of_tree(tree: PathBuf, works_in: PathBuf) -> Self {
        Self {
            git_dir: tree.join(".git"),
            tree: Some(tree),
            works_in,
        }
    }

    /// A file of git's own, or a folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.git_dir.join(name)
    }

    /// The objects of one are those of the other too.
    pub(super) fn share_with(&self, other: &Self) -> Result<(), Error> {
        let (from, to) = (self.file("objects"), other.file("objects"));
        super::packs::share(&from, &to).map_err(|error| super::places::unusable(&to, &error))
    }

    /// Makes it where it is missing.
    pub(super) async fn init(&self, more: &[&str]) -> Result<(), Error> {
        let mut init = git::command(&self.works_in);
        init.args(["init", "--quiet"]).args(more);
        init.arg("--")
            .arg(self.tree.as_deref().unwrap_or(&self.git_dir));
        self.run_it(&mut init, &|_| ()).await.map(|_| ())
    }

    /// Runs git and gives what it prints.
    pub(super) async fn answer(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = self.git();
        let printed = tool::output(command.args(arguments), ANSWER_BYTES_MAX).await;
        let printed = printed.map_err(|failure| self.fault(failure))?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// Whether git says yes.
    pub(super) async fn is(&self, arguments: &[&str]) -> Result<bool, Error> {
        match tool::run(self.git().args(arguments), &|_| ()).await {
            Ok(_) => Ok(true),
            Err(Failure::Missing) => Err(git::missing()),
            Err(Failure::Failed(_)) => Ok(false),
        }
    }

    /// Runs git for what it does here.
    pub(super) async fn run(&self, arguments: &[&str], say: Say<'_>) -> Result<(), Error> {
        self.run_it(self.git().args(arguments), say).await
    }

    /// The same, and it may ask the repository that this one is of.
    pub(super) async fn ask(
        &self,
        address: &Address,
        arguments: &[&str],
        say: Say<'_>,
    ) -> Result<(), Error> {
        let mut command = self.git();
        let _access = git::log_in(&mut command, address, &self.works_in).await?;
        let done = tool::run_for(command.args(arguments), FETCH_LIMIT, say).await;
        done.map(|_| ()).map_err(|failure| match failure {
            Failure::Missing => git::missing(),
            Failure::Failed(said) => not_had(address, &said),
        })
    }

    fn git(&self) -> Command {
        let mut git = git::command(&self.works_in);
        git.arg("--git-dir").arg(&self.git_dir);
        if let Some(tree) = &self.tree {
            git.arg("--work-tree").arg(tree).current_dir(tree);
        }
        git
    }

    async fn run_it(&self, command: &mut Command, say: Say<'_>) -> Result<(), Error> {
        let done = tool::run_for(command, FETCH_LIMIT, say).await;
        done.map(|_| ()).map_err(|failure| self.fault(failure))
    }

    fn fault(&self, failure: Failure) -> Error {
        let folder: &Path = self.tree.as_deref().unwrap_or(&self.git_dir);
        match failure {
            Failure::Missing => git::missing(),
            Failure::Failed(said) => Error::user(format!(
                "git could not work in {}. It said:\n{}",
                folder.display(),
                without_progress(&said)
            )),
        }
    }
}

/// What was asked of a repository somewhere else failed.
pub(super) fn not_had(address: &Address, said: &str) -> Error {
    Error::user(format!(
        "the repository {} could not be had. git said:\n{}",
        address.bare,
        without_progress(said)
    ))
}

/// Of what git says the lines that stay.
fn without_progress(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !is_progress(line)).collect();
    lines.join("\n")
}

/// Whether git writes over this line: `Receiving objects:  45% (900/2000), 1.2 MiB | 3 MiB/s`.
fn is_progress(line: &str) -> bool {
    line.contains("% (")
        || line.contains("objects: ") && line.ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_told_without_what_it_counts() {
        let said = "remote: Counting objects: 7\nReceiving objects:  45% (9/20), 1.2 MiB\nfatal: early EOF";
        assert_eq!(without_progress(said), "fatal: early EOF");
    }
}
