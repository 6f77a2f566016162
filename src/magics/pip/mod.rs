//! `%pip` and `%uv pip`: packages for the environment of nb's that the kernel runs in.
//!
//! Reads what was typed, lets `env` do it, makes what was installed visible in the running kernel and says what needs a restart.
//! Knows nothing of how packages are installed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde_json::json;

use super::call::{At, Call};
use super::cell::{Answer, Cell, Failure, Output};
use super::magic::Magic;
use crate::env::pip::{self, Changes, Command, Packages, Stop, Typed};
use crate::env::{Distribution, KernelEnvironment};

/// Run in the kernel; see its head.
const VISIBLE: &str = include_str!("visible.py");

/// The magic.
#[derive(Debug)]
pub(super) struct Pip;

/// An interrupt of the cell is one of what it does.
struct Interrupt<'a>(&'a dyn Cell);

impl Stop for Interrupt<'_> {
    fn stopped(&self) -> LocalBoxFuture<'_, ()> {
        self.0.interrupted()
    }
}

/// What the kernel says of what was installed.
#[derive(Debug, Deserialize)]
struct Seen {
    /// Of the names that were asked about those whose old modules are imported.
    imported: Vec<String>,
}

impl Magic for Pip {
    fn name(&self) -> &'static str {
        "pip"
    }

    fn help(&self) -> &'static str {
        "installs packages into this kernel's environment, lists and removes them"
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["pip", "uv"]
    }

    fn expands(&self) -> bool {
        true
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let command = Command::read(&words(call)?).map_err(Failure::usage)?;
            let place = cell.place();
            let Some(environment) = place.environment.clone() else {
                return Err(Failure::usage(
                    "This kernel does not run in an environment of nb's; its own pip is `%%python -m pip`.",
                ));
            };
            let folder = working_folder(cell).unwrap_or_else(|| place.cwd.clone());
            let typed = Typed {
                folder: &folder,
                env: &place.env,
                stop: &Interrupt(cell),
            };
            Run {
                environment: &environment,
                typed: &typed,
                cell,
            }
            .command(command)
            .await?;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }

    fn complete<'a>(&'a self, at: &'a At, cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        let words = at.before.split_whitespace().count() - usize::from(!at.word().is_empty());
        let command = at.before.split_whitespace().next();
        let offers = match (words, command) {
            (0, _) => pip::COMMANDS.map(str::to_owned).to_vec(),
            (_, Some("uninstall" | "show")) => match cell.place().environment {
                Some(environment) => environment
                    .packages()
                    .into_values()
                    .map(|one| one.name)
                    .collect(),
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        futures_util::future::ready(offers).boxed_local()
    }
}

/// The words behind `pip`, as a shell would take them.
fn words(call: &Call) -> Result<Vec<String>, Failure> {
    if call
        .cell
        .as_deref()
        .is_some_and(|body| !body.trim().is_empty())
    {
        return Err(Failure::usage(format!(
            "`%%{}` takes no lines below it; write `%{} …` for each command.",
            call.magic, call.magic
        )));
    }
    let mut words = call.words()?;
    if let Some(comment) = words.iter().position(|word| word.starts_with('#')) {
        words.truncate(comment);
    }
    if call.magic == "uv" {
        match words.first().map(String::as_str) {
            Some("pip") => drop(words.remove(0)),
            None => {}
            Some(other) => {
                return Err(Failure::usage(format!(
                    "There is no `%uv {other}` here; there is `%uv pip …`, which is `%pip …`."
                )));
            }
        }
    }
    Ok(words)
}

/// Where the kernel works now, which its user may have changed.
fn working_folder(cell: &dyn Cell) -> Option<PathBuf> {
    let pid = cell.facts().pid?;
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// One command, run.
struct Run<'a> {
    environment: &'a KernelEnvironment,
    typed: &'a Typed<'a>,
    cell: &'a dyn Cell,
}

impl Run<'_> {
    async fn command(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Help => self.say(pip::usage()).await,
            Command::Version => self.say(&pip::version(self.environment)).await,
            Command::List {
                format,
                editable,
                outdated: false,
            } => {
                let is_chosen = |one: &Distribution| !editable || one.is_editable();
                let text = pip::list(&self.environment.packages(), format, is_chosen);
                self.say(&text).await;
            }
            Command::Freeze => self.say(&pip::freeze(&self.environment.packages())).await,
            Command::Show { names, files } => {
                let packages = self.environment.packages();
                let missing = pip::missing(&names, &packages);
                self.say(&pip::show(&packages, &names, files)).await;
                if !missing.is_empty() {
                    let missing: Vec<&str> = missing.into_iter().collect();
                    return Err(failed(format!(
                        "Package(s) not found: {}.",
                        missing.join(", ")
                    )));
                }
            }
            Command::ByPip(words) => self.by_pip(&words).await?,
            Command::List { format, .. } => {
                let words = ["list", "--outdated", "--format", format.name()];
                self.by_pip(&words.map(str::to_owned)).await?;
            }
            Command::Install(install) => {
                let quiet = install.quiet;
                let say = |line: &str| {
                    if !quiet {
                        self.now(line);
                    }
                };
                let changes = self.environment.install(&install, self.typed, &say).await;
                self.end(changes.map_err(of_pip)?, quiet).await?;
            }
            Command::Uninstall {
                names,
                files,
                quiet,
            } => {
                let changes = self
                    .environment
                    .uninstall(&names, &files, self.typed, &|_| ());
                self.end(changes.await.map_err(of_pip)?, quiet).await?;
            }
        }
        Ok(())
    }

    async fn by_pip(&self, words: &[String]) -> Result<(), Failure> {
        let say = |line: &str| self.now(line);
        let done = self.environment.by_pip(words, self.typed, &say).await;
        done.map_err(of_pip)
    }

    /// Tells what has changed, in pip's words, and makes it visible in the kernel.
    async fn end(&self, changes: Changes, quiet: bool) -> Result<(), Failure> {
        let imported = self.make_visible(&changes).await?;
        if !quiet {
            self.say(&told(&changes)).await;
        }
        let needs_restart: Vec<String> = imported
            .iter()
            .filter_map(|name| {
                let old = changes.replaced.get(name)?;
                Some(match changes.added.get(name) {
                    Some(new) => format!("{} {} (now {})", old.name, old.version, new.version),
                    None => format!("{} {} (now gone)", old.name, old.version),
                })
            })
            .collect();
        if !needs_restart.is_empty() {
            let text = format!(
                "Imported already, and in this kernel until it is restarted: {}. `%nb restart` restarts it.\n",
                needs_restart.join(", ")
            );
            self.say(&text).await;
        }
        Ok(())
    }

    async fn make_visible(&self, changes: &Changes) -> Result<Vec<String>, Failure> {
        let old: BTreeMap<&String, Vec<PathBuf>> = changes
            .replaced
            .iter()
            .map(|(name, one)| {
                let modules = changes.modules.get(name).into_iter().flatten();
                (
                    name,
                    modules.map(|module| one.packages.join(module)).collect(),
                )
            })
            .collect();
        let told = json!({"added": self.environment.added_at(), "old": old});
        // A string of JSON is one of Python. No name of this is left behind.
        let code = format!(
            "exec(compile({}, '<nb>', 'exec'), {{'__name__': 'nb', 'told': {}}})",
            json!(VISIBLE),
            json!(told.to_string())
        );
        let said = self.cell.run_hidden(code).await?;
        let seen: Seen = serde_json::from_str(&said).map_err(|error| {
            failed(format!(
                "The kernel could not be asked what it has imported: {error}."
            ))
        })?;
        Ok(seen.imported)
    }

    async fn say(&self, text: &str) {
        if !text.is_empty() {
            self.cell.emit(Output::stdout(text)).await;
        }
    }

    /// A line of progress; one that there is no room for is left out.
    fn now(&self, line: &str) {
        let _no_room = self
            .cell
            .emit(Output::stdout(format!("{line}\n")))
            .now_or_never();
    }
}

fn told(changes: &Changes) -> String {
    let named = |packages: &Packages| -> Vec<String> {
        let pins = packages
            .values()
            .map(|one| format!("{}-{}", one.name, one.version));
        pins.collect()
    };
    let mut text = String::new();
    for one in changes.kept.values() {
        text += &format!(
            "Requirement already satisfied: {} ({})\n",
            one.name, one.version
        );
    }
    if !changes.added.is_empty() {
        text += &format!(
            "Successfully installed {}\n",
            named(&changes.added).join(" ")
        );
    }
    for (name, one) in &changes.replaced {
        if !changes.added.contains_key(name) {
            text += &format!("Successfully uninstalled {}-{}\n", one.name, one.version);
        }
    }
    text
}

fn failed(message: impl Into<String>) -> Failure {
    Failure::new("PipError", message)
}

fn of_pip(failure: pip::Failure) -> Failure {
    if failure.is_interrupt {
        return Failure::interrupted();
    }
    Failure {
        log: failure.log,
        ..failed(failure.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(magic: &str, line: &str) -> Call {
        Call {
            magic: magic.to_owned(),
            line: line.to_owned(),
            cell: None,
        }
    }

    #[test]
    fn both_spellings_lead_to_the_same_words() {
        for (magic, line) in [
            ("pip", "install 'a>1' # why"),
            ("uv", "pip install \"a>1\""),
        ] {
            assert_eq!(words(&call(magic, line)).unwrap(), ["install", "a>1"]);
        }
        assert!(words(&call("uv", "add a")).is_err());
        let body = Call {
            cell: Some("x".to_owned()),
            ..call("pip", "")
        };
        assert!(words(&body).is_err());
    }
}
