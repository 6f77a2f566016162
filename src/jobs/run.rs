//! A run of a notebook: its cells one after the other in one kernel, each within its time, all of it in the file.
//!
//! Owns the order of things. Knows neither where the kernel is nor what is shown of the run.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::document::{Document, Status, Step};
use super::keeper::Keeper;
use super::session::{Cell, How, Outcome, Session, Viewer};
use crate::error::{Error, Fault};
use crate::front::Kernel;
use crate::protocol::message::{Channel, Message};
use crate::protocol::outputs::CellOutputs;

/// How long an interrupted cell may take to end.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// More output of one cell is not kept.
const CELL_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Said where output is not kept any more.
const TOO_MUCH: &str = "[nb] this cell has said more than 256 MiB: what follows is not kept\n";

/// How long cells may take, and what an error ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Each cell.
    pub cell: Option<Duration>,
    /// All of them together.
    pub all: Option<Duration>,
    /// An error ends nothing.
    pub allow_errors: bool,
}

/// How a run ended. Cells are counted from 1, as they are in the notebook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// With what it says, where no output has it.
    CellFailed(usize, Option<String>),
    /// The kernel died, and why.
    KernelDied(usize, String),
    CellTimedOut(usize),
    AllTimedOut(usize),
    /// Whoever runs it asked it to end.
    Stopped(usize),
    /// The kernel cannot be reached any more.
    Unreachable(usize, Error),
}

/// Sees what happens.
pub trait Watcher {
    /// The cell at this place, counted from 1, begins: the `n`th of `total` that are run.
    fn begins(&mut self, n: usize, total: usize, cell: usize);
    /// It says something.
    fn says(&mut self, channel: Channel, message: &Message);
    /// It has ended.
    fn ends(&mut self);
}

/// Why a cell was cut off.
enum Cut {
    Cell,
    All,
    Stopped,
}

/// Takes what a cell says.
struct Taker<'a, W> {
    said: CellOutputs,
    bytes: usize,
    watcher: &'a mut W,
    keeper: &'a mut Keeper,
    /// Rung when there is something to write.
    news: &'a Notify,
}

impl<W: Watcher> Taker<'_, W> {
    fn take(&mut self, channel: Channel, message: &Message) {
        self.watcher.says(channel, message);
        self.keeper.changed();
        self.news.notify_one();
        let before = self.bytes;
        if channel == Channel::Iopub {
            self.bytes = before.saturating_add(message.content.len());
        }
        if self.bytes <= CELL_BYTES_MAX {
            self.said.take(channel, message);
        } else {
            if before <= CELL_BYTES_MAX {
                self.said.stream("stderr".to_owned(), TOO_MUCH);
            }
            self.said.take_end(channel, message);
        }
    }
}

impl<W: Watcher> Viewer for &RefCell<Taker<'_, W>> {
    fn message(&mut self, channel: Channel, message: &Message) -> Result<(), Error> {
        self.borrow_mut().take(channel, message);
        Ok(())
    }

    /// Nobody is there to answer; the kernel was told.
    async fn ask(&mut self, _: &str, _: bool) -> Result<String, Error> {
        Ok(String::new())
    }
}

/// Runs the notebook to its end, or until `stop` comes to one. An error is of the file; all else is how it ended.
pub async fn run(
    kernel: &Kernel,
    document: &mut Document<'_>,
    keeper: &mut Keeper,
    limits: Limits,
    watcher: &mut impl Watcher,
    stop: impl Future<Output = ()>,
) -> Result<Ended, Error> {
    document.starts(Timestamp::now());
    keeper.write(document)?;
    let end = limits.all.map(|all| Instant::now() + all);
    let mut stop = pin!(stop);
    let steps = document.steps();
    let mut ended = Ended::Done;
    let mut session = match Session::open(kernel).await {
        Ok(session) => Some(session),
        Err(error) => {
            ended = gone(0, error);
            None
        }
    };
    for (n, step) in steps.iter().enumerate() {
        let Some(session) = &mut session else { break };
        let cell = step.at + 1;
        watcher.begins(n + 1, steps.len(), cell);
        let mut one = Run {
            kernel,
            document,
            keeper,
            step,
            ends: [limits.cell.map(|limit| Instant::now() + limit), end],
        };
        let outcome = one.run(session, watcher, stop.as_mut()).await?;
        watcher.ends();
        let passes = limits.allow_errors || step.may_fail;
        ended = match outcome {
            Ok(Outcome::Done) => continue,
            Ok(Outcome::Failed(_)) if passes => continue,
            Ok(Outcome::Failed(why)) => Ended::CellFailed(cell, why),
            Ok(Outcome::Died(why)) => Ended::KernelDied(cell, why),
            Ok(Outcome::Aborted) => Ended::CellFailed(cell, Some(ABORTED.to_owned())),
            Err(Stopped::Cut(Cut::Cell)) => Ended::CellTimedOut(cell),
            Err(Stopped::Cut(Cut::All)) => Ended::AllTimedOut(cell),
            Err(Stopped::Cut(Cut::Stopped)) => Ended::Stopped(cell),
            Err(Stopped::Gone(error)) => gone(cell, error),
        };
        break;
    }
    document.finishes(ended != Ended::Done, Timestamp::now());
    keeper.write(document)?;
    Ok(ended)
}

/// Said of a cell that the kernel did not run.
const ABORTED: &str = "the kernel did not run it: it was restarted or ended by somebody else";

/// Why a cell has no outcome.
enum Stopped {
    Cut(Cut),
    Gone(Error),
}

fn gone(cell: usize, error: Error) -> Ended {
    match error.fault {
        Fault::Kernel => Ended::KernelDied(cell, error.message),
        Fault::User | Fault::Nb => Ended::Unreachable(cell, error),
    }
}

/// One cell of a run.
struct Run<'r, 'd> {
    kernel: &'r Kernel,
    document: &'r mut Document<'d>,
    keeper: &'r mut Keeper,
    step: &'r Step,
    /// When its own time is over, and when that of all is.
    ends: [Option<Instant>; 2],
}

impl Run<'_, '_> {
    async fn run<W: Watcher>(
        &mut self,
        session: &mut Session<'_>,
        watcher: &mut W,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Result<Outcome, Stopped>, Error> {
        let began = Timestamp::now();
        self.document.begins(self.step.at, began);
        self.keeper.write(self.document)?;
        let how = How {
            allow_stdin: false,
            // Nothing waits behind it.
            stop_on_error: false,
        };
        let mut cell = session.submit(&self.step.source, how).await;
        let news = Notify::new();
        let taker = RefCell::new(Taker {
            said: CellOutputs::default(),
            bytes: 0,
            watcher,
            keeper: self.keeper,
            news: &news,
        });
        let [own, all] = self.ends;
        let outcome = {
            let mut viewer = &taker;
            let mut running = pin!(cell.run(&mut viewer));
            loop {
                let due = taker.borrow().keeper.due();
                tokio::select! {
                    // What has come before its time was over is taken.
                    biased;
                    done = &mut running => break done.map_err(Stopped::Gone),
                    () = stop.as_mut() => break Err(Stopped::Cut(Cut::Stopped)),
                    () = at(own) => break Err(Stopped::Cut(Cut::Cell)),
                    () = at(all) => break Err(Stopped::Cut(Cut::All)),
                    () = news.notified(), if due.is_none() => {}
                    () = at(due) => {
                        let taker = &mut *taker.borrow_mut();
                        self.document.shows(self.step.at, &taker.said);
                        taker.keeper.write(self.document)?;
                    }
                }
            }
        };
        let outcome = match outcome {
            Err(Stopped::Cut(cut)) => Err(match cut_off(self.kernel, &mut cell, &taker).await {
                Ok(()) => Stopped::Cut(cut),
                Err(error) => Stopped::Gone(error),
            }),
            outcome => outcome,
        };
        let said = taker.into_inner().said;
        self.document.shows(self.step.at, &said);
        let status = match &outcome {
            Ok(Outcome::Done) => Status::Completed,
            _ => Status::Failed,
        };
        self.document
            .ends(self.step.at, status, began, Timestamp::now());
        self.keeper.write(self.document)?;
        Ok(outcome)
    }
}

/// Interrupts a cell and takes what it says of that. One that does not stop is left to the kernel's end.
async fn cut_off<W: Watcher>(
    kernel: &Kernel,
    cell: &mut Cell<'_, '_>,
    mut taker: &RefCell<Taker<'_, W>>,
) -> Result<(), Error> {
    if let Err(why) = kernel.interrupt().await {
        tracing::warn!(why, "the kernel was not interrupted");
        return Ok(());
    }
    match timeout(STOPS_WITHIN, cell.run(&mut taker)).await {
        Ok(Err(error)) if error.fault == Fault::Kernel => Err(error),
        ended => {
            tracing::debug!(?ended, "what was cut off");
            Ok(())
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
