//! The life of a kernel as `lifecycle` has it, with processes of the simulation: the same steps, the same calls of the
//! broker, the real policy of restarts.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::chance::Chance;
use super::kernel::{Link, Process};
use super::machine::{Found, Machine};
use crate::kernels::supervisor::broker::{Broker, Farewell, Phase};
use crate::kernels::supervisor::restarts::Restarts;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// Messages taken from the kernel in one turn.
const BURST_MAX: usize = 64;

/// How long a kernel that was asked to end may take.
const STOP_WITHIN: Duration = Duration::from_millis(2500);

/// How long a start takes, and the way to a kernel that is there, at most.
const STARTS_WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) enum Command {
    Interrupt,
    Restart,
}

pub(super) struct Life {
    pub(super) machine: Rc<Machine>,
    pub(super) broker: Broker,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) chance: Chance,
    pub(super) restarts: Restarts,
}

struct Running {
    process: Rc<Process>,
    link: Rc<Link>,
    requests: mpsc::UnboundedReceiver<(Channel, Message)>,
    since: Instant,
}

/// Why a kernel could not be brought up.
struct Failure;

enum Exit {
    Died,
    Asked(Command),
}

impl Life {
    pub(super) async fn run(mut self, found: Option<Found>) {
        let brought = match found {
            Some(found) => self.take_over(found).await,
            None => self.bring_up().await,
        };
        let mut kernel = self.came(brought);
        loop {
            let exit = match &mut kernel {
                Some(running) => self.relay(running).await,
                None => match self.commands.recv().await {
                    Some(command) => Exit::Asked(command),
                    None => return,
                },
            };
            let brought = match exit {
                Exit::Asked(Command::Interrupt) => continue,
                Exit::Asked(Command::Restart) => {
                    self.restarts.asked();
                    self.machine.counts_anew();
                    self.stop(kernel.take()).await;
                    self.close("KernelRestarted", Phase::Restarting { asked: true });
                    self.bring_up().await
                }
                Exit::Died if self.broker.farewell() == Some(Farewell::Restart) => {
                    self.restarts.asked();
                    self.machine.counts_anew();
                    self.close("KernelRestarted", Phase::Restarting { asked: false });
                    self.bring_up().await
                }
                Exit::Died => {
                    let lived = kernel.take().map(|running| running.since.elapsed());
                    self.again_after(lived.unwrap_or_default()).await
                }
            };
            kernel = self.came(brought);
        }
    }

    fn came(&self, brought: Result<Running, Failure>) -> Option<Running> {
        if brought.is_err() {
            self.close("KernelDied", Phase::Dead("it died".to_owned()));
        }
        brought.ok()
    }

    async fn again_after(&mut self, mut lived: Duration) -> Result<Running, Failure> {
        loop {
            let again = self.restarts.died_after(lived);
            self.machine.died(lived, again);
            if !again {
                return Err(Failure);
            }
            self.close("KernelDied", Phase::Restarting { asked: false });
            if let Ok(running) = self.bring_up().await {
                return Ok(running);
            }
            lived = Duration::ZERO;
        }
    }

    async fn take_over(&mut self, found: Found) -> Result<Running, Failure> {
        self.restarts.resume(self.machine.restarts.get());
        self.machine.counts_anew();
        let left = &found.left;
        if found.is_too_often {
            found.process.iter().for_each(|process| process.kill());
            return Err(Failure);
        }
        if let Some(process) = found.process {
            let link = process.connect();
            let connects = sleep(self.chance.pause(STARTS_WITHIN));
            tokio::select! {
                biased;
                () = process.until_ended() => {}
                () = connects => {
                    let (outbox, requests) = mpsc::unbounded_channel();
                    let since = Instant::now();
                    self.broker.adopt(outbox, left);
                    return Ok(Running { process, link, requests, since });
                }
            }
        }
        self.again_after(Duration::MAX).await
    }

    async fn bring_up(&mut self) -> Result<Running, Failure> {
        let process = self.machine.start_process(&mut self.chance);
        let link = process.connect();
        let begins = sleep(self.chance.pause(STARTS_WITHIN));
        let dies = self.chance.percent(self.machine.fails.get());
        let introduced = async {
            begins.await;
            let probe = self.broker.compose("kernel_info_request", &json!({}));
            process.take(Channel::Shell, probe);
            let (mut heard, mut answered) = (false, false);
            while !(heard && answered) {
                link.waits().await;
                while let Some((channel, message)) = link.take(&mut self.chance) {
                    heard |= channel == Channel::Iopub;
                    let peek = HeaderPeek::read(&message.header).unwrap();
                    answered |= peek.msg_type == "kernel_info_reply";
                    self.broker.kernel_said(channel, message);
                }
            }
        };
        let is_there = tokio::select! {
            biased;
            () = process.until_ended() => false,
            () = introduced => !dies,
        };
        if !is_there {
            process.kill();
            return Err(Failure);
        }
        let (outbox, requests) = mpsc::unbounded_channel();
        self.machine.is_ready(self.restarts.total());
        self.broker.open_epoch(outbox);
        self.machine.notes.kernel_is_new();
        Ok(Running {
            process,
            link,
            requests,
            since: Instant::now(),
        })
    }

    async fn relay(&mut self, kernel: &mut Running) -> Exit {
        loop {
            if self.chance.percent(20) {
                sleep(self.chance.pause(Duration::from_millis(100))).await;
            }
            tokio::select! {
                biased;
                () = kernel.process.until_ended() => {
                    // Its last words.
                    self.hear(&kernel.link, usize::MAX);
                    return Exit::Died;
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Interrupt => self.interrupt(&kernel.process),
                    command => return Exit::Asked(command),
                },
                Some((channel, message)) = kernel.requests.recv() => {
                    kernel.process.take(channel, message);
                }
                () = kernel.link.waits() => self.hear(&kernel.link, BURST_MAX),
            }
        }
    }

    fn hear(&mut self, link: &Link, most: usize) {
        for _ in 0..most {
            let Some((channel, message)) = link.take(&mut self.chance) else {
                return;
            };
            self.broker.kernel_said(channel, message);
        }
    }

    fn interrupt(&self, process: &Process) {
        if !self.broker.interrupt_ours() {
            process.interrupt();
        }
    }

    async fn stop(&mut self, kernel: Option<Running>) {
        let Some(kernel) = kernel else {
            return;
        };
        self.interrupt(&kernel.process);
        let request = (self.broker).compose("shutdown_request", &json!({"restart": true}));
        kernel.process.take(Channel::Control, request);
        let ends = async {
            loop {
                tokio::select! {
                    biased;
                    () = kernel.process.until_ended() => return,
                    () = kernel.link.waits() => self.hear(&kernel.link, 1),
                }
            }
        };
        if timeout(STOP_WITHIN, ends).await.is_err() {
            kernel.process.kill();
        }
    }

    fn close(&self, ename: &str, phase: Phase) {
        self.machine.has_no_process();
        self.broker.close_epoch(phase, ename, "the kernel is gone");
        self.machine.notes.kernel_is_new();
    }
}
