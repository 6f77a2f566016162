//! WebSockets, from the handshake to the supervisor's hands.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use uuid::Uuid;

use super::Front;
use super::fake::FakeSupervisor;
use crate::config::Handover;
use crate::gateway::handshake::V1;
use crate::kernels::contract::{Acknowledges, Attach, AttachMode, Framing};

const ID: Uuid = Uuid::from_u128(1);

/// A client that has sent its handshake and, in the same segment, `early`.
async fn dial(front: &Front, id: Uuid, more: &str, early: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(front.address).await.unwrap();
    let mut bytes = format!(
        "GET /api/kernels/{id}/channels?session_id=tab%201&token=s3cret HTTP/1.1\r\nHost: nb\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(early);
    client.write_all(&bytes).await.unwrap();
    client
}

/// The head of the answer.
async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let read = timeout(Duration::from_secs(10), stream.read_exact(&mut bytes));
    read.await.unwrap().unwrap();
    bytes
}

/// The record, and the descriptor that came with its first byte.
async fn receive(stream: &mut UnixStream) -> (Attach, Option<OwnedFd>) {
    let mut first = [0];
    let descriptor = stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut first)];
            let received =
                rustix::net::recvmsg(&*stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            assert_eq!(received.bytes, 1);
            let descriptors = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            Ok(descriptors.last())
        })
        .await
        .unwrap();
    let rest = read(stream, 3).await;
    let length = u32::from_be_bytes([first[0], rest[0], rest[1], rest[2]]);
    let json = read(stream, length as usize).await;
    (serde_json::from_slice(&json).unwrap(), descriptor)
}

#[tokio::test]
async fn a_kernel_that_is_not_there_is_an_http_error() {
    let front = Front::new(Handover::Auto).await;
    let missing = head(&mut dial(&front, ID, "", b"").await).await;
    assert!(missing.starts_with("http/1.1 404"), "{missing}");
    drop(FakeSupervisor::start_silent(&front.registry, ID));
    let dead = head(&mut dial(&front, ID, "", b"").await).await;
    assert!(
        dead.starts_with("http/1.1 503") && dead.contains("retry-after"),
        "{dead}"
    );
}

#[tokio::test]
async fn a_connection_is_handed_over_with_what_the_client_sent_early() {
    let front = Front::new(Handover::Auto).await;
    let mut fake = FakeSupervisor::start(&front.registry, ID);
    let offer = format!("Sec-WebSocket-Protocol: {V1}\r\nNb-Ack: client\r\n");
    let early = vec![7; 5000];
    let mut client = dial(&front, ID, &offer, &early).await;
    let head = head(&mut client).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    assert!(head.contains(V1), "{head}");

    let mut stream = fake.attached.recv().await.unwrap();
    let (attach, descriptor) = receive(&mut stream).await;
    let expected = Attach {
        session_id: "tab 1".to_owned(),
        framing: Framing::V1,
        identity: "me".to_owned(),
        credential: "operator".to_owned(),
        expires: None,
        left: early.len(),
        mode: AttachMode::Fd,
        text_only: false,
        unnamed: false,
        acknowledges: Acknowledges::Client,
        resumes: false,
    };
    assert!(head.contains("nb-ack: client"), "{head}");
    assert_eq!(attach, expected);
    assert_eq!(read(&mut stream, early.len()).await, early);
    // The gateway is done: the stream ends, and the client's connection does not.
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let handed = StdTcpStream::from(descriptor.unwrap());
    assert!(handed.nodelay().unwrap());
    let mut handed = TcpStream::from_std(handed).unwrap();
    handed.write_all(b"down").await.unwrap();
    assert_eq!(read(&mut client, 4).await, b"down");
    client.write_all(b"up").await.unwrap();
    assert_eq!(read(&mut handed, 2).await, b"up");
    // Nobody else holds it: it ends with this one.
    drop(handed);
    let end = timeout(Duration::from_secs(10), client.read(&mut [0])).await;
    assert_eq!(end.unwrap().unwrap(), 0);
}

/// By the token that it presents twice. The address of `dial` holds one.
#[tokio::test]
async fn vs_code_is_known_by_its_handshake() {
    let front = Front::new(Handover::Auto).await;
    let mut fake = FakeSupervisor::start(&front.registry, ID);
    let v1 = format!("Sec-WebSocket-Protocol: {V1}\r\n");
    let header = "Authorization: token s3cret\r\n";
    for (more, expected) in [
        (format!("{v1}{header}"), true),
        (v1.clone(), false),
        (header.to_owned(), false),
        (format!("{v1}{header}Origin: http://nb\r\n"), false),
    ] {
        let mut client = dial(&front, ID, &more, b"").await;
        let head = head(&mut client).await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        let mut stream = fake.attached.recv().await.unwrap();
        let (attach, _) = receive(&mut stream).await;
        assert_eq!(attach.resumes, expected, "{more}");
    }
}

#[tokio::test]
async fn without_handover_the_bytes_go_through_the_gateway() {
    let front = Front::new(Handover::Never).await;
    let mut fake = FakeSupervisor::start(&front.registry, ID);
    let mut client = dial(&front, ID, "Sec-WebSocket-Protocol: other\r\n", b"early").await;
    let head = head(&mut client).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");

    let mut stream = fake.attached.recv().await.unwrap();
    let (attach, descriptor) = receive(&mut stream).await;
    assert_eq!(
        (attach.mode, attach.framing),
        (AttachMode::Splice, Framing::Legacy)
    );
    assert_eq!(attach.left, 5);
    assert!(descriptor.is_none());
    assert_eq!(read(&mut stream, 5).await, b"early");
    let large = vec![9; 1 << 20];
    let down = async { stream.write_all(&large).await.unwrap() };
    let (got, ()) = tokio::join!(read(&mut client, large.len()), down);
    assert_eq!(got, large);
    client.write_all(b"up").await.unwrap();
    assert_eq!(read(&mut stream, 2).await, b"up");
    drop(stream);
    let end = timeout(Duration::from_secs(10), client.read(&mut [0])).await;
    assert_eq!(end.unwrap().unwrap(), 0);
}
