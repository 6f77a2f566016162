//! Workspaces: private, writable trees of git repositories, usable in seconds and completed later.
//!
//! ```text
//! <data>/workspaces/
//!   mono/                     the tree: an ordinary clone, which needs nothing below
//!   .nb/made/mono/            its record, how far it is complete, and locks; `tree` while it is made, `gone` while it goes
//!   .nb/mirrors/1a2b3c4d/git  all of its repository, once for all workspaces; trees share its packs by hard links
//! ```
//!
//! Knows nothing of kernels, nor of how a process that outlives a command is started.

pub mod look;
pub mod name;
pub mod remote;

mod complete;
mod create;
mod delete;
mod mirror;
mod packs;
mod places;
mod record;
mod repository;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub use self::create::{Asked, Planned};
pub use self::delete::Deleted;
pub use self::look::Look;
use self::places::Folders;
pub use self::record::Completion;
use self::record::Record;
use crate::error::Error;

/// All workspaces of a user.
#[derive(Clone, Debug)]
pub struct Workspaces {
    folders: Folders,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub name: String,
    /// Its tree.
    pub path: PathBuf,
    /// None for one whose first try is yet to come.
    pub completion: Option<Completion>,
    record: Record,
}

impl Workspace {
    /// Its repository, without a login.
    pub fn url(&self) -> &str {
        &self.record.url
    }

    /// The branch, tag or commit that it was made of.
    pub fn reference(&self) -> &str {
        &self.record.reference
    }

    /// Its folders; all of them if there are none.
    pub fn paths(&self) -> &[String] {
        &self.record.paths
    }

    pub fn made(&self) -> Timestamp {
        self.record.made
    }

    /// What of the disk goes with it; what it shares with others does not. Looks at every file.
    pub fn own_bytes(&self) -> u64 {
        look::own_bytes(&self.path)
    }
}

impl Workspaces {
    /// Those in this data folder.
    pub fn new(data: &Path) -> Self {
        Self {
            folders: Folders::new(data),
        }
    }

    /// All that are there, by name.
    pub fn list(&self) -> Result<Vec<Workspace>, Error> {
        let entries = fs::read_dir(self.folders.all())
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<_> = names.filter_map(|name| self.one(&name)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// One of this name; the error says which there are.
    pub fn find(&self, name: &str) -> Result<Workspace, Error> {
        let found = Some(name).filter(|name| name::is_valid(name));
        found.and_then(|name| self.one(name)).ok_or_else(|| {
            let all = self.list().unwrap_or_default();
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            let there = match names.is_empty() {
                true => "there is none yet".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            Error::user(format!(
                "there is no workspace {}: {there}; `nb workspace create URL` makes one",
                name.escape_debug()
            ))
        })
    }

    /// The folder of what nb keeps of one beside its tree.
    pub fn folder_of(&self, workspace: &Workspace) -> PathBuf {
        self.folders.own(&workspace.name)
    }

    fn one(&self, name: &str) -> Option<Workspace> {
        let record = Record::read(&self.folders.own(name))?;
        let is_there = self.folders.tree(name).is_dir();
        is_there.then(|| self.workspace(name.to_owned(), record))
    }

    fn workspace(&self, name: String, record: Record) -> Workspace {
        Workspace {
            path: self.folders.tree(&name),
            completion: Completion::read(&self.folders.own(&name)),
            name,
            record,
        }
    }
}
