//! `nb serve`.

use crate::error::Error;

/// Runs the gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {}

impl Serve {
    /// Runs until it is done.
    pub(super) fn run(self) -> Result<(), Error> {
        Err(Error::nb("not built yet"))
    }
}
