//! The framing without a name, over a raw socket: what jupyter_server sends breaks ordinary clients.

use bytes::Bytes;
use nb::protocol::legacy::{self, Payload};
use nb::protocol::message::{Channel, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::{Gateway, LIMIT, TOKEN};

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A client that offers no subprotocol.
struct Legacy(TcpStream);

impl Legacy {
    async fn connect(gateway: &Gateway, kernel: &str, session: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))
            .await
            .unwrap();
        let handshake = format!(
            "GET /api/kernels/{kernel}/channels?session_id={session} HTTP/1.1\r\nHost: x\r\n{headers}\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.1 101") && !head.contains("protocol:"),
            "{head}"
        );
        Self(stream)
    }

    /// A frame masked with zeros.
    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode, 0x80 | 126];
        frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame with a message in it.
    async fn next(&mut self) -> (u8, Bytes) {
        loop {
            let head = self.0.read_u16().await.unwrap();
            let length = match head & 0x7f {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            let opcode = u8::try_from(head >> 8 & 0xf).unwrap();
            if matches!(opcode, TEXT | BINARY) {
                return (opcode, payload.into());
            }
        }
    }

    /// The next frame with a message of this type.
    async fn wait_for(&mut self, msg_type: &str) -> (u8, Bytes, Message) {
        let wait = async {
            loop {
                let (opcode, payload) = self.next().await;
                let (_, message) = legacy::decode(&payload).unwrap();
                let header: Value = serde_json::from_slice(&message.header).unwrap();
                if header["msg_type"] == msg_type {
                    return (opcode, payload, message);
                }
            }
        };
        let waited = timeout(LIMIT, wait).await;
        waited.unwrap_or_else(|_| panic!("no {msg_type} comes"))
    }
}

fn cell(session: &str, code: &str, buffers: &[Bytes]) -> Bytes {
    let header = json!({
        "msg_id": format!("{session}-{code}"), "msg_type": "execute_request", "session": session,
        "username": "it", "date": "2026-01-01T00:00:00Z", "version": "5.4",
    });
    let message = Message {
        header: header.to_string().into(),
        content: json!({"code": code}).to_string().into(),
        buffers: buffers.to_vec(),
        ..Message::empty()
    };
    let (Payload::Text(payload) | Payload::Binary(payload)) =
        legacy::encode(Channel::Shell, &message).unwrap();
    payload
}

/// As JupyterLab's widgets send them and jupyter_server forwards them: binary, in a frame that says text.
#[tokio::test]
async fn binary_in_a_text_frame_is_told_by_its_content_and_comes_back_whole() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let tornado = format!("User-Agent: Tornado/6.6.1\r\nAuthorization: token {TOKEN}\r\n");
    let mut server = Legacy::connect(&gateway, &kernel, "server", &tornado).await;
    let session = format!("direct&token={TOKEN}");
    let mut direct = Legacy::connect(&gateway, &kernel, &session, "").await;
    let mut v1 = gateway.connect(&kernel, "v1").await;
    // Whoever has been told the state is there.
    server.wait_for("status").await;
    assert_eq!(v1.next().await.unwrap().msg_type, "status");
    let (opcode, payload, _) = direct.wait_for("status").await;
    let status: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((opcode, &status["channel"]), (TEXT, &json!("iopub")));
    // jupyter_server and others look for them here.
    for key in ["msg_id", "msg_type"] {
        assert_eq!(status[key], status["header"][key], "{key}");
    }

    let buffers = [
        Bytes::from_static(b"\xff\xfe\0{"),
        Bytes::new(),
        Bytes::from_static(b"b"),
    ];
    let request = cell("direct", "buffers", &buffers);
    assert!(std::str::from_utf8(&request).is_err());
    direct.send(TEXT, &request).await;
    let (opcode, _, shown) = direct.wait_for("display_data").await;
    assert_eq!((opcode, shown.buffers.as_slice()), (BINARY, &buffers[..]));
    // The same in a frame that says what it is.
    direct.send(BINARY, &request).await;
    assert_eq!(direct.wait_for("display_data").await.2.buffers, buffers);

    // A stock jupyter_server would break on it: it gets the rest.
    let (opcode, _, shown) = server.wait_for("display_data").await;
    assert_eq!((opcode, shown.buffers.len()), (TEXT, 0));
    server.send(TEXT, &cell("server", "here", &[])).await;
    let (_, _, said) = server.wait_for("stream").await;
    assert!(String::from_utf8_lossy(&said.content).contains("here"));
    let seen = async { while v1.next().await.unwrap().msg_type != "display_data" {} };
    timeout(LIMIT, seen).await.unwrap();
}
