//! The side of the gateway that runs: it tells where it listens, and gives its sockets to who takes them.
//!
//! Owns the door's file. Until its taker serves, nothing has happened, and it goes on itself.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use uuid::Uuid;

use super::{FORMAT, GIVEN, Hello, SERVING, SOCKETS_MAX, STEP_DEADLINE, TAKE, doors, folder};
use crate::config::private_folder;
use crate::error::Error;
use crate::gateway::listen::{Listener, may_connect};

/// How long a taker may take until it serves.
const SERVING_WITHIN: Duration = Duration::from_secs(30);

/// What is waited after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where this gateway can be taken over; gone when it is dropped.
#[derive(Debug)]
pub struct Door {
    listener: StdUnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens one, and removes those of gateways that were killed.
    pub fn open(runtime: &Path) -> Result<Self, Error> {
        let folder = folder(runtime);
        private_folder(&folder)?;
        let failed = |error: io::Error| {
            Error::nb(format!(
                "no door can be opened in {}: {error}",
                folder.display()
            ))
        };
        // One that is being made is not listened on yet, and looks like a dead one.
        let turn = File::open(&folder).map_err(failed)?;
        rustix::fs::flock(&turn, FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        for door in doors(&folder).into_iter().filter(|door| !is_open(door)) {
            if let Err(error) = fs::remove_file(&door) {
                tracing::debug!(%error, "a dead door stays");
            }
        }
        let id = Uuid::new_v4().simple().to_string();
        let path = folder.join(format!("{}.sock", &id[..8]));
        let listener = StdUnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let door = Self { listener, path };
        fs::set_permissions(&door.path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(door)
    }

    /// The doors of others on the same runtime folder.
    pub(super) fn others(&self) -> Vec<PathBuf> {
        let mut doors = doors(self.path.parent().unwrap_or(Path::new("/")));
        doors.retain(|door| *door != self.path);
        doors
    }

    /// Whether other gateways run on the same runtime folder.
    pub(crate) fn has_neighbours(&self) -> bool {
        self.others().iter().any(|door| is_open(door))
    }

    /// Answers whoever comes; returns the process that has taken the sockets, once it serves.
    pub(crate) async fn taken(&self, listeners: &[Listener]) -> Option<i32> {
        let listener = self.listener.try_clone().and_then(UnixListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "this gateway cannot be taken over");
                return std::future::pending().await;
            }
        };
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the door does not open");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match give(stream, listeners).await {
                Ok(Some(taker)) => return taker,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a takeover did not come about"),
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "a door stays");
        }
    }
}

fn is_open(door: &Path) -> bool {
    StdUnixStream::connect(door).is_ok()
}

/// Gives the sockets: who has them, or nothing when the other only wanted to know.
async fn give(mut stream: UnixStream, listeners: &[Listener]) -> io::Result<Option<Option<i32>>> {
    let peer = stream.peer_cred()?;
    if !may_connect(peer.uid(), rustix::process::geteuid().as_raw()) {
        return Err(io::Error::other(format!("the user {} asked", peer.uid())));
    }
    let hello = Hello {
        format: FORMAT,
        nb: env!("CARGO_PKG_VERSION").to_owned(),
        listens: listeners
            .iter()
            .map(Listener::at)
            .collect::<io::Result<_>>()?,
    };
    let mut line = serde_json::to_vec(&hello)?;
    line.push(b'\n');
    if within(STEP_DEADLINE, stream.write_all(&line))
        .await
        .is_err()
    {
        return Ok(None);
    }
    match within(STEP_DEADLINE, stream.read_u8()).await {
        Ok(TAKE) => {}
        Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
        Err(_) => return Ok(None),
    }
    let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    within(
        STEP_DEADLINE,
        stream.async_io(Interest::WRITABLE, || send(&stream, &descriptors)),
    )
    .await?;
    match within(SERVING_WITHIN, stream.read_u8()).await? {
        SERVING => Ok(Some(peer.pid())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there are too many sockets"));
    }
    let bytes = [IoSlice::new(&[GIVEN])];
    rustix::net::sendmsg(stream, &bytes, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

async fn within<T>(deadline: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(deadline, step)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
