//! `%%venv NAME`: a cell in another environment of the notebook, made when it is first used; `%venv` lists, makes and deletes
//! them.

use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde_json::json;

use super::arguments::{Asked, asked};
use super::run_cell;
use crate::env::{KernelEnvironment, venvs};
use crate::magics::call::{At, Call};
use crate::magics::cell::{Answer, Bundle, Cell, Given};
use crate::magics::failure::Failure;
use crate::magics::magic::{Magic, Runs};
use crate::magics::other::{OtherKernel, Running};
use crate::magics::pip::{install_into, of_pip, printing, settle};
use crate::table::table;

/// The magic.
#[derive(Debug)]
pub(super) struct Venv;

impl Magic for Venv {
    fn name(&self) -> &'static str {
        "venv"
    }

    fn help(&self) -> &'static str {
        "%%venv NAME runs a cell in another environment of the notebook; %venv list|create|delete|restart|stop"
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["venv"]
    }

    fn runs(&self) -> Runs {
        Runs::Elsewhere
    }

    fn belongs(&self, call: &Call) -> Option<OtherKernel> {
        let asked = asked(&call.words().ok()?, "%venv", true).ok()?;
        Some(OtherKernel::Venv(asked.name))
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let words = call.words()?;
            if call.cell.is_none() {
                return line(&words, cell).await;
            }
            let asked = asked(&words, "%venv", true)?;
            ready(&asked, cell).await?;
            let kernel = OtherKernel::Venv(asked.name.clone());
            cell.others().start(&kernel).await?;
            run_cell(call, &asked, &kernel, cell).await?;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }

    fn complete<'a>(&'a self, at: &'a At, cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        let names = cell.place().data.map(|data| named(&data));
        let names = names.unwrap_or_default().into_iter().map(|one| one.name);
        let mut offers: Vec<String> = names.collect();
        match at.call.cell {
            Some(_) => offers.extend(["--python", "--with", "--get", "--put"].map(str::to_owned)),
            None => offers.extend(VERBS.map(str::to_owned)),
        }
        futures_util::future::ready(offers).boxed_local()
    }
}

const VERBS: [&str; 5] = ["list", "create", "delete", "restart", "stop"];

/// Makes the environment what the cell asks for.
async fn ready(asked: &Asked, cell: &dyn Cell) -> Result<(), Failure> {
    let environment = environment(&asked.name, cell)?;
    let python = asked.python.as_deref();
    let made = printing(cell, async |typed, print| {
        let say = |line: &str| print(&format!("{line}\n"));
        environment.make(python, typed, &say).await
    });
    made.await.map_err(|failure| of_pip(failure, "VenvError"))?;
    let lacking = environment.lacks(&asked.with);
    if !lacking.is_empty() {
        install_into(&environment, asked.with.clone(), cell).await?;
    }
    Ok(())
}

/// Adds a package that a frame needs.
pub(super) async fn add(name: &str, package: &str, cell: &dyn Cell) -> Result<(), Failure> {
    let environment = environment(name, cell)?;
    let numpy = environment.packages().remove("numpy");
    // Later ones do not say that they need another numpy, and do.
    let is_old = numpy.is_some_and(|numpy| numpy.version.starts_with("1."));
    let requirement = match package {
        "pyarrow" if is_old => "pyarrow<22",
        package => package,
    };
    install_into(&environment, vec![requirement.to_owned()], cell).await
}

fn data(cell: &dyn Cell) -> Result<PathBuf, Failure> {
    cell.place().data.ok_or_else(|| {
        Failure::usage(
            "An older nb has started this kernel; start it anew to have other environments.",
        )
    })
}

fn environment(name: &str, cell: &dyn Cell) -> Result<KernelEnvironment, Failure> {
    Ok(KernelEnvironment::with_name(&data(cell)?, name))
}

async fn line(words: &[String], cell: &dyn Cell) -> Result<Answer, Failure> {
    let Some((verb, rest)) = words.split_first() else {
        return list(cell).await;
    };
    match verb.as_str() {
        "list" if rest.is_empty() => list(cell).await,
        "create" | "new" => {
            let asked = asked(rest, "venv create", true)?;
            if !asked.get.is_empty() || !asked.put.is_empty() {
                return Err(Failure::usage(
                    "`%venv create` moves no values; a `%%venv` cell does.",
                ));
            }
            ready(&asked, cell).await?;
            settle(&environment(&asked.name, cell)?, cell);
            Ok(Answer::nothing())
        }
        "delete" | "remove" | "rm" => {
            let asked = asked(rest, "venv delete", true)?;
            let kernel = OtherKernel::Venv(asked.name.clone());
            cell.others().end(&kernel).await;
            let data = data(cell)?;
            let removed = printing(cell, async |_, print| {
                venvs::remove(&data, &asked.name, asked.force, &|line| {
                    print(&format!("{line}\n"))
                })
                .await
            });
            removed
                .await
                .map_err(|failure| of_pip(failure, "VenvError"))?;
            Ok(Answer::nothing())
        }
        "restart" | "stop" => {
            let kernel = OtherKernel::Venv(asked(rest, &format!("venv {verb}"), true)?.name);
            if verb == "restart" {
                cell.others().restart(&kernel).await?;
            } else if !cell.others().end(&kernel).await {
                return Err(Failure::usage(format!("No kernel runs in {kernel}.")));
            }
            Ok(Answer::nothing())
        }
        other => Err(Failure::usage(format!(
            "There is no `%venv {other}`; there is: {}. A cell in an environment begins with `%%venv NAME`.",
            VERBS.join(", ")
        ))),
    }
}

/// Those with a name; a notebook's own is the notebook's.
fn named(data: &std::path::Path) -> Vec<venvs::Venv> {
    let mut all = venvs::list(data);
    all.retain(|one| one.kind != venvs::Kind::Notebook);
    all
}

async fn list(cell: &dyn Cell) -> Result<Answer, Failure> {
    let data = data(cell)?;
    let all = tokio::task::spawn_blocking(move || named(&data)).await;
    let all = all.map_err(|error| Failure::new("VenvError", error.to_string()))?;
    let running = cell.others().running().await;
    let state = |name: &str| {
        let mut running = running.iter();
        let one = running.find(|one| matches!(&one.kernel, OtherKernel::Venv(it) if it == name));
        one.map(|one| one.execution_state.clone())
    };
    let rows = all.iter().map(|one| {
        let python = one.python.clone().unwrap_or_default();
        let state = state(&one.name).unwrap_or_default();
        [
            one.name.clone(),
            python,
            state,
            one.path.display().to_string(),
        ]
    });
    let text = match all.is_empty() {
        true => "No environment has a name yet; a `%%venv NAME` cell makes one.".to_owned(),
        false => table(
            ["name", "python", "here", "path"],
            &rows.collect::<Vec<_>>(),
        ),
    };
    let value = all.iter().map(|one| {
        json!({"name": one.name, "python": one.python, "path": one.path, "state": state(&one.name)})
    });
    let value: Vec<_> = value.collect();
    Ok(shown(json!({"environments": value}), &text))
}

/// The other kernels that run.
pub(super) async fn shown_running(cell: &dyn Cell) -> Answer {
    let running = cell.others().running().await;
    let row = |one: &Running| {
        let pid = one.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let kernel = &one.kernel;
        [
            format!("%%{} {kernel}", kernel.kind()),
            one.language.clone(),
            one.execution_state.clone(),
            pid,
        ]
    };
    let rows: Vec<_> = running.iter().map(row).collect();
    let text = match running.is_empty() {
        true => "No other kernel runs in this notebook; `%%kernel NAME` starts one.".to_owned(),
        false => table(["cells", "language", "state", "pid"], &rows),
    };
    let value = running.iter().map(|one| {
        json!({
            "kind": one.kernel.kind(), "name": one.kernel.name(), "language": one.language,
            "state": one.execution_state, "pid": one.pid,
        })
    });
    let value: Vec<_> = value.collect();
    shown(json!({"kernels": value}), &text)
}

fn shown(value: serde_json::Value, text: &str) -> Answer {
    Answer {
        given: Given::Json(value),
        shown: Some(Bundle::from_iter([(
            "text/plain".to_owned(),
            text.trim_end().into(),
        )])),
        ..Answer::nothing()
    }
}
