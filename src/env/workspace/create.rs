//! The order of a creation: its files are there as soon as can be, the rest comes later.
//!
//! A workspace is there when its tree is at its place and its record is written; before that it is in a folder of ours that goes if it fails.

use std::fs;

use jiff::Timestamp;

use super::mirror::Mirror;
use super::places::{Held, remove, unusable};
use super::record::{Completion, Record};
use super::remote::{self, Found};
use super::tree::Tree;
use super::{Workspace, Workspaces, name};
use crate::env::git::Address;
use crate::env::{Say, leftovers};
use crate::error::Error;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As git takes it; it may hold a login.
    pub url: &'a str,
    /// By default that of the repository.
    pub name: Option<&'a str>,
    /// A branch, a tag or a whole hash; by default the repository's own branch.
    pub reference: Option<&'a str>,
    /// The folders whose files are wanted; all if there are none.
    pub paths: &'a [String],
}

/// What that comes to, and nothing of it has been begun.
#[derive(Debug)]
pub struct Planned {
    pub name: String,
    address: Address,
    reference: Option<String>,
    paths: Vec<String>,
}

impl Planned {
    /// Reads what is asked for.
    pub fn read(asked: &Asked<'_>) -> Result<Self, Error> {
        let address = Address::of(asked.url)?;
        let name = match asked.name {
            Some(name) if name::is_valid(name) => name.to_owned(),
            Some(name) => {
                return Err(Error::user(format!(
                    "{} cannot be the name of a workspace: it has up to 64 letters, digits, dots, dashes and underscores, and begins with one of \
                     the first two or an underscore",
                    name.escape_debug()
                )));
            }
            None => name::of_address(&address.bare).ok_or_else(|| {
                Error::user(format!(
                    "{} ends in no name for a workspace: give it one with --name",
                    address.bare
                ))
            })?,
        };
        let paths = asked.paths.iter().map(|path| {
            name::folder(path).ok_or_else(|| {
                Error::user(format!(
                    "{} is no folder of a repository: --paths takes paths from its root",
                    path.escape_debug()
                ))
            })
        });
        Ok(Self {
            name,
            address,
            reference: asked.reference.map(str::to_owned),
            paths: paths.collect::<Result<_, _>>()?,
        })
    }
}

impl Workspaces {
    /// Makes a workspace that is not complete yet.
    pub async fn create(&self, planned: &Planned, say: Say<'_>) -> Result<Workspace, Error> {
        self.sweep().await?;
        let name = &planned.name;
        let own = self.folders.own(name);
        let held = self.folders.hold(own.clone(), say).await?;
        let place = self.folders.tree(name);
        if let Some(there) = Record::read(&own).filter(|_| place.is_dir()) {
            return Err(Error::user(format!(
                "there is a workspace {name} already, of {}: --name gives this one another name",
                there.url
            )));
        }
        if fs::symlink_metadata(&place).is_ok() {
            let place = place.display();
            return Err(Error::user(format!(
                "{place} is in the way, and no workspace: move it away, or give --name"
            )));
        }
        leftovers::end(&own).await?;
        let part = own.join("tree");
        remove(&part)?;
        match self.make(planned, &held, say).await {
            Ok(record) => {
                fs::rename(&part, &place).map_err(|error| unusable(&place, &error))?;
                let step = "begins".to_owned();
                let at = Timestamp::now();
                Completion::Running { step, at }.write(&own)?;
                record.write(&own)?;
                Ok(self.workspace(name.clone(), record))
            }
            Err(error) => {
                held.remove()?;
                Err(error)
            }
        }
    }

    /// Removes what a creation that was given up has left.
    pub async fn give_up(&self, planned: &Planned) -> Result<(), Error> {
        self.sweep_one(&planned.name).await
    }

    async fn make(&self, planned: &Planned, held: &Held, say: Say<'_>) -> Result<Record, Error> {
        let Planned { address, paths, .. } = planned;
        let own = held.folder.clone();
        let Found { reference, default } =
            remote::find(address, planned.reference.as_deref(), &own).await?;
        let tree = Tree::at(own.join("tree"), own);
        tree.begin(address).await?;
        // While somebody brings all of it, which may take long, a tree has what it needs by itself.
        let mirror = match self.folders.try_hold(self.folders.mirror(&address.bare))? {
            Some(held) => Some(Mirror::open(held).await?).filter(Mirror::is_complete),
            None => None,
        };
        let commit = match &mirror {
            Some(mirror) => {
                let commit = mirror.bring(address, &reference, say).await?;
                tree.link(mirror, &reference, &commit).await?;
                commit
            }
            None => {
                tree.fetch(address, &reference, !paths.is_empty(), say)
                    .await?
            }
        };
        drop(mirror);
        tree.check_out(address, &reference, &commit, paths, say)
            .await?;
        Ok(Record {
            url: address.bare.clone(),
            reference: reference.name().to_owned(),
            commit: Some(commit),
            default,
            paths: paths.clone(),
            made: Timestamp::now(),
        })
    }
}
