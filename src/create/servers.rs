//! The two programs of a notebook server while they run, and their end.
//!
//! Knows nothing of signals or of set-up.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Shows;
use super::gateway::{Gateway, end_kernels};
use super::http::{ANSWER, Peer};
use super::lab::Lab;
use crate::config::OnStop;
use crate::error::Error;

/// The first pause before one that died is started again; each further one is twice as long.
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
    /// Both were there, and kernels may be.
    were_up: bool,
}

impl Servers {
    /// Whether there is anything to end.
    pub(super) fn any(&self) -> bool {
        self.gateway.is_some() || self.lab.is_some()
    }

    /// Keeps both running: one that dies is started again where it was. Kernels and pages wait for it. Ends when that does not help.
    pub(super) async fn keep(
        &mut self,
        token: &str,
        shows: &dyn Shows,
        gateway_again: impl AsyncFn(SocketAddr) -> Result<Gateway, Error>,
        lab_again: impl AsyncFn(SocketAddr, u16) -> Result<Lab, Error>,
    ) -> Error {
        let (Some(gateway), Some(lab)) = (&self.gateway, &self.lab) else {
            return Error::nb("not everything was started");
        };
        self.were_up = true;
        let (address, port) = (gateway.address, lab.port);
        let peer = Peer { address, token };
        let gateway_ends = async |gateway: &mut Gateway| {
            let error = gateway.died().await;
            if answers(peer).await {
                shows.line("another gateway has taken the place of the one that was started here");
                while answers(peer).await {
                    sleep(LOOK_AGAIN).await;
                }
            }
            error
        };
        let gateway = Kept {
            name: "the gateway",
            ends: gateway_ends,
            again: async || gateway_again(address).await,
        };
        let lab = Kept {
            name: "JupyterLab",
            ends: async |lab: &mut Lab| lab.died().await,
            again: async || lab_again(address, port).await,
        };
        tokio::select! {
            error = gateway.keep(&mut self.gateway, shows) => error,
            error = lab.keep(&mut self.lab, shows) => error,
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
            return match self.were_up {
                false => Ok(()),
                true => Err(Error::nb(
                    "the gateway was away, so kernels live on; the next start finds them, and its end ends them",
                )),
            };
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

/// How a program is kept running.
struct Kept<E, A> {
    name: &'static str,
    /// Waits for its end.
    ends: E,
    again: A,
}

impl<E, A> Kept<E, A> {
    /// Returns when it does not come back.
    async fn keep<P>(&self, program: &mut Option<P>, shows: &dyn Shows) -> Error
    where
        E: AsyncFn(&mut P) -> Error,
        A: AsyncFn() -> Result<P, Error>,
    {
        let mut deaths = 0;
        while let Some(running) = program {
            let begun = Instant::now();
            let mut error = (self.ends)(running).await;
            if begun.elapsed() >= RAN_WELL {
                deaths = 0;
            }
            // What it held, the next one is to have.
            *program = None;
            let started = loop {
                deaths += 1;
                if deaths > DEATHS_MAX {
                    return error;
                }
                shows.line(&format!("{}; it is started again", first_line(&error)));
                sleep(PAUSE_MIN * 2_u32.pow(deaths - 1)).await;
                match (self.again)().await {
                    Ok(started) => break started,
                    Err(failed) => error = failed,
                }
            };
            *program = Some(started);
            shows.line(&format!(
                "{} is there again; kernels have gone on",
                self.name
            ));
        }
        Error::nb(format!("{} was not started", self.name))
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
