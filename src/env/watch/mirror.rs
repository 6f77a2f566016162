//! A repository as git has it here: a bare one with the newest commit of what is followed.
//!
//! Knows nothing of manifests.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use crate::env::Say;
use crate::env::git::{self, Address};
use crate::env::tool::{self, Failure};
use crate::error::Error;

/// A first look at a large repository takes long; one that makes no way ends before.
const FETCH_LIMIT: Duration = Duration::from_mins(30);

/// What is fetched, here.
const WATCHED: &str = "refs/nb/watched";

/// What git says that is not text of a file.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a git that was killed leaves.
const LOCKS: [&str; 7] = [
    "HEAD.lock",
    "config.lock",
    "gc.pid.lock",
    "objects/maintenance.lock",
    "packed-refs.lock",
    "refs/nb/watched.lock",
    "shallow.lock",
];

/// What a name of a commit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// The hash of its content.
    pub(super) id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Submodule,
}

impl Kind {
    /// What it is to people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link, which is not followed",
            Self::Submodule => "a submodule, which is not followed",
        }
    }
}

/// One repository, and where it is.
#[derive(Debug)]
pub(super) struct Mirror {
    address: Address,
    folder: PathBuf,
    /// What its processes are found by.
    works_in: PathBuf,
}

impl Mirror {
    /// Makes it where it is missing or half made. The caller holds the lock on `works_in`.
    pub(super) async fn open(
        address: Address,
        folder: PathBuf,
        works_in: PathBuf,
    ) -> Result<Self, Error> {
        let mirror = Self {
            address,
            folder,
            works_in,
        };
        for lock in LOCKS {
            match fs::remove_file(mirror.folder.join(lock)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(mirror.unusable(&error));
                }
                _ => {}
            }
        }
        let mut init = mirror.git();
        // Without the templates, and so the hooks, of whoever runs it.
        init.args(["init", "--quiet", "--bare", "--template="]);
        mirror.run(&mut init).await?;
        Ok(mirror)
    }

    /// Brings the newest commit of a branch, or of what the repository itself takes for its own; its hash.
    pub(super) async fn fetch(&self, branch: Option<&str>, say: Say<'_>) -> Result<String, Error> {
        let from = match branch {
            None => "HEAD".to_owned(),
            Some(branch) => self.reference(branch).await?,
        };
        let mut fetch = self.git();
        let _access = git::log_in(&mut fetch, &self.address, &self.works_in).await?;
        fetch.args([
            "fetch",
            "--quiet",
            "--force",
            "--depth=1",
            "--update-shallow",
        ]);
        fetch.args([
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ]);
        fetch.args(["--", &self.address.bare, &format!("+{from}:{WATCHED}")]);
        let fetched = tool::run_for(&mut fetch, FETCH_LIMIT, say).await;
        fetched.map_err(|failure| {
            let bare = &self.address.bare;
            let what = match branch {
                Some(branch) => format!("the branch {branch}"),
                None => "the default branch".to_owned(),
            };
            match failure {
                Failure::Missing => git::missing(),
                Failure::Failed(said) => Error::user(format!(
                    "{what} of the repository {bare} could not be fetched. git said:\n{said}"
                )),
            }
        })?;
        let mut parse = self.git();
        parse.args(["rev-parse", "--verify", &format!("{WATCHED}^{{commit}}")]);
        let commit = String::from_utf8(self.answer(&mut parse, ANSWER_BYTES_MAX).await?);
        Ok(commit.unwrap_or_default().trim().to_owned())
    }

    /// What a commit has under a path; the root is empty.
    pub(super) async fn entry(&self, commit: &str, path: &str) -> Result<Option<Entry>, Error> {
        let mut command = self.git();
        if path.is_empty() {
            command.args(["rev-parse", "--verify", &format!("{commit}^{{tree}}")]);
            let id = String::from_utf8(self.answer(&mut command, ANSWER_BYTES_MAX).await?);
            return Ok(id.ok().map(|id| Entry {
                kind: Kind::Folder,
                id: id.trim().to_owned(),
            }));
        }
        command.args(["ls-tree", "-z", "--full-tree", commit, "--", path]);
        let listed = self.answer(&mut command, ANSWER_BYTES_MAX).await?;
        let listed = String::from_utf8_lossy(&listed);
        Ok(listed.split('\0').find_map(|line| entry(line, path)))
    }

    /// The text of a file by its hash.
    pub(super) async fn text(
        &self,
        id: &str,
        bytes_max: u64,
    ) -> Result<Result<String, &'static str>, Error> {
        let mut size = self.git();
        size.args(["cat-file", "-s", id]);
        let size = self.answer(&mut size, ANSWER_BYTES_MAX).await?;
        let size: Option<u64> = String::from_utf8_lossy(&size).trim().parse().ok();
        if size.is_none_or(|size| size >= bytes_max) {
            return Ok(Err("is too large"));
        }
        let mut command = self.git();
        command.args(["cat-file", "blob", id]);
        let text = self.answer(&mut command, bytes_max).await?;
        Ok(String::from_utf8(text).map_err(|_| "is not UTF-8"))
    }

    /// The whole name of a branch; git says whether it is one.
    async fn reference(&self, branch: &str) -> Result<String, Error> {
        let whole = match branch.starts_with("refs/") {
            true => branch.to_owned(),
            false => format!("refs/heads/{branch}"),
        };
        let mut check = self.git();
        match tool::run(check.args(["check-ref-format", &whole]), &|_| ()).await {
            Ok(_) => Ok(whole),
            Err(Failure::Missing) => Err(git::missing()),
            Err(Failure::Failed(_)) => Err(Error::user(format!(
                "{} is not a name that a branch can have",
                branch.escape_debug()
            ))),
        }
    }

    pub(super) fn git(&self) -> Command {
        let mut git = git::command(&self.works_in);
        git.arg("--git-dir").arg(&self.folder);
        git
    }

    pub(super) async fn run(&self, command: &mut Command) -> Result<(), Error> {
        let done = tool::run(command, &|_| ()).await;
        done.map(|_| ()).map_err(|failure| self.broken(failure))
    }

    pub(super) async fn answer(
        &self,
        command: &mut Command,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Error> {
        let answer = tool::output(command, bytes_max).await;
        answer.map_err(|failure| self.broken(failure))
    }

    fn broken(&self, failure: Failure) -> Error {
        match failure {
            Failure::Missing => git::missing(),
            Failure::Failed(said) => Error::user(format!(
                "the copy of the repository in {} cannot be used; it can be removed at any time. git said:\n{said}",
                self.folder.display()
            )),
        }
    }

    pub(super) fn unusable(&self, error: &io::Error) -> Error {
        let folder = self.works_in.display();
        Error::user(format!("the folder {folder} cannot be used: {error}"))
    }
}

/// `MODE TYPE HASH TAB PATH`, if it is of this path.
fn entry(line: &str, path: &str) -> Option<Entry> {
    let (about, listed) = line.split_once('\t')?;
    let mut about = about.split(' ');
    let (mode, _, id) = (about.next()?, about.next()?, about.next()?);
    let kind = match mode {
        "040000" => Kind::Folder,
        "120000" => Kind::Link,
        "160000" => Kind::Submodule,
        _ => Kind::File,
    };
    let id = id.to_owned();
    (listed == path).then_some(Entry { kind, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_tree_is_read() {
        let kind = |line| entry(line, "libs/a b").map(|entry| entry.kind);
        assert_eq!(kind("100755 blob 1a\tlibs/a b"), Some(Kind::File));
        assert_eq!(kind("040000 tree 1a\tlibs/a b"), Some(Kind::Folder));
        assert_eq!(kind("120000 blob 1a\tlibs/a b"), Some(Kind::Link));
        assert_eq!(kind("160000 commit 1a\tlibs/a b"), Some(Kind::Submodule));
        for line in ["", "\t", "100644 blob\tlibs/a b", "100644 blob 1a\tlibs/a"] {
            assert_eq!(kind(line), None, "{line}");
        }
    }
}
