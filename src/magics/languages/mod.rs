//! The languages whose variables magics know: for each the hidden code that takes values out of a kernel and puts them into one. Pure.
//!
//! One file each, with what is run in a kernel beside it. Who runs the code, and in which kernel, is not known here.

pub(super) mod python;
mod scala;

use super::failure::Failure;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Scala,
}

impl Language {
    /// Nothing for a language whose variables nobody here knows.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "python" => Some(Self::Python),
            "scala" => Some(Self::Scala),
            _ => None,
        }
    }

    /// Code that makes variables of what a kernel has given, by what that has printed: frames, in Python plain values besides.
    pub(super) fn take(self, given: &str) -> Result<String, Failure> {
        match self {
            Self::Python => Ok(python::take(given)),
            Self::Scala => scala::take(given),
        }
    }
}

/// What code of ours has said: before it stands what somebody's import has printed.
pub(super) fn last_line(printed: &str) -> &str {
    printed.trim_end().rsplit('\n').next().unwrap_or_default()
}
