//! The command line. Each subcommand is one thin file: arguments in, an outcome out.

mod serve;
mod supervise;
mod up;

use clap::{Parser, Subcommand};

use crate::error::Error;

/// A kernel gateway for Jupyter clients that loses nothing.
#[derive(Debug, Parser)]
#[command(name = "nb", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Up(up::Up),
    #[command(hide = true)]
    Supervise(supervise::Supervise),
}

/// Runs what the command line asks for.
pub fn run() -> Result<(), Error> {
    match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Up(up) => up.run(),
        Command::Supervise(supervise) => supervise.run(),
    }
}
