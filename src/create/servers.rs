//! The two programs of a notebook server while they run, and their end.
//!
//! Knows nothing of signals or of set-up.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Shows;
use super::gateway::{Gateway, end_kernels};
use super::http::{ANSWER, Peer};
use super::lab::Lab;
use crate::config::OnStop;
use crate::error::Error;

/// The first pause before a gateway that died is started again; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// One that ran for so long has not died of its start.
const RAN_WELL: Duration = Duration::from_secs(30);

/// So often in a row it may die of its start.
const DEATHS_MAX: u32 = 5;

/// How often it is looked whether another gateway still stands in its place.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What runs for one.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) gateway: Option<Gateway>,
    pub(super) lab: Option<Lab>,
}

impl Servers {
    /// Whether there is anything to end.
    pub(super) fn any(&self) -> bool {
        self.gateway.is_some() || self.lab.is_some()
    }

    /// Keeps the gateway running: one that dies is started `again` at its port, its kernels wait for it, and so do clients. Ends when
    /// that does not help, or when Lab dies.
    pub(super) async fn keep(
        &mut self,
        token: &str,
        shows: &dyn Shows,
        again: impl AsyncFn(u16) -> Result<Gateway, Error>,
    ) -> Error {
        let (Some(gateway), Some(lab)) = (&mut self.gateway, &mut self.lab) else {
            return Error::nb("not everything was started");
        };
        tokio::select! {
            error = keep(gateway, token, shows, again) => error,
            error = lab.died() => error,
        }
    }

    /// Ends Lab, then the kernels unless they are to be kept, then the gateway; what did not end is told.
    pub(super) async fn end(&mut self, token: &str, on_stop: OnStop) -> Result<(), Error> {
        if on_stop == OnStop::Keep {
            // Asked, it would end its kernels.
            if let Some(lab) = &mut self.lab {
                lab.kill().await;
            }
            if let Some(gateway) = &mut self.gateway {
                gateway.end().await;
            }
            return Ok(());
        }
        let lab = async {
            if let Some(lab) = &mut self.lab {
                lab.end().await;
            }
        };
        let Some(gateway) = &mut self.gateway else {
            lab.await;
            return Ok(());
        };
        let peer = Peer {
            address: gateway.address,
            token,
        };
        // Lab ends its own kernels too; again afterwards for one that it started in the meantime.
        tokio::join!(lab, end_kernels(peer));
        let left = end_kernels(peer).await;
        gateway.end().await;
        match left {
            0 => Ok(()),
            left => Err(Error::kernel(format!(
                "{left} kernels did not end; the next start finds them again, and its end ends them"
            ))),
        }
    }
}

async fn keep(
    gateway: &mut Gateway,
    token: &str,
    shows: &dyn Shows,
    again: impl AsyncFn(u16) -> Result<Gateway, Error>,
) -> Error {
    let address = gateway.address;
    let peer = Peer { address, token };
    let mut deaths = 0;
    loop {
        let begun = Instant::now();
        let mut error = gateway.died().await;
        if begun.elapsed() >= RAN_WELL {
            deaths = 0;
        }
        if answers(peer).await {
            shows.line("another gateway has taken the place of the one that was started here");
            while answers(peer).await {
                sleep(LOOK_AGAIN).await;
            }
        }
        *gateway = loop {
            deaths += 1;
            if deaths > DEATHS_MAX {
                return error;
            }
            shows.line(&format!("{}; it is started again", first_line(&error)));
            sleep(PAUSE_MIN * 2_u32.pow(deaths - 1)).await;
            match again(address.port()).await {
                Ok(gateway) => break gateway,
                Err(failed) => error = failed,
            }
        };
        shows.line("the gateway is there again; kernels have gone on");
    }
}

async fn answers(gateway: Peer<'_>) -> bool {
    let asked = gateway.request("GET", "/healthz", ANSWER).await;
    asked.is_ok_and(|reply| reply.status == 200)
}

/// What follows it is the end of a log.
fn first_line(error: &Error) -> &str {
    let line = error.message.lines().next().unwrap_or_default();
    line.split(". The end of").next().unwrap_or(line)
}
