//! `nb up`.

use crate::error::Error;

/// Sets everything up and opens a JupyterLab on the gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Up {}

impl Up {
    /// Runs until it is done.
    pub(super) fn run(self) -> Result<(), Error> {
        Err(Error::nb("not built yet"))
    }
}
