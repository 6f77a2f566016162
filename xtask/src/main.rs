//! The project's own commands, called as `cargo xtask <command>`: what README and CI call.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The packages of the tests' Python environment.
const LOCK: &str = "src/env/locks/default.txt";

/// The packages of the client suites.
const NPM_LOCK: &str = "tests/js/package-lock.json";

/// The steps of `cargo xtask test`, cheapest first so that a fault is found early.
const STEPS: [&[&str]; 4] = [
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ],
    &["doc", "--workspace", "--no-deps", "--locked"],
    &["test", "--workspace", "--locked"],
];

/// What `cargo xtask bench lab` prints is how long a browser waits for a cell's text.
const LAB: [&str; 9] = [
    "test",
    "--locked",
    "--features",
    "measure",
    "--test",
    "it",
    "--",
    "--nocapture",
    "shift_enter",
];

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (command, part) = (arguments.next(), arguments.next());
    let outcome = match command.as_deref() {
        Some("setup") => setup(),
        Some("test") => setup().and_then(|()| STEPS.iter().try_for_each(|step| cargo(step))),
        Some("bench") if part.as_deref() == Some("lab") => setup().and_then(|()| cargo(&LAB)),
        Some("bench") => cargo(&["bench", "--locked"]),
        _ => Err("usage: cargo xtask setup|test|bench [lab]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Installs what the tests need, from locks.
fn setup() -> Result<(), String> {
    python()?;
    clients()
}

/// Node, Chromium and the packages of the client suites.
fn clients() -> Result<(), String> {
    for (program, packages) in [
        ("npm", &["nodejs", "npm"][..]),
        ("chromium", &["chromium"][..]),
    ] {
        if !is_there(program) {
            let install = ["install", "-y", "--no-install-recommends"];
            run("apt-get", &["update"])?;
            run("apt-get", &[&install[..], packages].concat())?;
        }
    }
    let lock = fs::read_to_string(NPM_LOCK).map_err(|error| format!("{NPM_LOCK}: {error}"))?;
    let done = Path::new("tests/js/node_modules/made-from");
    if fs::read_to_string(done).is_ok_and(|made_from| made_from == lock) {
        return Ok(());
    }
    run(
        "npm",
        &["ci", "--prefix", "tests/js", "--no-audit", "--no-fund"],
    )?;
    fs::write(done, lock).map_err(|error| format!("{}: {error}", done.display()))
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The Python environment of the tests.
fn python() -> Result<(), String> {
    let folder = Path::new("target/test-env");
    let lock = fs::read_to_string(LOCK).map_err(|error| format!("{LOCK}: {error}"))?;
    let done = folder.join("made-from");
    if fs::read_to_string(&done).is_ok_and(|made_from| made_from == lock) {
        return Ok(());
    }
    let make = ["-m", "venv", "--clear", "target/test-env"];
    if run("python3", &make).is_err() {
        run(
            "apt-get",
            &["install", "-y", "--no-install-recommends", "python3-venv"],
        )?;
        run("python3", &make)?;
    }
    let python = folder.join("bin/python").display().to_string();
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "-r",
        LOCK,
    ];
    run(&python, &install)?;
    fs::write(&done, lock).map_err(|error| format!("{}: {error}", done.display()))
}

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
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
