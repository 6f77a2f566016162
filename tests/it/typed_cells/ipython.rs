//! What IPython itself says of cells, in a program of its own, and how a kernel without nb runs them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::driver::runs;
use crate::gateway::project;

/// A call that IPython makes: the magic, the rest of its line, the body of a `%%` cell.
pub(super) type Call = (String, String, Option<String>);

async fn program(folder: &Path, arguments: &[&str], asked: &Value) -> Value {
    let python = project("target/test-env/bin/python");
    assert!(python.exists(), "run cargo xtask setup");
    let file = folder.join("asked.json");
    fs::write(&file, asked.to_string()).unwrap();
    let mut command = Command::new(python);
    command
        .arg(project("tests/python/typed_cells.py"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(fs::File::open(&file).unwrap())
        .kill_on_drop(true);
    let said = runs(command).await;
    fs::remove_file(file).unwrap();
    serde_json::from_str(&said).unwrap()
}

/// The magics that IPython sees in each of these cells; nothing where it sees no Python.
pub(super) async fn sees(folder: &Path, cells: &[String]) -> Vec<Option<Vec<Call>>> {
    let seen = program(folder, &["sees"], &json!(cells)).await;
    serde_json::from_value(seen).unwrap()
}

/// Runs these cells in a kernel that has no nb, but stand-ins of these names (and whether IPython fills variables in), which
/// give what was `said` to each call; what it says of each cell.
pub(super) async fn runs_without_nb(
    folder: &Path,
    cells: &[String],
    names: &Value,
    said: &Value,
) -> Vec<Vec<(String, Value)>> {
    let asked = json!({"cells": cells, "names": names, "said": said});
    let folder_text = folder.to_str().unwrap();
    let heard = program(folder, &["runs", folder_text], &asked).await;
    serde_json::from_value(heard).unwrap()
}
