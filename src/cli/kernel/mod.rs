//! `nb kernel`: kernels as ordinary kernelspecs.

mod install;

use crate::error::Error;

/// Installs kernels where Jupyter's clients find them.
#[derive(Debug, clap::Args)]
pub(super) struct Kernel {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Install(install::Install),
}

impl Kernel {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Install(install) => install.run(),
        }
    }
}
