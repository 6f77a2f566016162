//! `nb scala-kernel`: what the kernelspec `scala` starts, not for people.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Signal, getpid, kill_process};
use tokio::task::LocalSet;

use crate::config::{LogFormat, Places};
use crate::error::Error;
use crate::workers::scala::{self, Ending, Settings};

/// Runs a Scala kernel on the sockets of a connection file.
#[derive(Debug, clap::Args)]
pub(super) struct ScalaKernel {
    /// The connection file, as Jupyter's clients write it
    #[arg(
        short = 'f',
        long = "connection-file",
        value_name = "FILE",
        required_unless_present = "prepare"
    )]
    connection_file: Option<PathBuf>,
    /// Where jars and what is made of them lie [default: nb's data folder]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Gets and makes what a first start would, and ends
    #[arg(long)]
    prepare: bool,
}

impl ScalaKernel {
    /// Runs until the kernel ends; ends as its JVM did.
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        super::log_to_stderr("info", LogFormat::Text);
        let data = match self.data {
            Some(data) => data,
            None => Places::from_env()?.data,
        };
        let runtime = super::runtime()?;
        let tasks = LocalSet::new();
        let Some(connection_file) = self.connection_file.filter(|_| !self.prepare) else {
            let say = |line: &str| tracing::info!("{line}");
            tasks.block_on(&runtime, scala::ready(&data, &say))?;
            return Ok(ExitCode::SUCCESS);
        };
        let settings = Settings {
            connection_file,
            data,
            client: env::var("JPY_PARENT_PID").ok(),
        };
        let ending = tasks.block_on(&runtime, scala::run(settings));
        runtime.shutdown_background();
        match ending? {
            Ending::Asked => Ok(ExitCode::SUCCESS),
            Ending::Jvm(status) => Ok(as_it_did(status)),
        }
    }
}

/// Ends by the signal that ended the JVM, or with its code.
fn as_it_did(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        let _dies = kill_process(getpid(), signal);
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
