//! The five ZeroMQ sockets that a Jupyter client connects to, bound where a connection file says: of a kernel of nb's own, and of
//! what looks like one (`nb launch`). Beside the supervisor's link the one room that names `zeromq`.
//!
//! Signs what goes out and verifies what comes in. Knows nothing of who asked what. Nothing is dropped:
//! a client that takes no output holds up whoever publishes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, warn};
use zeromq::{
    RouterRecvHalf, RouterSendHalf, RouterSocket, Socket as _, SocketRecv, SocketSend, XPubSocket,
    ZmqError, ZmqMessage,
};

use crate::error::Error;
use crate::protocol::connection_file::{self, ConnectionFile, Socket, Transport};
use crate::protocol::message::{Channel, Message};
use crate::protocol::multipart;
use crate::protocol::signature::Signer;

/// Replies that their clients have not taken; beyond this whoever replies waits.
const UNTAKEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long clients may take the last replies before the end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

const DELIMITER: &[u8] = b"<IDS|MSG>";

/// The frames in front of a request, which lead back to who asked.
pub(crate) type Identity = Vec<Bytes>;

/// What a client asks.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) channel: Channel,
    pub(crate) identity: Identity,
    pub(crate) message: Message,
}

/// All of them, bound.
pub(crate) struct Sockets {
    pub(crate) requests: Requests,
    pub(crate) replies: Replies,
    pub(crate) iopub: Iopub,
    pub(crate) heartbeat: Heartbeat,
}

/// Reads a connection file.
pub(crate) fn read(path: &Path) -> Result<ConnectionFile, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::user(format!("{} cannot be used: {error}", path.display()))
    };
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(connection_file::FILE_BYTES_MAX as u64 + 1)
                .read_to_end(&mut content)
        })
        .map_err(|error| failed(&error))?;
    ConnectionFile::decode(&content).map_err(|error| failed(&error))
}

/// Binds where the connection file says.
pub(crate) async fn bind(connection: &ConnectionFile) -> Result<Sockets, Error> {
    let signer = Signer::new(connection.key.as_bytes());
    let mut iopub = XPubSocket::new();
    bind_one(&mut iopub, connection, Socket::Iopub).await?;
    let (shell_send, shell) = router(connection, Socket::Shell).await?;
    let (control_send, control) = router(connection, Socket::Control).await?;
    let (stdin_send, stdin) = router(connection, Socket::Stdin).await?;
    let heartbeat = router(connection, Socket::Heartbeat).await?;
    Ok(Sockets {
        requests: Requests {
            signer: signer.clone(),
            shell,
            control,
            stdin,
        },
        replies: Replies {
            signer: signer.clone(),
            shell: shell_send,
            control: control_send,
            stdin: stdin_send,
            load: Arc::default(),
        },
        iopub: Iopub {
            signer,
            socket: iopub,
        },
        heartbeat: Heartbeat(heartbeat),
    })
}

async fn router(
    connection: &ConnectionFile,
    socket: Socket,
) -> Result<(RouterSendHalf, RouterRecvHalf), Error> {
    let mut router = RouterSocket::new();
    bind_one(&mut router, connection, socket).await?;
    Ok(router.split())
}

async fn bind_one(
    bound: &mut impl zeromq::Socket,
    connection: &ConnectionFile,
    socket: Socket,
) -> Result<(), Error> {
    let endpoint = connection.endpoint(socket);
    if connection.transport == Transport::Ipc {
        clear_away(Path::new(endpoint.trim_start_matches("ipc://"))).await;
    }
    match bound.bind(&endpoint).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::user(format!("{endpoint} cannot be bound: {error}"))),
    }
}

/// Removes a Unix socket that nobody listens on, as one leaves it that was killed.
async fn clear_away(path: &Path) {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if UnixStream::connect(path)
        .await
        .is_err_and(|error| refused(&error))
    {
        let removed = std::fs::remove_file(path);
        debug!(?removed, "a socket that nobody listens on");
    }
}

/// What clients ask, on all channels.
pub(crate) struct Requests {
    signer: Signer,
    shell: RouterRecvHalf,
    control: RouterRecvHalf,
    stdin: RouterRecvHalf,
}

impl Requests {
    /// The next request. What is none is logged and passed over; cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Request, Error> {
        loop {
            let (channel, received) = tokio::select! {
                received = self.control.recv() => (Channel::Control, received),
                received = self.shell.recv() => (Channel::Shell, received),
                received = self.stdin.recv() => (Channel::Stdin, received),
            };
            let frames = received.map_err(broken)?.into_vec();
            let before = frames.iter().take_while(|frame| *frame != DELIMITER);
            let identity = before.cloned().collect();
            match multipart::decode(frames, &self.signer) {
                Ok(message) => {
                    return Ok(Request {
                        channel,
                        identity,
                        message,
                    });
                }
                Err(error) => {
                    warn!(channel = channel.name(), %error, "ignored what is no message");
                }
            }
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
fn broken(error: ZmqError) -> Error {
    Error::nb(format!("the sockets for clients broke: {error}"))
}

/// The way back to whoever asked.
#[derive(Clone)]
pub(crate) struct Replies {
    signer: Signer,
    shell: RouterSendHalf,
    control: RouterSendHalf,
    stdin: RouterSendHalf,
    load: Arc<Load>,
}

impl Replies {
    /// Sends a message to one client; one that is gone is no error.
    pub(crate) async fn send(&mut self, channel: Channel, to: &[Bytes], message: &Message) {
        let socket = match channel {
            Channel::Shell => &mut self.shell,
            Channel::Control => &mut self.control,
            Channel::Stdin => &mut self.stdin,
            Channel::Iopub => return,
        };
        self.load.below(UNTAKEN_BYTES_MAX).await;
        let mut frames = to.to_vec();
        let signed = multipart::encode(message, &self.signer);
        frames.extend(signed.into_iter().map(|frame| self.load.owed(frame)));
        let sent = match ZmqMessage::try_from(frames) {
            Ok(frames) => socket.send(frames).await,
            Err(error) => return debug!(%error, "a message without frames"),
        };
        if let Err(error) = sent {
            debug!(channel = channel.name(), %error, "nobody is there for a reply");
        }
    }

    /// Waits until clients have taken what was sent, but not for ones that take nothing.
    pub(crate) async fn flushed(&self) {
        let flushed = timeout(GOODBYE_WITHIN, self.load.below(0)).await;
        debug!(?flushed, "the last replies");
    }
}

/// What is said to all clients.
pub(crate) struct Iopub {
    signer: Signer,
    socket: XPubSocket,
}

impl Iopub {
    /// Takes note of clients that come and go, for as long as it is polled.
    pub(crate) async fn watch(&mut self) {
        loop {
            match self.socket.recv().await {
                Ok(_) => {}
                Err(ZmqError::NoMessage) => return std::future::pending().await,
                Err(error) => debug!(%error, "a client of iopub is gone"),
            }
        }
    }

    /// Says it to all that have subscribed, once they have taken it.
    pub(crate) async fn publish(&mut self, topic: &Bytes, message: &Message) {
        let mut frames = vec![topic.clone()];
        frames.extend(multipart::encode(message, &self.signer));
        let sent = match ZmqMessage::try_from(frames) {
            Ok(frames) => self.socket.send(frames).await,
            Err(error) => return debug!(%error, "a message without frames"),
        };
        if let Err(error) = sent {
            debug!(%error, "a client did not get an output");
        }
    }
}

/// The socket by which clients see that somebody lives.
pub(crate) struct Heartbeat((RouterSendHalf, RouterRecvHalf));

impl Heartbeat {
    /// Echoes for as long as it is polled.
    pub(crate) async fn beat(self) {
        let Self((mut send, mut receive)) = self;
        loop {
            match receive.recv().await {
                Ok(frames) => {
                    if let Err(error) = send.send(frames).await {
                        debug!(%error, "a heartbeat went nowhere");
                    }
                }
                Err(error) => {
                    debug!(%error, "no more heartbeats");
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// Bytes that the crate holds for clients: its own queues count messages.
#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
    less: Notify,
}

/// A frame that is counted until the crate lets go of it.
struct Owed {
    frame: Bytes,
    load: Arc<Load>,
}

impl Load {
    fn owed(self: &Arc<Self>, frame: Bytes) -> Bytes {
        self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
        Bytes::from_owner(Owed {
            frame,
            load: Arc::clone(self),
        })
    }

    async fn below(&self, limit: usize) {
        loop {
            let less = self.less.notified();
            if self.bytes.load(Ordering::Acquire) <= limit {
                return;
            }
            less.await;
        }
    }
}

impl AsRef<[u8]> for Owed {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.load
            .bytes
            .fetch_sub(self.frame.len(), Ordering::AcqRel);
        self.load.less.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_owed_counts_until_the_last_copy_is_gone() {
        let load = Arc::<Load>::default();
        let frame = load.owed(Bytes::from_static(b"12345"));
        let copy = frame.clone();
        assert_eq!(copy, "12345");
        load.below(5).await;
        let waits = load.below(4);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(frame);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(copy);
        waits.await;
    }
}
