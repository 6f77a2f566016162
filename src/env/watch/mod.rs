//! A repository that is followed: a commit that changes what a release is made of makes the next release.
//!
//! ```text
//! <data>/watch/pycx/
//!   watch.lock        held by the one that watches
//!   1a2b3c4d.git      the repository, as far as it is followed
//!   5e6f7a8b.json     what was made of which content last
//!   tree/             the first-party packages of the commit that a release is made of
//! ```
//!
//! Knows nothing of when it looks, nor of how a release is made.

mod export;
mod follow;
mod mirror;

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use self::follow::{Followed, Paths};
use self::mirror::Mirror;
use super::git::Address;
use super::release::{Release, Releases};
use super::{Say, Uv, hex, leftovers, lock};
use crate::config::private_folder;
use crate::error::Error;

/// What failed is tried again after that, without another commit: it may not have been its fault.
const TRY_AGAIN: Duration = Duration::from_hours(1);

/// What is followed.
#[derive(Clone, Debug)]
pub struct Watched<'a> {
    /// As git takes it.
    pub repository: &'a str,
    /// A branch; by default what the repository itself takes.
    pub branch: Option<&'a str>,
    /// The manifest's path there.
    pub manifest: &'a str,
    /// The lock's; by default beside the manifest, and none if there is none.
    pub lock: Option<&'a str>,
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing that is followed has changed.
    Unchanged {
        commit: String,
        /// What was made of it; none if that failed and is not tried again yet.
        release: Option<Release>,
    },
    /// There is a release of this commit, and it is the current one.
    Released {
        commit: String,
        release: Release,
        /// Whether there was none with this content.
        is_new: bool,
    },
    /// The current release stays what it was.
    Failed { commit: Option<String>, why: Error },
}

/// One that watches.
#[derive(Debug)]
pub struct Watch {
    folder: PathBuf,
    data: PathBuf,
    releases: Releases,
    mirror: Mirror,
    branch: Option<String>,
    paths: Paths,
    seen: PathBuf,
    failed: Option<Failed>,
    _held: File,
}

/// What was made of a content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    source: String,
    release: String,
}

/// What could not be made, and when.
#[derive(Debug)]
struct Failed {
    source: String,
    at: Instant,
}

impl Watch {
    /// Waits until no other process watches.
    pub async fn open(
        watched: &Watched<'_>,
        releases: Releases,
        data: &Path,
        say: Say<'_>,
    ) -> Result<Self, Error> {
        let paths = Paths::new(watched.manifest, watched.lock)?;
        let address = Address::of(watched.repository)?;
        let all = data.join("watch");
        let folder = all.join("pycx");
        for folder in [data, &all, &folder] {
            private_folder(folder)?;
        }
        let held = lock::exclusive(&folder.join("watch.lock"), say).await?;
        leftovers::end(&folder).await?;
        let branch = watched.branch.unwrap_or_default();
        let of = [
            &address.bare,
            branch,
            &paths.manifest,
            watched.lock.unwrap_or_default(),
        ];
        let seen = folder.join(format!("{}.json", hash(&of.join("\n"))));
        let git = folder.join(format!("{}.git", hash(&address.bare)));
        Ok(Self {
            mirror: Mirror::open(address, git, folder.clone()).await?,
            folder,
            data: data.to_owned(),
            releases,
            branch: watched.branch.map(str::to_owned),
            paths,
            seen,
            failed: None,
            _held: held,
        })
    }

    /// Looks once, and makes a release if there is something new; `begins` is told the commit before.
    pub async fn look(&mut self, begins: &dyn Fn(&str), say: Say<'_>) -> Looked {
        let failed = |commit: Option<&str>, why| Looked::Failed {
            commit: commit.map(str::to_owned),
            why,
        };
        let commit = match self.mirror.fetch(self.branch.as_deref(), say).await {
            Ok(commit) => commit,
            Err(why) => {
                let _next_time = leftovers::end(&self.folder).await;
                return failed(None, why);
            }
        };
        let followed = Followed::read(&self.mirror, &commit, &self.paths).await;
        // What cannot be read is another thing with the next commit.
        let source = match &followed {
            Ok(followed) => followed.source(),
            Err(_) => commit.clone(),
        };
        let seen = self.seen(&source);
        if seen.is_some() || self.has_failed(&source) {
            return Looked::Unchanged {
                commit,
                release: seen,
            };
        }
        let made = match followed {
            Ok(followed) => {
                begins(&commit);
                self.make(followed, say).await
            }
            Err(why) => Err(why),
        };
        let made = made.and_then(|(release, is_new)| {
            self.keep(source.clone(), &release)?;
            Ok((release, is_new))
        });
        match made {
            Ok((release, is_new)) => {
                self.failed = None;
                Looked::Released {
                    commit,
                    release,
                    is_new,
                }
            }
            Err(why) => {
                let at = Instant::now();
                self.failed = Some(Failed { source, at });
                failed(Some(&commit), why)
            }
        }
    }

    /// Ends what is at work when a look was dropped, and removes what it had begun.
    pub async fn tidy(&self, say: Say<'_>) -> Result<(), Error> {
        leftovers::end(&self.folder).await?;
        let _next_time = fs::remove_dir_all(self.tree());
        self.releases.tidy(say).await
    }

    async fn make(&self, followed: Followed, say: Say<'_>) -> Result<(Release, bool), Error> {
        let recipe = followed.export(&self.mirror, &self.tree()).await?;
        let uv = Uv::find(&self.data, say).await?;
        let made = self.releases.build(&recipe, &uv, say).await;
        let _next_time = fs::remove_dir_all(self.tree());
        made
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// The release that was made of this content at last, if it is still there. Whether it is the current one is not
    /// asked: somebody may have gone back to another one on purpose.
    fn seen(&self, source: &str) -> Option<Release> {
        let seen: Seen = serde_json::from_slice(&fs::read(&self.seen).ok()?).ok()?;
        let mut releases = self.releases.list().into_iter();
        let release = releases.find(|release| release.name == seen.release)?;
        (seen.source == source).then_some(release)
    }

    fn keep(&self, source: String, release: &Release) -> Result<(), Error> {
        let release = release.name.clone();
        let write = || {
            let part = self.seen.with_extension("part");
            fs::write(&part, serde_json::to_vec(&Seen { source, release })?)?;
            fs::rename(part, &self.seen)
        };
        write().map_err(|error: std::io::Error| {
            let folder = self.folder.display();
            Error::user(format!("the folder {folder} cannot be used: {error}"))
        })
    }

    fn has_failed(&self, source: &str) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|failed| failed.source == source && failed.at.elapsed() < TRY_AGAIN)
    }
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}
