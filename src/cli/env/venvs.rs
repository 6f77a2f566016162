//! `nb env list|add|remove`, and the part of `nb env gc` that is about notebooks: the environments that nb keeps beside
//! releases.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::minute;
use crate::cli::pip::failed;
use crate::cli::{output, runtime};
use crate::config::Places;
use crate::env::pex::collect_bases;
use crate::env::release::Releases;
use crate::env::supervised;
use crate::env::venvs::{self, Venv};
use crate::error::Error;
use crate::kernels::catalog::Catalog;
use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::supervisor::rebased_onto;
use crate::table::table;

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The environment's folder, or its Python
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The name of the kernel [default: that of the folder]
    #[arg(long)]
    name: Option<String>,
    /// What people see of it [default: Python (NAME)]
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// Its name as `nb env list` has it, or its notebook
    #[arg(value_name = "NAME")]
    name: String,
    /// Even if a process runs in it
    #[arg(long)]
    force: bool,
}

/// A row of the list.
struct Row {
    name: String,
    kind: &'static str,
    python: String,
    bytes: Option<u64>,
    used: Option<Timestamp>,
    of: String,
}

/// Shows all that there is: releases too.
pub(super) fn list(is_json: bool, places: &Places) -> Result<(), Error> {
    let releases = Releases::pycx(&places.data);
    let current = releases.current();
    let of_releases = releases.list().into_iter().map(|release| {
        let is_current = current.as_ref() == Some(&release);
        Row {
            kind: "release",
            bytes: releases
                .python(&release)
                .ancestors()
                .nth(2)
                .map(venvs::bytes),
            python: release.python.clone(),
            used: None,
            of: if is_current { "pycx, current" } else { "pycx" }.to_owned(),
            name: release.name,
        }
    });
    let rows: Vec<Row> = of_releases
        .chain(venvs::list(&places.data).into_iter().map(row))
        .collect();
    if is_json {
        let shown: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name, "kind": row.kind, "python": row.python, "bytes": row.bytes,
                    "used": row.used, "of": row.of,
                })
            })
            .collect();
        return output::json(&json!(shown));
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let bytes = row.bytes.map(|bytes| format!("{} MiB", bytes >> 20));
            [
                row.name,
                row.kind.to_owned(),
                row.python,
                or_none(bytes),
                or_none(row.used.map(minute)),
                row.of,
            ]
        })
        .collect();
    let heads = ["name", "kind", "python", "size", "used", "of"];
    output::text(&table(heads, &rows))
}

fn row(venv: Venv) -> Row {
    let is_gone = if venv.orphaned { " (gone)" } else { "" };
    Row {
        kind: venv.kind.name(),
        of: match venv.notebook {
            Some(notebook) => notebook + is_gone,
            None => venv.path.display().to_string(),
        },
        python: venv.python.unwrap_or_else(|| "-".to_owned()),
        bytes: venv.bytes,
        used: venv.used,
        name: venv.name,
    }
}

impl Add {
    pub(super) fn run(&self, is_json: bool, places: &Places) -> Result<(), Error> {
        // One of the same name there would be found first.
        let others = Catalog::new(SearchPath::from_env()).read();
        let is_others = |name: &str| others.by_name.contains_key(name);
        let (name, display_name) = (self.name.as_deref(), self.display_name.as_deref());
        let adding = venvs::add(
            &places.data,
            &self.path,
            name,
            display_name,
            &is_others,
            &|_| (),
        );
        let added = runtime()?.block_on(adding)?;
        match is_json {
            true => output::json(&json!(added)),
            false => output::line(&format!(
                "{} is the kernel {} ({}), Python {}",
                added.path.display(),
                added.name,
                added.display_name,
                added.python
            )),
        }
    }
}

impl Remove {
    pub(super) fn run(&self, is_json: bool, places: &Places) -> Result<(), Error> {
        let releases = Releases::pycx(&places.data).list();
        if releases.iter().any(|release| release.name == self.name) {
            return Err(Error::user(format!(
                "{} is a release of PyCX: `nb env gc pycx` removes old ones",
                self.name
            )));
        }
        let name = venvs::name_of(&places.data, &self.name);
        let name = name.unwrap_or_else(|| self.name.clone());
        let removing = venvs::remove(&places.data, &name, self.force, &|_| ());
        runtime()?.block_on(removing).map_err(failed)?;
        match is_json {
            true => output::json(&json!({"removed": [name]})),
            false => output::line(&format!("removed {name}")),
        }
    }
}

/// Removes those of notebooks and kernels that are gone and in which nothing runs, and what no kernel is rebased onto, after somebody has
/// said yes.
pub(super) fn collect(
    is_agreed: bool,
    only_look: bool,
    is_json: bool,
    places: &Places,
) -> Result<(), Error> {
    let gone: Vec<Venv> = venvs::list(&places.data)
        .into_iter()
        .filter(|venv| venv.orphaned && !venv.is_in_use())
        .collect();
    let bases = |really| {
        // Asked anew each time: kernels go on while somebody is asked.
        let is_kept = |folder: &Path| {
            let kernels = supervised();
            let mut kept = kernels.iter().flat_map(|kernel| rebased_onto(kernel));
            kept.any(|base| base.is_in(folder))
        };
        collect_bases(&places.data, is_kept, really, &|_| ()).map_err(failed)
    };
    let no_ones = bases(false)?;
    if only_look {
        let names = gone.iter().map(|venv| &venv.name);
        let names: Vec<&String> = names.chain(&no_ones).collect();
        return match is_json {
            true => output::json(&json!(names)),
            false => names.iter().try_for_each(|name| output::line(name)),
        };
    }
    let count = gone.len() + no_ones.len();
    if count > 0 && !is_agreed {
        for venv in &gone {
            let notebook = venv.notebook.as_deref().unwrap_or_default();
            output::warn(&format!("{} of {notebook}, which is gone", venv.name));
        }
        for base in &no_ones {
            output::warn(&format!("{base}, onto which no kernel is rebased"));
        }
        agree(count)?;
    }
    let mut removed = Vec::new();
    let runtime = runtime()?;
    for venv in gone {
        let removing = venvs::remove(&places.data, &venv.name, false, &|_| ());
        runtime.block_on(removing).map_err(failed)?;
        removed.push(venv.name);
    }
    removed.extend(bases(true)?);
    match is_json {
        true => output::json(&json!(removed)),
        false => output::line(&format!("removed {} environments", removed.len())),
    }
}

fn agree(count: usize) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::user(format!(
            "{count} environments would be removed; --yes removes them"
        )));
    }
    output::ask(&format!("Remove {count} environments? [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        true => Ok(()),
        false => Err(Error::user("nothing was removed")),
    }
}
