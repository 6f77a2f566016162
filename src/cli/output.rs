//! What commands print: results on stdout, remarks on stderr. A reader that is gone is no fault of ours.

use std::io::{self, Write};

use serde_json::Value;

use crate::error::Error;

/// Text as it is.
pub(super) fn text(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::user(format!("nothing could be printed: {error}")))
        }
        _ => Ok(()),
    }
}

/// One line.
pub(super) fn line(line: &str) -> Result<(), Error> {
    text(&format!("{line}\n"))
}

/// A value for programs.
pub(super) fn json(value: &Value) -> Result<(), Error> {
    text(&format!("{value:#}\n"))
}

/// A question, whose answer comes on the same line.
#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
pub(super) fn ask(question: &str) {
    eprint!("{question}");
}

/// A remark that changes no result.
#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
pub(super) fn warn(remark: &str) {
    eprintln!("nb: {remark}");
}
