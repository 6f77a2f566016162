//! `nb output fetch`: brings what a notebook's cells have said meanwhile into its file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use super::replay::{Replay, replay};
use crate::cli::access::Access;
use crate::cli::{output, runtime};
use crate::error::Error;
use crate::front::{Answer, Gateway};
use crate::kernels::contract::RequestPhase;
use crate::kernels::registry::parse_id;
use crate::notebook_file::NotebookFile;
use crate::protocol::json::{Json, Object};
use crate::protocol::message::is_msg_id;
use crate::protocol::notebook::{Mark, Notebook, set_mark, set_times};
use crate::table::table;

/// The kernel of a cell is not there.
const GONE: u8 = 1;

/// Brings what a notebook's running cells have said into its file
///
/// Looks for cells that were running when the notebook was saved and asks the gateway what became of them: their outputs, count and
/// times are written into the file. What ran on is marked still, and can be fetched again.
///
/// Ends with 0 when it is done, 1 when it is not or the kernel of a cell is gone, 2 when the command was not understood.
#[derive(Debug, clap::Args)]
pub(super) struct Fetch {
    /// The notebook's file
    #[arg(value_name = "NOTEBOOK")]
    notebook: PathBuf,
    #[command(flatten)]
    access: Access,
}

/// What was made of one cell.
struct Row {
    cell: usize,
    mark: Mark,
    kernel: String,
    found: Found,
}

enum Found {
    /// Its kernel is not there.
    Gone,
    /// Somebody ran the cell since: it has a count.
    Superseded,
    Replay(Replay),
}

impl Fetch {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let file = NotebookFile::read(&self.notebook)?;
        let refused = |error: &dyn std::fmt::Display| {
            Error::user(format!("{}: {error}", self.notebook.display()))
        };
        let mut notebook = Notebook::parse(&file.text).map_err(|error| refused(&error))?;
        let marked = notebook.marked();
        let mut rows = Vec::new();
        if !marked.is_empty() {
            let asking = async {
                let gateway = self.access.open().await?;
                for (cell, mark) in marked {
                    let row = one(&gateway, file.path(), &mut notebook, cell, mark);
                    rows.push(row.await?);
                }
                Ok::<_, Error>(())
            };
            runtime()?.block_on(asking)?;
        }
        let text = notebook.text();
        if text != file.text {
            file.replace(&text)?;
        }
        self.show(&rows)?;
        let is_gone = rows.iter().any(|row| matches!(row.found, Found::Gone));
        Ok(ExitCode::from(if is_gone { GONE } else { 0 }))
    }

    fn show(&self, rows: &[Row]) -> Result<(), Error> {
        let path = self.notebook.display().to_string();
        if self.access.json {
            let cells: Vec<_> = rows.iter().map(Row::json).collect();
            return output::json(&json!({"notebook": path, "cells": cells}));
        }
        if rows.is_empty() {
            return output::line(&format!("no cell of {path} was running when it was saved"));
        }
        let rows: Vec<_> = rows.iter().map(Row::columns).collect();
        let heads = ["cell", "kernel", "state", "messages", "whole"];
        output::text(&table(heads, &rows))
    }
}

/// Fetches one cell and puts it into the notebook.
async fn one(
    gateway: &Gateway,
    path: &Path,
    notebook: &mut Notebook<'_>,
    at: usize,
    mark: Mark,
) -> Result<Row, Error> {
    let mut cell = notebook.cell(at).unwrap_or_default();
    let count = cell
        .get("execution_count")
        .and_then(Json::read::<Option<u64>>);
    if count.flatten().is_some() {
        set_mark(&mut cell, None);
        notebook.put(at, cell);
        return Ok(Row {
            cell: at + 1,
            kernel: mark.kernel_id.clone().unwrap_or_default(),
            mark,
            found: Found::Superseded,
        });
    }
    let saved = cell.get("outputs").and_then(Json::read::<Vec<Box<_>>>);
    let saved: Vec<Json> = saved.into_iter().flatten().map(Json::Raw).collect();
    let kernel = match &mark.kernel_id {
        Some(kernel) => Some(kernel.clone()),
        None => session_kernel(gateway, path).await?,
    };
    let replay = match kernel.as_deref() {
        // What is no id was never asked.
        Some(id) if parse_id(id).is_none() || !is_msg_id(&mark.msg_id) => Some(Replay::unknown()),
        Some(kernel) => replay(gateway, kernel, &mark, &saved).await?,
        None => None,
    };
    if let Some(replay) = &replay
        && change(&mut cell, replay, &mark)
    {
        notebook.put(at, cell);
    }
    Ok(Row {
        cell: at + 1,
        mark,
        kernel: kernel.unwrap_or_default(),
        found: replay.map_or(Found::Gone, Found::Replay),
    })
}

/// Whether there was anything to change.
fn change(cell: &mut Object, replay: &Replay, mark: &Mark) -> bool {
    match replay.state {
        RequestPhase::Waiting => return false,
        RequestPhase::Unknown => {
            set_mark(cell, None);
            return true;
        }
        RequestPhase::Running | RequestPhase::Over => {}
    }
    cell.set("outputs", replay.outputs.outputs());
    // One that runs has none, as in Lab.
    if let Some(count) = replay
        .outputs
        .count()
        .filter(|_| replay.state == RequestPhase::Over)
    {
        cell.set("execution_count", count);
    }
    set_times(cell, replay.outputs.times());
    let last = replay.outputs.last().map(str::to_owned);
    let mark = Mark {
        last: last.or_else(|| mark.last.clone()),
        ..mark.clone()
    };
    set_mark(
        cell,
        (replay.state == RequestPhase::Running).then_some(&mark),
    );
    true
}

/// The kernel of the one session of this file, if the gateway has one.
async fn session_kernel(gateway: &Gateway, path: &Path) -> Result<Option<String>, Error> {
    let answer = gateway.ask(Method::GET, "/api/sessions", &Value::Null);
    let sessions = answer.await.and_then(Answer::good)?;
    let sessions = sessions.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_its = |session: &&Value| {
        let at = session.get("path").and_then(Value::as_str);
        at.is_some_and(|at| path.ends_with(at.trim_start_matches('/')) && !at.is_empty())
    };
    let mut its = sessions.iter().filter(is_its);
    let kernel = its.next().and_then(|session| session.pointer("/kernel/id"));
    // Of several it is not known which.
    let kernel = kernel.filter(|_| its.next().is_none());
    Ok(kernel.and_then(Value::as_str).map(str::to_owned))
}

impl Row {
    fn state(&self) -> &'static str {
        match &self.found {
            Found::Gone => "gone",
            Found::Superseded => "superseded",
            Found::Replay(replay) => match replay.state {
                RequestPhase::Unknown => "unknown",
                RequestPhase::Waiting => "waiting",
                RequestPhase::Running => "running",
                RequestPhase::Over => "over",
            },
        }
    }

    fn replay(&self) -> Option<&Replay> {
        match &self.found {
            Found::Replay(replay) => Some(replay),
            Found::Gone | Found::Superseded => None,
        }
    }

    fn is_whole(&self) -> bool {
        self.replay().is_some_and(|replay| replay.whole)
    }

    fn messages(&self) -> usize {
        self.replay().map_or(0, |replay| replay.messages)
    }

    fn json(&self) -> Value {
        json!({
            "cell": self.cell, "msg_id": self.mark.msg_id, "kernel_id": self.kernel,
            "state": self.state(), "messages": self.messages(), "whole": self.is_whole(),
        })
    }

    fn columns(&self) -> [String; 5] {
        let whole = if self.is_whole() { "yes" } else { "no" };
        [
            self.cell.to_string(),
            self.kernel.clone(),
            self.state().to_owned(),
            self.messages().to_string(),
            whole.to_owned(),
        ]
    }
}
