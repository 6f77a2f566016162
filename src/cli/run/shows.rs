//! What is seen of a run: which cell runs, what cells say where that is asked for, and how it ended.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::streams::Streams;
use crate::cli::kernel::view::Plain;
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::jobs::run::{Ended, Watcher};
use crate::jobs::session::Viewer;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// What people see of a run.
pub(super) struct Shows {
    progress: Progress,
    is_shown: bool,
    logs: bool,
    streams: Streams,
    cell: Option<String>,
    /// The last error of the cell that runs.
    error: Option<Message>,
}

impl Shows {
    /// Progress is shown where it is wanted, else on a terminal; `logs`: so is what cells say.
    pub(super) fn new(is_wanted: Option<bool>, logs: bool, streams: Streams) -> Self {
        let progress = Progress::new();
        Self {
            is_shown: is_wanted.unwrap_or(progress.is_terminal()),
            progress,
            logs,
            streams,
            cell: None,
            error: None,
        }
    }

    /// Nothing runs any more.
    pub(super) fn clear(&self) {
        self.progress.clear();
    }

    pub(super) fn begin(&self, what: &str) {
        if self.is_shown {
            self.progress.begin(what);
        }
    }

    pub(super) fn end(&self, what: &str) {
        self.progress.end(what);
    }

    /// What went wrong, as one sentence and the traceback if there is one.
    pub(super) fn tells(&self, ended: &Ended) {
        let sentence = match ended {
            Ended::Done => return,
            Ended::CellFailed(cell, Some(why)) => format!("cell {cell} failed: {why}"),
            Ended::CellFailed(cell, None) => format!("cell {cell} failed"),
            Ended::KernelDied(0, why) => format!("the kernel died: {why}"),
            Ended::KernelDied(cell, why) => format!("the kernel died in cell {cell}: {why}"),
            Ended::CellTimedOut(cell) => format!("cell {cell} took longer than --cell-timeout"),
            Ended::AllTimedOut(cell) => format!("--timeout was over in cell {cell}"),
            Ended::Stopped(cell) => format!("stopped in cell {cell}"),
            Ended::Unreachable(_, error) => error.message.clone(),
        };
        if let (Ended::CellFailed(..), Some(error), false) = (ended, &self.error, self.logs) {
            self.prints(error);
        }
        output::warn(&sentence);
    }

    fn prints(&self, message: &Message) {
        if let Err(error) = Plain::new().message(Channel::Iopub, message) {
            tracing::debug!(%error, "nobody reads");
        }
    }
}

impl Watcher for Shows {
    fn begins(&mut self, n: usize, total: usize, cell: usize) {
        let what = format!("cell {cell}, {n} of {total}");
        self.begin(&what);
        self.cell = Some(what);
        self.error = None;
    }

    fn says(&mut self, channel: Channel, message: &Message) {
        if channel != Channel::Iopub {
            return;
        }
        if self.logs {
            self.prints(message);
        }
        self.streams.write(message);
        let header = HeaderPeek::read(&message.header);
        if header.is_some_and(|header| header.msg_type == "error") {
            self.error = Some(message.clone());
        }
    }

    fn ends(&mut self) {
        if let Some(what) = self.cell.take() {
            self.end(&what);
        }
    }
}

/// The same for programs.
pub(super) fn summary(ended: &Ended, path: &Path, took: Duration) -> Value {
    let (status, cell, reason) = match ended {
        Ended::Done => ("ok", None, None),
        Ended::CellFailed(cell, why) => ("cell_failed", Some(*cell), why.clone()),
        Ended::KernelDied(cell, why) => ("kernel_died", Some(*cell), Some(why.clone())),
        Ended::CellTimedOut(cell) => ("cell_timed_out", Some(*cell), None),
        Ended::AllTimedOut(cell) => ("timed_out", Some(*cell), None),
        Ended::Stopped(cell) => ("stopped", Some(*cell), None),
        Ended::Unreachable(cell, error) => {
            ("unreachable", Some(*cell), Some(error.message.clone()))
        }
    };
    let cell = cell.filter(|cell| *cell > 0);
    json!({
        "status": status, "cell": cell, "reason": reason, "output": path.display().to_string(),
        "seconds": took.as_secs_f64(),
    })
}
