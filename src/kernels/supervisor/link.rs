//! The ZeroMQ sockets of one kernel process: the one place that names the `zeromq` crate.
//!
//! A link serves one epoch: when the kernel is replaced, so is its link, because a DEALER of this
//! crate does not reconnect. That of a kernel that runs already is made in the order of `listening`. Knows nothing of clients or
//! of what messages mean.

mod listening;

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use zeromq::util::PeerIdentity;
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, Socket as _, SocketOptions, SocketRecv,
    SocketSend, SubSocket, ZmqError, ZmqMessage,
};

use crate::protocol::connection_file::{ConnectionFile, Socket, Transport};
use crate::protocol::message::{Channel, Message};
use crate::protocol::multipart::{self, DecodeError};
use crate::protocol::signature::Signer;

pub use listening::{Listening, listen};

/// How often an ipc path is looked for while the kernel starts: the crate's own retry of a failed
/// connect backs off by 50 ms and more.
const BIND_POLL: Duration = Duration::from_millis(1);

/// What the crate read a larger frame into is not to be used again.
const READ_BYTES_KEPT: usize = 1024 * 1024;

/// How that endpoint ends; the helper binds it.
const PATIENT_OUTPUT: &str = "-6";

/// Why the link to the kernel is gone; it cannot be mended, only replaced.
#[derive(Debug, thiserror::Error)]
#[error("the link to the kernel is lost: {0}")]
pub struct LinkError(String);

impl From<ZmqError> for LinkError {
    fn from(error: ZmqError) -> Self {
        Self(error.to_string())
    }
}

/// What the kernel said on one channel: a message, or why the frames are none.
pub type Received = (Channel, Result<Message, DecodeError>);

/// Sends to the kernel. Never waits for the kernel: the crate queues what it does not take.
#[expect(missing_debug_implementations, reason = "its fields have none")]
pub struct LinkSender {
    signer: Signer,
    shell: DealerSendHalf,
    control: DealerSendHalf,
    stdin: DealerSendHalf,
}

/// Receives from the kernel. Must be polled at all times: a kernel whose output is not drained
/// drops it.
#[expect(missing_debug_implementations, reason = "its fields have none")]
pub struct LinkReceiver {
    signer: Signer,
    shell: DealerRecvHalf,
    control: DealerRecvHalf,
    stdin: DealerRecvHalf,
    iopub: SubSocket,
    large: Large,
}

/// Large frames that the crate may still read behind.
///
/// It uses what it read into again, as soon as nobody else does, and would keep it for ever: every message of then
/// would hold all of that memory. What is held here is not used again; it goes once the crate reads elsewhere.
#[derive(Default)]
struct Large(Vec<Bytes>);

/// Connects to the sockets that a kernel binds, as soon as it has bound them.
///
/// Waits for as long as the kernel needs: the caller sets the deadline and ends the wait when the
/// kernel dies. `identity` is that of all our DEALERs, since kernels route `input_request` to the
/// identity of the shell socket.
pub async fn connect(
    connection: &ConnectionFile,
    identity: &str,
) -> Result<(LinkSender, LinkReceiver), LinkError> {
    let ((shell_send, shell), (control_send, control), (stdin_send, stdin), iopub) = tokio::try_join!(
        dealer(connection, Socket::Shell, identity),
        dealer(connection, Socket::Control, identity),
        dealer(connection, Socket::Stdin, identity),
        subscriber(connection),
    )?;
    let signer = Signer::new(connection.key.as_bytes());
    let sender = LinkSender {
        signer: signer.clone(),
        shell: shell_send,
        control: control_send,
        stdin: stdin_send,
    };
    let receiver = LinkReceiver {
        signer,
        shell,
        control,
        stdin,
        iopub,
        large: Large::default(),
    };
    Ok((sender, receiver))
}

async fn send_signed(
    socket: &mut DealerSendHalf,
    message: &Message,
    signer: &Signer,
) -> Result<(), LinkError> {
    let frames = multipart::encode(message, signer);
    let frames = ZmqMessage::try_from(frames).map_err(|error| LinkError(error.to_string()))?;
    Ok(socket.send(frames).await?)
}

impl LinkReceiver {
    /// Listens to the kernel's output by another connection: the kernel may treat it otherwise than the first.
    /// What it says meanwhile may be lost.
    pub async fn listen_anew(&mut self, connection: &ConnectionFile) -> Result<(), LinkError> {
        self.iopub = subscriber(connection).await?;
        Ok(())
    }
}

async fn subscriber(connection: &ConnectionFile) -> Result<SubSocket, LinkError> {
    let mut iopub = SubSocket::with_options(options(None));
    wait_for_bind(connection, Socket::Iopub).await;
    let endpoint = patient_output(connection);
    let endpoint = endpoint.unwrap_or_else(|| connection.endpoint(Socket::Iopub));
    iopub.connect(&endpoint).await?;
    iopub.subscribe("").await?;
    Ok(iopub)
}

/// Where a kernel with our helper holds more output than ZeroMQ does by itself for whoever does not take it.
fn patient_output(connection: &ConnectionFile) -> Option<String> {
    let path = format!("{}{PATIENT_OUTPUT}", connection.ip);
    let is_there = connection.transport == Transport::Ipc && Path::new(&path).exists();
    is_there.then(|| format!("ipc://{path}"))
}

async fn dealer(
    connection: &ConnectionFile,
    socket: Socket,
    identity: &str,
) -> Result<(DealerSendHalf, DealerRecvHalf), LinkError> {
    wait_for_bind(connection, socket).await;
    let identity = identity
        .parse::<PeerIdentity>()
        .map_err(|error| LinkError(error.to_string()))?;
    let mut dealer = DealerSocket::with_options(options(Some(identity)));
    dealer.connect(&connection.endpoint(socket)).await?;
    Ok(dealer.split())
}

fn options(identity: Option<PeerIdentity>) -> SocketOptions {
    let mut options = SocketOptions::default();
    options.no_connect_timeout();
    if let Some(identity) = identity {
        options.peer_identity(identity);
    }
    options
}

async fn wait_for_bind(connection: &ConnectionFile, socket: Socket) {
    if connection.transport != Transport::Ipc {
        return;
    }
    let endpoint = connection.endpoint(socket);
    let path = Path::new(endpoint.trim_start_matches("ipc://"));
    let missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    while path.symlink_metadata().is_err_and(missing) {
        tokio::time::sleep(BIND_POLL).await;
    }
}

impl LinkSender {
    /// Signs and sends a message. Messages for iopub go nowhere: that channel is the kernel's own.
    pub async fn send(&mut self, channel: Channel, message: &Message) -> Result<(), LinkError> {
        let socket = match channel {
            Channel::Shell => &mut self.shell,
            Channel::Control => &mut self.control,
            Channel::Stdin => &mut self.stdin,
            Channel::Iopub => return Ok(()),
        };
        send_signed(socket, message, &self.signer).await
    }
}

impl LinkReceiver {
    /// The next message on any channel. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        let any = async {
            tokio::select! {
                frames = self.iopub.recv() => (Channel::Iopub, frames),
                frames = self.shell.recv() => (Channel::Shell, frames),
                frames = self.control.recv() => (Channel::Control, frames),
                frames = self.stdin.recv() => (Channel::Stdin, frames),
            }
        };
        let mut any = pin!(any);
        let (channel, frames) = poll_fn(|context| {
            let polled = any.as_mut().poll(context);
            self.large.let_go();
            polled
        })
        .await;
        let frames = frames?.into_vec();
        self.large.hold(&frames);
        Ok((channel, multipart::decode(frames, &self.signer)))
    }

    /// The next message that has already arrived, if any: for taking a burst in one turn.
    pub fn try_recv(&mut self) -> Option<Result<Received, LinkError>> {
        self.recv().now_or_never()
    }
}

impl Large {
    fn hold(&mut self, frames: &[Bytes]) {
        let large = frames.iter().filter(|frame| frame.len() > READ_BYTES_KEPT);
        self.0.extend(large.cloned());
    }

    fn let_go(&mut self) {
        self.0.retain(|frame| !frame.is_unique());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeromq::{PubSocket, RouterSocket};

    const LIMIT: Duration = Duration::from_secs(20);

    fn message(header: &'static str) -> Message {
        Message {
            header: Bytes::from_static(header.as_bytes()),
            parent_header: Bytes::from_static(b"{}"),
            metadata: Bytes::from_static(b"{}"),
            content: Bytes::from_static(b"{}"),
            buffers: vec![Bytes::from_static(b"\xff\0")],
        }
    }

    /// A kernel of this crate's server-side sockets that binds late, echoes shell and publishes.
    async fn echo_kernel(connection: ConnectionFile) {
        let signer = Signer::new(connection.key.as_bytes());
        let (mut shell, mut control) = (RouterSocket::new(), RouterSocket::new());
        let (mut stdin, mut iopub) = (RouterSocket::new(), PubSocket::new());
        iopub
            .bind(&connection.endpoint(Socket::Iopub))
            .await
            .unwrap();
        control
            .bind(&connection.endpoint(Socket::Control))
            .await
            .unwrap();
        stdin
            .bind(&connection.endpoint(Socket::Stdin))
            .await
            .unwrap();
        shell
            .bind(&connection.endpoint(Socket::Shell))
            .await
            .unwrap();
        loop {
            let request = shell.recv().await.unwrap();
            let output = multipart::encode(&message("{\"msg_id\":\"out\"}"), &signer);
            iopub.send(output.try_into().unwrap()).await.unwrap();
            shell.send(request).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_kernel_that_binds_after_us_is_reached_on_all_channels() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("k").display().to_string();
        let connection = ConnectionFile::ipc(prefix, "key".to_owned(), String::new());
        let connecting = connect(&connection, "nb");
        let both = async {
            let kernel = tokio::spawn(echo_kernel(connection.clone()));
            let (mut sender, mut receiver) = connecting.await.unwrap();
            sender
                .send(Channel::Shell, &message("{\"msg_id\":\"in\"}"))
                .await
                .unwrap();
            let mut got = [
                receiver.recv().await.unwrap(),
                receiver.recv().await.unwrap(),
            ];
            got.sort_by_key(|(channel, _)| channel.name());
            kernel.abort();
            got
        };
        let [(iopub, out), (shell, reply)] = tokio::time::timeout(LIMIT, both).await.unwrap();
        assert_eq!((iopub, shell), (Channel::Iopub, Channel::Shell));
        assert_eq!(out.unwrap().header, "{\"msg_id\":\"out\"}");
        assert_eq!(reply, Ok(message("{\"msg_id\":\"in\"}")));
    }

    #[tokio::test]
    async fn what_a_large_message_was_read_into_is_not_kept() {
        const LARGE: usize = 20_000_000;
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("k").display().to_string();
        let connection = ConnectionFile::ipc(prefix, "key".to_owned(), String::new());
        let kernel = tokio::spawn(echo_kernel(connection.clone()));
        let (mut sender, mut receiver) = connect(&connection, "nb").await.unwrap();
        let mut echo = async |bytes: usize| {
            let content = Bytes::from(vec![b' '; bytes]);
            let sent = Message {
                content,
                ..message("{}")
            };
            sender.send(Channel::Shell, &sent).await.unwrap();
            loop {
                let receiving = tokio::time::timeout(LIMIT, receiver.recv());
                if let (Channel::Shell, back) = receiving.await.unwrap().unwrap() {
                    return back.unwrap().content;
                }
            }
        };
        assert_eq!(echo(LARGE).await.len(), LARGE);
        let mut small = Bytes::new();
        for _ in 0..20 {
            small = echo(20_000).await;
        }
        assert!(receiver.large.0.is_empty());
        // Who has it last has all that it was read into.
        drop((sender, receiver));
        let room = small.try_into_mut().unwrap().capacity();
        assert!(room < READ_BYTES_KEPT, "{room}");
        kernel.abort();
    }
}
