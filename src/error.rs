//! Errors as people see them: whose fault, what happened, what to do.
//!
//! A leaf. Knows nothing of HTTP: the gateway decides on the status.

use std::fmt;
use std::io;

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever asked.
    User,
    /// The kernel, or what it runs in.
    Kernel,
    /// A bug of ours, or this machine.
    Nb,
}

impl Fault {
    /// The name in error bodies.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Kernel => "kernel",
            Self::Nb => "nb",
        }
    }
}

/// An error to be shown: plain sentences, no traceback, no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub fault: Fault,
    /// What happened and what to do about it.
    pub message: String,
}

impl Error {
    /// The asker's fault.
    pub fn user(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::User,
            message: message.into(),
        }
    }

    /// The kernel's fault.
    pub fn kernel(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Kernel,
            message: message.into(),
        }
    }

    /// Our fault, or this machine's.
    pub fn nb(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Nb,
            message: message.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What the system says, as people know it.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "your quota of the disk is used up".to_owned(),
        _ => error.to_string(),
    }
}
