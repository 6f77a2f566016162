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
    is_v1: bool,
}

/// What a kernel said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) msg_id: String,
    pub(crate) msg_type: String,
    /// The id of the request that it answers.
    pub(crate) parent: String,
    pub(crate) content: Value,
    pub(crate) buffers: Vec<Bytes>,
}

impl Said {
    fn of(header: &Value, parent: &Value, content: Value, buffers: Vec<Bytes>) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            msg_id: text(&header["msg_id"]),
            msg_type: text(&header["msg_type"]),
            parent: text(&parent["msg_id"]),
            content,
            buffers,
        }
    }
}

/// The content of an `execute_request`.
pub(crate) fn cell(code: &str) -> Value {
    json!({
        "code": code, "silent": false, "store_history": true, "user_expressions": {},
        "allow_stdin": true, "stop_on_error": true,
    })
}

/// What came of a cell.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Value,
    pub(crate) text: String,
    /// The plain texts of what was displayed.
    pub(crate) shown: String,
    /// The plain text of the cell's result.
    pub(crate) result: String,
}

/// What came of listening.
#[derive(Debug)]
pub(crate) enum Heard {
    Said(Said),
    /// A goodbye with this code.
    Closed(u16),
    /// The end without one.
    Cut,
}

impl Client {
    pub(crate) async fn connect(port: u16, token: &str, kernel: &str, session: &str) -> Self {
        let dialed = Self::dial(port, token, kernel, session, true).await;
        dialed.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same where it may fail, in the v1 framing or in that of text.
    pub(crate) async fn dial(
        port: u16,
        token: &str,
        kernel: &str,
        session: &str,
        is_v1: bool,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.map_err(|error| error.to_string())?;
        Self::over(stream, token, kernel, session, is_v1).await
    }

    /// The same over a connection that there is.
    pub(crate) async fn over(
        stream: TcpStream,
        token: &str,
        kernel: &str,
        session: &str,
        is_v1: bool,
    ) -> Result<Self, String> {
        let at = stream.peer_addr().map_err(|error| error.to_string())?;
        let url =
            format!("ws://{at}/api/kernels/{kernel}/channels?session_id={session}&token={token}");
        let mut request = url.into_client_request().unwrap();
        if is_v1 {
            let subprotocol = v1::SUBPROTOCOL.parse().unwrap();
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", subprotocol);
        }
        let large = WebSocketConfig::default();
        let large = large.max_message_size(None).max_frame_size(None);
        let handshake = client_async_with_config(request, stream, Some(large));
        let (socket, response) = timeout(LIMIT, handshake)
            .await
            .map_err(|_| "the handshake hangs".to_owned())?
            .map_err(|error| error.to_string())?;
        let chosen = response.headers().get("Sec-WebSocket-Protocol");
        assert_eq!(chosen.is_some(), is_v1);
        Ok(Self {
            socket,
            session: session.to_owned(),
            count: 0,
            is_v1,
        })
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
        let (id, sent) = self.try_send(channel, msg_type, content, buffers).await;
        assert!(sent, "the connection was cut");
        id
    }

    /// The same where the connection may be cut: whether it was written.
    pub(crate) async fn try_send(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: Value,
        buffers: Vec<Bytes>,
    ) -> (String, bool) {
        self.count += 1;
        let id = format!("{}-{}-{}", self.session, self.local_port(), self.count);
        let header = json!({
            "msg_id": id, "msg_type": msg_type, "session": self.session, "username": "it",
            "date": "2026-01-01T00:00:00Z", "version": "5.4",
        });
        let frame = if self.is_v1 {
            let message = Message {
                header: header.to_string().into(),
                content: content.to_string().into(),
                buffers,
                ..Message::empty()
            };
            Frame::Binary(v1::encode(channel, &message))
        } else {
            assert!(buffers.is_empty(), "not needed so far");
            let message = json!({
                "channel": channel.name(), "header": header, "parent_header": {}, "metadata": {},
                "content": content, "buffers": [],
            });
            Frame::text(message.to_string())
        };
        let sent = self.socket.send(frame).await.is_ok();
        (id, sent)
    }

    pub(crate) async fn submit(&mut self, code: &str) -> String {
        self.send(Channel::Shell, "execute_request", cell(code))
            .await
    }

    /// The next message, or the close code. Pings on the way are no answer.
    pub(crate) async fn next(&mut self) -> Result<Said, u16> {
        match timeout(LIMIT, self.hear())
            .await
            .expect("the kernel is silent")
        {
            Heard::Said(said) => Ok(said),
            Heard::Closed(code) => Err(code),
            Heard::Cut => panic!("the connection was cut"),
        }
    }

    /// The next message, or how the connection ended.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let payload = match self.socket.next().await {
                Some(Ok(Frame::Binary(payload))) if self.is_v1 => payload,
                Some(Ok(Frame::Text(text))) if !self.is_v1 => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    return Heard::Said(Said::of(
                        &message["header"],
                        &message["parent_header"],
                        message["content"].clone(),
                        Vec::new(),
                    ));
                }
                Some(Ok(Frame::Close(close))) => {
                    return Heard::Closed(close.map_or(0, |close| close.code.into()));
                }
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Heard::Cut,
            };
            let (_, message) = v1::decode(&payload).unwrap();
            let value = |bytes: &Bytes| -> Value { serde_json::from_slice(bytes).unwrap() };
            return Heard::Said(Said::of(
                &value(&message.header),
                &value(&message.parent_header),
                value(&message.content),
                message.buffers,
            ));
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
                "execute_result" => {
                    outcome.result += said.content["data"]["text/plain"].as_str().unwrap();
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
