//! Clients that are none: they come through the handshake and then break the protocol, or flood. Each is
//! answered with the code of its fault and a word, and the kernel goes on serving others.

use nb::protocol::message::{Channel, Message};
use nb::protocol::v1;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::{Gateway, LIMIT, TOKEN};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;

/// The bound in these tests, in bytes.
const LIMIT_BYTES: usize = 4096;

/// What a supervisor may grow by while it refuses something.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// What comes after the handshake on a raw socket.
struct Raw(TcpStream);

impl Raw {
    async fn connect(gateway: &Gateway, kernel: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))
            .await
            .unwrap();
        let handshake = format!(
            "GET /api/kernels/{kernel}/channels?session_id=raw&token={TOKEN} HTTP/1.1\r\nHost: x\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            v1::SUBPROTOCOL
        );
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self(stream)
    }

    /// It may be closed meanwhile, which is read later.
    async fn send(&mut self, bytes: &[u8]) {
        let sent = timeout(LIMIT, self.0.write_all(bytes)).await;
        drop(sent.expect("it takes nothing"));
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let head = self.0.read_u16().await.unwrap();
            let length = match head & 0x7f {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            (u8::try_from(head >> 8 & 0xf).unwrap(), payload)
        };
        timeout(LIMIT, read).await.expect("it says nothing")
    }

    /// The code and the word that it is closed with.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let (CLOSE, payload) = self.frame().await {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return (code, String::from_utf8(payload[2..].to_vec()).unwrap());
            }
        }
    }

    /// Waits until the answer to a ping of this payload comes.
    async fn answers(&mut self, payload: &[u8]) {
        self.send(&frame(FIN | PING, payload)).await;
        while self.frame().await != (PONG, payload.to_vec()) {}
    }
}

/// The head of a frame with a mask of zeros, which announces so many bytes.
fn announce(first: u8, bytes: u64) -> Vec<u8> {
    let mut head = vec![first];
    match bytes {
        0..126 => head.push(0x80 | u8::try_from(bytes).unwrap()),
        _ => {
            head.push(0x80 | 127);
            head.extend(bytes.to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = announce(first, payload.len() as u64);
    frame.extend(payload);
    frame
}

/// A cell of the kernel `peer`, which says it again.
fn cell(code: &str) -> Vec<u8> {
    let header = json!({
        "msg_id": code, "msg_type": "execute_request", "session": "raw", "username": "it",
        "date": "2026-01-01T00:00:00Z", "version": "5.4",
    });
    let message = Message {
        header: header.to_string().into(),
        content: json!({"code": code}).to_string().into(),
        ..Message::empty()
    };
    v1::encode(Channel::Shell, &message).to_vec()
}

/// A gateway that takes messages of [`LIMIT_BYTES`], and a kernel.
async fn limited(handover: &'static str) -> (Gateway, String) {
    let mut gateway = Gateway::start(handover).await;
    gateway.put_peer_spec("instant");
    let settings = format!("limits.message_bytes_max = {LIMIT_BYTES}");
    gateway.replace_set(&settings).await;
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    (gateway, kernel)
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code_and_hurts_nobody() {
    let half = LIMIT_BYTES / 2 + 1;
    let mut joined = frame(BINARY, &vec![0; half]);
    joined.extend(frame(FIN | CONTINUATION, &vec![0; half]));
    let mut within = frame(BINARY, b"one");
    within.extend(frame(FIN | BINARY, b"two"));
    let mut unmasked = vec![FIN | BINARY, 3];
    unmasked.extend(b"abc");
    let too_large = "limits.message_bytes_max";
    let cases: [(&str, Vec<u8>, u16, &str); 14] = [
        ("no frame", vec![0xff; 512], 1002, "reserved"),
        (
            "HTTP again",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            1002,
            "reserved",
        ),
        (
            "compressed",
            frame(FIN | 0x40 | BINARY, b"x"),
            1002,
            "reserved",
        ),
        ("no mask", unmasked, 1002, "mask"),
        ("no opcode", frame(FIN | 0x3, b"x"), 1002, "opcode"),
        ("no control opcode", frame(FIN | 0xb, b"x"), 1002, "opcode"),
        (
            "a continuation of nothing",
            frame(FIN | CONTINUATION, b"x"),
            1002,
            "continuation",
        ),
        ("a message in another", within, 1002, "fragmented"),
        ("a ping in pieces", frame(PING, b"x"), 1002, "control frame"),
        (
            "a long ping",
            announce(FIN | PING, 126),
            1002,
            "control frame",
        ),
        (
            "half a close code",
            frame(FIN | CLOSE, b"\x03"),
            1002,
            "half a code",
        ),
        ("4 EiB", announce(FIN | BINARY, 1 << 62), 1009, too_large),
        (
            "one byte too many",
            announce(FIN | TEXT, LIMIT_BYTES as u64 + 1),
            1009,
            too_large,
        ),
        ("too much in pieces", joined, 1009, too_large),
    ];
    for handover in ["auto", "never"] {
        let (gateway, kernel) = limited(handover).await;
        let mut witness = gateway.connect(&kernel, "witness").await;
        let before = gateway.supervisor_kib(&kernel).await;
        for (what, bytes, code, word) in &cases {
            let mut raw = Raw::connect(&gateway, &kernel).await;
            raw.send(bytes).await;
            let (closed, reason) = raw.closed().await;
            assert_eq!(closed, *code, "{what}: {reason}");
            assert!(reason.contains(word), "{what}: {reason}");
            // Nobody waits for it to go.
            assert_eq!(witness.run(what).await.text, *what);
        }
        let grown = gateway.supervisor_kib(&kernel).await.saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "{handover}: {grown} KiB");
    }
}

#[tokio::test]
async fn what_is_unusual_and_allowed_is_served() {
    let (gateway, kernel) = limited("auto").await;
    let mut witness = gateway.connect(&kernel, "witness").await;
    let whole = cell("in pieces");
    // A ping and a pong between the fragments, one of which is empty.
    let (first, rest) = whole.split_at(whole.len() / 3);
    let mut pieces = frame(BINARY, first);
    for (opcode, payload) in [
        (FIN | PING, &b"between"[..]),
        (FIN | PONG, b"never asked for"),
    ] {
        pieces.extend(frame(opcode, payload));
    }
    pieces.extend(frame(CONTINUATION, b""));
    pieces.extend(frame(FIN | CONTINUATION, rest));
    let as_text = frame(FIN | TEXT, &cell("as text"));
    for (code, bytes) in [("in pieces", pieces), ("as text", as_text)] {
        let mut raw = Raw::connect(&gateway, &kernel).await;
        // What is no message is passed over.
        for (opcode, payload) in [
            (TEXT, &b"hello"[..]),
            (TEXT, b"\xff\xfe"),
            (BINARY, &[0xff; 100]),
        ] {
            raw.send(&frame(FIN | opcode, payload)).await;
        }
        // A byte at a time, as no network does it.
        for byte in bytes {
            raw.send(&[byte]).await;
        }
        loop {
            let (opcode, payload) = raw.frame().await;
            let text = String::from_utf8_lossy(&payload).into_owned();
            if opcode == BINARY && text.contains("execute_reply") && text.contains(code) {
                break;
            }
        }
    }
    assert_eq!(witness.run("here").await.text, "here");
}

#[tokio::test]
async fn half_a_frame_and_a_flood_of_pings_keep_nobody_waiting() {
    const PINGS: usize = 200_000;
    let (gateway, kernel) = limited("auto").await;
    let mut witness = gateway.connect(&kernel, "witness").await;
    for bytes in [
        &[FIN | BINARY][..],
        &announce(FIN | BINARY, 4000),
        &frame(BINARY, b"begun"),
    ] {
        let mut raw = Raw::connect(&gateway, &kernel).await;
        raw.send(bytes).await;
        assert_eq!(witness.run("half").await.text, "half");
        // It goes in the middle.
        drop(raw);
        assert_eq!(witness.run("gone").await.text, "gone");
    }
    let before = gateway.supervisor_kib(&kernel).await;
    let mut raw = Raw::connect(&gateway, &kernel).await;
    let flood = frame(FIN | PING, &[b'x'; 125]).repeat(100);
    // It reads nothing meanwhile.
    for _ in 0..PINGS / 100 {
        raw.send(&flood).await;
    }
    assert_eq!(witness.run("flooded").await.text, "flooded");
    raw.answers(b"the last").await;
    let grown = gateway.supervisor_kib(&kernel).await.saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
}
