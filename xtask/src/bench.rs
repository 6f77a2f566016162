//! What is measured beside what people come from; each prints tables.

use std::fs;

use super::run::{cargo, run};
use super::setup::python;

/// What nb does beside what is done by hand, or by plain uv; prints a table.
pub(crate) fn environments(which: &str) -> Result<(), String> {
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    run(
        "python3",
        &[
            &format!("benches/environments/{which}.py"),
            "--nb=target/release/nb",
            "--folder=target/bench-environments",
            "--tools=target/nb-data/tools",
        ],
    )
}

/// What a notebook takes by nb run, papermill and jupyter execute; prints tables.
pub(crate) fn jobs() -> Result<(), String> {
    python("target/clients-env", "tests/python/clients.lock", "python3")?;
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    run(
        "target/clients-env/bin/python",
        &["benches/jobs/jobs.py", "--nb=target/release/nb"],
    )
}

/// What a tree of a repository takes by each way that git has, and by nb; prints tables.
pub(crate) fn workspaces() -> Result<(), String> {
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    run(
        "python3",
        &["benches/workspaces/workspaces.py", "--nb=target/release/nb"],
    )
}

/// The same losses with nb and with what people come from; prints a table.
pub(crate) fn losses() -> Result<(), String> {
    python("target/peers-env", "benches/losses/peers.lock", "python3")?;
    python("target/clients-env", "tests/python/clients.lock", "python3")?;
    python("target/test-env", "tests/python/kernel.lock", "python3")?;
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    let python = fs::canonicalize("target/test-env/bin")
        .map_err(|error| format!("target/test-env: {error}"))?
        .join("python");
    run(
        "target/clients-env/bin/python",
        &[
            "benches/losses/losses.py",
            "--nb=target/release/nb",
            "--jupyter-server=target/clients-env/bin/jupyter-server",
            "--jeg=target/peers-env/bin/jupyter-enterprisegateway",
            &format!("--python={}", python.display()),
        ],
    )
}
