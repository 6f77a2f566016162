//! The signals that ask a command for its end. Knows nothing of what then ends.

use std::cell::Cell;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Mutex;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::env::pip;
use crate::error::Error;

/// The same for a change of an environment, which is then taken back.
pub(super) struct GivenUp {
    stop: Mutex<Stop>,
    is_it: Cell<bool>,
}

impl GivenUp {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            stop: Mutex::new(Stop::new()?),
            is_it: Cell::new(false),
        })
    }
}

impl pip::Stop for GivenUp {
    fn stopped(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async {
            let mut stop = self.stop.lock().await;
            if !self.is_it.get() {
                stop.asked().await;
                self.is_it.set(true);
            }
        })
    }
}

/// Listens from when it is made.
pub(super) struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    pub(super) fn new() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|error| Error::nb(format!("signals cannot be received: {error}")))
        };
        Ok(Self {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    /// Waits for one.
    pub(super) async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
