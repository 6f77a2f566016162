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
pub(super) fn ask(question: &str) {
    remark(question);
}

/// A remark that changes no result.
pub(super) fn warn(text: &str) {
    remark(&format!("nb: {text}\n"));
}

/// Text on stderr. That may be a log on a disk that is full: whoever cannot be told stops nothing.
pub(super) fn remark(text: &str) {
    let _untold = io::stderr().write_all(text.as_bytes());
}
