//! The project's own commands, called as `cargo xtask <command>`: what README and CI call.

mod bench;
mod dist;
mod fuzz;
mod run;
mod setup;

use std::env;
use std::process::ExitCode;

use self::fuzz::fuzz;
use self::run::{cargo, cargo_with, run};
use self::setup::{node, packages, setup};

/// The sources of the plugin in Lab's page. What is made of them is committed, so that nobody needs Node for it.
const PLUGIN: &str = "extensions/nb-labextension";

/// The steps of `cargo xtask test`, cheapest first so that a fault is found early.
const STEPS: [&[&str]; 5] = [
    &["fmt", "--all", "--check"],
    &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"],
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
    // They are run last, and built for that in a long while.
    &[
        "check",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--locked",
        "--target-dir",
        "target",
    ],
    &["doc", "--workspace", "--no-deps", "--locked"],
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

/// A short one is among the tests.
const SOAK: [&str; 7] = [
    "test",
    "--locked",
    "--test",
    "it",
    "--",
    "--nocapture",
    "soak::",
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
        Some("test") => setup().and_then(|()| test()),
        Some("labextension") => node()
            .and_then(|()| packages(PLUGIN))
            .and_then(|()| plugin(&[])),
        Some("fuzz") => fuzz(part.as_deref(), 60),
        Some("bench") if part.as_deref() == Some("lab") => setup().and_then(|()| cargo(&LAB)),
        Some("bench") if matches!(part.as_deref(), Some("environments" | "frames")) => {
            bench::environments(part.as_deref().unwrap_or_default())
        }
        Some("bench") if part.as_deref() == Some("jobs") => bench::jobs(),
        Some("bench") if part.as_deref() == Some("workspaces") => bench::workspaces(),
        Some("bench") => cargo(&["bench", "--locked"]),
        Some("losses") => bench::losses(),
        Some("dist") => match (part, arguments.next()) {
            (None, _) => dist::dist(),
            (Some(program), Some(folder)) => dist::dist_of(program.as_ref(), folder.as_ref()),
            _ => Err("usage: cargo xtask dist [PROGRAM FOLDER]".to_owned()),
        },
        Some("soak") => match (part.as_deref(), arguments.next()) {
            (Some("--minutes"), Some(minutes)) => soak(&minutes),
            _ => Err("usage: cargo xtask soak --minutes N".to_owned()),
        },
        _ => Err(
            "usage: cargo xtask setup|test|bench [lab|environments|frames|jobs|workspaces]|dist|fuzz [target]|labextension|losses|soak --minutes N"
                .to_owned(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Random ends of everything for so long; `NB_SOAK_SEED` repeats their choice.
fn soak(minutes: &str) -> Result<(), String> {
    if !minutes.parse().is_ok_and(|minutes: f64| minutes > 0.0) {
        return Err(format!("{minutes} is no number of minutes"));
    }
    setup()?;
    cargo_with(&SOAK, &[("NB_SOAK_MINUTES", minutes)])
}

fn test() -> Result<(), String> {
    plugin(&["--check"])?;
    STEPS.iter().try_for_each(|step| cargo(step))?;
    // Whoever reads of a failed test reads its last lines first: its words are to be there, not thirty frames.
    let environment = [("RUST_BACKTRACE", "0"), run::DOC_WARNINGS];
    cargo_with(&["test", "--workspace", "--locked"], &environment)?;
    fuzz(None, 3)
}

/// Makes the plugin, or makes it again and compares: the same sources make the same bytes.
fn plugin(arguments: &[&str]) -> Result<(), String> {
    run("npm", &["run", "--silent", "--prefix", PLUGIN, "check"])?;
    let build = format!("{PLUGIN}/build.mjs");
    run("node", &[&[&*build], arguments].concat())
}
