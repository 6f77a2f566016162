//! What is written down of a workspace: of what it is, and how far it is complete.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::places::unusable;
use crate::error::Error;
use crate::plain_file;

/// A larger file is none of ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

const RECORD: &str = "workspace.json";
const COMPLETION: &str = "completion.json";

/// What a workspace was made of. Once it is there, so is the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// As git takes it, without a login.
    pub(super) url: String,
    /// The branch, the tag or the commit that was asked for or is the repository's own.
    #[serde(rename = "ref")]
    pub(super) reference: String,
    /// What that was then; older ones do not say it.
    #[serde(default)]
    pub(super) commit: Option<String>,
    /// The branch that is the repository's own.
    pub(super) default: Option<String>,
    /// Its folders; all of them if there are none.
    pub(super) paths: Vec<String>,
    pub(super) made: Timestamp,
}

/// How far a workspace has the whole history and all branches of its repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Completion {
    /// A process is at it, or was when it was killed.
    Running { step: String, at: Timestamp },
    /// It was tried, and is tried again.
    Failed { why: String, at: Timestamp },
    /// Nothing more is needed of anywhere.
    Complete { at: Timestamp },
}

impl Record {
    /// The one in this folder.
    pub(super) fn read(own: &Path) -> Option<Self> {
        read(&own.join(RECORD))
    }

    pub(super) fn write(&self, own: &Path) -> Result<(), Error> {
        write(&own.join(RECORD), self)
    }
}

impl Completion {
    pub(super) fn read(own: &Path) -> Option<Self> {
        read(&own.join(COMPLETION))
    }

    pub(super) fn write(&self, own: &Path) -> Result<(), Error> {
        write(&own.join(COMPLETION), self)
    }
}

/// What was not written by this nb is as good as nothing.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&plain_file::bytes(path, FILE_BYTES_MAX).ok()?).ok()
}

fn write(path: &Path, what: &impl Serialize) -> Result<(), Error> {
    let write = || {
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_vec(what)?)?;
        fs::rename(part, path)
    };
    write().map_err(|error: io::Error| unusable(path, &error))
}
