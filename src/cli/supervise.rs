//! `nb supervise`: what the gateway starts for each kernel, not for people.

use std::path::PathBuf;

use tokio::task::LocalSet;

use crate::error::Error;
use crate::kernels::launch::log_format;
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
