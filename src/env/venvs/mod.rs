//! The environments that nb keeps beside releases, all together: which there are, how they go, and those of somebody's own
//! that become a kernel (`add`).
//!
//! Knows nothing of what is installed in one.

mod add;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::in_use::{is_supervised, process_in};
use super::kernelspec::own_kernelspecs;
use super::named::{Named, Record};
use super::pip::Failure;
use super::{KernelEnvironment, Say};
use crate::protocol::kernelspec::is_valid_name;

pub use add::{Added, add};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Venv {
    pub name: String,
    pub kind: Kind,
    pub notebook: Option<String>,
    /// Where it is.
    pub path: PathBuf,
    pub python: Option<String>,
    /// What it takes on the disk; nothing of what is somebody's own.
    pub bytes: Option<u64>,
    pub created: Timestamp,
    /// When a kernel was last started in it.
    pub used: Option<Timestamp>,
    /// Whose notebook is gone.
    pub orphaned: bool,
}

impl Venv {
    /// Whether a process runs in it, or may again.
    pub fn is_in_use(&self) -> bool {
        process_in(&self.path).is_some() || self.notebook.as_deref().is_some_and(is_supervised)
    }
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Notebook => "notebook",
            Self::Named => "named",
            Self::Added => "added",
        }
    }
}

/// What one is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Notebook,
    Named,
    /// Somebody's own.
    Added,
}

/// All that are whole, by name.
pub fn list(data: &Path) -> Vec<Venv> {
    let mut all: Vec<Venv> = records(data)
        .map(|(name, named, record)| venv(name, &named, record))
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn records(data: &Path) -> impl Iterator<Item = (String, Named, Record)> {
    let folders = fs::read_dir(data.join("venvs"))
        .into_iter()
        .flatten()
        .flatten();
    folders.filter_map(move |folder| {
        let name = folder.file_name().into_string().ok()?;
        let named = Named::new(data, &name);
        let record = named.record()?;
        Some((name, named, record))
    })
}

fn venv(name: String, named: &Named, record: Record) -> Venv {
    let kind = match (&record.path, &record.notebook) {
        (Some(_), _) => Kind::Added,
        (None, Some(_)) => Kind::Notebook,
        (None, None) => Kind::Named,
    };
    let is_gone = |notebook: &String| !Path::new(notebook).is_file();
    Venv {
        name,
        kind,
        path: named.environment(),
        python: named.python_version().map(|version| version.to_string()),
        bytes: (kind != Kind::Added).then(|| bytes(&named.folder)),
        created: record.created,
        used: named.used(),
        orphaned: record.notebook.as_ref().is_some_and(is_gone),
        notebook: record.notebook,
    }
}

/// The path by which nb knows a notebook that it has an environment for.
pub(super) fn known_as(data: &Path, notebook: &Path) -> Option<String> {
    let real = notebook.canonicalize().ok()?;
    let mut known = records(data).filter_map(|(_, _, record)| record.notebook);
    known.find(|known| {
        Path::new(known)
            .canonicalize()
            .is_ok_and(|known| known == real)
    })
}

/// The name of an environment that somebody means by its name or by its notebook.
pub fn name_of(data: &Path, meant: &str) -> Option<String> {
    let is_there = |name: &str| Named::new(data, name).record().is_some();
    if is_valid_name(meant) && is_there(meant) {
        return Some(meant.to_owned());
    }
    let notebook = std::path::absolute(meant).ok()?;
    let name = KernelEnvironment::of_notebook(data, &notebook).name()?;
    is_there(&name).then_some(name)
}

/// Removes one; what is in a folder of somebody's own stays. Refused while a process runs in it, unless `force`.
pub async fn remove(data: &Path, name: &str, force: bool, say: Say<'_>) -> Result<(), Failure> {
    let named = Named::new(data, name);
    let Some(record) = named.record().filter(|_| is_valid_name(name)) else {
        return Err(Failure::new(format!(
            "There is no environment {name}; `nb env list` shows them."
        )));
    };
    if let Some(pid) = process_in(&named.environment()).filter(|_| !force) {
        return Err(Failure::new(format!(
            "A process runs in {name} (pid {pid}); end it first, or say --force."
        )));
    }
    if record.path.is_some() {
        let spec = own_kernelspecs(data).join(name);
        match fs::remove_dir_all(&spec) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let spec = spec.display();
                return Err(Failure::new(format!("{spec} cannot be removed: {error}.")));
            }
            _ => {}
        }
    }
    named.remove(say).await
}

/// What is below a folder takes on its disk; what cannot be read is left out.
pub fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| {
        let Ok(about) = fs::symlink_metadata(entry.path()) else {
            return 0;
        };
        let below = if about.is_dir() {
            bytes(&entry.path())
        } else {
            0
        };
        below + about.blocks() * 512
    });
    sizes.sum()
}
