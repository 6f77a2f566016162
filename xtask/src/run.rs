//! Programs as they are run here: said before, and an error when they fail.

use std::env;
use std::process::Command;

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    eprintln!("==> {program} {}", arguments.join(" "));
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "{program} {} failed: {status}",
            arguments.join(" ")
        )),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}

/// In every step alike: what is built for one is used by the next.
pub(crate) const DOC_WARNINGS: (&str, &str) = ("RUSTDOCFLAGS", "-D warnings");

pub(crate) fn cargo(arguments: &[&str]) -> Result<(), String> {
    cargo_with(arguments, &[DOC_WARNINGS])
}

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
pub(crate) fn cargo_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    eprintln!("==> cargo {}", arguments.join(" "));
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed", arguments.join(" ")))
    }
}
