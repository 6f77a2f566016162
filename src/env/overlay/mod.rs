//! What a notebook, or a user for all notebooks, adds to a release of PyCX.
//!
//! ```text
//! <data>/overlays/<whose>/
//!   nb-overlay.json      what was asked for
//!   <release>/           a layer: a virtual environment whose packages come before the release's
//!   <release>.failed     why there is none for that release
//! ```
//!
//! What is asked for counts, and a layer is made of it (`layer`), for each release anew (`resolve`). Knows nothing of kernels.

mod brought;
mod layer;
mod remains;
mod resolve;

pub use remains::collect_layers;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::changes::{self, Added, CHANGES};
use super::held::Held;
use super::installed::{Distribution, installed, name_of, normal, site_packages};
use super::pip::{self, Asked, Changes, Failure, From, Packages, State, Stop, Tool, Typed};
use super::undo::Undo;
use super::{Say, Uv, held, index, unshare};
use crate::redact::without_logins;

use brought::is_from;

/// What was asked for; a layer has that which it was made of.
const RECORD: &str = "nb-overlay.json";

/// One overlay, on one release.
#[derive(Clone, Debug)]
pub(super) struct Overlay {
    /// Of all releases.
    pub(super) folder: PathBuf,
    pub(super) release: String,
    /// The release's.
    pub(super) python: PathBuf,
    /// Folders of packages that lie below the layer, the upper one first. They may not be there yet.
    pub(super) below: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// Requirements by the name of what they are for, or by themselves.
    requirements: BTreeMap<String, String>,
    /// Without what they need.
    no_deps: Vec<String>,
}

impl Record {
    /// By what the distribution of this normal name was asked for.
    fn brought(&self, name: &str, packages: &Packages) -> Option<String> {
        if self.requirements.contains_key(name) {
            return Some(name.to_owned());
        }
        let origin = packages.get(name)?.origin.as_ref()?;
        let mut lines = self.requirements.iter();
        let found = lines.find(|(_, line)| is_from(line, origin));
        found.map(|(key, _)| key.clone())
    }
}

impl Overlay {
    /// The layer on this release, which may not be there.
    pub(super) fn layer(&self) -> PathBuf {
        self.folder.join(&self.release)
    }

    /// The Python that has the layer.
    pub(super) fn layer_python(&self) -> PathBuf {
        self.layer().join("bin/python")
    }

    /// Where the layer's packages are, as far as the release's Python tells.
    pub(super) fn layer_packages(&self) -> Option<PathBuf> {
        site_packages(&self.layer())
    }

    /// What was asked for, a line each.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = self.record().requirements.into_values();
        asked
            .map(|line| without_logins(&line).into_owned())
            .collect()
    }

    /// Whether this was asked for, by its name or by where it is.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        self.record()
            .brought(&normal(name), &self.packages())
            .is_some()
    }

    /// What is installed in the layer and below it.
    pub(super) fn packages(&self) -> Packages {
        let folders: Vec<PathBuf> = self
            .layer_packages()
            .into_iter()
            .chain(self.below.clone())
            .collect();
        installed(&folders)
    }

    /// Where a kernel that runs finds what is in the layer.
    pub(super) fn added(&self) -> Option<Added> {
        Some(Added {
            packages: self.layer_packages()?,
            python: self.layer_python(),
        })
    }

    /// What there is before a change.
    async fn state(&self, held: &Held) -> Result<State, Failure> {
        let this = self.clone();
        let state = held.aside(move || {
            let layer = this.layer_packages();
            let may_go = |one: &Distribution| Some(&one.packages) == layer.as_ref();
            Ok(State::of(this.packages(), may_go))
        });
        state.await.map_err(|error| self.unusable(&error))
    }

    /// What has become of it.
    async fn changes(
        &self,
        before: &State,
        added: Option<Added>,
        held: &Held,
    ) -> Result<Changes, Failure> {
        let this = self.clone();
        let after = held.aside(move || Ok(this.packages())).await;
        let changes = before.changes(&after.map_err(|error| self.unusable(&error))?);
        changes::tell(held, &self.folder, &changes, added).await;
        Ok(changes)
    }

    /// Adds to it. When that fails, nothing has changed.
    pub(super) async fn install(
        &self,
        install: &pip::Install,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        if install.require_hashes {
            return Err(Failure::new(
                "What is added to PyCX is resolved anew for each release, so its hashes cannot be required; \
                 the kernel pip can.",
            ));
        }
        let held = self.hold(typed.stop, say).await?;
        let mut asked = Asked::new(install, typed);
        let mut from = install.from.clone();
        for file in std::mem::take(&mut asked.files) {
            from.add(asked.take_file(&file, typed)?);
        }
        let before = self.state(&held).await?;
        let mut record = self.record();
        for line in &asked.lines {
            let name = name_of(line).unwrap_or_else(|| line.clone());
            // What it was from before is not what is wanted now.
            if let Some(key) = record.brought(&name, &before.packages) {
                record.requirements.remove(&key);
            }
            if install.no_deps {
                record.no_deps.push(name.clone());
            } else {
                record.no_deps.retain(|known| *known != name);
            }
            record
                .requirements
                .insert(name, index::kept(line, typed.env));
        }
        let tool = self.tool(uv, typed, &from, say);
        if install.dry_run {
            let pins = self.resolve(&record, &asked, &tool).await?;
            say(&format!("Would install {}", pins.join(" ")));
            return Ok(Changes::default());
        }
        self.change(&record, &asked, install.reinstall, &tool, &held)
            .await?;
        let mut changes = self.changes(&before, self.added(), &held).await?;
        let named = asked.names();
        let kept = named
            .iter()
            .filter_map(|name| before.packages.get_key_value(name));
        let kept = kept.filter(|(name, _)| !changes.added.contains_key(*name));
        changes.kept = kept
            .map(|(name, one)| (name.clone(), one.clone()))
            .collect();
        Ok(changes)
    }

    /// Removes what was added. What is the release's stays.
    pub(super) async fn uninstall(
        &self,
        names: &[String],
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        let held = self.hold(typed.stop, say).await?;
        let before = self.state(&held).await?;
        let mut record = self.record();
        for name in names {
            let name = normal(name);
            if let Some(key) = record.brought(&name, &before.packages) {
                record.requirements.remove(&key);
                record.no_deps.retain(|known| *known != key);
                continue;
            }
            return Err(match before.packages.get(&name) {
                None => Failure::new(format!("{name} is not installed.")),
                Some(one) if self.below.contains(&one.packages) => Failure::new(format!(
                    "{} {} is part of the release {}, which never changes; it cannot be uninstalled.",
                    one.name, one.version, self.release
                )),
                Some(one) => {
                    let asked: Vec<_> = record.requirements.into_keys().collect();
                    Failure::new(format!(
                        "{} is there since what was installed needs it ({}); uninstall that.",
                        one.name,
                        asked.join(", ")
                    ))
                }
            });
        }
        let from = From::default();
        let tool = self.tool(uv, typed, &from, say);
        let asked = Asked {
            is_pinned: true,
            ..Asked::default()
        };
        self.change(&record, &asked, false, &tool, &held).await?;
        self.changes(&before, None, &held).await
    }

    /// Forgets all that was added; the names of what that was.
    pub(super) async fn reset(
        &self,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Vec<String>, Failure> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let held = self.hold(typed.stop, say).await?;
        let asked = self.asked();
        let folder = self.folder.clone();
        match held.aside(move || empty(&folder)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unusable(&error)),
            _ => Ok(asked),
        }
    }

    /// Makes the layer ready for a kernel; false when nothing was added, so that there is none.
    pub(super) async fn prepare(
        &self,
        typed: &Typed<'_>,
        find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
        say: Say<'_>,
    ) -> Result<bool, Failure> {
        if self.record().requirements.is_empty() {
            return Ok(false);
        }
        // Whoever is at it may take long.
        if self.is_current() && !Undo::is_open(&self.layer()) {
            return Ok(true);
        }
        let held = self.hold(typed.stop, say).await?;
        if self.is_current() {
            return Ok(true);
        }
        if let Ok(why) = fs::read_to_string(self.failed()) {
            return Err(Failure::new(why));
        }
        let uv = find_uv().await?;
        let from = From::default();
        let tool = self.tool(&uv, typed, &from, say);
        let asked = Asked::default();
        let record = self.record();
        let change = self.change(&record, &asked, false, &tool, &held);
        let made = match change.await {
            Ok(()) => self.try_out().await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &made {
            // What may have another outcome the next time is tried again.
            if failure.is_final {
                let _tried_again = fs::write(self.failed(), &failure.message);
            }
            let _none = fs::remove_file(self.layer().join(RECORD));
        }
        made.map(|()| true)
    }

    /// Does later what nobody has to wait for.
    pub(super) async fn settle(&self) {
        unshare::settle(&self.layer(), &held::lock_of(&self.folder)).await;
    }

    /// Takes back what a process that was killed has left half done, unless another one is at it.
    pub(super) async fn tidy(&self) -> Result<(), Failure> {
        held::tidy(&self.folder, &self.layer()).await
    }

    async fn hold(&self, stop: &dyn Stop, say: Say<'_>) -> Result<Held, Failure> {
        held::hold(&self.folder, &self.layer(), stop, say).await
    }

    fn tool<'a>(
        &'a self,
        uv: &'a Uv,
        typed: &'a Typed<'a>,
        from: &'a From,
        say: Say<'a>,
    ) -> Tool<'a> {
        Tool {
            uv,
            typed,
            folder: &self.folder,
            from,
            say,
        }
    }

    fn record(&self) -> Record {
        let record = fs::read(self.folder.join(RECORD)).ok();
        record
            .and_then(|record| serde_json::from_slice(&record).ok())
            .unwrap_or_default()
    }

    fn failed(&self) -> PathBuf {
        self.folder.join(format!("{}.failed", self.release))
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        held::unusable(&self.folder, error)
    }
}

/// Removes all but what others find there.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false
                if [held::LOCK, CHANGES]
                    .iter()
                    .any(|name| entry.file_name() == *name) => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
