//! `nb env lock|sync|export NOTEBOOK`: the packages of a notebook, kept in its file and brought back from there.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::cli::pip::failed;
use crate::cli::progress::Progress;
use crate::cli::stop::Stop;
use crate::cli::{output, runtime};
use crate::config::Places;
use crate::env::notebook::{Lock, pyproject, requirements};
use crate::env::pip::{Changes, Failure, Stop as GiveUp, Typed};
use crate::env::{KernelEnvironment, Say};
use crate::error::Error;
use crate::notebook_file::NotebookFile;
use crate::protocol::notebook::lock::{lock, with_lock};
use crate::table::table;

/// Which notebook.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The notebook's file
    #[arg(value_name = "NOTEBOOK")]
    notebook: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    of: Of,
    /// Where to write it [default: it is printed]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// As what
    #[arg(long, value_enum, default_value_t = Format::Requirements)]
    format: Format,
    /// Also what a Jupyter kernel needs (ipykernel)
    #[arg(long)]
    kernel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For `pip install -r`, with hashes
    Requirements,
    /// A `pylock.toml` (PEP 751)
    Pylock,
    /// A project that depends on the pins; it has no hashes
    Pyproject,
}

/// A notebook, its folder and the environment that it has.
struct Notebook {
    file: NotebookFile,
    folder: PathBuf,
    environment: KernelEnvironment,
}

/// Signals end what is done.
struct Signals(Mutex<Stop>);

impl GiveUp for Signals {
    fn stopped(&self) -> LocalBoxFuture<'_, ()> {
        async { self.0.lock().await.asked().await }.boxed_local()
    }
}

impl Of {
    /// Writes the lock of what the notebook asks for into it.
    pub(super) fn lock(&self, upgrade: bool, is_json: bool, places: &Places) -> Result<(), Error> {
        let notebook = self.read(places)?;
        let text = &notebook.file.text;
        let lock = notebook.work("locking", async |typed, say| {
            notebook.environment.lock(text, upgrade, typed, say).await
        })?;
        let locked = with_lock(text, lock.text()).map_err(|error| notebook.unusable(&error))?;
        let is_new = locked != *text;
        if is_new {
            notebook.file.replace(&locked)?;
        }
        let packages = lock.lines().len();
        if is_json {
            return output::json(&json!({
                "notebook": notebook.file.path(), "changed": is_new, "packages": packages,
                "requires_python": lock.requires_python(), "asked": lock.asked(),
            }));
        }
        let how = if is_new { "locked" } else { "locked as before" };
        output::line(&format!(
            "{} is {how}: {packages} packages, Python {}",
            self.notebook.display(),
            lock.requires_python().unwrap_or("any")
        ))
    }

    /// Makes its environment what the lock says.
    pub(super) fn sync(&self, is_json: bool, places: &Places) -> Result<(), Error> {
        let notebook = self.read(places)?;
        let lock = notebook.lock()?;
        let (is_new, changes) = notebook
            .work("installing what is locked", async |typed, say| {
                notebook.environment.sync(&lock, typed, say).await
            })?;
        let rows = rows(&changes);
        if is_json {
            let changes: Vec<Value> = rows
                .iter()
                .map(|(package, from, to)| json!({"package": package, "from": from, "to": to}))
                .collect();
            let python = notebook.environment.python();
            return output::json(&json!({"made": is_new, "python": python, "changes": changes}));
        }
        if rows.is_empty() {
            return output::line("the environment is as the lock says");
        }
        let or_none = |version: Option<String>| version.unwrap_or_else(|| "-".to_owned());
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(package, from, to)| [package, or_none(from), or_none(to)])
            .collect();
        output::text(&table(["package", "from", "to"], &rows))
    }

    fn read(&self, places: &Places) -> Result<Notebook, Error> {
        let file = NotebookFile::read(&self.notebook)?;
        let broken =
            |error: std::io::Error| Error::user(format!("{}: {error}", self.notebook.display()));
        // As the gateway has it, which follows no link.
        let path = std::path::absolute(&self.notebook).map_err(broken)?;
        let notebook = Notebook {
            folder: path.parent().unwrap_or(&path).to_owned(),
            environment: KernelEnvironment::of_notebook(&places.data, &path),
            file,
        };
        lock(&notebook.file.text).map_err(|error| notebook.unusable(&error))?;
        Ok(notebook)
    }
}

impl Export {
    pub(super) fn run(&self, places: &Places) -> Result<(), Error> {
        let notebook = self.of.read(places)?;
        let lock = notebook.lock()?;
        let text = match self.format {
            Format::Requirements => {
                let more = match self.kernel {
                    true => lock.rest_for_a_kernel(),
                    false => Vec::new(),
                };
                requirements(&lock, &more)
            }
            _ if self.kernel => {
                return Err(Error::user("--kernel goes with --format requirements"));
            }
            Format::Pyproject => {
                let name = self.of.notebook.file_stem().unwrap_or_default();
                pyproject(&lock, &name.to_string_lossy())
            }
            Format::Pylock => notebook.work(
                "asking for the files of what is locked",
                async |typed, say| notebook.environment.pylock(&lock, typed, say).await,
            )?,
        };
        match &self.output {
            None => output::text(&text),
            Some(file) => std::fs::write(file, text)
                .map_err(|error| Error::user(format!("{}: {error}", file.display()))),
        }
    }
}

impl Notebook {
    /// The lock that it has.
    fn lock(&self) -> Result<Lock, Error> {
        let kept = lock(&self.file.text).map_err(|error| self.unusable(&error))?;
        let path = self.file.path().display();
        let kept = kept.ok_or_else(|| {
            Error::user(format!(
                "{path} has no lock; `nb env lock {path}` makes one"
            ))
        })?;
        Lock::read(&kept).map_err(|why| {
            Error::user(format!(
                "the lock of {path} is not sound, {why}; `nb env lock {path}` makes it anew"
            ))
        })
    }

    fn unusable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::user(format!("{}: {error}", self.file.path().display()))
    }

    /// Shows how the work goes on; a signal gives it up, and nothing is left of it.
    fn work<T>(
        &self,
        what: &str,
        work: impl AsyncFnOnce(&Typed<'_>, Say<'_>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let progress = Progress::new();
        let say = |line: &str| progress.detail(what, line);
        progress.begin(what);
        let variables: BTreeMap<String, String> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let done = runtime()?.block_on(async {
            let signals = Signals(Mutex::new(Stop::new()?));
            let typed = Typed {
                folder: self.folder.as_path(),
                env: &variables,
                stop: &signals,
            };
            tokio::select! {
                done = work(&typed, &say) => done.map_err(failed),
                never = progress.animate() => match never {},
            }
        });
        match done {
            Ok(_) => progress.end(what),
            Err(_) => progress.clear(),
        }
        done
    }
}

/// Package, version before and version now.
fn rows(changes: &Changes) -> Vec<(String, Option<String>, Option<String>)> {
    let names: BTreeSet<&String> = changes
        .replaced
        .keys()
        .chain(changes.added.keys())
        .collect();
    let version = |packages: &crate::env::pip::Packages, name: &String| {
        packages.get(name).map(|one| one.version.clone())
    };
    names
        .into_iter()
        .map(|name| {
            let (from, to) = (
                version(&changes.replaced, name),
                version(&changes.added, name),
            );
            (name.clone(), from, to)
        })
        .collect()
}
