//! `nb output`: what cells have said, for notebooks that no page shows.

mod fetch;
mod replay;

use std::process::ExitCode;

use crate::error::Error;

/// Outputs: brings what cells said while nobody watched into their notebook
#[derive(Debug, clap::Args)]
pub(super) struct Output {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Fetch(fetch::Fetch),
}

impl Output {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Fetch(fetch) => fetch.run(),
        }
    }
}
