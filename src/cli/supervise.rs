//! `nb supervise`.

use crate::error::Error;

/// Runs the supervisor of one kernel.
#[derive(Debug, clap::Args)]
pub(super) struct Supervise {}

impl Supervise {
    /// Runs until it is done.
    pub(super) fn run(self) -> Result<(), Error> {
        Err(Error::nb("not built yet"))
    }
}
