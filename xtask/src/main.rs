//! The project's own commands, called as `cargo xtask <command>`: what README and CI call.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The Python environments of the tests, each with the lock of its packages: of kernels, and of clients
/// that know no gateway.
const PYTHONS: [(&str, &str); 2] = [
    ("target/test-env", "src/env/locks/default.txt"),
    ("target/clients-env", "tests/python/clients.lock"),
];

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
    for (folder, lock) in PYTHONS {
        python(folder, lock)?;
    }
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

/// A Python environment in `folder`.
fn python(folder: &str, lock: &str) -> Result<(), String> {
    let packages = fs::read_to_string(lock).map_err(|error| format!("{lock}: {error}"))?;
    let done = Path::new(folder).join("made-from");
    if fs::read_to_string(&done).is_ok_and(|made_from| made_from == packages) {
        return Ok(());
    }
    let make = ["-m", "venv", "--clear", folder];
    if run("python3", &make).is_err() {
        run(
            "apt-get",
            &["install", "-y", "--no-install-recommends", "python3-venv"],
        )?;
        run("python3", &make)?;
    }
    let python = format!("{folder}/bin/python");
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "-r",
        lock,
    ];
    run(&python, &install)?;
    fs::write(&done, packages).map_err(|error| format!("{}: {error}", done.display()))
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
