//! A notebook that is run: which of its cells are, and what is written into it of what became of them.
//!
//! The metadata are papermill's (`metadata.papermill` of the notebook and of each cell), so that what reads its notebooks
//! reads these; times of a cell are also where Jupyter's pages keep them. Pure: does no I/O and has no clock.

use jiff::Timestamp;

use crate::protocol::json::{Json, Object};
use crate::protocol::notebook::{Notebook, NotebookError, cell, set_mark, set_times};
use crate::protocol::outputs::CellOutputs;

/// The cell after which parameters are put.
const PARAMETERS: &str = "parameters";

/// The cell of parameters that an earlier run has put there.
const INJECTED: &str = "injected-parameters";

/// What papermill puts before a cell that failed.
const ERROR_MARK: &str = "papermill-error-cell-tag";

/// A cell that is to fail, as nbclient has it.
const MAY_FAIL: &str = "raises-exception";

/// A cell that is passed over, as nbclient has it.
const SKIPPED: &str = "skip-execution";

/// Where papermill keeps what it knows.
const KEY: &str = "papermill";

/// A notebook and what became of it so far.
#[derive(Debug)]
pub struct Document<'a> {
    notebook: Notebook<'a>,
    started: Option<Timestamp>,
}

/// A cell that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place in the notebook, from 0.
    pub at: usize,
    pub source: String,
    /// An error in it ends nothing.
    pub may_fail: bool,
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Completed,
    Failed,
}

/// Where parameters were put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    AfterDefaults,
    /// In the place of those of an earlier run.
    Again,
    /// There is no cell with the tag.
    First,
}

impl<'a> Document<'a> {
    /// Reads a notebook's text.
    pub fn parse(text: &'a str) -> Result<Self, NotebookError> {
        Ok(Self {
            notebook: Notebook::parse(text)?,
            started: None,
        })
    }

    /// The kernelspec that it asks for.
    pub fn kernel(&self) -> Option<String> {
        self.said("kernelspec", "name")
    }

    /// The language that it says to be in.
    pub fn language(&self) -> Option<String> {
        self.said("language_info", "name")
            .or_else(|| self.said("kernelspec", "language"))
    }

    fn said(&self, part: &str, key: &str) -> Option<String> {
        let metadata = self.notebook.metadata()?;
        let part = Object::of(metadata.get(part)?)?;
        part.get(key)?
            .read()
            .filter(|text: &String| !text.is_empty())
    }

    /// Puts a cell of parameters where papermill puts it, with this id where cells have ids.
    pub fn inject(&mut self, code: &str, id: &str) -> Injected {
        let id = self.notebook.has_ids().then_some(id);
        let new = cell::new("code", id, code, INJECTED);
        if let Some(at) = self.tagged(INJECTED) {
            self.notebook.put(at, new);
            return Injected::Again;
        }
        match self.tagged(PARAMETERS) {
            Some(at) => {
                self.notebook.insert(at + 1, new);
                Injected::AfterDefaults
            }
            None => {
                self.notebook.insert(0, new);
                Injected::First
            }
        }
    }

    fn tagged(&self, tag: &str) -> Option<usize> {
        let is_it = |at: &usize| {
            self.notebook
                .cell(*at)
                .is_some_and(|one| cell::has_tag(&one, tag))
        };
        (0..self.notebook.len()).find(is_it)
    }

    /// Takes away what an earlier run has left.
    pub fn clean(&mut self) {
        while let Some(at) = self.tagged(ERROR_MARK) {
            self.notebook.remove(at);
        }
        for at in 0..self.notebook.len() {
            let Some(mut one) = self.notebook.cell(at) else {
                continue;
            };
            if cell::is_code(&one) {
                cell::clear(&mut one);
                set_mark(&mut one, None);
            }
            let mut pending = Object::default();
            for key in ["duration", "end_time", "exception", "start_time"] {
                pending.set(key, Json::Null);
            }
            pending.set("status", "pending");
            cell::change_metadata(&mut one, |metadata| metadata.set(KEY, pending));
            self.notebook.put(at, one);
        }
    }

    /// Has pages show the outputs of its cells without their code.
    pub fn hide_inputs(&mut self) {
        for at in 0..self.notebook.len() {
            let Some(mut one) = self.notebook.cell(at).filter(cell::is_code) else {
                continue;
            };
            cell::change_metadata(&mut one, |metadata| {
                let known = metadata.get("jupyter").and_then(Object::of);
                let mut jupyter = known.unwrap_or_default();
                jupyter.set("source_hidden", true);
                metadata.set("jupyter", jupyter);
            });
            self.notebook.put(at, one);
        }
    }

    /// Notes what it is a run of; `parameters` is JSON.
    pub fn describe(&mut self, input: &str, output: &str, parameters: &str) {
        self.note(|run| {
            run.set("input_path", input);
            run.set("output_path", output);
            let parameters = Json::parse(parameters);
            run.set("parameters", parameters.unwrap_or(Json::Null));
        });
    }

    /// The cells that are run, in their order.
    pub fn steps(&self) -> Vec<Step> {
        let step = |at| {
            let one = self.notebook.cell(at)?;
            let source = cell::source(&one);
            let is_run = cell::is_code(&one) && !source.trim().is_empty();
            (is_run && !cell::has_tag(&one, SKIPPED)).then(|| Step {
                at,
                may_fail: cell::has_tag(&one, MAY_FAIL),
                source,
            })
        };
        (0..self.notebook.len()).filter_map(step).collect()
    }

    /// The run begins.
    pub fn starts(&mut self, now: Timestamp) {
        self.started = Some(now);
        self.note(|run| {
            run.set("start_time", &*time(now));
            run.set("end_time", Json::Null);
            run.set("duration", Json::Null);
            run.set("exception", Json::Null);
        });
    }

    /// The cell at this place begins.
    pub fn begins(&mut self, at: usize, now: Timestamp) {
        self.note_cell(at, |run| {
            run.set("start_time", &*time(now));
            run.set("exception", false);
            run.set("status", "running");
        });
    }

    /// The cell has said this until now.
    pub fn shows(&mut self, at: usize, said: &CellOutputs) {
        let Some(mut one) = self.notebook.cell(at) else {
            return;
        };
        one.set("outputs", said.outputs());
        if let Some(count) = said.count() {
            one.set("execution_count", count);
        }
        set_times(&mut one, said.times());
        self.notebook.put(at, one);
    }

    /// The cell has ended, having begun at `began`.
    pub fn ends(&mut self, at: usize, status: Status, began: Timestamp, now: Timestamp) {
        self.note_cell(at, |run| {
            run.set("duration", seconds(began, now));
            run.set("end_time", &*time(now));
            run.set("exception", status == Status::Failed);
            let status = match status {
                Status::Completed => "completed",
                Status::Failed => "failed",
            };
            run.set("status", status);
        });
    }

    /// The run has ended; `failed` when a cell did that may not, or the kernel died.
    pub fn finishes(&mut self, failed: bool, now: Timestamp) {
        let began = self.started.unwrap_or(now);
        self.note(|run| {
            run.set("end_time", &*time(now));
            run.set("duration", seconds(began, now));
            match failed {
                true => run.set("exception", true),
                false => run.set("exception", Json::Null),
            }
        });
    }

    /// Its text as it is now.
    pub fn text(&self) -> String {
        self.notebook.text()
    }

    fn note(&mut self, with: impl FnOnce(&mut Object)) {
        if let Some(mut metadata) = self.notebook.metadata() {
            let mut run = metadata.get(KEY).and_then(Object::of).unwrap_or_default();
            with(&mut run);
            metadata.set(KEY, run);
            self.notebook.put_metadata(metadata);
        }
    }

    fn note_cell(&mut self, at: usize, with: impl FnOnce(&mut Object)) {
        if let Some(mut one) = self.notebook.cell(at) {
            cell::change_metadata(&mut one, |metadata| {
                let mut run = metadata.get(KEY).and_then(Object::of).unwrap_or_default();
                with(&mut run);
                metadata.set(KEY, run);
            });
            self.notebook.put(at, one);
        }
    }
}

fn time(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn seconds(from: Timestamp, to: Timestamp) -> Json {
    let seconds = to.duration_since(from).as_secs_f64();
    Json::parse(&format!("{seconds:.6}")).unwrap_or(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn notebook(cells: &Value) -> String {
        let metadata = json!({"kernelspec": {"name": "k", "language": "python"}});
        json!({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
            .to_string()
    }

    fn code(source: &str, tags: &[&str]) -> Value {
        json!({"cell_type": "code", "id": source, "source": source, "metadata": {"tags": tags}, "outputs": [1],
               "execution_count": 3})
    }

    fn sources(document: &Document<'_>) -> Vec<String> {
        document
            .steps()
            .into_iter()
            .map(|step| step.source)
            .collect()
    }

    #[test]
    fn parameters_come_after_their_defaults_or_in_the_place_of_earlier_ones() {
        for (cells, place, expected) in [
            (
                json!([code("a", &[]), code("b", &["parameters"]), code("c", &[])]),
                Injected::AfterDefaults,
                ["a", "b", "p", "c"].as_slice(),
            ),
            (
                json!([
                    code("b", &["parameters"]),
                    code("a", &[]),
                    code("c", &["injected-parameters"])
                ]),
                Injected::Again,
                &["b", "a", "p"],
            ),
            (json!([code("a", &[])]), Injected::First, &["p", "a"]),
            (json!([]), Injected::First, &["p"]),
        ] {
            let text = notebook(&cells);
            let mut document = Document::parse(&text).unwrap();
            assert_eq!(document.inject("p", "id"), place);
            assert_eq!(sources(&document), expected);
            let written = document.text();
            assert_eq!(sources(&Document::parse(&written).unwrap()), expected);
        }
    }

    #[test]
    fn what_is_run_is_code_that_nobody_wants_skipped() {
        let note = json!({"cell_type": "markdown", "source": "x", "metadata": {}});
        let mark = json!({"cell_type": "markdown", "source": "x", "metadata": {"tags": ["papermill-error-cell-tag"]}});
        let cells = [
            mark,
            note,
            code(" \n", &[]),
            code("a", &["skip-execution"]),
            code("b", &["raises-exception"]),
            code("c", &[]),
        ];
        let text = notebook(&json!(cells));
        let mut document = Document::parse(&text).unwrap();
        document.clean();
        let steps = document.steps();
        assert_eq!(sources(&document), ["b", "c"]);
        assert_eq!((steps[0].at, steps[0].may_fail), (3, true));
        assert_eq!((steps[1].at, steps[1].may_fail), (4, false));
        let cleaned: Value = serde_json::from_str(&document.text()).unwrap();
        assert_eq!(cleaned["cells"][4]["outputs"], json!([]));
        assert_eq!(cleaned["cells"][4]["execution_count"], Value::Null);
    }

    #[test]
    fn what_became_of_a_cell_is_kept_as_papermill_keeps_it() {
        let text = notebook(&json!([code("a", &[])]));
        let mut document = Document::parse(&text).unwrap();
        assert_eq!(document.kernel().as_deref(), Some("k"));
        assert_eq!(document.language().as_deref(), Some("python"));
        let [begin, end]: [Timestamp; 2] =
            ["2026-11-28T01:00:00Z", "2026-11-28T01:00:01.5Z"].map(|time| time.parse().unwrap());
        document.clean();
        document.describe("in", "out", "{\"x\": 1}");
        document.starts(begin);
        document.begins(0, begin);
        let running: Value = serde_json::from_str(&document.text()).unwrap();
        assert_eq!(
            running["cells"][0]["metadata"]["papermill"]["status"],
            "running"
        );
        let mut said = CellOutputs::default();
        said.stream("stdout".to_owned(), "x\n");
        document.shows(0, &said);
        document.ends(0, Status::Failed, begin, end);
        document.finishes(true, end);
        let done: Value = serde_json::from_str(&document.text()).unwrap();
        assert_eq!(done["cells"][0]["outputs"][0]["text"], json!(["x\n"]));
        assert_eq!(
            done["cells"][0]["metadata"]["papermill"],
            json!({"duration": 1.5, "end_time": "2026-11-28T01:00:01.500000Z", "exception": true,
                   "start_time": "2026-11-28T01:00:00.000000Z", "status": "failed"})
        );
        assert_eq!(
            done["metadata"]["papermill"],
            json!({"input_path": "in", "output_path": "out", "parameters": {"x": 1}, "duration": 1.5, "exception": true,
                   "start_time": "2026-11-28T01:00:00.000000Z", "end_time": "2026-11-28T01:00:01.500000Z"})
        );
    }
}
