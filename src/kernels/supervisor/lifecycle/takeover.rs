//! A life that goes on: the kernel of a supervisor that died.

use std::time::Duration;

use tracing::info;

use super::{Brought, Lifecycle};
use crate::kernels::supervisor::adoption::Found;
use crate::kernels::supervisor::bring_up;
use crate::kernels::supervisor::environment;
use crate::kernels::supervisor::ledger::Left;
use crate::kernels::supervisor::rebase;
use crate::kernels::supervisor::rejoin;

/// A kernel whose supervisor died.
pub(in crate::kernels::supervisor) struct Adopted {
    pub found: Found,
    pub left: Left,
}

impl Lifecycle {
    /// Goes on with the kernel of a supervisor that died. A process that was not ready is started again, as if
    /// it had died.
    pub(super) async fn take_over(&mut self, Adopted { found, left }: Adopted) -> Brought {
        self.epoch = found.epoch;
        self.restarts.resume(found.restarts);
        if let Some(unready) = found.unready {
            unready.kill_group();
        }
        let failure = match &found.process {
            Some(ready) if found.is_too_often() => {
                ready.process.kill_group();
                let message =
                    "the supervisors of this kernel died too often, it was ended".to_owned();
                return Brought::Failed(bring_up::died(message, String::new()));
            }
            Some(ready) => {
                let takeovers = found.takeovers.len();
                let adopted =
                    rejoin::adopt(&self.start, ready, takeovers, &self.folder, &self.broker);
                match adopted.await {
                    Ok((running, outbox)) => {
                        info!(pid = running.process.pid(), "took a kernel over");
                        self.start.transport = running.transport;
                        self.start.tcp_instead = false;
                        self.broker.adopt(outbox, &left);
                        self.recall_base();
                        environment::tidy(&self.start);
                        return Brought::Up(Box::new(running));
                    }
                    Err(failure) => failure,
                }
            }
            None => bring_up::died(
                "the kernel ended while nobody listened".to_owned(),
                String::new(),
            ),
        };
        self.again_after(failure, Duration::MAX).await
    }

    /// The process that runs is in what was there before anything that was only asked for.
    fn recall_base(&self) {
        if rebase::take_back(&self.folder).is_some() {
            self.broker.say_with_next_cell(
                "The kernel was to be rebased when its supervisor ended, and was not; ask again.",
            );
        }
        self.vitals.base.replace(rebase::now(&self.folder));
    }
}
