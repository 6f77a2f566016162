//! Takes a client's byte stream over from a gateway: the descriptor itself, or a splice.
//!
//! Knows the record of [`contract::Attach`]; what is then said on the stream is `connection`'s.

use std::io::{self, IoSliceMut};
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use rustix::net::sockopt::socket_domain;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::broker::Broker;
use super::connection::{self, Client, Common};
use super::sessions::Holder;
use crate::kernels::contract::{
    ATTACH_BYTES_MAX, ATTACH_READY, Attach, AttachMode, LEFT_BYTES_MAX,
};

/// How long the gateway may take for the record.
const RECORD_WITHIN: Duration = Duration::from_secs(10);

/// Receives a client on `stream`, which is past its 101, and serves it to its end.
pub(super) async fn serve(
    mut stream: UnixStream,
    broker: Broker,
    common: &Common,
) -> io::Result<()> {
    let (attach, fd, left) = timeout(RECORD_WITHIN, receive(&mut stream)).await??;
    let expires_in = attach.expires.map(|expires| {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(expires);
        expires
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    });
    let client = Client {
        session: attach.session_id.into(),
        holder: Holder {
            identity: attach.identity.into(),
            credential: attach.credential.into(),
        },
        framing: attach.framing,
        text_only: attach.text_only,
        unnamed: attach.unnamed,
        acknowledges: attach.acknowledges,
        resumes: attach.resumes,
        expires_in,
    };
    match (attach.mode, fd) {
        (AttachMode::Splice, _) => {
            let (reader, writer) = stream.into_split();
            connection::serve(reader, writer, left, client, broker, common).await;
        }
        (AttachMode::Fd, Some(fd)) => {
            drop(stream);
            if socket_domain(&fd)? == AddressFamily::UNIX {
                let socket = StdUnixStream::from(fd);
                socket.set_nonblocking(true)?;
                let (reader, writer) = UnixStream::from_std(socket)?.into_split();
                connection::serve(reader, writer, left, client, broker, common).await;
                return Ok(());
            }
            let socket = StdTcpStream::from(fd);
            socket.set_nonblocking(true)?;
            let socket = TcpStream::from_std(socket)?;
            socket.set_nodelay(true)?;
            let (reader, writer) = socket.into_split();
            connection::serve(reader, writer, left, client, broker, common).await;
        }
        (AttachMode::Fd, None) => return Err(invalid("no descriptor came with the record")),
    }
    Ok(())
}

async fn receive(stream: &mut UnixStream) -> io::Result<(Attach, Option<OwnedFd>, Bytes)> {
    stream.write_all(&[ATTACH_READY]).await?;
    let mut length = [0; 4];
    let (taken, fd) = stream
        .async_io(Interest::READABLE, || receive_fd(stream, &mut length))
        .await?;
    stream.read_exact(&mut length[taken..]).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ATTACH_BYTES_MAX {
        return Err(invalid("the record is too long"));
    }
    let mut record = vec![0; length];
    stream.read_exact(&mut record).await?;
    let attach: Attach = serde_json::from_slice(&record)?;
    if attach.left > LEFT_BYTES_MAX {
        return Err(invalid("too much came with the handshake"));
    }
    let mut left = BytesMut::zeroed(attach.left);
    stream.read_exact(&mut left).await?;
    Ok((attach, fd, left.freeze()))
}

fn receive_fd(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(invalid("more than one descriptor came"));
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((received.bytes, fd))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
