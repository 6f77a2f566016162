//! `nb run`: a notebook from its first cell to its last, without a page.

mod given;
mod shows;
mod streams;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

use self::given::{Given, Ignored};
use self::shows::Shows;
use super::machine::{begins_in, machine};
use super::{access, output, runtime, time};
use crate::config::{self, LogFormat};
use crate::error::{Error, Fault};
use crate::front::{Kernel, Place};
use crate::jobs::document::{Document, Injected};
use crate::jobs::keeper::Keeper;
use crate::jobs::parameters::{Language, Parameters};
use crate::jobs::run::{Ended, Limits, run};
use crate::kernels::environment::{SESSION_NAME, Variables};
use crate::notebook_file::{NotebookFile, Output};

/// A cell ended with an error.
const FAILED: u8 = 1;
/// The kernel died, or did not start.
const DIED: u8 = 2;
/// A cell, or all, took too long.
const TIMED_OUT: u8 = 3;
/// The gateway, or this machine, does not do its part.
const UNREACHABLE: u8 = 4;
/// Another command line is needed, or another notebook: `EX_USAGE` of sysexits.h.
const USAGE: u8 = super::USAGE;
/// As shells have it.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// The kernel of a run that was killed lives on for so long: a line that breaks is mended in it.
const LINGER: Duration = Duration::from_secs(60);

/// Runs a notebook without a page, and writes what it says into another one
///
/// A new kernel runs the cells one after the other; the outputs are in the file within a second, and it is whole at any time.
/// Parameters go into a cell after the one with the tag `parameters`, as papermill does it, and its flags are understood.
///
/// Ends with 0 when all cells are done, 1 when one failed, 2 when the kernel died or did not start, 3 after a timeout, 4 when the gateway or
/// this machine failed, 64 when the command or the notebook was not understood, 130 or 143 after Ctrl-C or SIGTERM.
#[derive(Debug, clap::Args)]
#[command(override_usage = "nb run [OPTIONS] IN [OUT]")]
pub(super) struct Run {
    /// The notebook
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where it is written with its outputs [default: beside IN, with -out in its name]
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
    /// The kernelspec [default: the notebook's]
    #[arg(long, short)]
    kernel: Option<String>,
    /// The language that parameters are written in [default: the notebook's]
    #[arg(long, short)]
    language: Option<String>,
    /// The folder that the kernel begins in [default: this one]
    #[arg(long, value_name = "FOLDER", conflicts_with = "gateway")]
    cwd: Option<PathBuf>,
    /// How long each cell may take, as in 90s or 2h; a number alone is seconds
    #[arg(long, alias = "execution-timeout", value_name = "TIME", value_parser = time::parse)]
    cell_timeout: Option<Duration>,
    /// How long all cells may take
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    timeout: Option<Duration>,
    /// How long the kernel may take to start
    #[arg(long, alias = "start_timeout", value_name = "TIME", value_parser = time::parse, conflicts_with = "gateway")]
    start_timeout: Option<Duration>,
    /// Goes on after a cell that failed, and ends with 0
    #[arg(long)]
    allow_errors: bool,
    /// Writes the notebook with its parameters, and runs nothing
    #[arg(long)]
    prepare_only: bool,
    /// Hides the code of the cells in what is written
    #[arg(long)]
    report_mode: bool,
    /// Shows what cells say, on stdout and stderr
    #[arg(long)]
    log_output: bool,
    #[command(flatten)]
    streams: streams::Files,
    #[command(flatten)]
    _ignored: Ignored,
    /// Shows which cell runs, also where stderr is no terminal
    #[arg(long, alias = "progress-bar", overrides_with = "no_progress")]
    progress: bool,
    /// Shows nothing but what went wrong
    #[arg(long, alias = "no-progress-bar")]
    no_progress: bool,
    /// Runs the kernel behind this gateway, with the token of --token-file or NB_TOKEN
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// A file that holds the gateway's token
    #[arg(long, value_name = "FILE", requires = "gateway")]
    token_file: Option<PathBuf>,
    /// For programs: what became of it, as JSON
    #[arg(long, conflicts_with = "log_output")]
    json: bool,
}

/// What ended without the run having begun.
struct NotRun {
    code: u8,
    error: Error,
}

impl From<Error> for NotRun {
    fn from(error: Error) -> Self {
        let code = match error.fault {
            Fault::User => USAGE,
            Fault::Kernel => DIED,
            Fault::Nb => UNREACHABLE,
        };
        Self { code, error }
    }
}

impl Run {
    /// Runs it to its end.
    pub(super) fn run(&self) -> ExitCode {
        super::log_to_stderr("error", LogFormat::Text);
        let code = self.run_it().unwrap_or_else(|NotRun { code, error }| {
            output::warn(&error.message);
            code
        });
        ExitCode::from(code)
    }

    fn run_it(&self) -> Result<u8, NotRun> {
        let is_stream = |path: &Path| path.as_os_str() == "-";
        if is_stream(&self.input) || self.output.as_deref().is_some_and(is_stream) {
            let why = "notebooks are read and written as files, not on stdin and stdout";
            return Err(Error::user(why).into());
        }
        let file = NotebookFile::read(&self.input)?;
        let shown = self.input.display().to_string();
        let mut document = Document::parse(&file.text)
            .map_err(|error| Error::user(format!("{shown}: {error}")))?;
        let mut keeper = Keeper::new(Output::at(&self.output_path())?);
        let kernel = match (&self.kernel, document.kernel()) {
            (Some(kernel), _) => kernel.clone(),
            (None, Some(kernel)) => kernel,
            (None, None) => {
                let why =
                    format!("{shown} does not say which kernel it wants: name one with --kernel");
                return Err(Error::user(why).into());
            }
        };
        let place = self.place(&kernel, file.path())?;
        let target = self.output_path().display().to_string();
        let parameters = self.given.read(&shown, &target)?;
        document.clean();
        if self.report_mode {
            document.hide_inputs();
        }
        if !parameters.is_empty() {
            self.inject(&mut document, &parameters, &place)?;
        }
        document.describe(&shown, &target, &parameters.json());
        if self.prepare_only {
            keeper.write(&document)?;
            return Ok(0);
        }
        let runtime = runtime()?;
        let ran = runtime.block_on(self.run_in(&place, &kernel, &mut document, &mut keeper));
        // What blocks on a file system must not keep us from ending.
        runtime.shutdown_background();
        ran
    }

    fn output_path(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let stem = self.input.file_stem().unwrap_or_default();
            let name = format!("{}-out.ipynb", stem.to_string_lossy());
            self.input.with_file_name(name)
        })
    }

    fn inject(
        &self,
        document: &mut Document<'_>,
        parameters: &Parameters,
        place: &Place,
    ) -> Result<(), Error> {
        let of_kernel = match place {
            Place::Here(machine) => Some(machine.start.language.clone()),
            Place::Behind(..) => None,
        };
        let name = self.language.clone().or_else(|| document.language());
        let name = name.or(of_kernel).unwrap_or_default();
        let language = Language::named(&name).ok_or_else(|| {
            Error::user(format!(
                "parameters cannot be written in {name:?}, but in python, r, scala, julia and bash: say which with --language"
            ))
        })?;
        let id = &Uuid::new_v4().simple().to_string()[..8];
        if document.inject(&parameters.code(language), id) == Injected::First {
            output::warn(
                "no cell has the tag \"parameters\": the parameters are set before the first cell, \
                 and what the notebook sets itself wins",
            );
        }
        Ok(())
    }

    fn place(&self, kernel: &str, notebook: &Path) -> Result<Place, NotRun> {
        if let Some(url) = &self.gateway {
            let gateway = access::named(url, self.token_file.as_deref())?;
            return Ok(Place::Behind(gateway, kernel.to_owned(), LINGER));
        }
        let here = env::current_dir()
            .map_err(|error| Error::user(format!("there is no current folder: {error}")))?;
        let folder = match &self.cwd {
            Some(folder) => here.join(folder),
            None => here,
        };
        if !folder.is_dir() {
            let why = format!("--cwd: there is no folder {}", folder.display());
            return Err(Error::user(why).into());
        }
        let mut variables = match &self.cwd {
            Some(_) => Variables::new(),
            None => begins_in(&folder),
        };
        variables.insert(
            SESSION_NAME.to_owned(),
            notebook.to_string_lossy().into_owned(),
        );
        if let Some(limit) = self.start_timeout {
            let seconds = limit.as_secs_f64().to_string();
            variables.insert("KERNEL_LAUNCH_TIMEOUT".to_owned(), seconds);
        }
        let settings = config::load()?.settle()?.settings;
        let linger_ms = u64::try_from(LINGER.as_millis()).unwrap_or(u64::MAX);
        let machine = machine(settings, kernel, folder, linger_ms, variables)?;
        Ok(Place::Here(Box::new(machine)))
    }

    async fn run_in(
        &self,
        place: &Place,
        name: &str,
        document: &mut Document<'_>,
        keeper: &mut Keeper,
    ) -> Result<u8, NotRun> {
        let begun = Instant::now();
        let mut signals = Signals::new()?;
        let is_wanted = self
            .progress
            .then_some(true)
            .or(self.no_progress.then_some(false));
        let streams = self.streams.open()?;
        let mut shows = Shows::new(is_wanted, self.log_output, streams);
        let starts = format!("starts the kernel {name}");
        shows.begin(&starts);
        let started = tokio::select! {
            started = Kernel::start(place, Uuid::new_v4()) => started,
            code = signals.next() => {
                place.settled().await;
                return Ok(code);
            }
        };
        let kernel = started.map_err(|error| match (place, error.fault) {
            (_, Fault::Kernel) => NotRun { code: DIED, error },
            _ => NotRun {
                code: UNREACHABLE,
                error,
            },
        })?;
        shows.end(&starts);
        let limits = Limits {
            cell: self.cell_timeout,
            all: self.timeout,
            allow_errors: self.allow_errors,
        };
        let mut stopped = 0;
        let stop = async { stopped = signals.next().await };
        let ran = run(&kernel, document, keeper, limits, &mut shows, stop).await;
        kernel.end().await;
        shows.clear();
        let ended = ran.map_err(|error| NotRun {
            code: UNREACHABLE,
            error,
        })?;
        let code = match &ended {
            Ended::Done => 0,
            Ended::CellFailed(..) => FAILED,
            Ended::KernelDied(..) => DIED,
            Ended::CellTimedOut(_) | Ended::AllTimedOut(_) => TIMED_OUT,
            Ended::Stopped(_) => stopped,
            Ended::Unreachable(..) => UNREACHABLE,
        };
        if keeper.is_aside() {
            output::warn(&format!(
                "somebody else has changed {}: what this run wrote is in {}",
                self.output_path().display(),
                keeper.path().display()
            ));
        }
        shows.tells(&ended);
        if self.json {
            output::json(&shows::summary(&ended, keeper.path(), begun.elapsed()))?;
        }
        Ok(code)
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let failed = |error| Error::nb(format!("signals cannot be received: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// The exit code of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
        }
    }
}
