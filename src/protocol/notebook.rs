//! A notebook file (nbformat 4) as its text: cells that nobody changes stay byte for byte.
//!
//! Owns which metadata remembers a cell that runs. Does not know where the file is, nor what an output means.

pub mod cell;
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
    minor: u64,
    cells: Vec<Cell<'a>>,
    /// All cells as the file has them.
    list: Option<&'a str>,
    /// There are others than in the file.
    relisted: bool,
    metadata: Option<Part<'a>>,
}

/// A part of the file, and what is to be in its place.
#[derive(Debug)]
struct Part<'a> {
    text: &'a str,
    changed: Option<Object>,
}

#[derive(Debug)]
enum Cell<'a> {
    Old(Part<'a>),
    New(Object),
}

impl Part<'_> {
    fn object(&self) -> Option<Object> {
        match &self.changed {
            Some(changed) => Some(changed.clone()),
            None => serde_json::from_str(self.text).ok(),
        }
    }
}

impl<'a> Notebook<'a> {
    /// Reads the text of a file.
    pub fn parse(text: &'a str) -> Result<Self, NotebookError> {
        #[derive(Deserialize)]
        struct File<'a> {
            nbformat: u64,
            #[serde(default)]
            nbformat_minor: u64,
            #[serde(borrow, default)]
            cells: Option<&'a RawValue>,
            #[serde(borrow, default)]
            metadata: Option<&'a RawValue>,
        }
        let not_understood =
            |error: serde_json::Error| NotebookError::NotUnderstood(error.to_string());
        let file: File<'a> = serde_json::from_str(text).map_err(not_understood)?;
        if file.nbformat != 4 {
            return Err(NotebookError::Format(file.nbformat));
        }
        let part = |raw: &'a RawValue| Part {
            text: raw.get(),
            changed: None,
        };
        let list = file.cells.map(RawValue::get);
        let cells: Vec<&'a RawValue> = list
            .map_or(Ok(Vec::new()), serde_json::from_str)
            .map_err(not_understood)?;
        Ok(Self {
            text,
            unit: unit(text),
            minor: file.nbformat_minor,
            cells: cells
                .into_iter()
                .map(|cell| Cell::Old(part(cell)))
                .collect(),
            list,
            relisted: false,
            metadata: file.metadata.map(part),
        })
    }

    /// The cells that remember a request, by their places.
    pub fn marked(&self) -> Vec<(usize, Mark)> {
        let marks = (0..self.len()).filter_map(|at| Some((at, mark(&self.cell(at)?)?)));
        marks.collect()
    }

    /// Whether its cells have ids, as of format 4.5.
    pub fn has_ids(&self) -> bool {
        self.minor >= 5
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The cell at this place, as it is in the file or was changed.
    pub fn cell(&self, at: usize) -> Option<Object> {
        match self.cells.get(at)? {
            Cell::Old(part) => part.object(),
            Cell::New(cell) => Some(cell.clone()),
        }
    }

    /// Puts another in the place of a cell.
    pub fn put(&mut self, at: usize, cell: Object) {
        match self.cells.get_mut(at) {
            Some(Cell::Old(part)) => part.changed = Some(cell),
            Some(Cell::New(old)) => *old = cell,
            None => {}
        }
    }

    /// Puts a cell before the one at this place, or last. Nothing happens to a file without a list of cells.
    pub fn insert(&mut self, at: usize, cell: Object) {
        if self.list.is_some() {
            self.cells.insert(at.min(self.cells.len()), Cell::New(cell));
            self.relisted = true;
        }
    }

    /// Takes a cell away.
    pub fn remove(&mut self, at: usize) {
        if at < self.cells.len() {
            self.cells.remove(at);
            self.relisted = true;
        }
    }

    /// The notebook's own metadata.
    pub fn metadata(&self) -> Option<Object> {
        self.metadata.as_ref()?.object()
    }

    /// Puts others in their place. Nothing happens to a file that has none.
    pub fn put_metadata(&mut self, metadata: Object) {
        if let Some(old) = &mut self.metadata {
            old.changed = Some(metadata);
        }
    }

    /// The text with its changes.
    pub fn text(&self) -> String {
        let mut edits: Vec<(&str, Json, usize)> = Vec::new();
        if let Some(list) = self.list.filter(|_| self.relisted) {
            let cells = self.cells.iter().filter_map(Cell::json);
            edits.push((list, Json::List(cells.collect()), CELL_DEPTH - 1));
        } else {
            let changed = |cell| match cell {
                &Cell::Old(Part { text, ref changed }) => Some((text, changed.clone()?)),
                Cell::New(_) => None,
            };
            let changed = self.cells.iter().filter_map(changed);
            edits.extend(changed.map(|(text, cell)| (text, Json::Object(cell), CELL_DEPTH)));
        }
        if let Some(Part {
            text,
            changed: Some(changed),
        }) = &self.metadata
        {
            edits.push((text, Json::Object(changed.clone()), CELL_DEPTH - 1));
        }
        // All are parts of one text, and none is in another.
        edits.sort_by_key(|(part, ..)| part.as_ptr());
        let mut out = String::with_capacity(self.text.len());
        let mut rest = self.text;
        for (part, new, depth) in edits {
            let begin = part.as_ptr() as usize - rest.as_ptr() as usize;
            out.push_str(&rest[..begin]);
            new.write(&mut out, self.unit, depth);
            rest = &rest[begin + part.len()..];
        }
        out + rest
    }
}

impl Cell<'_> {
    fn json(&self) -> Option<Json> {
        match self {
            Self::New(cell) => Some(Json::Object(cell.clone())),
            Self::Old(part) => match &part.changed {
                Some(changed) => Some(Json::Object(changed.clone())),
                None => Json::parse(part.text),
            },
        }
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
    fn cells_come_and_go_and_the_notebooks_metadata_are_put_in_their_place() {
        let text = "{\n \"metadata\": {\"a\": 1},\n \"cells\": [\n  {\n   \"x\": 1\n  },\n  {\n   \"x\": 2\n  }\n ],\n \"nbformat\": 4\n}\n";
        let mut notebook = Notebook::parse(text).unwrap();
        let mut new = Object::default();
        new.set("x", 3);
        notebook.insert(1, new.clone());
        notebook.remove(0);
        notebook.insert(9, new.clone());
        let mut metadata = notebook.metadata().unwrap();
        metadata.set("b", 2);
        notebook.put_metadata(metadata);
        assert_eq!(notebook.len(), 3);
        let cell = |n| format!("  {{\n   \"x\": {n}\n  }}");
        let cells = [cell(3), cell(2), cell(3)].join(",\n");
        let metadata = "{\n  \"a\": 1,\n  \"b\": 2\n }";
        assert_eq!(
            notebook.text(),
            format!(
                "{{\n \"metadata\": {metadata},\n \"cells\": [\n{cells}\n ],\n \"nbformat\": 4\n}}\n"
            )
        );
        // Where there is no room for it nothing is put.
        let mut bare = Notebook::parse("{\"nbformat\": 4}").unwrap();
        bare.insert(0, new.clone());
        bare.put_metadata(new);
        assert_eq!(bare.text(), "{\"nbformat\": 4}");
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
