//! Where `nb serve` lets clients in: sockets of a service manager, of the gateway before, or of its own.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::net::TcpListener;

use crate::config::Server;
use crate::error::Error;
use crate::gateway::{At, Door, Entry, Listener, Sock, Takeover, take_over};

/// What there is to listen on.
pub(super) struct Wanted {
    pub(super) at: At,
    /// Of a service manager, which knows better than the settings.
    pub(super) passed: Vec<OwnedFd>,
    /// From the gateway that runs.
    pub(super) takeover: bool,
}

/// Where the settings want it to be.
pub(super) fn at(server: &Server) -> Result<At, Error> {
    let Some(sock) = &server.sock else {
        return Ok(At::Tcp(SocketAddr::new(server.ip, server.port)));
    };
    std::path::absolute(sock)
        .map(At::Unix)
        .map_err(|error| Error::user(format!("{} cannot be listened on: {error}", sock.display())))
}

impl Wanted {
    /// Listens there; with the address that a client here would use.
    pub(super) async fn open(self, door: &Door) -> Result<(Entry, String), Error> {
        if !self.passed.is_empty() {
            if self.takeover {
                tracing::warn!(
                    "the sockets come from a service manager: there is nothing to take over"
                );
            }
            return lent(self.passed);
        }
        if self.takeover {
            match take_over(door, &self.at).await? {
                Takeover::Taken(taken) => {
                    let at = taken.at().map_err(|error| unusable(&self.at, &error))?;
                    return Ok((Entry::Taken(taken), at.url()));
                }
                Takeover::Nobody(others) => say_nobody(&self.at, &others),
            }
        }
        let at = &self.at;
        let listener = match at {
            At::Unix(path) => Listener::from(Sock::bind(path)?),
            At::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                listener
                    .map(Listener::from)
                    .map_err(|error| unusable(at, &error))?
            }
        };
        let url = listener.at().map_err(|error| unusable(at, &error))?.url();
        Ok((listener.into(), url))
    }
}

fn lent(passed: Vec<OwnedFd>) -> Result<(Entry, String), Error> {
    let failed = |error: io::Error| {
        Error::user(format!(
            "a socket that LISTEN_FDS passes cannot be used: {error}"
        ))
    };
    let listeners: Vec<_> = passed
        .into_iter()
        .map(Listener::lent)
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let first = listeners.first().ok_or(io::ErrorKind::NotFound.into());
    let url = first.and_then(Listener::at).map_err(failed)?.url();
    Ok((Entry::Lent(listeners), url))
}

fn say_nobody(at: &At, others: &str) {
    match others {
        "" => tracing::info!("there is no gateway to take over: starts as ever"),
        others => tracing::info!(
            "no gateway of this runtime folder listens on {at}, only on {others}: starts beside it"
        ),
    }
}

fn unusable(at: &At, error: &io::Error) -> Error {
    Error::user(format!(
        "{at} cannot be listened on: {error}; choose another with --ip and --port, or take the place of a gateway \
         of this runtime folder that listens there with --takeover"
    ))
}
