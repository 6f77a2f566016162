//! What the user sees on stderr while things are set up: steps, each with its time.
//!
//! On a terminal the last line follows what runs; elsewhere there are plain lines only.
//! Knows nothing of what the steps do.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::output::remark;
use crate::create::Shows;

/// How often the line on a terminal is drawn again.
const REDRAW: Duration = Duration::from_millis(500);

/// How much of a tool's line fits beside the step.
const DETAIL_CHARS: usize = 50;

/// What fits on the narrowest usual terminal beside the clock: a line that wraps cannot be drawn over.
const LINE_CHARS: usize = 68;

/// The steps that run now, and the clock.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    terminal: bool,
    running: RefCell<Vec<Step>>,
}

#[derive(Debug)]
struct Step {
    what: String,
    began: Instant,
    detail: String,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            running: RefCell::default(),
        }
    }

    /// Whether somebody is likely to look.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A step begins.
    pub(super) fn begin(&self, what: &str) {
        if !self.terminal {
            self.line(&format!("{what} ..."));
        }
        self.running.borrow_mut().push(Step {
            what: what.to_owned(),
            began: Instant::now(),
            detail: String::new(),
        });
        self.draw();
    }

    /// A tool printed a line in this step.
    pub(super) fn detail(&self, what: &str, text: &str) {
        if !tells_something(text) {
            return;
        }
        if !self.terminal {
            // A line that git writes over is only worth a line of its own when it is the last of its kind.
            if !text.contains('%') || text.ends_with("done.") {
                self.line(&format!("{what}: {text}"));
            }
            return;
        }
        let mut running = self.running.borrow_mut();
        if let Some(step) = running.iter_mut().find(|step| step.what == what) {
            step.detail = text.chars().take(DETAIL_CHARS).collect();
        }
        drop(running);
        self.draw();
    }

    /// A step is done.
    pub(super) fn end(&self, what: &str) {
        let mut running = self.running.borrow_mut();
        let Some(index) = running.iter().position(|step| step.what == what) else {
            return;
        };
        let step = running.remove(index);
        drop(running);
        let took = step.began.elapsed().as_secs_f32();
        self.line(&format!("{what}: done in {took:.1} s"));
        self.draw();
    }

    /// A sentence on a line of its own.
    pub(super) fn line(&self, text: &str) {
        let elapsed = self.started.elapsed().as_secs_f32();
        let erase = if self.terminal { "\r\x1b[K" } else { "" };
        remark(&format!("{erase}[{elapsed:5.1} s] {text}\n"));
    }

    /// Takes the line that follows the running steps away.
    pub(super) fn clear(&self) {
        self.running.borrow_mut().clear();
        if self.terminal {
            remark("\r\x1b[K");
        }
    }

    /// Keeps the times on a terminal moving; never ends.
    pub(super) async fn animate(&self) -> Infallible {
        loop {
            tokio::time::sleep(REDRAW).await;
            self.draw();
        }
    }

    fn draw(&self) {
        let running = self.running.borrow();
        if !self.terminal || running.is_empty() {
            return;
        }
        let elapsed = self.started.elapsed().as_secs_f32();
        let steps: Vec<String> = running
            .iter()
            .map(|step| match step.detail.as_str() {
                "" => step.what.clone(),
                detail => format!("{}: {detail}", step.what),
            })
            .collect();
        let line: String = steps.join(" | ").chars().take(LINE_CHARS).collect();
        remark(&format!("\r\x1b[K[{elapsed:5.1} s] {line}"));
    }
}

impl Shows for Progress {
    fn begin(&self, what: &str) {
        Progress::begin(self, what);
    }

    fn detail(&self, what: &str, line: &str) {
        Progress::detail(self, what, line);
    }

    fn end(&self, what: &str) {
        Progress::end(self, what);
    }

    fn line(&self, text: &str) {
        Progress::line(self, text);
    }
}

/// Whether a line of uv, pip or git is worth showing: not one per package.
fn tells_something(line: &str) -> bool {
    const LEADS: [&str; 17] = [
        "Receiving objects",
        "Resolving deltas",
        "Updating files",
        "looks ",
        "remote: Compressing objects",
        "Using ",
        "Resolved ",
        "Downloading ",
        "Prepared ",
        "Installed ",
        "waiting ",
        "makes ",
        "builds ",
        "tests ",
        "imports ",
        "runs ",
        "removes ",
    ];
    LEADS.iter().any(|lead| line.starts_with(lead))
}
