//! The signals that ask a command for its end. Knows nothing of what then ends.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

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
