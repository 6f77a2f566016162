//! A layer of an overlay: made, filled and tried out.
//!
//! A change that fails is taken back. Knows nothing of which versions are picked.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Overlay, RECORD, Record};
use crate::env::held::Held;
use crate::env::installed::installed;
use crate::env::pip::{Asked, Failure, Requirements, Tool, argument};
use crate::env::undo::Undo;
use crate::env::whole::replace;
use crate::env::{tool, unshare};

/// What makes the packages below those of a layer.
const PATH_FILE: &str = "_nb_below.pth";

/// How long it is tried whether a layer works.
const TRIAL: Duration = Duration::from_secs(60);

impl Overlay {
    /// Whether the layer was made of what is asked for.
    pub(super) fn is_current(&self) -> bool {
        let made_of = fs::read(self.layer().join(RECORD)).ok();
        let made_of = made_of.and_then(|record| serde_json::from_slice::<Record>(&record).ok());
        made_of.as_ref() == Some(&self.record()) && self.layer_python().exists()
    }

    /// Brings the layer to what is asked for, and keeps that.
    pub(super) async fn change(
        &self,
        record: &Record,
        asked: &Asked,
        reinstall: bool,
        tool: &Tool<'_>,
        held: &Held,
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
        let of = layer.clone();
        let undo = held.aside(move || Undo::begin(&of)).await.map_err(broken)?;
        let done = self.fill_layer(&pins, record, asked, reinstall, tool).await;
        match done {
            Ok(()) => {
                let failed = self.failed();
                let done = held.aside(move || {
                    undo.commit()?;
                    let _tried = fs::remove_file(failed);
                    unshare::at_once(&layer);
                    Ok(())
                });
                done.await.map_err(broken)
            }
            Err(failure) => {
                let back = held.aside(move || undo.roll_back());
                back.await.map_err(broken)?;
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
        let (python, lock) = (argument(&self.layer_python()), argument(lock.path()));
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

    async fn make_layer(&self, tool: &Tool<'_>) -> Result<(), Failure> {
        let layer = self.layer();
        let (python, folder) = (argument(&self.python), argument(&layer));
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

    /// Imports what is in the layer.
    pub(super) async fn try_out(&self) -> Result<(), Failure> {
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
}

/// A path as a literal of Python.
fn literal(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
