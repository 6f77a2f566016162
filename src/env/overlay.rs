//! What a notebook, or a user for all notebooks, adds to a release of PyCX.
//!
//! ```text
//! <data>/overlays/<whose>/
//!   nb-overlay.json      what was asked for
//!   <release>/           a layer: a virtual environment whose packages come before the release's
//!   <release>.failed     why there is none for that release
//! ```
//!
//! What is asked for counts, a layer is made of it, for each release anew: all of the release is resolved together with it,
//! and what differs from the release is in the layer. Knows nothing of kernels.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::installed::{Distribution, installed, name_of, normal, site_packages};
use super::kernel::CHANGES;
use super::pip::{
    self, Asked, Changes, Failure, From, Packages, Requirements, State, Tool, Typed, read_file,
};
use super::undo::Undo;
use super::{Say, Uv, index, leftovers, lock, tool, unshare};
use crate::config::private_folder;
use crate::redact::without_logins;

/// What was asked for; a layer has that which it was made of.
const RECORD: &str = "nb-overlay.json";

/// What makes the packages below those of a layer.
const PATH_FILE: &str = "_nb_below.pth";

const LOCK: &str = "lock";

const NO_DEPS: &str = "--no-deps";

/// How long it is tried whether a layer works.
const TRIAL: Duration = Duration::from_secs(60);

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

    /// Whether this was asked for by its name.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        self.record().requirements.contains_key(&normal(name))
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

    /// What there is before a change.
    fn state(&self) -> State {
        let layer = self.layer_packages();
        State::of(self.packages(), |one| Some(&one.packages) == layer.as_ref())
    }

    fn packages_below(&self) -> Packages {
        installed(&self.below)
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
        let _held = self.hold(say).await?;
        let mut asked = Asked::new(install, typed);
        let mut from = install.from.clone();
        for file in &asked.files {
            let (lines, said) = read_file(file)?;
            asked.lines.extend(lines);
            from.add(said);
        }
        let mut record = self.record();
        for line in &asked.lines {
            let name = name_of(line).unwrap_or_else(|| line.clone());
            if install.no_deps {
                record.no_deps.push(name.clone());
            } else {
                record.no_deps.retain(|known| *known != name);
            }
            record
                .requirements
                .insert(name, index::kept(line, typed.env));
        }
        let before = self.state();
        if install.dry_run {
            let tool = Tool {
                uv,
                typed,
                folder: &self.folder,
                from: &from,
                say,
            };
            let pins = self.resolve(&record, &asked, &tool).await?;
            say(&format!("Would install {}", pins.join(" ")));
            return Ok(Changes::default());
        }
        let tool = Tool {
            uv,
            typed,
            folder: &self.folder,
            from: &from,
            say,
        };
        self.change(&record, &asked, install.reinstall, &tool)
            .await?;
        let after = self.packages();
        let mut changes = before.changes(&after);
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
        let _held = self.hold(say).await?;
        let before = self.state();
        let mut record = self.record();
        for name in names {
            let name = normal(name);
            if record.requirements.remove(&name).is_some() {
                record.no_deps.retain(|known| *known != name);
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
        let tool = Tool {
            uv,
            typed,
            folder: &self.folder,
            from: &from,
            say,
        };
        self.change(
            &record,
            &Asked {
                is_pinned: true,
                ..Asked::default()
            },
            false,
            &tool,
        )
        .await?;
        Ok(before.changes(&self.packages()))
    }

    /// Forgets all that was added; the names of what that was.
    pub(super) async fn reset(&self, say: Say<'_>) -> Result<Vec<String>, Failure> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let _held = self.hold(say).await?;
        let asked = self.asked();
        let away = || -> io::Result<()> {
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false
                        if [LOCK, CHANGES]
                            .iter()
                            .any(|name| entry.file_name() == *name) => {}
                    false => fs::remove_file(entry.path())?,
                }
            }
            Ok(())
        };
        match away() {
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
        let _held = self.hold(say).await?;
        if self.is_current() {
            return Ok(true);
        }
        if let Ok(why) = fs::read_to_string(self.failed()) {
            return Err(Failure::new(why));
        }
        let uv = find_uv().await?;
        let from = From::default();
        let tool = Tool {
            uv: &uv,
            typed,
            folder: &self.folder,
            from: &from,
            say,
        };
        let asked = Asked::default();
        let made = match self.change(&self.record(), &asked, false, &tool).await {
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
        unshare::settle(&self.layer(), &self.folder.join(LOCK)).await;
    }

    /// Nobody else changes it; what somebody has left half done is undone.
    async fn hold(&self, say: Say<'_>) -> Result<fs::File, Failure> {
        if let Some(all) = self.folder.parent() {
            if let Some(data) = all.parent() {
                private_folder(data)?;
            }
            private_folder(all)?;
        }
        private_folder(&self.folder)?;
        let held = lock::exclusive(&self.folder.join(LOCK), say).await?;
        leftovers::end(&self.folder).await?;
        Undo::recover(&self.layer()).map_err(|error| self.unusable(&error))?;
        Ok(held)
    }

    fn record(&self) -> Record {
        let record = fs::read(self.folder.join(RECORD)).ok();
        record
            .and_then(|record| serde_json::from_slice(&record).ok())
            .unwrap_or_default()
    }

    /// Whether the layer was made of what is asked for.
    fn is_current(&self) -> bool {
        let made_of = fs::read(self.layer().join(RECORD)).ok();
        let made_of = made_of.and_then(|record| serde_json::from_slice::<Record>(&record).ok());
        made_of.as_ref() == Some(&self.record()) && self.layer_python().exists()
    }

    fn failed(&self) -> PathBuf {
        self.folder.join(format!("{}.failed", self.release))
    }

    /// Brings the layer to what is asked for, and keeps that.
    async fn change(
        &self,
        record: &Record,
        asked: &Asked,
        reinstall: bool,
        tool: &Tool<'_>,
    ) -> Result<(), Failure> {
        let pins = match record.requirements.is_empty() {
            true => Vec::new(),
            false => self.resolve(record, asked, tool).await?,
        };
        let broken = |error: io::Error| self.unusable(&error);
        let layer = self.layer();
        let packages = self.layer_packages();
        if packages.is_none_or(|packages| !packages.join(PATH_FILE).exists()) {
            self.make_layer(tool).await?;
        }
        unshare::expect(&layer).map_err(broken)?;
        let undo = Undo::begin(&layer).map_err(broken)?;
        let done = self.fill_layer(&pins, record, asked, reinstall, tool).await;
        match done {
            Ok(()) => {
                undo.commit().map_err(broken)?;
                let _tried = fs::remove_file(self.failed());
                unshare::at_once(&layer);
                Ok(())
            }
            Err(failure) => {
                undo.roll_back().map_err(broken)?;
                Err(failure)
            }
        }
    }

    async fn fill_layer(
        &self,
        pins: &[String],
        record: &Record,
        asked: &Asked,
        reinstall: bool,
        tool: &Tool<'_>,
    ) -> Result<(), Failure> {
        let broken = |error: io::Error| self.unusable(&error);
        let lock = Requirements::write(&self.folder, pins).map_err(broken)?;
        let (python, lock) = (text(&self.layer_python()), text(lock.path()));
        let mut arguments = vec![
            "pip",
            "sync",
            "--allow-empty-requirements",
            "--python",
            &python,
        ];
        if reinstall {
            arguments.push("--reinstall");
        }
        arguments.extend(asked.building.iter().map(String::as_str));
        arguments.push(&lock);
        tool.run(&arguments, true).await?;
        let written = serde_json::to_vec(record).map_err(|error| broken(error.into()))?;
        replace(&self.layer().join(RECORD), &written).map_err(broken)?;
        replace(&self.folder.join(RECORD), &written).map_err(broken)
    }

    /// The pins of what differs from what lies below.
    async fn resolve(
        &self,
        record: &Record,
        asked: &Asked,
        tool: &Tool<'_>,
    ) -> Result<Vec<String>, Failure> {
        let below = self.packages_below();
        let is_alone = |name: &&String| record.no_deps.contains(name);
        let (alone, together): (Vec<&String>, Vec<&String>) =
            record.requirements.keys().partition(is_alone);
        let lines = |names: &[&String]| -> Vec<String> {
            names
                .iter()
                .filter_map(|name| record.requirements.get(*name))
                .cloned()
                .collect()
        };
        let mut pins = Vec::new();
        if !together.is_empty() {
            let mut wanted = lines(&together);
            // All of the release, so that what is added goes with it.
            let named = |name: &String| !record.requirements.contains_key(name);
            let from_index = below
                .iter()
                .filter(|(name, one)| one.origin.is_none() && named(name));
            wanted.extend(from_index.map(|(name, _)| name.clone()));
            pins.extend(self.compile(&wanted, &[], asked, tool).await?);
        }
        if !alone.is_empty() {
            pins.extend(
                self.compile(&lines(&alone), &[NO_DEPS], asked, tool)
                    .await?,
            );
        }
        let differs = |pin: &String| {
            let parts = pin.split_once("==");
            let known =
                parts.and_then(|(name, version)| Some((below.get(&normal(name))?, version)));
            known.is_none_or(|(known, version)| {
                known.version != version.trim() || known.origin.is_some()
            })
        };
        pins.retain(differs);
        Ok(pins)
    }

    /// What uv picks for these requirements, near to what is there.
    async fn compile(
        &self,
        wanted: &[String],
        more: &[&str],
        asked: &Asked,
        tool: &Tool<'_>,
    ) -> Result<Vec<String>, Failure> {
        let broken = |error: io::Error| self.unusable(&error);
        let bare = |line: &String| index::without_logins(line, tool.typed.env);
        let wanted: Vec<String> = wanted.iter().map(bare).collect();
        let input = Requirements::write(&self.folder, &wanted).map_err(broken)?;
        let packages = self.packages();
        let from_index = packages.values().filter(|one| one.origin.is_none());
        let there: Vec<String> = from_index.map(Distribution::pin).collect();
        // uv takes what the file has that it is to write as what to prefer.
        let output = Requirements::write(&self.folder, &there).map_err(broken)?;
        let (python, from, to) = (text(&self.python), text(input.path()), text(output.path()));
        let mut arguments = vec![
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--no-annotate",
            "--python",
            &python,
        ];
        arguments.extend(more);
        let resolving = asked.resolving.iter().filter(|option| *option != NO_DEPS);
        arguments.extend(resolving.chain(&asked.building).map(String::as_str));
        let constraints: Vec<String> = asked.constraints.iter().map(|path| text(path)).collect();
        for constraint in &constraints {
            arguments.extend(["--constraint", constraint]);
        }
        arguments.extend(["--output-file", &to, &from]);
        tool.run(&arguments, asked.is_pinned).await?;
        let pins = fs::read_to_string(output.path()).map_err(broken)?;
        let pins = pins
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(pins.map(str::to_owned).collect())
    }

    async fn make_layer(&self, tool: &Tool<'_>) -> Result<(), Failure> {
        let layer = self.layer();
        let (python, folder) = (text(&self.python), text(&layer));
        tool.run(
            &[
                "venv",
                "--quiet",
                "--no-project",
                "--allow-existing",
                "--python",
                &python,
                &folder,
            ],
            true,
        )
        .await?;
        let packages = self.layer_packages();
        let packages = packages.ok_or_else(|| Failure::new("uv made no folder for packages."))?;
        let below: String = self
            .below
            .iter()
            .map(|folder| format!("site.addsitedir({}); ", literal(folder)))
            .collect();
        replace(
            &packages.join(PATH_FILE),
            format!("import site; {below}\n").as_bytes(),
        )
        .map_err(|error| self.unusable(&error))
    }

    /// Takes back what a process that was killed has left half done, unless another one is at it.
    pub(super) async fn tidy(&self) -> Result<(), Failure> {
        if !self.folder.exists() {
            return Ok(());
        }
        if let Some(_held) = lock::try_exclusive(&self.folder.join(LOCK))? {
            leftovers::end(&self.folder).await?;
            Undo::recover(&self.layer()).map_err(|error| self.unusable(&error))?;
        }
        Ok(())
    }

    /// Imports what is in the layer.
    async fn try_out(&self) -> Result<(), Failure> {
        let packages = installed(self.layer_packages().as_slice());
        let asked = packages.values();
        let modules: Vec<String> = asked
            .flat_map(|one| {
                let modules = one.modules().into_iter();
                let is_plain = |module: &String| {
                    module
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_')
                        && !module.starts_with('_')
                };
                modules
                    .map(|module| module.trim_end_matches(".py").to_owned())
                    .filter(is_plain)
            })
            .collect();
        let mut python = tool::command(self.layer_python());
        python.args([
            "-I",
            "-c",
            "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)",
        ]);
        python.args(&modules);
        let tried = tokio::time::timeout(TRIAL, tool::run(&mut python, &|_| ())).await;
        match tried {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(said)) => {
                let said = said.to_string();
                let last = said.lines().last().unwrap_or_default();
                Err(Failure {
                    log: said.clone(),
                    is_final: true,
                    ..Failure::new(format!("it cannot be imported ({last})."))
                })
            }
            Err(_) => Err(Failure::new(format!(
                "its import took over {} s.",
                TRIAL.as_secs()
            ))),
        }
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        Failure::new(format!(
            "The folder {} cannot be used: {error}.",
            self.folder.display()
        ))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path as a literal of Python.
fn literal(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let _left = fs::remove_file(&part);
    let mut options = fs::File::options();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(content)?;
    fs::rename(part, path)
}
