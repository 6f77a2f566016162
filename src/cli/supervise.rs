//! `nb supervise`: what the gateway starts for each kernel, not for people.

use std::path::PathBuf;

use tokio::task::LocalSet;

use crate::error::Error;
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
        super::log_to_stderr("warn");
        let runtime = super::runtime()?;
        LocalSet::new().block_on(&runtime, supervisor::run(&self.folder))
    }
}
