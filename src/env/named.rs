//! Virtual environments with a name, or of a notebook: made with uv, changed by pip's commands.
//!
//! ```text
//! <data>/venvs/<name>/
//!   nb-venv.json   what it is; written when it is whole
//!   nb-lock.txt    the lock that it was made of
//!   nb-used        when a kernel was started in it
//!   env/           the environment, unless it is somebody's own elsewhere
//! ```
//!
//! Knows nothing of kernels but that they need ipykernel.

mod change;
mod kept;
mod locked;

pub(super) use locked::{Trust, pythons};

use locked::locked_content;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::held::Held;
use super::installed::{installed, python_version, site_packages};
use super::notebook::REQUIREMENTS;
use super::pip::{Failure, From, Install, Packages, Stop, Tool, Typed, put_pip};
use super::spares::{Content, Spares, compile};
use super::undo::Undo;
use super::version::Version;
use super::whole::replace;
use super::{Say, Uv, held, hex, unshare};
use crate::env::REQUIREMENTS_BYTES_MAX;
use crate::plain_file;

/// What a kernel needs, with hashes.
pub(super) const KERNEL_LOCK: &str = include_str!("locks/pip.txt");

/// The Pythons that the lock is for.
pub(super) const LOCKED_PYTHONS: &str = ">=3.10,<3.15";

const RECORD: &str = "nb-venv.json";

/// One of them, which may not be there yet.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) folder: PathBuf,
    spares: Spares,
}

/// What there is to know of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub created: Timestamp,
    /// The notebook that it is for, if it has no name of its own.
    pub notebook: Option<String>,
    /// Where it is, if it is somebody's own.
    pub path: Option<PathBuf>,
    /// The hash of the requirements file that was installed.
    pub requirements: Option<String>,
    /// The hash of the notebook's lock that it was made of.
    pub locked: Option<String>,
}

impl Named {
    /// That of this name, or of a notebook, under nb's data folder.
    pub(super) fn new(data: &Path, name: &str) -> Self {
        Self {
            folder: data.join("venvs").join(name),
            spares: Spares::new(data),
        }
    }

    /// What it is; nothing while it is not whole.
    pub(super) fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.folder.join(RECORD)).ok()?).ok()
    }

    /// The environment's own folder.
    pub(super) fn environment(&self) -> PathBuf {
        let elsewhere = self.record().and_then(|record| record.path);
        elsewhere.unwrap_or_else(|| self.folder.join("env"))
    }

    /// Its Python.
    pub(super) fn python(&self) -> PathBuf {
        self.environment().join("bin/python")
    }

    /// Whether it was made to the end and its Python is still there.
    pub(super) fn is_there(&self) -> bool {
        self.record().is_some() && self.python().exists()
    }

    /// Whether it is somebody's own, in which nobody but its owner decides.
    fn is_foreign(&self) -> bool {
        self.record().is_some_and(|record| record.path.is_some())
    }

    /// The version of its Python, where that is written down.
    pub(super) fn python_version(&self) -> Option<Version> {
        python_version(&self.environment())
    }

    /// What is installed.
    pub(super) fn packages(&self) -> Packages {
        installed(site_packages(&self.environment()).as_slice())
    }

    /// Makes it with what a kernel needs, unless it is there.
    pub(super) async fn make(
        &self,
        notebook: Option<&str>,
        python: Option<&str>,
        typed: &Typed<'_>,
        find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
        say: Say<'_>,
    ) -> Result<(), Failure> {
        let record = Record {
            created: Timestamp::now(),
            notebook: notebook.map(str::to_owned),
            ..Record::default()
        };
        let content = content(python);
        self.make_of(&content, &record, typed, find_uv, say).await?;
        Ok(())
    }

    /// Makes it of this content, unless it is there; whether it was not. Its files may still be shared with uv's cache.
    async fn make_of(
        &self,
        content: &Content,
        record: &Record,
        typed: &Typed<'_>,
        find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
        say: Say<'_>,
    ) -> Result<bool, Failure> {
        // Whoever is at it may take long.
        if self.is_there() && !Undo::is_open(&self.environment()) {
            return Ok(false);
        }
        let held = self.hold(typed.stop, say).await?;
        if self.is_there() {
            return Ok(false);
        }
        if self.is_foreign() {
            return Err(Failure::new(format!(
                "There is no Python any more in {}; `nb env remove` forgets it.",
                self.environment().display()
            )));
        }
        let broken = |error: io::Error| self.unusable(&error);
        let environment = self.folder.join("env");
        let old = environment.clone();
        match held.aside(move || fs::remove_dir_all(old)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
            _ => {}
        }
        if !self.spares.take(content, &environment) {
            say("making the environment");
            let uv = find_uv().await?;
            let from = From::default();
            content
                .build(&environment, &self.tool(&uv, typed, &from, say))
                .await?;
        }
        let finished = held.aside(move || put_pip(&environment).map(|_| ()));
        finished.await.map_err(broken)?;
        self.keep(record).map_err(broken)?;
        Ok(true)
    }

    /// Installs the requirements file in this folder, if there is one that was not installed yet.
    pub(super) async fn follow_requirements(
        &self,
        typed: &Typed<'_>,
        find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
        say: Say<'_>,
    ) -> Result<(), Failure> {
        let file = typed.folder.join(REQUIREMENTS);
        let content = match plain_file::bytes(&file, REQUIREMENTS_BYTES_MAX) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let file = file.display();
                return Err(Failure::new(format!("{file} cannot be read: {error}.")));
            }
        };
        let hash = hex(&Sha256::digest(content));
        let followed = self.record().and_then(|record| record.requirements);
        if followed.as_ref() == Some(&hash) {
            return Ok(());
        }
        let install = Install {
            files: vec![REQUIREMENTS.to_owned()],
            ..Install::default()
        };
        self.install(&install, typed, &find_uv().await?, say)
            .await?;
        // As it is now: a sync beside this may have written it meanwhile.
        let mut record = self.record().unwrap_or_default();
        record.requirements = Some(hash);
        self.keep(&record).map_err(|error| self.unusable(&error))
    }

    /// Makes sure that no file is shared with uv's cache.
    pub(super) async fn settle_files(&self) {
        unshare::settle(&self.environment(), &held::lock_of(&self.folder)).await;
    }

    /// Compiles it, and makes spares for the next one, of what is new and of its lock.
    pub(super) async fn settle(
        &self,
        typed: &Typed<'_>,
        find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
    ) {
        if self.is_foreign() {
            return;
        }
        let environment = self.environment();
        compile(&environment, &self.folder).await;
        let lock = self.kept_lock();
        let content = content(None);
        if self.spares.has(&content) && lock.is_none() {
            return;
        }
        let filled = async {
            let (uv, from) = (find_uv().await?, From::default());
            let tool = self.tool(&uv, typed, &from, &|_| ());
            if let Some(lock) = lock {
                self.spares.fill(&locked_content(&lock)?, &tool).await?;
            }
            self.spares.fill(&content, &tool).await
        };
        if let Err(failure) = filled.await {
            tracing::debug!(failure.message, "there is no spare environment");
        }
    }

    async fn hold(&self, stop: &dyn Stop, say: Say<'_>) -> Result<Held, Failure> {
        held::hold(&self.folder, &self.environment(), stop, say).await
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

    fn keep(&self, record: &Record) -> io::Result<()> {
        replace(&self.folder.join(RECORD), &serde_json::to_vec(record)?)
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        held::unusable(&self.folder, error)
    }
}

/// What a new environment has.
fn content(python: Option<&str>) -> Content {
    Content {
        python: python.unwrap_or(LOCKED_PYTHONS).to_owned(),
        lock: kernel_lock(),
        is_wheels: false,
    }
}

fn kernel_lock() -> Vec<String> {
    KERNEL_LOCK.lines().map(str::to_owned).collect()
}
