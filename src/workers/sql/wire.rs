//! What is said to a worker and what it says, as JSON, an object a line.
//!
//! ```text
//! Open -> opened | failed                      Tables -> tables
//! Run  -> progress, progress, … done | failed  Cancel, LetGo -> nothing
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What it is to do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request<'a> {
    /// The first one: which database.
    Open(&'a Database),
    /// Which tables these statements name.
    Tables {
        statements: Vec<&'a str>,
    },
    Run(&'a Run),
    /// Ends the run with this number.
    Cancel {
        id: u64,
    },
    /// The result of the run with this number is not needed any more.
    LetGo {
        id: u64,
    },
}

/// A database, and who asks it.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Database {
    /// `duckdb`, or as the ADBC driver manager finds it.
    pub driver: String,
    pub uri: Option<String>,
    /// The name of an ADBC connection profile, instead of driver and URI.
    pub profile: Option<String>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub options: BTreeMap<String, String>,
    /// What the database shows as the program that is connected.
    pub application: String,
    /// Follows each statement; empty for one that is in the worker itself.
    pub comment: String,
    /// For what does not fit into memory.
    pub scratch: PathBuf,
}

impl std::fmt::Debug for Database {
    /// Without what may hold a login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

/// Statements, one after the other; the result is that of the last one.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub id: u64,
    pub statements: Vec<Statement>,
    /// What placeholders stand for, as `[kind, text]` each.
    pub values: Vec<Value>,
    /// Arrow files by the name that a query has for them.
    pub frames: BTreeMap<String, String>,
    /// What a query names that may be an Arrow file.
    pub files: Vec<String>,
    /// Where relative paths begin.
    pub folder: PathBuf,
    /// Of a result; a larger one fails.
    pub bytes_max: u64,
    pub preview_rows: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    pub sql: String,
    /// For each placeholder the index of its value.
    pub values: Vec<usize>,
    /// So many lines of the cell stand above it, and are in the positions that errors tell.
    pub lines_above: usize,
}

/// What comes of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Opened {},
    Tables { names: Vec<String> },
    Progress(Progress),
    Done(Done),
    Failed(Failed),
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Progress {
    /// Of 1, where the database tells.
    pub fraction: Option<f64>,
    /// Rows that have come.
    pub rows: u64,
}

/// The end of a run that went well.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Done {
    /// The Arrow file with the result, while the worker holds it; nothing where a statement has none.
    pub path: Option<PathBuf>,
    pub rows: u64,
    /// Rows that a statement has changed.
    pub changed: Option<u64>,
    /// Name and type of each.
    pub columns: Vec<(String, String)>,
    /// The first rows, as text; of many columns only the first.
    pub preview: Vec<Vec<String>>,
}

/// What the database said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Failed {
    pub message: String,
    #[serde(default)]
    pub log: String,
}
