//! A private, writable tree: an ordinary repository whose origin is where its user cloned it from.
//!
//! It depends on nothing of nb's: no alternates, no settings that plain git does not know.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;

use super::mirror::Mirror;
use super::packs;
use super::places::unusable;
use super::remote::Reference;
use super::repository::Repository;
use crate::env::Say;
use crate::env::git::Address;
use crate::error::Error;

const ORIGIN: &str = "origin";

/// Where it has the branches of its origin.
const BRANCHES: &str = "refs/remotes/origin";

/// What says that objects may be missing that the origin has.
const PROMISES: [(&str, &str); 2] = [
    ("remote.origin.promisor", "true"),
    ("remote.origin.partialclonefilter", FILTER),
];

/// Leaves out the content of all files that are not asked for.
const FILTER: &str = "blob:none";

/// Which commits have no history here.
const SHALLOW: &str = "shallow";

/// How many processes write the files: they wait for the file system, so more than there are processors, but those of a large machine
/// are others' too.
const WRITERS_MIN: usize = 4;
const WRITERS_MAX: usize = 16;

fn writers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.clamp(WRITERS_MIN, WRITERS_MAX)
}

/// One tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) repository: Repository,
}

impl Tree {
    pub(super) fn at(folder: PathBuf, works_in: PathBuf) -> Self {
        Self {
            repository: Repository::of_tree(folder, works_in),
        }
    }

    /// Begins one that has nothing yet.
    pub(super) async fn begin(&self, address: &Address) -> Result<(), Error> {
        self.repository.init(&[]).await?;
        let add = ["remote", "add", "--", ORIGIN, &address.bare];
        self.repository.run(&add, &|_| ()).await
    }

    /// Has all that the mirror has, and the commit as what the origin calls so.
    pub(super) async fn link(
        &self,
        mirror: &Mirror,
        reference: &Reference,
        commit: &str,
    ) -> Result<(), Error> {
        mirror.repository.share_with(&self.repository)?;
        let name = match reference {
            Reference::Branch(name) => format!("{BRANCHES}/{name}"),
            Reference::Tag(name) => format!("refs/tags/{name}"),
            Reference::Commit(_) => return Ok(()),
        };
        // An annotated tag is an object of its own.
        let object = match reference {
            Reference::Tag(_) => {
                mirror
                    .repository
                    .answer(&["rev-parse", "--verify", &name])
                    .await?
            }
            _ => commit.to_owned(),
        };
        self.repository
            .run(&["update-ref", &name, object.trim()], &|_| ())
            .await
    }

    /// Has the commit alone, of the origin, and only the files that are asked for if that is `partial`; the commit.
    pub(super) async fn fetch(
        &self,
        address: &Address,
        reference: &Reference,
        is_partial: bool,
        say: Say<'_>,
    ) -> Result<String, Error> {
        let refspec = reference.refspec(BRANCHES);
        let mut arguments = vec![
            "fetch",
            "--progress",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
        ];
        let filter = format!("--filter={FILTER}");
        if is_partial {
            arguments.push(&filter);
        }
        arguments.extend(["--", ORIGIN, &refspec]);
        self.repository.ask(address, &arguments, say).await?;
        let commit = self
            .repository
            .answer(&["rev-parse", "--verify", "FETCH_HEAD^{commit}"])
            .await?;
        Ok(commit.trim().to_owned())
    }

    /// Writes the files of the commit, of these folders alone if there are any. The caller may have to log in, since a partial one has them
    /// of its origin.
    pub(super) async fn check_out(
        &self,
        address: &Address,
        reference: &Reference,
        commit: &str,
        paths: &[String],
        say: Say<'_>,
    ) -> Result<(), Error> {
        for path in paths {
            let of_path = [&["ls-tree", "-d", "--full-tree", commit, "--"][..], &[path]].concat();
            if self.repository.answer(&of_path).await?.is_empty() {
                let name = reference.name();
                return Err(Error::user(format!("{name} has no folder {path}")));
            }
        }
        if !paths.is_empty() {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let set = [&["sparse-checkout", "set", "--cone"], &paths[..]].concat();
            self.repository.run(&set, &|_| ()).await?;
        }
        let upstream = format!("{ORIGIN}/{}", reference.name());
        let what = match reference {
            Reference::Branch(name) => vec!["-B", name, "--track", &upstream],
            Reference::Tag(_) | Reference::Commit(_) => vec!["--detach", commit],
        };
        let workers = format!("checkout.workers={}", writers());
        let options = ["-c", &workers, "checkout", "--progress"];
        let check_out = [&options[..], &what[..], &["--"]].concat();
        self.repository.ask(address, &check_out, say).await
    }

    /// Has all of the mirror, which is whole, and of the origin what is new since.
    pub(super) async fn complete(
        &self,
        address: &Address,
        mirror: &Mirror,
        default: Option<&str>,
        say: Say<'_>,
    ) -> Result<(), Error> {
        mirror.repository.share_with(&self.repository)?;
        let is_shallow = self.repository.file(SHALLOW).exists() && !self.deepen(mirror).await?;
        let mut fetch = vec!["fetch", "--progress", "--tags", "--no-filter"];
        fetch.extend(["--no-recurse-submodules", "--no-write-fetch-head"]);
        if is_shallow {
            fetch.push("--unshallow");
        }
        fetch.extend(["--", ORIGIN]);
        self.repository.ask(address, &fetch, say).await?;
        if let Some(default) = default {
            let _gone = self
                .repository
                .is(&["remote", "set-head", ORIGIN, default])
                .await?;
        }
        self.keep_promises(say).await?;
        self.drop_doubles().await
    }

    /// Removes what it had before it had what the mirror has.
    async fn drop_doubles(&self) -> Result<(), Error> {
        if !packs::has_own(&self.repository.file("objects")) {
            return Ok(());
        }
        // What is in packs that are kept is not packed again, and what nobody refers to stays, loose.
        self.repository
            .run(&["repack", "-A", "-d", "-q"], &|_| ())
            .await
    }

    /// Ends that some commits have no history, if the mirror has it; as git does, by a file that only one may write.
    async fn deepen(&self, mirror: &Mirror) -> Result<bool, Error> {
        let path = self.repository.file(SHALLOW);
        let failed = |error: io::Error| unusable(&path, &error);
        let cut = fs::read_to_string(&path).map_err(failed)?;
        for commit in cut.lines() {
            let has = format!("{commit}^{{commit}}");
            if !mirror.repository.is(&["cat-file", "-e", &has]).await? {
                return Ok(false);
            }
        }
        let lock = path.with_extension("lock");
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&lock)
            .map_err(failed)?;
        // Whoever fetched meanwhile may have cut others.
        let is_same = fs::read_to_string(&path).is_ok_and(|now| now == cut);
        let removed = match is_same {
            true => fs::remove_file(&path),
            false => Ok(()),
        };
        fs::remove_file(&lock).and(removed).map_err(failed)?;
        Ok(is_same)
    }

    /// Ends that objects may be missing, once none is.
    async fn keep_promises(&self, say: Say<'_>) -> Result<(), Error> {
        let git = &self.repository;
        if !git.is(&["config", "--get", PROMISES[0].0]).await? {
            return Ok(());
        }
        say("looks whether anything is missing");
        for (key, _) in PROMISES {
            git.run(&["config", "--unset-all", key], &|_| ()).await?;
        }
        let looked = git
            .run(&["rev-list", "--quiet", "--objects", "--all"], &|_| ())
            .await;
        if looked.is_err() {
            for (key, value) in PROMISES {
                git.run(&["config", key, value], &|_| ()).await?;
            }
        }
        looked
    }
}
