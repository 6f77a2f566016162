//! Maps the outcome to an exit code, nothing else.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match nb::cli::run() {
        Ok(code) => code,
        Err(error) => {
            // Where nobody can be told, the exit code is left.
            let _untold = writeln!(io::stderr(), "nb: {error}");
            ExitCode::FAILURE
        }
    }
}
