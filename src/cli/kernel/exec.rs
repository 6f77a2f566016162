//! `nb kernel exec`: code in a kernel, and what comes of it on this terminal.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::fleet::{find_id, text};
use super::view::{Lines, Plain};
use crate::cli::access::Access;
use crate::cli::{input, output, runtime, time};
use crate::error::Error;
use crate::front::{Gateway, Kernel};
use crate::jobs::session::{Cell, How, Outcome, Session, Viewer};

/// The code ended with an error.
const FAILED: u8 = 1;
/// The arguments make no sense together.
const NOT_UNDERSTOOD: u8 = 2;
/// It could not be run, or its kernel died.
const NOT_RUN: u8 = 3;
/// As `timeout` has it.
const TIMED_OUT: u8 = 124;
/// As shells have it.
const INTERRUPTED: u8 = 130;

/// How long an interrupted kernel may take to say so.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// More code than this is no cell.
const CODE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Runs code in a kernel and shows what it prints, as it comes
///
/// Output goes to stdout and stderr, results as plain text, errors as their traceback. Ctrl-C interrupts the
/// kernel, a second one leaves it. Code that asks for input asks here, when stdin is a terminal.
///
/// Ends with 0 when the code is done, 1 when it failed, 2 when the command was not understood, 3 when it could not be run or its kernel died, 124
/// after --timeout, 130 after Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(override_usage = "nb kernel exec [OPTIONS] KERNEL CODE|-\n       \
                            nb kernel exec [OPTIONS] KERNEL -f FILE\n       \
                            nb kernel exec [OPTIONS] --spec SPEC CODE|-|-f FILE")]
pub(super) struct Exec {
    /// The kernel's id, or the beginning of it, unless --spec is said; then the code, or - for stdin, unless
    /// --file is
    #[arg(value_name = "KERNEL CODE", num_args = 0..=2)]
    arguments: Vec<String>,
    /// In a new kernel of this kernelspec, which ends with the code
    #[arg(long)]
    spec: Option<String>,
    /// The code is in this file
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Interrupts the code after this time, as in 30s or 2h
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    access: Access,
}

/// What ends a cell besides itself.
enum Stop {
    Interrupted,
    TimedOut,
}

impl Exec {
    pub(super) fn run(&self) -> ExitCode {
        let (kernel, code) = match self.split() {
            Ok(split) => split,
            Err(error) => {
                output::warn(&error.message);
                return ExitCode::from(NOT_UNDERSTOOD);
            }
        };
        let ran = runtime().and_then(|runtime| {
            let ran = runtime.block_on(self.run_it(kernel, code));
            // A read of stdin may still wait.
            runtime.shutdown_background();
            ran
        });
        match ran {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                output::warn(&error.message);
                ExitCode::from(NOT_RUN)
            }
        }
    }

    async fn run_it(&self, kernel: Option<&str>, code: Option<String>) -> Result<u8, Error> {
        let limit = self.timeout;
        let from_stdin = code.as_deref() == Some("-");
        let code = match (code, &self.file) {
            (Some(code), None) if !from_stdin => code,
            (_, None) => read(io::stdin(), "stdin")?,
            (_, Some(file)) => {
                let shown = file.display().to_string();
                let open = std::fs::File::open(file);
                read(
                    open.map_err(|error| Error::user(format!("{shown}: {error}")))?,
                    &shown,
                )?
            }
        };
        let gateway = self.access.open().await?;
        let mut interrupts = signal(SignalKind::interrupt())
            .map_err(|error| Error::nb(format!("signals cannot be received: {error}")))?;
        let allow_stdin = !from_stdin && io::stdin().is_terminal();
        let Some(spec) = &self.spec else {
            let id = find_id(&gateway, kernel.unwrap_or_default()).await?;
            return self
                .cell(&gateway, &id, &code, allow_stdin, limit, &mut interrupts)
                .await;
        };
        let body = json!({"name": spec});
        let started = tokio::select! {
            started = gateway.ask_long(Method::POST, "/api/kernels", &body) => started,
            // A start whose asker goes leaves nothing behind.
            _ = interrupts.recv() => return Ok(INTERRUPTED),
        };
        let started = started?.good()?;
        let id = text(&started, "id");
        let ran = self
            .cell(&gateway, id, &code, allow_stdin, limit, &mut interrupts)
            .await;
        let path = format!("/api/kernels/{id}");
        let ended = gateway.ask_long(Method::DELETE, &path, &Value::Null).await;
        match ended {
            Ok(answer) => tracing::debug!(answer.status, "the kernel was ended"),
            Err(error) => output::warn(&format!("the kernel {id} was not ended: {error}")),
        }
        ran
    }

    /// Kernel and code, as far as they are arguments.
    fn split(&self) -> Result<(Option<&str>, Option<String>), Error> {
        let mut arguments = self.arguments.iter();
        let kernel = match self.spec {
            Some(_) => None,
            None => arguments.next().map(String::as_str),
        };
        let code = match self.file {
            Some(_) => None,
            None => arguments.next().cloned(),
        };
        let (has_kernel, has_code) = (
            self.spec.is_some() || kernel.is_some(),
            self.file.is_some() || code.is_some(),
        );
        match (has_kernel, has_code, arguments.next()) {
            (true, true, None) => Ok((kernel, code)),
            (false, _, _) => Err(Error::user(
                "say which kernel, or --spec; see `nb kernel list`",
            )),
            (_, false, _) => Err(Error::user("say what to run: code, - for stdin, or --file")),
            (_, _, Some(more)) => Err(Error::user(format!("{more:?} is one argument too many"))),
        }
    }

    async fn cell(
        &self,
        gateway: &Gateway,
        id: &str,
        code: &str,
        allow_stdin: bool,
        limit: Option<Duration>,
        interrupts: &mut Signal,
    ) -> Result<u8, Error> {
        let kernel = Kernel::behind(gateway, id);
        let mut session = Session::open(&kernel).await?;
        let how = How {
            allow_stdin,
            stop_on_error: true,
        };
        let cell = session.submit(code, how).await;
        match self.access.json {
            true => watch(cell, &mut Lines, &kernel, limit, interrupts).await,
            false => watch(cell, &mut Plain::new(), &kernel, limit, interrupts).await,
        }
    }
}

/// Shows a cell to its end, which an interrupt or the time may bring on.
async fn watch(
    mut cell: Cell<'_, '_>,
    viewer: &mut impl Viewer,
    kernel: &Kernel,
    limit: Option<Duration>,
    interrupts: &mut Signal,
) -> Result<u8, Error> {
    let stop = tokio::select! {
        outcome = cell.run(viewer) => return outcome.map(code),
        _ = interrupts.recv() => Stop::Interrupted,
        () = after(limit) => Stop::TimedOut,
    };
    kernel.interrupt().await.map_err(Error::user)?;
    let again = async {
        // While the time is over, Ctrl-C is the first one.
        interrupts.recv().await;
    };
    let stopped = tokio::select! {
        stopped = timeout(STOPS_WITHIN, cell.run(viewer)) => stopped.is_ok(),
        () = again => false,
    };
    if !stopped {
        let id = kernel.id();
        output::warn(&format!(
            "the kernel {id} was interrupted and does not stop"
        ));
    }
    Ok(match stop {
        Stop::Interrupted => INTERRUPTED,
        Stop::TimedOut => TIMED_OUT,
    })
}

fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => 0,
        // Which its output says.
        Outcome::Died(_) => FAILED,
        Outcome::Failed(error) => {
            if let Some(error) = error {
                output::warn(&error);
            }
            FAILED
        }
        Outcome::Aborted => {
            output::warn(
                "the kernel did not run the code: another cell failed before it, or it restarted",
            );
            FAILED
        }
    }
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn read(from: impl Read, name: &str) -> Result<String, Error> {
    let text = input::text(from, CODE_BYTES_MAX);
    text.map_err(|why| Error::user(format!("{name}: {why}")))
}
