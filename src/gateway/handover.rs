//! Moves a client's connection to its kernel's supervisor once the handshake is over.
//!
//! Knows bytes and descriptors and nothing of messages: after a handover by descriptor the gateway
//! holds nothing of the connection, so its own end goes unnoticed.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, select};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, Interest, copy_buf};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::either::Either;

use super::drain::Drain;
use super::listen::Stream;
use crate::kernels::client::{Attachment, record};
use crate::kernels::contract::{Attach, AttachMode, LEFT_BYTES_MAX};

/// How long the 101 may take to reach the client, and the record the supervisor.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// How long one direction of a spliced connection goes on after the other has ended.
const LINGER: Duration = Duration::from_secs(3);

/// Between the two ends of a spliced connection: clients say little, kernels much.
const UP_BUFFER_BYTES: usize = 16 * 1024;
const DOWN_BUFFER_BYTES: usize = 64 * 1024;

/// Waits until the client has its 101, then gives the connection away.
///
/// A spliced connection ends when the gateway does. Nothing is said to the client by us, since one can speak
/// between two frames only, and where they begin and end is not known here: its supervisor hears that no more
/// comes and says goodbye with 1012.
///
/// `attach.left` is filled in here: only now it is known what the client sent early.
pub(crate) async fn hand_over(
    upgrade: OnUpgrade,
    attachment: Attachment,
    mut attach: Attach,
    drain: &Drain,
) -> io::Result<()> {
    let upgraded = within(STEP_DEADLINE, async {
        upgrade.await.map_err(io::Error::other)
    })
    .await?;
    let Parts { io, read_buf, .. } = upgraded
        .downcast::<TokioIo<Stream>>()
        .map_err(|_| io::Error::other("the connection is no plain stream"))?;
    if read_buf.len() > LEFT_BYTES_MAX {
        return Err(io::Error::other(
            "the client sent too much with its handshake",
        ));
    }
    attach.left = read_buf.len();
    let record = record(&attach)?;
    let client = io.into_inner();
    match attach.mode {
        AttachMode::Fd => give(client, attachment.stream, &record, &read_buf).await,
        AttachMode::Splice => match client {
            Either::Left(client) => {
                let client = client.into_split();
                splice(client, attachment, &record, &read_buf, drain).await
            }
            Either::Right(client) => {
                let client = client.into_split();
                splice(client, attachment, &record, &read_buf, drain).await
            }
        },
    }
}

/// Passes the client's descriptor on with the first byte of the record.
///
/// Our copy is only dropped, never shut down: that would end the connection for all.
async fn give(
    client: Stream,
    mut supervisor: UnixStream,
    record: &[u8],
    left: &[u8],
) -> io::Result<()> {
    // Out of our poll set before somebody else has it in theirs.
    let client = match client {
        Either::Left(client) => OwnedFd::from(client.into_std()?),
        Either::Right(client) => OwnedFd::from(client.into_std()?),
    };
    within(STEP_DEADLINE, async {
        let sent = supervisor
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let descriptors = [client.as_fd()];
                if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                    return Err(io::Error::other("there is no room for a descriptor"));
                }
                let parts = [IoSlice::new(record)];
                let flags = SendFlags::NOSIGNAL;
                Ok(rustix::net::sendmsg(
                    &supervisor,
                    &parts,
                    &mut control,
                    flags,
                )?)
            })
            .await?;
        supervisor
            .write_all(record.get(sent..).unwrap_or_default())
            .await?;
        supervisor.write_all(left).await
    })
    .await
}

/// Carries the bytes both ways until one end is done, or the gateway ends.
async fn splice(
    (from_client, mut to_client): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    attachment: Attachment,
    record: &[u8],
    left: &[u8],
    drain: &Drain,
) -> io::Result<()> {
    let (from_supervisor, mut to_supervisor) = attachment.stream.into_split();
    within(STEP_DEADLINE, async {
        to_supervisor.write_all(record).await?;
        to_supervisor.write_all(left).await?;
        to_client.write_all(&attachment.early).await
    })
    .await?;
    let up = async {
        tokio::select! {
            outcome = carry(from_client, &mut to_supervisor, UP_BUFFER_BYTES) => outcome?,
            _ = drain.asked() => {}
        }
        to_supervisor.shutdown().await
    };
    let down = async {
        carry(from_supervisor, &mut to_client, DOWN_BUFFER_BYTES).await?;
        to_client.shutdown().await
    };
    match select(pin!(up), pin!(down)).await {
        future::Either::Left((outcome, down)) => outcome.and(linger(down).await),
        future::Either::Right((outcome, up)) => outcome.and(linger(up).await),
    }
}

/// Carries one direction to its end.
async fn carry(
    from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    buffer_bytes: usize,
) -> io::Result<()> {
    let mut from = BufReader::with_capacity(buffer_bytes, from);
    copy_buf(&mut from, to).await.map(drop)
}

async fn linger(rest: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(LINGER, rest).await.unwrap_or(Ok(()))
}

async fn within<T>(deadline: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(deadline, step)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
