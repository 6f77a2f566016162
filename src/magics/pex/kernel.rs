//! What the pex magics have the kernel do: `kernel.py`, run there unseen, and what it answers.
//!
//! The one place that knows how the two speak.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::env::interpreters::{ABOUT, About};
use crate::magics::cell::Cell;
use crate::magics::failure::Failure;
use crate::magics::languages::python::literal;

const SOURCE: &str = include_str!("kernel.py");

/// The kernel's interpreter, and the folder that it is in now.
#[derive(Debug, Deserialize)]
pub(super) struct Here {
    pub(super) about: About,
    pub(super) folder: PathBuf,
    /// The interpreter's program.
    pub(super) python: PathBuf,
    /// What `%pants_repo` was told.
    pub(super) repository: Option<PathBuf>,
}

/// How a load ended.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Loaded {
    /// Modules with native code that is in use, each with its place.
    Refused { refused: Vec<(String, String)> },
    Done {
        /// Imported before, from elsewhere.
        swapped: Vec<String>,
        /// The kernel's own, other than those of the pex.
        kept: Vec<String>,
        /// Of an earlier pex.
        removed: Vec<String>,
        /// Those of them whose native code stays.
        native: Vec<String>,
    },
}

/// What was taken away by a cleaning.
#[derive(Debug, Deserialize)]
pub(super) struct Cleaned {
    pub(super) path: Vec<String>,
    pub(super) added: Vec<String>,
    pub(super) modules: Vec<String>,
    pub(super) count: usize,
    pub(super) back: Vec<String>,
    pub(super) native: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Now {
    pub(super) loaded: Option<NowLoaded>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NowLoaded {
    pub(super) title: String,
    pub(super) mount: PathBuf,
}

pub(super) async fn here(cell: &dyn Cell) -> Result<Here, Failure> {
    call(cell, "here", json!([])).await
}

pub(super) async fn load(cell: &dyn Cell, title: &str, mount: &Path) -> Result<Loaded, Failure> {
    call(cell, "load", json!([title, utf8(mount)?])).await
}

pub(super) async fn set_repository(cell: &dyn Cell, folder: &Path) -> Result<(), Failure> {
    call(cell, "set_repository", json!([utf8(folder)?])).await
}

pub(super) async fn clean(cell: &dyn Cell, mounts: &Path) -> Result<Cleaned, Failure> {
    call(cell, "clean", json!([utf8(mounts)?])).await
}

pub(super) async fn status(cell: &dyn Cell) -> Result<Now, Failure> {
    call(cell, "status", json!([])).await
}

async fn call<T: DeserializeOwned>(
    cell: &dyn Cell,
    function: &str,
    arguments: Value,
) -> Result<T, Failure> {
    let request = json!([function, arguments]).to_string();
    // One expression, so that no name is left behind.
    let code = format!(
        "(lambda g: (exec(compile({source}, '<nb pex>', 'exec'), g), g['run']({request}))[1])({{'__name__': 'nb_pex'}})",
        source = literal(&format!("{ABOUT}\n\n{SOURCE}")),
        request = literal(&request),
    );
    let printed = cell.run_hidden(code).await;
    let printed = printed.map_err(|failure| match failure.ename.as_str() {
        "KeyboardInterrupt" | "KernelDied" | "SupervisorError" => failure,
        ename => Failure::new(
            "PexError",
            format!(
                "It failed in the kernel, where all is as it was: {ename}: {}",
                failure.message
            ),
        ),
    })?;
    // What the .pth files of a pex print comes before.
    let last = printed.trim_end().lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| {
        Failure::new(
            "PexError",
            "The kernel did not say how it went; `%pex status` asks it again.",
        )
    })
}

fn utf8(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        let path = path.display();
        Failure::new(
            "PexError",
            format!("The folder {path} has a name that is not UTF-8."),
        )
    })
}
