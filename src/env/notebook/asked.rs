//! What a notebook asks for, and where it says so: the blocks in its cells, else `requirements.txt` beside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::script::Script;
use super::lock::Lock;
use crate::protocol::notebook::lock::{code, lock};

/// Beside a notebook, it says what its environment has.
pub(in crate::env) const REQUIREMENTS: &str = "requirements.txt";

/// A notebook that is larger is not looked into when its kernel starts.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What a notebook's file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::env) struct Asks {
    /// Of the blocks in its cells.
    pub(in crate::env) dependencies: Vec<String>,
    pub(in crate::env) requires_python: Option<String>,
    /// A file with requirements.
    pub(in crate::env) requirements: Option<PathBuf>,
    /// An error is a sentence.
    pub(in crate::env) lock: Option<Result<Lock, String>>,
}

impl Asks {
    /// Of a notebook with this text in this folder; an error is a sentence.
    pub(in crate::env) fn read(text: &str, folder: &Path) -> Result<Self, String> {
        let mut asks = Self::of_cells(text)?;
        let beside = folder.join(REQUIREMENTS);
        if !asks.has_block() && beside.is_file() {
            asks.requirements = Some(beside);
        }
        Ok(asks)
    }

    /// Of a notebook whose kernel starts; nothing when there is no such file.
    pub(in crate::env) fn look(notebook: &Path) -> Option<Result<Self, String>> {
        let is_notebook = notebook.is_absolute() && notebook.extension()? == "ipynb";
        let about = fs::metadata(notebook).ok()?;
        if !is_notebook || !about.is_file() || about.len() > FILE_BYTES_MAX {
            return None;
        }
        let text = fs::read_to_string(notebook).ok()?;
        // What is being written, or empty, is none yet.
        code(&text).ok()?;
        Some(Self::read(&text, notebook.parent()?))
    }

    /// Whether a cell says what it needs.
    pub(in crate::env) fn has_block(&self) -> bool {
        !self.dependencies.is_empty() || self.requires_python.is_some()
    }

    fn of_cells(text: &str) -> Result<Self, String> {
        let no_notebook = |error| format!("This cannot be read: {error}.");
        let mut asks = Self::default();
        for cell in code(text).map_err(no_notebook)? {
            let Some(script) = Script::of_cell(&cell) else {
                continue;
            };
            let script = script?;
            for one in script.dependencies {
                if !asks.dependencies.contains(&one) {
                    asks.dependencies.push(one);
                }
            }
            asks.requires_python = match (asks.requires_python, script.requires_python) {
                (Some(one), Some(other)) if one != other => Some(format!("{one},{other}")),
                (one, other) => one.or(other),
            };
        }
        if let Some(kept) = lock(text).map_err(no_notebook)? {
            asks.lock = Some(Lock::read(&kept).map_err(|why| {
                format!("The notebook's lock is not sound, {why}; `nb env lock` makes it anew.")
            }));
        }
        Ok(asks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn notebook(cells: &[&str], lock: Option<&str>) -> String {
        let cells: Vec<_> = cells
            .iter()
            .map(|source| json!({"cell_type": "code", "source": source}))
            .collect();
        let metadata = lock.map_or(json!({}), |lock| json!({"nb": {"lock": lock}}));
        json!({"nbformat": 4, "cells": cells, "metadata": metadata}).to_string()
    }

    #[test]
    fn blocks_win_over_the_file_beside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(REQUIREMENTS), "six").unwrap();
        let read = |text: &str| Asks::read(text, folder.path());
        let plain = read(&notebook(&["import six"], None)).unwrap();
        assert!(plain.requirements.is_some() && plain.lock.is_none());
        let blocks = [
            "# /// script\n# dependencies = [\"a\", \"b>1\"]\n# ///",
            "x",
            "# /// script\n# dependencies = [\"a\"]\n# requires-python = \">=3.11\"\n# ///",
        ];
        let asks = read(&notebook(&blocks, Some("a==1 --hash=sha256:ab"))).unwrap();
        assert_eq!(asks.dependencies, ["a", "b>1"]);
        assert_eq!(asks.requires_python.as_deref(), Some(">=3.11"));
        assert!(asks.requirements.is_none() && asks.lock.is_some());
        let unsound = read(&notebook(&[], Some("-r x"))).unwrap();
        let unsound = unsound.lock.unwrap().unwrap_err();
        assert!(unsound.contains("`-r`"), "{unsound}");
        assert!(read("{").unwrap_err().contains("no notebook"));
    }

    #[test]
    fn what_is_no_file_of_a_notebook_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ipynb");
        assert_eq!(Asks::look(&path), None);
        fs::write(&path, "").unwrap();
        assert_eq!(Asks::look(&path), None);
        fs::write(&path, notebook(&[], None)).unwrap();
        assert_eq!(Asks::look(&path), Some(Ok(Asks::default())));
        assert_eq!(Asks::look(Path::new("a.ipynb")), None);
    }
}
