//! Releases of a batteries-included Python: environments that nobody changes once they are whole.
//!
//! ```text
//! <data>/releases/pycx/
//!   2026.11.28-1a2b3c4d/   the environment, tested: it has a nb-release.json, written last
//! <data>/kernels/pycx/     the kernelspec, which names the current one: what kernels are started in
//! ```
//!
//! A promotion is a new kernelspec and changes nothing for kernels that run.
//! Knows nothing of how one is made, which is `build`.

mod build;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kernelspec::{self, Template};
use super::{Say, lock};
use crate::error::Error;

pub use build::Recipe;

/// Written last, so a release without it is an unfinished one.
const RECORD: &str = "nb-release.json";

/// What a kernelspec's `metadata.nb` calls its release.
pub const RELEASE: &str = "release";

/// What a release is, as its folder says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its date and the start of its content's hash, which is its folder's name.
    pub name: String,
    pub created: Timestamp,
    /// The version of its Python.
    pub python: String,
    /// What is in it, with versions.
    pub packages: BTreeMap<String, String>,
    /// The SHA-256 of its lock and its Python's version.
    pub content: String,
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

    /// Removes all but the current one, the newest `keep`, and those that a process runs in; their names.
    pub async fn collect(&self, keep: usize, say: Say<'_>) -> Result<Vec<String>, Error> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        // Nobody builds meanwhile, so what is unfinished is left over.
        let _held = lock::exclusive(&self.lock(), say).await?;
        let kept: Vec<_> = self.list().into_iter().take(keep).collect();
        let stays = |name: &str| {
            let is_it = |release: &Release| release.name == name;
            kept.iter().any(is_it) || self.current().as_ref().is_some_and(is_it)
        };
        let mut removed = Vec::new();
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for folder in folders
            .map(|folder| folder.path())
            .filter(|folder| is_folder(folder))
        {
            let name = folder.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| !stays(name)) else {
                continue;
            };
            if is_in_use(&folder) {
                say(&format!("{name} stays: a process runs in it"));
                continue;
            }
            say(&format!("removes {name}"));
            remove(&folder).map_err(|error| self.unusable(&error))?;
            removed.push(name.to_owned());
        }
        removed.sort();
        Ok(removed)
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

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

/// Whether a process was started from a program in this folder.
fn is_in_use(folder: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut programs =
        processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let folder = folder.join("").into_os_string().into_encoded_bytes();
    programs.any(|program| program.starts_with(&folder))
}

/// Removes a folder whose folders may be read-only.
fn remove(folder: &Path) -> io::Result<()> {
    set_writable(folder, true)?;
    fs::remove_dir_all(folder)
}

/// Lets its owner change what is below a folder, or nobody.
fn set_writable(folder: &Path, is_writable: bool) -> io::Result<()> {
    let set = |path: &Path| {
        let mode = fs::symlink_metadata(path)?.permissions().mode();
        let mode = if is_writable {
            mode | 0o200
        } else {
            mode & !0o222
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    if is_writable {
        set(folder)?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            set_writable(&entry.path(), is_writable)?;
        } else if kind.is_file() {
            set(&entry.path())?;
        }
    }
    if is_writable { Ok(()) } else { set(folder) }
}

#[cfg(test)]
mod tests;
