//! The languages whose variables magics know: for each the hidden code that takes values out of a kernel and puts them into one. Pure.
//!
//! One file each, with what is run in a kernel beside it. Who runs the code, and in which kernel, is not known here.

pub(super) mod python;
mod scala;

use std::path::Path;

use super::cell::Cell;
use super::failure::Failure;

/// What nb's own kernel of Scala is started by. Our code needs what is in its JVM.
const SCALA: &str = "scala-kernel";

/// One of them. Names that it is given are identifiers: letters, digits and `_`, in Unicode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
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

    /// That of the cell's kernel; else what that is instead, to end a sentence with.
    pub fn of_cell(cell: &dyn Cell) -> Result<Self, String> {
        let speaks = cell.facts().language;
        match Self::of(&speaks) {
            None => Err(format!("this kernel speaks {speaks}")),
            Some(Self::Scala) if !cell.place().argv.iter().any(|word| word == SCALA) => {
                Err("this kernel of Scala is not nb's own".to_owned())
            }
            Some(language) => Ok(language),
        }
    }

    /// Code that makes variables of what a kernel has given, by what that has printed: frames, in Python plain values besides.
    pub(super) fn take(self, given: &str) -> Result<String, Failure> {
        match self {
            Self::Python => Ok(python::take(given)),
            Self::Scala => scala::take(given),
        }
    }

    /// Code that makes a variable of a file in Arrow's IPC format, which has to be there while the code runs.
    pub fn frame(self, name: &str, path: &Path) -> String {
        match self {
            Self::Python => python::frame(name, path),
            Self::Scala => scala::frame(name, path),
        }
    }

    /// The variable that is the result of the cell with this count; nothing in a language whose results have no such names.
    pub fn result(self, count: i64) -> Option<String> {
        match self {
            Self::Python => None,
            Self::Scala => Some(scala::result(count)),
        }
    }

    /// Code that prints where another process of the same user reads those of these variables that are frames: JSON, `name` and `path`
    /// of each. They are there until the code of [`Self::let_go`], and in Scala until whatever runs next.
    pub(super) fn lend(self, names: &[impl AsRef<str>]) -> String {
        match self {
            Self::Python => python::lend(names),
            Self::Scala => scala::lend(names),
        }
    }

    /// Code that ends what was lent; nothing where that ends by itself.
    pub(super) fn let_go(self) -> Option<String> {
        match self {
            Self::Python => Some(python::let_go()),
            Self::Scala => None,
        }
    }

    /// Code that prints the values of these variables as a database is told them, `[kind, text]` each, in a line of JSON.
    pub(super) fn values(self, names: &[impl AsRef<str>]) -> String {
        match self {
            Self::Python => python::values(names),
            Self::Scala => scala::values(names),
        }
    }

    /// The failure of that code, in words for whoever wrote the query.
    pub(super) fn unbound(self, failure: Failure) -> Failure {
        match self {
            Self::Python => failure,
            Self::Scala => scala::unbound(failure),
        }
    }
}

/// What code of ours has said: before it stands what somebody's import has printed.
pub(super) fn last_line(printed: &str) -> &str {
    printed.trim_end().rsplit('\n').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::test_cell::TestCell;

    #[test]
    fn a_kernel_of_scala_is_nbs_own_or_none_that_we_know() {
        let mut cell = TestCell::default();
        assert_eq!(Language::of_cell(&cell), Ok(Language::Python));
        cell.facts.language = "scala".to_owned();
        let stranger = Language::of_cell(&cell).unwrap_err();
        assert!(stranger.contains("not nb's own"), "{stranger}");
        cell.place.argv.push(SCALA.to_owned());
        assert_eq!(Language::of_cell(&cell), Ok(Language::Scala));
        cell.facts.language = "R".to_owned();
        assert_eq!(
            Language::of_cell(&cell).unwrap_err(),
            "this kernel speaks R"
        );
    }
}
