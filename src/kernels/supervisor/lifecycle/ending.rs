//! How a kernel process is interrupted and ended, and how its end is noticed.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Exit, Lifecycle};
use crate::kernels::supervisor::bring_up::{self, Running};
use crate::protocol::kernelspec::InterruptMode;
use crate::protocol::message::Channel;

/// How long a kernel that was asked to end may take: half of it before SIGTERM, half before SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A kernel that has closed its sockets ends by itself within this time, or is ended.
const ENDS_ITSELF_WITHIN: Duration = Duration::from_secs(2);

impl Lifecycle {
    pub(super) async fn interrupt(&self, kernel: &mut Running) {
        if self.broker.interrupt_ours() {
            // The kernel is idle, and some kernels end when they are interrupted then.
            return;
        }
        let recalled = self.broker.recalled_elsewhere();
        if !recalled.is_empty() {
            return self.others.interrupt(&recalled).await;
        }
        match self.start.interrupt_mode {
            InterruptMode::Signal => {
                self.broker.interrupts();
                kernel.process.signal(Signal::INT);
                if self.vitals.has_helper.get() {
                    kernel.wakes.begin();
                }
            }
            InterruptMode::Message => {
                let request = self.broker.compose("interrupt_request", &json!({}));
                if let Err(error) = kernel.sender.send(Channel::Control, &request).await {
                    debug!(%error, "the interrupt could not be sent");
                }
            }
        }
    }

    /// Ends the kernel, and with it the others of its notebook.
    pub(super) async fn stop_all(&self, kernel: Option<Box<Running>>, restart: bool) {
        tokio::join!(self.stop(kernel, restart), self.others.end_all());
    }

    /// Ends the kernel: asks it, then SIGTERM, then SIGKILL. Its last words are still heard.
    async fn stop(&self, kernel: Option<Box<Running>>, restart: bool) {
        let Some(mut kernel) = kernel else {
            return;
        };
        self.interrupt(&mut kernel).await;
        let request = self
            .broker
            .compose("shutdown_request", &json!({"restart": restart}));
        if let Err(error) = kernel.sender.send(Channel::Control, &request).await {
            debug!(%error, "the kernel could not be asked to end");
        }
        let signals = [Some(Signal::TERM), Some(Signal::KILL), None];
        for signal in signals {
            if self.ends_within(&mut kernel, STOP_WITHIN / 2).await {
                return;
            }
            if let Some(signal) = signal {
                kernel.process.signal(signal);
            }
        }
        warn!("the kernel did not end after SIGKILL");
    }

    async fn ends_within(&self, kernel: &mut Running, limit: Duration) -> bool {
        let deadline = sleep(limit);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                _ = kernel.process.ended() => return true,
                () = &mut deadline => return false,
                Ok(received) = kernel.receiver.recv() => self.said(received),
            }
        }
    }
}

/// The sockets broke. Mostly since the process is about to end, which then tells why; one that lives on
/// cannot be used any more.
pub(super) async fn lost(kernel: &mut Running, error: &str) -> Exit {
    if let Ok(cause) = timeout(ENDS_ITSELF_WITHIN, kernel.process.ended()).await {
        return died(kernel, &cause);
    }
    kernel.process.signal(Signal::KILL);
    let cause = timeout(STOP_WITHIN, kernel.process.ended()).await;
    debug!(?cause, "ended a kernel whose link was lost");
    died(kernel, &format!("was ended: {error}"))
}

pub(super) fn died(kernel: &Running, cause: &str) -> Exit {
    let message = format!("the kernel {cause}");
    Exit::Died(bring_up::died(message, kernel.process.stderr_tail()))
}
