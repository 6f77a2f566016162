//! How a cell fails, whatever made it.

use std::fmt;

/// Why a magic failed: the cell fails with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class of the error, as the client shows it.
    pub ename: String,
    /// One plain sentence.
    pub message: String,
    /// What led to it, shown after the sentence; may be empty.
    pub log: String,
    /// The traceback of the kernel that failed, where one did: it is shown instead of sentence and log.
    pub traceback: Vec<String>,
}

impl Failure {
    /// A failure without a log.
    pub fn new(ename: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            ename: ename.into(),
            message: message.into(),
            log: String::new(),
            traceback: Vec::new(),
        }
    }

    /// The cell asks for something that there is not. The name is IPython's own.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new("UsageError", message)
    }

    /// The cell was interrupted. The name is what clients know from a Python kernel.
    pub fn interrupted() -> Self {
        Self::new("KeyboardInterrupt", "The cell was interrupted.")
    }

    /// What the `traceback` of an error message shows: the sentence, then the log.
    pub fn traceback(&self) -> Vec<String> {
        if !self.traceback.is_empty() {
            return self.traceback.clone();
        }
        let head = format!("\u{1b}[31m{}\u{1b}[39m: {}", self.ename, self.message);
        if self.log.is_empty() {
            vec![head]
        } else {
            vec![head, self.log.clone()]
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.ename, self.message)
    }
}

impl std::error::Error for Failure {}
