//! `%pip` and `%uv pip`: packages for the environment of nb's that the kernel runs in.
//!
//! Reads what was typed, lets `env` do it and tells what has changed. Knows nothing of how packages are installed, nor of how the
//! kernel gets to see them: that is the helper's `environment.py`.

use std::path::PathBuf;

use super::call::{At, Call};
use super::cell::{Answer, Cell};
use super::failure::Failure;
use super::magic::Magic;
use super::progress;
use crate::env::KernelEnvironment;
use crate::env::pip::{self, Command, Stop, Typed};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

/// The magic.
#[derive(Debug)]
pub(super) struct Pip;

/// An interrupt of the cell is one of what it does.
pub(super) struct Interrupt<'a>(pub(super) &'a dyn Cell);

impl Stop for Interrupt<'_> {
    fn stopped(&self) -> LocalBoxFuture<'_, ()> {
        self.0.interrupted()
    }
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
            run(&command, cell).await?;
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

/// Installs these requirements.
pub(super) async fn install(requirements: Vec<String>, cell: &dyn Cell) -> Result<(), Failure> {
    let install = pip::Install {
        requirements,
        ..pip::Install::default()
    };
    run(&Command::Install(Box::new(install)), cell).await
}

/// The same for any environment.
pub(super) async fn install_into(
    environment: &KernelEnvironment,
    requirements: Vec<String>,
    cell: &dyn Cell,
) -> Result<(), Failure> {
    let install = pip::Install {
        requirements,
        ..pip::Install::default()
    };
    run_in(environment, &Command::Install(Box::new(install)), cell).await
}

async fn run(command: &Command, cell: &dyn Cell) -> Result<(), Failure> {
    if let Some(base) = cell.base() {
        return Err(Failure::usage(base.is_closed()));
    }
    let Some(environment) = cell.place().environment else {
        return Err(Failure::usage(
            "This kernel does not run in an environment of nb's; its own pip is `!python -m pip`.",
        ));
    };
    run_in(&environment, command, cell).await
}

async fn run_in(
    environment: &KernelEnvironment,
    command: &Command,
    cell: &dyn Cell,
) -> Result<(), Failure> {
    let done = printing(cell, async |typed, print| {
        environment.pip(command, typed, print).await
    })
    .await;
    settle(environment, cell);
    done.map_err(|failure| of_pip(failure, "PipError"))
}

/// Does what a cell does not have to wait for after an environment was made or changed.
pub(super) fn settle(environment: &KernelEnvironment, cell: &dyn Cell) {
    let place = cell.place();
    let folder = working_folder(cell).unwrap_or_else(|| place.cwd.clone());
    let (environment, env) = (environment.clone(), place.env);
    tokio::task::spawn_local(async move {
        let typed = Typed {
            folder: &folder,
            env: &env,
            stop: &pip::Never,
        };
        environment.settle(&typed).await;
    });
}

/// Does something to an environment as it was typed here, and shows what that prints.
pub(super) async fn printing<T>(
    cell: &dyn Cell,
    doing: impl AsyncFnOnce(&Typed<'_>, &dyn Fn(&str)) -> T,
) -> T {
    let place = cell.place();
    let folder = working_folder(cell).unwrap_or_else(|| place.cwd.clone());
    let typed = Typed {
        folder: &folder,
        env: &place.env,
        stop: &Interrupt(cell),
    };
    progress::shown(cell, async |print| doing(&typed, print).await).await
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
pub(super) fn working_folder(cell: &dyn Cell) -> Option<PathBuf> {
    let pid = cell.facts().pid?;
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// A failure of `env` as one of a cell.
pub(super) fn of_pip(failure: pip::Failure, ename: &str) -> Failure {
    if failure.is_interrupt {
        return Failure::interrupted();
    }
    Failure {
        log: failure.log,
        ..Failure::new(ename, failure.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::test_cell::call;

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
