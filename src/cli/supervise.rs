//! `nb supervise`: what the gateway starts for each kernel, not for people.

use std::path::PathBuf;

use tokio::task::LocalSet;

use crate::config::{self, LogFormat};
use crate::error::Error;
use crate::kernels::launch::LOG_FORMAT;
use crate::kernels::supervisor;

/// Runs the supervisor of one kernel.
#[derive(Debug, clap::Args)]
pub(super) struct Supervise {
    /// The kernel's folder, with its start.json.
    folder: PathBuf,
}

impl Supervise {
    /// Runs until the kernel is shut down.
    pub(super) fn run(self) -> Result<(), Error> {
        super::log_to_stderr("warn", log_format());
        let runtime = super::runtime()?;
        let outcome = LocalSet::new().block_on(&runtime, supervisor::run(&self.folder));
        // What blocks on a disk must not keep us from ending.
        runtime.shutdown_background();
        outcome
    }
}

/// As whoever starts us says: a file that could not be read must not keep a kernel from starting.
fn log_format() -> LogFormat {
    let said = std::env::var(config::variable(LOG_FORMAT)).unwrap_or_default();
    match said == LogFormat::Json.name() {
        true => LogFormat::Json,
        false => LogFormat::Text,
    }
}
