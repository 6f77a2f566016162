//! Maps the outcome to an exit code, nothing else.

use std::process::ExitCode;

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn main() -> ExitCode {
    match nb::cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nb: {error}");
            ExitCode::FAILURE
        }
    }
}
