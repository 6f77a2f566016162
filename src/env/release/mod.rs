//! Releases of a batteries-included Python: environments that nobody changes once they are whole.
//!
//! ```text
//! <data>/releases/pycx/
//!   2026.11.28-1a2b3c4d/   the environment, tested: it has a nb-release.json, written last
//! <data>/kernels/pycx/     the kernelspec, which names the current one: what kernels are started in
//! ```
//!
//! A promotion is a new kernelspec and changes nothing for kernels that run.
//! Knows nothing of how one is made, which is `build`, nor of how one goes, which is `remains`.

mod build;
mod first_party;
mod manifest;
mod recipe;
mod remains;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kernelspec::{self, Template};
use crate::error::Error;

pub use manifest::Manifest;
pub(super) use manifest::in_repository;
pub(super) use recipe::PYCX_LOCK;
pub use recipe::{Checkout, Recipe};

/// Written last, so a release without it is an unfinished one.
const RECORD: &str = "nb-release.json";

/// What a kernelspec's `metadata.nb` calls its release.
pub const RELEASE: &str = "release";

/// What a release is, as its folder says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its date, the start of its content's hash, and that of its commit after `-g`: its folder's name.
    pub name: String,
    pub created: Timestamp,
    /// The version of its Python.
    pub python: String,
    /// What is in it, with versions.
    pub packages: BTreeMap<String, String>,
    /// The SHA-256 of its lock and its Python's version, and of what a commit has of it.
    pub content: String,
    /// The commit of a repository that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// What one release has of a package, and another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub package: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// The releases of one name.
#[derive(Clone, Debug)]
pub struct Releases {
    /// What they are called to people.
    title: &'static str,
    data: PathBuf,
    folder: PathBuf,
    kernelspec: Template,
}

impl Releases {
    /// Those of PyCX under nb's data folder.
    pub fn pycx(data: &Path) -> Self {
        Self {
            title: "PyCX",
            data: data.to_owned(),
            folder: data.join("releases/pycx"),
            kernelspec: kernelspec::PYCX,
        }
    }

    /// All that are whole, the newest first.
    pub fn list(&self) -> Vec<Release> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let found = folders.filter_map(|folder| self.read(folder.file_name().to_str()?));
        let mut releases: Vec<_> = found.collect();
        releases.sort_by(|one, other| (other.created, &other.name).cmp(&(one.created, &one.name)));
        releases
    }

    /// The one that kernels are started in.
    pub fn current(&self) -> Option<Release> {
        let spec = self.kernelspec.written(&self.data)?;
        self.read(spec.metadata.get("nb")?.get(RELEASE)?.as_str()?)
    }

    /// The Python of a release.
    pub fn python(&self, release: &Release) -> PathBuf {
        self.folder.join(&release.name).join("bin/python")
    }

    /// Kernels are started in this one from now on.
    pub fn promote(&self, release: &Release) -> Result<(), Error> {
        let mut spec = self.kernelspec.spec()?;
        if let Some(program) = spec.argv.first_mut() {
            *program = self.python(release).to_string_lossy().into_owned();
        }
        spec.display_name = format!("Python ({} {})", self.title, release.date());
        let nb = spec.metadata.get_mut("nb").and_then(Value::as_object_mut);
        if let Some(nb) = nb {
            nb.insert(RELEASE.to_owned(), release.name.clone().into());
        }
        self.kernelspec.write(&spec, &self.data)
    }

    /// Promotes the release of this name, or the one before the current one.
    pub fn roll_back(&self, to: Option<&str>) -> Result<Release, Error> {
        let releases = self.list();
        let found = match to {
            Some(name) => releases.iter().find(|release| release.name == name),
            None => {
                let current = self.current().map(|release| release.name);
                let mut older = releases.iter();
                older.find(|release| Some(&release.name) == current.as_ref());
                older.next()
            }
        };
        let Some(release) = found else {
            let names: Vec<_> = releases.iter().map(|release| &*release.name).collect();
            return Err(Error::user(format!(
                "there is no {} of {}; there are: {}",
                to.map_or("older release".to_owned(), |name| format!("release {name}")),
                self.title,
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            )));
        };
        self.promote(release)?;
        Ok(release.clone())
    }

    /// The release of this name.
    pub fn find(&self, name: &str) -> Option<Release> {
        let is_name = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        is_name.then(|| self.read(name))?
    }

    fn read(&self, name: &str) -> Option<Release> {
        let record = fs::read(self.folder.join(name).join(RECORD)).ok()?;
        let release: Release = serde_json::from_slice(&record).ok()?;
        (release.name == name).then_some(release)
    }

    fn lock(&self) -> PathBuf {
        self.folder.join("build.lock")
    }

    fn unusable(&self, error: &io::Error) -> Error {
        let folder = self.folder.display();
        Error::user(format!("the folder {folder} cannot be used: {error}"))
    }
}

impl Release {
    /// What it is called in a list of kernels.
    fn date(&self) -> &str {
        self.name.split('-').next().unwrap_or(&self.name)
    }

    /// What differs from here to the other one, by package.
    pub fn changes(&self, to: &Self) -> Vec<Change> {
        let mut packages: Vec<_> = self.packages.keys().chain(to.packages.keys()).collect();
        packages.sort();
        packages.dedup();
        let change = |package: &String| Change {
            package: package.clone(),
            from: self.packages.get(package).cloned(),
            to: to.packages.get(package).cloned(),
        };
        let changes = packages.into_iter().map(change);
        changes.filter(|change| change.from != change.to).collect()
    }
}

#[cfg(test)]
mod tests;
