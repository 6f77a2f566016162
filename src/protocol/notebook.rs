//! A notebook file (nbformat 4) as its text: cells that nobody changes stay byte for byte.
//!
//! Owns which metadata remembers a cell that runs. Does not know where the file is, nor what an output means.

pub mod lock;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{Json, Object};

/// How nbformat indents.
const UNIT: usize = 1;

/// No notebook is indented by more.
const UNIT_MAX: usize = 8;

/// How deep a cell is in the file.
const CELL_DEPTH: usize = 2;

/// Why a text is no notebook that we read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotebookError {
    #[error("it is no notebook: {0}")]
    NotUnderstood(String),
    #[error("it is a notebook of format {0}; Jupyter's own tools bring it to format 4")]
    Format(u64),
}

/// What a cell's `metadata.nb.running` remembers of the request that runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub msg_id: String,
    /// That of the notebook's session when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_id: Option<String>,
    /// When it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The msg_id of the last message that the cell's saved outputs have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A notebook and what of it was changed.
#[derive(Debug)]
pub struct Notebook<'a> {
    text: &'a str,
    unit: usize,
    cells: Vec<Cell<'a>>,
}

#[derive(Debug)]
struct Cell<'a> {
    text: &'a str,
    changed: Option<Object>,
}

impl<'a> Notebook<'a> {
    /// Reads the text of a file.
    pub fn parse(text: &'a str) -> Result<Self, NotebookError> {
        #[derive(Deserialize)]
        struct File<'a> {
            nbformat: u64,
            #[serde(borrow, default)]
            cells: Vec<&'a RawValue>,
        }
        let file: File<'a> = serde_json::from_str(text)
            .map_err(|error| NotebookError::NotUnderstood(error.to_string()))?;
        if file.nbformat != 4 {
            return Err(NotebookError::Format(file.nbformat));
        }
        let cells = file.cells.into_iter().map(|cell| Cell {
            text: cell.get(),
            changed: None,
        });
        Ok(Self {
            text,
            unit: unit(text),
            cells: cells.collect(),
        })
    }

    /// The cells that remember a request, by their places.
    pub fn marked(&self) -> Vec<(usize, Mark)> {
        let mark = |cell: &Cell<'_>| mark(&serde_json::from_str(cell.text).ok()?);
        let cells = self.cells.iter().enumerate();
        cells
            .filter_map(|(at, cell)| Some((at, mark(cell)?)))
            .collect()
    }

    /// The cell at this place, as it is in the file or was changed.
    pub fn cell(&self, at: usize) -> Option<Object> {
        let cell = self.cells.get(at)?;
        match &cell.changed {
            Some(changed) => Some(changed.clone()),
            None => serde_json::from_str(cell.text).ok(),
        }
    }

    /// Puts another in the place of a cell.
    pub fn put(&mut self, at: usize, cell: Object) {
        if let Some(old) = self.cells.get_mut(at) {
            old.changed = Some(cell);
        }
    }

    /// The text with its changes.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut rest = self.text;
        for cell in &self.cells {
            let Some(changed) = &cell.changed else {
                continue;
            };
            // Both are parts of one text, in its order.
            let begin = cell.text.as_ptr() as usize - rest.as_ptr() as usize;
            out.push_str(&rest[..begin]);
            Json::Object(changed.clone()).write(&mut out, self.unit, CELL_DEPTH);
            rest = &rest[begin + cell.text.len()..];
        }
        out + rest
    }
}

fn mark(cell: &Object) -> Option<Mark> {
    let metadata = Object::of(cell.get("metadata")?)?;
    let nb = Object::of(metadata.get("nb")?)?;
    nb.get("running")?.read()
}

/// Remembers a request in a cell, or takes away what is remembered.
pub fn set_mark(cell: &mut Object, mark: Option<&Mark>) {
    change(cell, "metadata", |metadata| {
        change(metadata, "nb", |nb| {
            match mark.and_then(|mark| Json::parse(&serde_json::to_string(mark).ok()?)) {
                Some(mark) => nb.set("running", mark),
                None => nb.remove("running"),
            }
        });
        let is_empty = |nb: &Json| Object::of(nb).is_some_and(|nb| nb.is_empty());
        if metadata.get("nb").is_some_and(is_empty) {
            metadata.remove("nb");
        }
    });
}

/// Adds to `metadata.execution`, as Jupyter's own pages do.
pub fn set_times<'a>(cell: &mut Object, times: impl IntoIterator<Item = (&'a str, &'a str)>) {
    change(cell, "metadata", |metadata| {
        change(metadata, "execution", |execution| {
            for (name, time) in times {
                execution.set(name, time);
            }
        });
    });
}

/// Changes the object under a key; there is one afterwards.
fn change(object: &mut Object, key: &str, change: impl FnOnce(&mut Object)) {
    let mut inner = object.get(key).and_then(Object::of).unwrap_or_default();
    change(&mut inner);
    object.set(key, inner);
}

/// By how much the file is indented.
fn unit(text: &str) -> usize {
    let spaces = || {
        let first = text.split_once('{')?.1.split_once('\n')?.1;
        let spaces = first.len() - first.trim_start_matches(' ').len();
        first
            .trim_start_matches(' ')
            .starts_with('"')
            .then_some(spaces)
    };
    let is_sound = |unit: &usize| (1..=UNIT_MAX).contains(unit);
    spaces().filter(is_sound).unwrap_or(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r##"{
 "cells": [
  {
   "cell_type": "markdown", "id": "a",   "metadata": {},
   "source": ["# é"]
  },
  {
   "cell_type": "code",
   "execution_count": null,
   "metadata": {
    "zoom": 1.50,
    "nb": {
     "running": {"msg_id": "m", "kernel_id": "k", "of a later version": 1},
     "other": true
    }
   },
   "outputs": [],
   "source": []
  }
 ],
 "metadata": {"big": 123456789012345678901234567890},
 "nbformat": 4,
 "nbformat_minor": 5
}
"##;

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let mut notebook = Notebook::parse(FILE).unwrap();
        assert_eq!(notebook.text(), FILE);
        let [(at, mark)] = &notebook.marked()[..] else {
            panic!("one cell runs");
        };
        assert_eq!(
            (*at, &*mark.msg_id, mark.kernel_id.as_deref()),
            (1, "m", Some("k"))
        );
        let mut cell = notebook.cell(1).unwrap();
        set_mark(&mut cell, None);
        set_times(&mut cell, [("iopub.status.busy", "t")]);
        notebook.put(1, cell);
        let expected = FILE
            .replace("     \"running\": {\"msg_id\": \"m\", \"kernel_id\": \"k\", \"of a later version\": 1},\n", "")
            .replace("true\n    }\n", "true\n    },\n    \"execution\": {\n     \"iopub.status.busy\": \"t\"\n    }\n");
        assert_eq!(notebook.text(), expected);
    }

    #[test]
    fn a_mark_is_set_and_nothing_is_left_of_it() {
        let mark = Mark {
            msg_id: "m".to_owned(),
            kernel_id: None,
            started: None,
            last: Some("l".to_owned()),
        };
        let mut cell = Object::default();
        set_mark(&mut cell, Some(&mark));
        assert_eq!(super::mark(&cell), Some(mark));
        set_mark(&mut cell, None);
        assert!(
            Object::of(cell.get("metadata").unwrap())
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn the_indentation_of_the_file_is_kept() {
        for (text, expected) in [
            ("{\n  \"a\": 1}", 2),
            ("{\"a\": 1}", 1),
            ("{\n\n\"a\": 1}", 1),
            ("", 1),
        ] {
            assert_eq!(unit(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        for junk in [
            "",
            "[]",
            "{}",
            "{\"nbformat\": 4, \"cells\": 1}",
            "{\"nbformat\": 4",
        ] {
            let refused = Notebook::parse(junk).unwrap_err();
            assert!(matches!(refused, NotebookError::NotUnderstood(_)), "{junk}");
        }
        let old = Notebook::parse("{\"nbformat\": 3, \"worksheets\": []}");
        assert_eq!(old.unwrap_err(), NotebookError::Format(3));
        // A cell that is none does not hide the others.
        let odd = "{\"nbformat\": 4, \"cells\": [1, {\"metadata\": {\"nb\": {\"running\": {\"msg_id\": \"m\"}}}}]}";
        assert_eq!(Notebook::parse(odd).unwrap().marked()[0].0, 1);
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC{0,60}") {
            let _ = Notebook::parse(&text);
        }
    }
}
