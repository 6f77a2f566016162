//! A client in the legacy framing that does as a stock jupyter_server does: it sends binary messages in
//! TEXT frames, whatever is in them.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nb::protocol::legacy::{self, Payload};
use nb::protocol::message::{Channel, Message};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message as Received};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::gateway::{Gateway, LIMIT, TOKEN};

/// A target that prints the buffers of the comms that are opened for it.
const TARGET: &str = "get_ipython().kernel.comm_manager.register_target('buffers', \
    lambda comm, opening: print([bytes(b) for b in opening['buffers']], flush=True))\n\
    print('ready', flush=True)";

struct StockServer(WebSocketStream<TcpStream>);

impl StockServer {
    async fn connect(gateway: &Gateway, kernel: &str, user_agent: &str) -> Self {
        let port = gateway.port;
        let url = format!("ws://127.0.0.1:{port}/api/kernels/{kernel}/channels?session_id=a");
        let mut request = url.into_client_request().unwrap();
        let token = format!("token {TOKEN}").parse().unwrap();
        request.headers_mut().insert("Authorization", token);
        let agent = user_agent.parse().unwrap();
        request.headers_mut().insert("User-Agent", agent);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (socket, response) = client_async(request, stream).await.unwrap();
        assert!(!response.headers().contains_key("Sec-WebSocket-Protocol"));
        Self(socket)
    }

    /// The next message; pings are answered meanwhile.
    async fn next(&mut self) -> Value {
        loop {
            let received = timeout(LIMIT, self.0.next()).await;
            let received = received.expect("the kernel is silent");
            if let Received::Text(text) = received.expect("the connection was cut").unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    async fn send(&mut self, msg_type: &str, content: &Value, buffers: Vec<Bytes>) {
        let header = json!({
            "msg_id": msg_type, "msg_type": msg_type, "session": "a", "username": "it",
            "date": "2026-01-01T00:00:00Z", "version": "5.4",
        });
        let message = Message {
            header: header.to_string().into(),
            content: content.to_string().into(),
            buffers,
            ..Message::empty()
        };
        let payload = match legacy::encode(Channel::Shell, &message).unwrap() {
            Payload::Text(payload) | Payload::Binary(payload) => payload,
        };
        let frame = Frame::message(payload, OpCode::Data(Data::Text), true);
        self.0
            .send(tungstenite::Message::Frame(frame))
            .await
            .unwrap();
    }

    /// The next output.
    async fn output(&mut self) -> String {
        loop {
            let message = self.next().await;
            if message["msg_type"] == "stream" {
                return message["content"]["text"].as_str().unwrap().to_owned();
            }
        }
    }
}

#[tokio::test]
async fn buffers_that_are_no_text_arrive_in_text_frames() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut server = StockServer::connect(&gateway, &kernel, "it").await;
    let content = json!({"code": TARGET, "silent": false, "allow_stdin": false});
    server.send("execute_request", &content, Vec::new()).await;
    assert_eq!(server.output().await, "ready\n");
    let content = json!({"comm_id": "c", "target_name": "buffers", "data": {}});
    let buffers = vec![Bytes::from_static(b"\xff\0\xfe"), Bytes::new()];
    server.send("comm_open", &content, buffers).await;
    assert_eq!(server.output().await, "[b'\\xff\\x00\\xfe', b'']\n");
}

/// How far the one client of a kernel has acknowledged.
async fn cursor(gateway: &Gateway, kernel: &str) -> usize {
    let connections = gateway.supervisor(kernel, "/v1/connections").await;
    let cursor = connections[0]["cursor"].as_u64().unwrap();
    usize::try_from(cursor).unwrap()
}

/// What a stock server has acknowledged its browser may not have: it is gone with the connection between them.
#[tokio::test]
async fn a_stock_server_that_comes_back_gets_the_running_cell_whole() {
    let gateway = Gateway::start("auto").await;
    let code = "import pathlib, time\nfor n in range(500): print(n, flush=True)\n\
                while not pathlib.Path('go').exists(): time.sleep(0.01)\nprint('end')";
    let content = json!({"code": code, "silent": false, "allow_stdin": false});
    for user_agent in ["Tornado/6.5", "another"] {
        let kernel = gateway.kernel("{}").await;
        let mut server = StockServer::connect(&gateway, &kernel, user_agent).await;
        server.next().await;
        let mut received = cursor(&gateway, &kernel).await;
        server.send("execute_request", &content, Vec::new()).await;
        loop {
            let message = server.next().await;
            received += 1;
            let text = message["content"]["text"].as_str().unwrap_or_default();
            if text.ends_with("499\n") {
                break;
            }
        }
        let acknowledged = async {
            while cursor(&gateway, &kernel).await < received {
                // Only who reads answers pings.
                let _nothing = timeout(Duration::from_millis(10), server.0.next()).await;
            }
        };
        let acknowledged = timeout(LIMIT, acknowledged).await;
        acknowledged.expect("it is not acknowledged");
        drop(server);
        let mut server = StockServer::connect(&gateway, &kernel, user_agent).await;
        let first = server.next().await;
        assert_eq!(first["content"]["execution_state"], "busy");
        assert_eq!(first["parent_header"]["msg_id"], "execute_request");
        fs::write(gateway.root().join("go"), "").unwrap();
        let (mut text, mut cleared) = (String::new(), 0);
        loop {
            let message = server.next().await;
            match message["msg_type"].as_str().unwrap() {
                "clear_output" => {
                    assert_eq!(text, "");
                    cleared += 1;
                }
                "stream" => text += message["content"]["text"].as_str().unwrap(),
                "status"
                    if message["content"]["execution_state"] == "idle"
                        && message["parent_header"]["msg_id"] == "execute_request" =>
                {
                    break;
                }
                _ => {}
            }
        }
        let all: String = (0..500).map(|n| format!("{n}\n")).collect();
        let expected = match user_agent {
            "another" => (0, "end\n".to_owned()),
            _ => (1, all + "end\n"),
        };
        assert_eq!((cleared, text), expected, "{user_agent}");
        fs::remove_file(gateway.root().join("go")).unwrap();
        gateway.delete(&kernel).await;
    }
}
