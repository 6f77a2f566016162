//! The kernel's life: start, relay, interrupt, restart, death. The one owner of the kernel process.
//!
//! ```text
//! start -> relay -> died -> start again, within the limits of `restarts`, else dead
//!                -> asked to restart -> stop -> start
//!                -> asked to shut down -> stop
//!                -> left since a client asked it to -> start, or the end
//! ```
//!
//! Knows nothing of clients; what they share is the broker's.

mod ending;
mod takeover;

use std::future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep_until, timeout};
use tracing::{info, warn};

use super::bring_up::{self, Helper, Running};
use super::broker::{Broker, Farewell, Phase};
use super::environment;
use super::others::Others;
use super::restarts::Restarts;
use super::vitals::Vitals;
use crate::kernels::contract::{Announcement, Start, StartFailure};
use ending::{died, lost};
pub(super) use takeover::Adopted;

/// Messages taken from the kernel in one turn, so that requests are not kept waiting by a burst.
const BURST_MAX: usize = 64;

/// What a dead kernel said last arrives within this time.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(50);

/// How often the kernel's process is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the lifecycle is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Interrupt(oneshot::Sender<()>),
    Restart(oneshot::Sender<Result<(), StartFailure>>),
    Shutdown(oneshot::Sender<()>),
    /// The kernel is to be dead for this reason; a later restart brings it back.
    Cull(String),
}

/// The life of one kernel.
pub(super) struct Lifecycle {
    start: Start,
    helper: Helper,
    folder: PathBuf,
    broker: Broker,
    vitals: Rc<Vitals>,
    others: Rc<Others>,
    commands: mpsc::Receiver<Command>,
    restarts: Restarts,
    epoch: u32,
    /// The kernel that is there already.
    found: Option<Box<Adopted>>,
}

enum Brought {
    Up(Box<Running>),
    Failed(StartFailure),
    Shutdown(oneshot::Sender<()>),
}

enum Exit {
    Died(StartFailure),
    Asked(Command),
}

impl Lifecycle {
    /// A life that has not begun.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another part of the supervisor"
    )]
    pub(super) fn new(
        start: Start,
        helper: Helper,
        folder: PathBuf,
        broker: Broker,
        vitals: Rc<Vitals>,
        others: Rc<Others>,
        commands: mpsc::Receiver<Command>,
        found: Option<Adopted>,
    ) -> Self {
        Self {
            start,
            helper,
            folder,
            broker,
            vitals,
            others,
            commands,
            restarts: Restarts::default(),
            epoch: 0,
            found: found.map(Box::new),
        }
    }

    /// Lives until the first start has failed or a shutdown was asked for. Whoever asked for the
    /// shutdown is answered by the caller, through the sender that this returns.
    pub(super) async fn run(
        mut self,
        announce: impl FnOnce(Announcement),
    ) -> Option<oneshot::Sender<()>> {
        if let Some(note) = self.start.cwd_note.take() {
            self.broker.say_with_next_cell(&note);
        }
        let found = self.found.take();
        let is_known = found.is_some();
        let brought = match found {
            Some(found) => self.take_over(*found).await,
            None => self.bring_up().await,
        };
        let mut kernel = match brought {
            Brought::Up(running) => {
                announce(Announcement::Ready);
                Some(running)
            }
            Brought::Failed(failure) if is_known => {
                self.close("KernelDied", Phase::Dead(told(&failure)));
                announce(Announcement::Ready);
                None
            }
            Brought::Failed(failure) => {
                self.close("KernelDied", Phase::Dead(told(&failure)));
                announce(Announcement::Failed(failure));
                return None;
            }
            Brought::Shutdown(asker) => {
                announce(Announcement::Ended);
                return Some(self.shut_down(asker));
            }
        };
        loop {
            let exit = match &mut kernel {
                Some(running) => self.relay(running).await,
                None => Exit::Asked(self.commands.recv().await?),
            };
            let brought = match exit {
                Exit::Asked(Command::Interrupt(asker)) => {
                    let _gone = asker.send(());
                    continue;
                }
                Exit::Asked(Command::Cull(reason)) => {
                    self.broker.tell_all(&format!("[nb] {reason}\n"));
                    self.stop_all(kernel.take(), false).await;
                    self.close("KernelCulled", Phase::Dead(reason));
                    continue;
                }
                Exit::Asked(Command::Shutdown(asker)) => {
                    self.stop_all(kernel.take(), false).await;
                    return Some(self.shut_down(asker));
                }
                Exit::Asked(Command::Restart(asker)) => {
                    self.restarts.asked();
                    self.stop_all(kernel.take(), true).await;
                    self.close("KernelRestarted", Phase::Restarting { asked: true });
                    let brought = self.bring_up().await;
                    let restarted = match &brought {
                        Brought::Failed(failure) => Some(Err(failure.clone())),
                        Brought::Up(_) => Some(Ok(())),
                        // Dropped, the asker learns that the kernel ends.
                        Brought::Shutdown(_) => None,
                    };
                    let _gone = restarted.map(|restarted| asker.send(restarted));
                    brought
                }
                Exit::Died(_) if self.broker.farewell() == Some(Farewell::End) => {
                    let reason = "a client has shut the kernel down".to_owned();
                    self.close("KernelShutDown", Phase::Dead(reason));
                    return None;
                }
                Exit::Died(_) if self.broker.farewell() == Some(Farewell::Restart) => {
                    kernel = None;
                    self.restarts.asked();
                    self.others.end_all().await;
                    self.close("KernelRestarted", Phase::Restarting { asked: false });
                    self.bring_up().await
                }
                Exit::Died(death) => {
                    let lived = kernel.take().map(|running| running.since.elapsed());
                    self.again_after(death, lived.unwrap_or_default()).await
                }
            };
            match brought {
                Brought::Up(running) => kernel = Some(running),
                Brought::Failed(failure) => {
                    warn!(reason = failure.message, "the kernel is dead");
                    self.others.end_all().await;
                    self.close("KernelDied", Phase::Dead(told(&failure)));
                }
                Brought::Shutdown(asker) => return Some(self.shut_down(asker)),
            }
        }
    }

    /// Starts a kernel that died again, as often as the limits allow.
    async fn again_after(&mut self, mut death: StartFailure, mut lived: Duration) -> Brought {
        loop {
            warn!(reason = death.message, "the kernel died");
            if !self.restarts.died_after(lived) {
                death.message += ", it is not started again";
                return Brought::Failed(death);
            }
            let phase = Phase::Restarting { asked: false };
            self.close_with("KernelDied", phase, &told(&death));
            match self.bring_up().await {
                Brought::Failed(failure) => (death, lived) = (failure, Duration::ZERO),
                brought => return brought,
            }
        }
    }

    /// Tells the clients of the end; whoever asked for it is answered once they know.
    fn shut_down(&self, asker: oneshot::Sender<()>) -> oneshot::Sender<()> {
        let reason = "the kernel was shut down".to_owned();
        self.close("KernelShutDown", Phase::Dead(reason));
        asker
    }

    /// Starts a kernel process, answering what is asked meanwhile.
    async fn bring_up(&mut self) -> Brought {
        self.epoch += 1;
        self.vitals.epoch.set(self.epoch);
        let mut askers = Vec::new();
        let brought = {
            let bringing = bring_up::bring_up(
                &self.start,
                &self.helper,
                &self.folder,
                self.epoch,
                &self.broker,
                &self.vitals,
            );
            tokio::pin!(bringing);
            loop {
                tokio::select! {
                    brought = &mut bringing => break brought,
                    Some(command) = self.commands.recv() => match command {
                        Command::Interrupt(asker) => {
                            let _gone = asker.send(());
                        }
                        Command::Restart(asker) => askers.push(asker),
                        Command::Cull(_) => {}
                        Command::Shutdown(asker) => return Brought::Shutdown(asker),
                    },
                }
            }
        };
        for asker in askers {
            let _gone = asker.send(brought.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        match brought {
            Ok((running, outbox)) => {
                info!(
                    pid = running.process.pid(),
                    epoch = self.epoch,
                    "the kernel is ready"
                );
                // What has worked once is not tried in another way.
                self.start.transport = running.transport;
                self.start.tcp_instead = false;
                self.vitals.restarts.set(self.restarts.total());
                self.vitals.kernel_started.set(Some(Timestamp::now()));
                self.vitals.changed.notify_one();
                self.broker.open_epoch(outbox);
                environment::settle(&self.start);
                Brought::Up(Box::new(running))
            }
            Err(failure) => Brought::Failed(failure),
        }
    }

    /// Carries messages both ways until the kernel dies or something is asked that ends the epoch.
    async fn relay(&mut self, kernel: &mut Running) -> Exit {
        let mut look = interval(LOOK_EVERY);
        loop {
            let probe_due = self.broker.probe_due();
            tokio::select! {
                received = kernel.receiver.recv() => {
                    let mut next = Some(received);
                    let mut taken = 0;
                    while let Some(received) = next {
                        match received {
                            Ok(received) => self.said(received),
                            Err(error) => return lost(kernel, &error.to_string()).await,
                        }
                        taken += 1;
                        next = (taken < BURST_MAX).then(|| kernel.receiver.try_recv()).flatten();
                    }
                }
                Some((channel, message)) = kernel.requests.recv() => {
                    if let Err(error) = kernel.sender.send(channel, &message).await {
                        return lost(kernel, &error.to_string()).await;
                    }
                }
                cause = kernel.process.ended() => {
                    while let Ok(Ok(received)) =
                        timeout(LAST_WORDS_WITHIN, kernel.receiver.recv()).await
                    {
                        self.said(received);
                    }
                    return died(kernel, &cause);
                }
                _ = look.tick() => kernel.process.look_after(),
                () = kernel.wakes.due() => self.broker.wake(),
                () = at(probe_due) => self.broker.probe_again(),
                Some(command) = self.commands.recv() => match command {
                    Command::Interrupt(asker) => {
                        self.interrupt(kernel).await;
                        let _gone = asker.send(());
                    }
                    command => return Exit::Asked(command),
                },
            }
        }
    }

    fn said(&self, (channel, message): super::link::Received) {
        match message {
            Ok(message) => self.broker.kernel_said(channel, message),
            Err(error) => warn!(channel = channel.name(), %error, "dropped what is no message"),
        }
    }

    fn close(&self, ename: &str, phase: Phase) {
        let reason = match &phase {
            Phase::Dead(reason) => reason.clone(),
            _ => "the kernel was restarted before it answered".to_owned(),
        };
        self.close_with(ename, phase, &reason);
    }

    fn close_with(&self, ename: &str, phase: Phase, reason: &str) {
        self.vitals.kernel_pid.set(None);
        self.vitals.kernel_started.set(None);
        self.vitals.changed.notify_one();
        self.broker.close_epoch(phase, ename, reason);
    }
}

/// Ends then, if ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => future::pending().await,
    }
}

/// A failure as clients are told of it.
fn told(failure: &StartFailure) -> String {
    match failure.stderr_tail.as_str() {
        "" => failure.message.clone(),
        tail => format!("{}; the end of its stderr:\n{tail}", failure.message),
    }
}
