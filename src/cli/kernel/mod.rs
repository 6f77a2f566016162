//! `nb kernel`: kernels as ordinary kernelspecs, and the kernels of a gateway.

mod exec;
mod fleet;
mod install;
mod logs;
pub(super) mod view;

use std::process::ExitCode;

use self::fleet::Verb;
use crate::error::Error;

/// Kernels: installs them for every client, lists, starts and ends them at a gateway
#[derive(Debug, clap::Args)]
pub(super) struct Kernel {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Install(install::Install),
    List(fleet::List),
    Start(fleet::Start),
    /// Ends a kernel
    Stop(fleet::One),
    /// Interrupts what a kernel runs
    Interrupt(fleet::One),
    /// Restarts a kernel and waits until it is ready
    Restart(fleet::One),
    Exec(exec::Exec),
    Logs(logs::Logs),
}

impl Kernel {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let done = match self.command {
            Command::Exec(exec) => return Ok(exec.run()),
            Command::Logs(logs) => logs.run(),
            Command::Install(install) => install.run(),
            Command::List(list) => list.run(),
            Command::Start(start) => start.run(),
            Command::Stop(one) => one.run(Verb::Stop),
            Command::Interrupt(one) => one.run(Verb::Interrupt),
            Command::Restart(one) => one.run(Verb::Restart),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}
