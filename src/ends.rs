//! What ends a process that a client has started as its kernel from outside: signals, and the death of that client.
//!
//! Knows nothing of what is ended.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::error::Error;

/// Waits for the end.
pub(crate) struct Ends {
    terminate: Signal,
    hangup: Signal,
    client: Client,
}

/// The process that started us, as it says itself.
enum Client {
    Unknown,
    Gone,
    /// Ends when that does.
    Lives(oneshot::Receiver<()>),
}

impl Ends {
    /// `client` is the pid of the client, in `JPY_PARENT_PID`.
    pub(crate) fn listen(client: Option<&str>) -> Result<Self, Error> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            client: watch(client)?,
        })
    }

    /// Why it is to end.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
            () = gone(&mut self.client) => "the end of its client",
        }
    }
}

/// A signal's stream.
pub(crate) fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::nb(format!("signals cannot be received: {error}")))
}

fn watch(client: Option<&str>) -> Result<Client, Error> {
    let pid = client.and_then(|pid| pid.parse().ok());
    // Under pid 1 nobody is told of an end.
    let Some(pid) = pid.filter(|pid| *pid > 1).and_then(Pid::from_raw) else {
        return Ok(Client::Unknown);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Client::Lives(end_of(fd))),
        Err(Errno::SRCH) => Ok(Client::Gone),
        Err(error) => Err(Error::nb(format!("the client cannot be watched: {error}"))),
    }
}

/// A thread waits, which ends with us: the runtime takes no descriptor of this kind in safe code.
fn end_of(pidfd: OwnedFd) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // Readable once the process has ended.
        let mut waits = [PollFd::new(&pidfd, PollFlags::IN)];
        let waited = loop {
            match poll(&mut waits, None) {
                Err(Errno::INTR) => {}
                waited => break waited,
            }
        };
        match waited {
            Ok(_) => drop(sender),
            // That it cannot be watched is not its end.
            Err(_) => std::mem::forget(sender),
        }
    });
    receiver
}

async fn gone(client: &mut Client) {
    match client {
        Client::Gone => {}
        Client::Lives(end) => {
            let _always_dropped = end.await;
            *client = Client::Gone;
        }
        Client::Unknown => std::future::pending().await,
    }
}
