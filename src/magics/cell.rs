//! What a magic and its supervisor say to each other: the running cell as a handle, what it may show,
//! and how it ends.
//!
//! The same for both doors. Knows nothing of how the supervisor does any of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::failure::Failure;
use super::other::{OtherKernel, Others};
use crate::env::KernelEnvironment;
use crate::env::pex::Base;

/// One thing to show, by media type.
pub type Bundle = Map<String, Value>;

/// The cell that a magic runs for. The supervisor implements it, once for each door.
///
/// A future that a method returns may be dropped at any time; what was asked is then forgotten.
pub trait Cell {
    /// Shows something under the cell. It is on its way when the future is first polled; the future
    /// ends when there is room for more, so awaiting it is what keeps a flood from filling memory.
    fn emit(&self, output: Output) -> LocalBoxFuture<'_, ()>;

    /// Asks whoever ran the cell, on stdin. Fails when the client takes no questions or is interrupted.
    fn ask(&self, question: Question) -> LocalBoxFuture<'_, Result<String, Failure>>;

    /// Runs code in the kernel, unseen: no execution count, no history, no output. Gives what it
    /// printed to stdout, so that values come back from every language the same way.
    ///
    /// Top-level names of the code are names in the user's namespace. In an IPython kernel, which is
    /// busy with this very cell, the helper runs it; elsewhere it is a silent execute_request, sent
    /// past the queue since the kernel is idle. A failure carries the kernel's own ename and evalue.
    fn run_hidden(&self, code: String) -> LocalBoxFuture<'_, Result<String, Failure>>;

    /// Ends when this cell is interrupted (or its client in the kernel is gone); at once when it was.
    fn interrupted(&self) -> LocalBoxFuture<'_, ()>;

    /// Restarts the kernel once this cell is over. What waits behind it fails.
    fn restart(&self);

    /// What the kernel was rebased onto, if it was.
    fn base(&self) -> Option<Base> {
        None
    }

    /// Restarts the kernel once this cell is over, in this environment, or in the one that it was started with first. Where
    /// it does not come up in it, it comes back in the one that it is in now.
    fn rebase(&self, _onto: Option<Base>) -> Result<(), Failure> {
        Err(Failure::new(
            "PexError",
            "This kernel cannot be rebased from here.",
        ))
    }

    /// What the supervisor knows of its kernel now.
    fn facts(&self) -> Facts;

    /// Where and with what the kernel runs.
    fn place(&self) -> Place;

    /// The other kernels of the notebook.
    fn others(&self) -> &dyn Others;

    /// Runs code in another kernel of the notebook, which runs, as if it were this cell: what it says, shows and asks is
    /// the cell's, and an interrupt of the cell is one of it. A failure carries that kernel's own traceback. Whether the magic
    /// has something to do after tells `goes_on`.
    fn run_in<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        code: String,
        goes_on: bool,
    ) -> LocalBoxFuture<'a, Result<(), Failure>>;
}

/// The stream that text goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamName {
    Stdout,
    Stderr,
}

/// Something to show under a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    Stream {
        name: StreamName,
        text: String,
    },
    /// A `display_data`, or an `update_display_data` of the `display_id` in `transient`.
    Display {
        data: Bundle,
        #[serde(default)]
        metadata: Map<String, Value>,
        #[serde(default)]
        transient: Map<String, Value>,
        #[serde(default)]
        update: bool,
    },
    /// Takes away what the cell has shown, at once or with the next output.
    Clear {
        wait: bool,
    },
}

impl Output {
    /// Text on stdout.
    pub fn stdout(text: impl Into<String>) -> Self {
        Self::Stream {
            name: StreamName::Stdout,
            text: text.into(),
        }
    }

    /// A display that nothing will update.
    pub fn display(data: Bundle) -> Self {
        Self::Display {
            data,
            metadata: Map::new(),
            transient: Map::new(),
            update: false,
        }
    }
}

/// A question to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub prompt: String,
    /// Whether the answer is not to be seen while it is typed.
    pub password: bool,
}

/// What a magic that has run gives back: to the expression that it stands in, and to the eye.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub given: Given,
    /// What stands for the value where nothing takes it: as the cell's result in an IPython kernel, as
    /// a display in any other. Without one the value's own text does.
    pub shown: Option<Bundle>,
    /// The variable that takes the value, instead of the expression.
    pub named: Option<Named>,
}

/// A variable in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    /// The expression has the value as well.
    pub is_shown: bool,
}

/// The value of a magic's expression; only IPython kernels can take one.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Given {
    #[default]
    Nothing,
    Text(String),
    Json(Value),
    Path(PathBuf),
    /// A frame in the kernel.
    Arrow(Frame),
}

/// A file in Arrow IPC format that becomes a frame.
#[derive(Clone)]
pub struct Frame {
    path: PathBuf,
    held: Option<Rc<dyn Any>>,
}

impl Frame {
    /// Whoever takes it removes it.
    pub fn file(path: PathBuf) -> Self {
        Self { path, held: None }
    }

    /// It is there as long as this is held.
    pub fn lent(path: PathBuf, held: impl Any) -> Self {
        Self {
            path,
            held: Some(Rc::new(held)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has to be held until it is taken.
    pub fn held(&self) -> Option<Rc<dyn Any>> {
        self.held.clone()
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Answer {
    /// Nothing, neither to the expression nor to the eye.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// What has to be held until the kernel has taken the value.
    pub fn held(&self) -> Option<Rc<dyn Any>> {
        match &self.given {
            Given::Arrow(frame) => frame.held(),
            _ => None,
        }
    }

    /// What to display where no expression can take the value.
    pub fn into_display(self) -> Option<Bundle> {
        let text = match (self.shown, self.given) {
            (Some(shown), _) => return Some(shown),
            (None, Given::Nothing) => return None,
            (None, Given::Text(text)) => text,
            (None, Given::Json(value)) => value.to_string(),
            (None, Given::Path(path)) => path.display().to_string(),
            (None, Given::Arrow(frame)) => frame.path().display().to_string(),
        };
        Some(Bundle::from_iter([(
            "text/plain".to_owned(),
            Value::String(text),
        )]))
    }
}

/// What the supervisor knows of its kernel; no secrets, so all of it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kernel_id: String,
    /// The kernelspec's name.
    pub spec: String,
    pub language: String,
    /// As REST shows it.
    pub execution_state: String,
    /// The kernel's process, which leads its process group; nothing while there is none.
    pub pid: Option<u32>,
    /// When that process was started.
    pub started: Option<Timestamp>,
    /// How often a process was replaced by the next: with it ends what a magic knew of the old one.
    pub restarts: u64,
    /// Client sessions with a connection.
    pub connected: usize,
    /// Client sessions that may come back.
    pub away: usize,
    /// What sessions have missed for good, since the start.
    pub lost_messages: u64,
    pub lost_bytes: u64,
    pub journal_bytes: u64,
    pub journal_bytes_max: u64,
}

/// Where and with what the kernel runs.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The kernelspec's command, as it was run.
    pub argv: Vec<String>,
    /// All of the kernel's environment; it may hold secrets.
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    /// Which of nb's environments it is, if it is one.
    pub environment: Option<KernelEnvironment>,
    /// nb's data folder, with all of its environments; nothing where an older nb has started the kernel.
    pub data: Option<PathBuf>,
    /// A folder of the user's own, 0700, that goes with the kernel: for what a cell leaves for the
    /// kernel to read. It may not exist yet.
    pub scratch: PathBuf,
}

impl fmt::Debug for Place {
    /// Without the environment and the arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("program", &self.argv.first())
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_without_a_display_is_shown_as_its_text() {
        let shown = |given| {
            let answer = Answer {
                given,
                ..Answer::nothing()
            };
            answer.into_display()
        };
        assert_eq!(shown(Given::Nothing), None);
        let bundle = shown(Given::Json(json!({"a": 1}))).unwrap();
        assert_eq!(Value::Object(bundle), json!({"text/plain": "{\"a\":1}"}));
    }

    #[test]
    fn secrets_of_the_environment_are_not_in_debug_texts() {
        let place = Place {
            argv: vec!["python3".to_owned()],
            env: BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]),
            cwd: PathBuf::from("/home/me"),
            environment: None,
            data: None,
            scratch: PathBuf::from("/home/me/scratch"),
        };
        assert!(!format!("{place:?}").contains("hunter2"));
    }
}
