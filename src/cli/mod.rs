//! The command line. Each subcommand is one thin file: arguments in, an outcome out.

mod access;
mod bundle;
mod config;
mod create;
mod doctor;
mod env;
mod init;
mod input;
mod kernel;
mod launch;
mod machine;
mod output;
mod outputs;
mod pip;
mod progress;
mod run;
mod scala_kernel;
mod serve;
mod stop;
mod supervise;
mod time;
mod token;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::error::Error;

/// The command line was not understood, where 2 says something else: `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// A kernel gateway for Jupyter clients that loses nothing.
#[derive(Debug, Parser)]
#[command(name = "nb", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Create(create::Create),
    List(create::List),
    Open(create::Open),
    Stop(create::Stop),
    Delete(create::Delete),
    Serve(serve::Serve),
    Init(init::Init),
    Config(config::Config),
    Doctor(doctor::Doctor),
    Launch(launch::Launch),
    Run(Box<run::Run>),
    #[command(visible_alias = "envs")]
    Env(env::Env),
    #[command(visible_alias = "kernels")]
    Kernel(kernel::Kernel),
    #[command(visible_alias = "outputs")]
    Output(outputs::Output),
    #[command(visible_alias = "tokens")]
    Token(token::Token),
    Bundle(bundle::Bundle),
    #[command(visible_alias = "workspaces")]
    Workspace(workspace::Arguments),
    #[command(hide = true)]
    Pip(pip::Pip),
    #[command(hide = true)]
    ScalaKernel(scala_kernel::ScalaKernel),
    #[command(hide = true)]
    Supervise(supervise::Supervise),
}

/// Runs what the command line asks for; some commands tell more with their exit code than whether they
/// failed.
pub fn run() -> Result<ExitCode, Error> {
    if let Some(pip) = pip::Pip::by_name(std::env::args_os()) {
        return pip.run().map(|()| ExitCode::SUCCESS);
    }
    let asked = match Cli::try_parse() {
        Ok(asked) => asked,
        Err(refused) if refused.use_stderr() && is_run() => {
            // Its other codes say what became of a notebook.
            let _nobody_reads = refused.print();
            return Ok(ExitCode::from(USAGE));
        }
        Err(refused) => refused.exit(),
    };
    let done = match asked.command {
        Command::Doctor(doctor) => return doctor.run(),
        Command::Serve(serve) => return serve.run(),
        Command::Init(init) => return init.run(),
        Command::Kernel(kernel) => return kernel.run(),
        Command::Output(output) => return output.run(),
        Command::Run(run) => return Ok(run.run()),
        Command::ScalaKernel(kernel) => return kernel.run(),
        Command::Up(up) => up.run(),
        Command::Create(create) => create.run(),
        Command::List(list) => list.run(),
        Command::Open(open) => open.run(),
        Command::Stop(stop) => stop.run(),
        Command::Delete(delete) => delete.run(),
        Command::Config(config) => config.run(),
        Command::Launch(launch) => launch.run(),
        Command::Env(env) => env.run(),
        Command::Bundle(bundle) => bundle.run(),
        Command::Pip(pip) => pip.run(),
        Command::Token(token) => token.run(),
        Command::Workspace(workspace) => workspace.run(),
        Command::Supervise(supervise) => supervise.run(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn is_run() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "run")
}

/// What commands that wait run on.
fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::nb(format!("the runtime could not start: {error}")))
}

/// Logs to stderr what `NB_LOG` asks for (the syntax of `RUST_LOG`), by default `level`.
fn log_to_stderr(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("NB_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Else it says on stderr that nothing can be written there, and panics of that.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_ansi(is_terminal).init();
        }
        LogFormat::Json => {
            log.json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .init();
            // Its own words would be no JSON.
            std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a bug of ours")));
        }
    }
}
