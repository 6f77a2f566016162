//! The project's own commands, called as `cargo xtask <command>`: what README and CI call.

use std::env;
use std::process::{Command, ExitCode};

/// The steps of `cargo xtask test`, cheapest first so that a fault is found early.
const STEPS: [&[&str]; 4] = [
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ],
    &["doc", "--workspace", "--no-deps", "--locked"],
    &["test", "--workspace", "--locked"],
];

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        Some("test") => STEPS.iter().try_for_each(|step| cargo(step)),
        _ => Err("usage: cargo xtask test".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn cargo(arguments: &[&str]) -> Result<(), String> {
    eprintln!("==> cargo {}", arguments.join(" "));
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed", arguments.join(" ")))
    }
}
