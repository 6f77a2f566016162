//! A client of one kernel over an independent WebSocket implementation, in the v1 framing.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nb::protocol::message::{Channel, Message};
use nb::protocol::v1;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::gateway::LIMIT;

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    session: String,
    count: u32,
}

/// What a kernel said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) msg_type: String,
    /// The id of the request that it answers.
    pub(crate) parent: String,
    pub(crate) content: Value,
    pub(crate) buffers: Vec<Bytes>,
}

/// What came of a cell.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Value,
    pub(crate) text: String,
    /// The plain texts of what was displayed.
    pub(crate) shown: String,
}

impl Client {
    pub(crate) async fn connect(port: u16, token: &str, kernel: &str, session: &str) -> Self {
        let url = format!(
            "ws://127.0.0.1:{port}/api/kernels/{kernel}/channels?session_id={session}&token={token}"
        );
        let mut request = url.into_client_request().unwrap();
        let subprotocol = v1::SUBPROTOCOL.parse().unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", subprotocol);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let large = WebSocketConfig::default();
        let large = large.max_message_size(None).max_frame_size(None);
        let handshake = client_async_with_config(request, stream, Some(large));
        let (socket, response) = timeout(LIMIT, handshake)
            .await
            .expect("the handshake hangs")
            .unwrap();
        assert_eq!(
            response.headers()["Sec-WebSocket-Protocol"],
            v1::SUBPROTOCOL
        );
        Self {
            socket,
            session: session.to_owned(),
            count: 0,
        }
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.socket.get_ref().local_addr().unwrap().port()
    }

    /// Sends a message and returns its id.
    pub(crate) async fn send(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: Value,
    ) -> String {
        self.send_with(channel, msg_type, content, Vec::new()).await
    }

    /// The same with buffers.
    pub(crate) async fn send_with(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: Value,
        buffers: Vec<Bytes>,
    ) -> String {
        self.count += 1;
        let id = format!("{}-{}-{}", self.session, self.local_port(), self.count);
        let header = json!({
            "msg_id": id, "msg_type": msg_type, "session": self.session, "username": "it",
            "date": "2026-01-01T00:00:00Z", "version": "5.4",
        });
        let message = Message {
            header: header.to_string().into(),
            content: content.to_string().into(),
            buffers,
            ..Message::empty()
        };
        let payload: Bytes = v1::encode(channel, &message);
        self.socket.send(Frame::Binary(payload)).await.unwrap();
        id
    }

    pub(crate) async fn submit(&mut self, code: &str) -> String {
        let content = json!({
            "code": code, "silent": false, "store_history": true, "user_expressions": {},
            "allow_stdin": true, "stop_on_error": true,
        });
        self.send(Channel::Shell, "execute_request", content).await
    }

    /// The next message, or the close code. Pings on the way are no answer.
    pub(crate) async fn next(&mut self) -> Result<Said, u16> {
        timeout(LIMIT, self.next_at_all())
            .await
            .expect("the kernel is silent")
    }

    async fn next_at_all(&mut self) -> Result<Said, u16> {
        loop {
            let frame = self.socket.next().await;
            match frame.expect("the connection was cut").unwrap() {
                Frame::Binary(payload) => {
                    let (_, message) = v1::decode(&payload).unwrap();
                    let header: Value = serde_json::from_slice(&message.header).unwrap();
                    let parent: Value = serde_json::from_slice(&message.parent_header).unwrap();
                    return Ok(Said {
                        msg_type: header["msg_type"].as_str().unwrap().to_owned(),
                        parent: parent["msg_id"].as_str().unwrap_or_default().to_owned(),
                        content: serde_json::from_slice(&message.content).unwrap(),
                        buffers: message.buffers,
                    });
                }
                Frame::Close(close) => return Err(close.map_or(0, |close| close.code.into())),
                _ => {}
            }
        }
    }

    /// Waits until everything that was sent has been read over there; what is said meanwhile is passed over.
    pub(crate) async fn arrived(&mut self) {
        self.socket.send(Frame::Ping(Bytes::new())).await.unwrap();
        let pong = async { while !matches!(self.socket.next().await, Some(Ok(Frame::Pong(_)))) {} };
        timeout(LIMIT, pong).await.expect("no pong comes");
    }

    /// Everything until the connection is closed: its code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    /// Waits for a reply, or the end of the connection: its close code.
    pub(crate) async fn close_or_reply(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Ok(said) if said.msg_type == "execute_reply" => return None,
                Ok(_) => {}
                Err(code) => return Some(code),
            }
        }
    }

    /// Waits for the end of the connection, with a goodbye or without.
    pub(crate) async fn gone(&mut self) {
        let ended = |frame: &Option<Result<Frame, _>>| !matches!(frame, Some(Ok(_)));
        while !ended(&timeout(LIMIT, self.socket.next()).await.expect("it stays")) {}
    }

    /// Waits for output of the request that contains `text`.
    pub(crate) async fn wait_for(&mut self, request: &str, text: &str) {
        loop {
            let said = self.next().await.unwrap();
            let output = said.content["text"].as_str().unwrap_or_default();
            if said.parent == request && output.contains(text) {
                return;
            }
        }
    }

    /// Waits for reply and idle of a request; questions are answered with `answer`.
    pub(crate) async fn outcome(&mut self, request: &str, answer: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let mut idle = false;
        while !idle || outcome.reply.is_null() {
            let said = self.next().await.unwrap();
            if said.parent != request {
                continue;
            }
            match said.msg_type.as_str() {
                "stream" => outcome.text += said.content["text"].as_str().unwrap(),
                "display_data" => {
                    outcome.shown += said.content["data"]["text/plain"].as_str().unwrap();
                }
                "status" => idle |= said.content["execution_state"] == "idle",
                "execute_reply" => outcome.reply = said.content,
                "input_request" => {
                    let content = json!({"value": answer});
                    self.send(Channel::Stdin, "input_reply", content).await;
                }
                _ => {}
            }
        }
        outcome
    }

    /// Runs a cell to its end.
    pub(crate) async fn run(&mut self, code: &str) -> Outcome {
        let request = self.submit(code).await;
        self.outcome(&request, "").await
    }
}
