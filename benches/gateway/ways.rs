//! One client of a kernel, over ZeroMQ itself or over a WebSocket of nb, and the time its cells take.
//!
//! The client over ZeroMQ does what every Jupyter client does: it signs what it sends and verifies what
//! it gets. Neither it nor the kernel has an I/O thread as libzmq has, so a cell takes it about half the
//! time that it takes pyzmq: a harder measure than the clients that people have.
//!
//! Each client does as little as it can with a message, so that the way is measured and not the client.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nb::kernels::supervisor::link::{LinkReceiver, LinkSender};
use nb::protocol::legacy::{self, Payload};
use nb::protocol::message::{Channel, HeaderPeek, Message};
use nb::protocol::v1;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

/// What is larger than this is output and not looked into.
const LOOKED_INTO_BYTES_MAX: usize = 1024;

pub(crate) type Socket = WebSocketStream<TcpStream>;

pub(crate) enum Wire {
    Zmq(Box<(LinkSender, LinkReceiver)>),
    V1(Box<Socket>),
    Legacy(Box<Socket>),
}

/// A client.
pub(crate) struct Client {
    wire: Wire,
    session: String,
    count: u32,
}

/// What became of a request.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) replied: Duration,
    /// When both the reply and the idle were there.
    pub(crate) done: Duration,
    pub(crate) outputs: u32,
}

impl Client {
    pub(crate) fn new(wire: Wire, session: String) -> Self {
        Self {
            wire,
            session,
            count: 0,
        }
    }

    /// Runs a cell to its end.
    pub(crate) async fn run(&mut self, code: &str) -> Outcome {
        let content = json!({"code": code, "silent": false, "store_history": true,
            "user_expressions": {}, "allow_stdin": false, "stop_on_error": true});
        self.ask("execute_request", &content).await
    }

    /// Asks the kernel what it is.
    pub(crate) async fn kernel_info(&mut self) -> Outcome {
        self.ask("kernel_info_request", &json!({})).await
    }

    async fn ask(&mut self, msg_type: &str, content: &Value) -> Outcome {
        self.count += 1;
        let id = format!("{}-{}", self.session, self.count);
        let header = json!({
            "msg_id": id, "msg_type": msg_type, "session": self.session, "username": "bench",
            "date": "2026-01-01T00:00:00.000000Z", "version": "5.4",
        });
        let request = Message {
            header: header.to_string().into(),
            content: content.to_string().into(),
            ..Message::empty()
        };
        let (mut replied, mut idle, mut outputs) = (None, false, 0);
        let begun = Instant::now();
        self.wire.send(&request).await;
        loop {
            match self.wire.next().await {
                Some((Channel::Shell, reply)) if parent_is(&reply, &id) => {
                    replied = Some(begun.elapsed());
                }
                Some((Channel::Iopub, said)) if is_output(&said) => outputs += 1,
                Some((Channel::Iopub, said)) if is_idle(&said) => idle |= parent_is(&said, &id),
                Some(_) => {}
                None => outputs += 1,
            }
            if let Some(replied) = replied.filter(|_| idle) {
                return Outcome {
                    replied,
                    done: begun.elapsed(),
                    outputs,
                };
            }
        }
    }

    /// Reads this much output of others.
    pub(crate) async fn watch(&mut self, outputs: u32) {
        let mut seen = 0;
        while seen < outputs {
            seen += match self.wire.next().await {
                Some((Channel::Iopub, said)) => u32::from(is_output(&said)),
                Some(_) => 0,
                None => 1,
            };
        }
    }
}

impl Wire {
    async fn send(&mut self, request: &Message) {
        match self {
            Self::Zmq(link) => link.0.send(Channel::Shell, request).await.unwrap(),
            Self::V1(socket) => {
                let payload = v1::encode(Channel::Shell, request);
                socket.send(Frame::Binary(payload)).await.unwrap();
            }
            Self::Legacy(socket) => {
                let payload = legacy::encode(Channel::Shell, request).unwrap();
                let (Payload::Text(payload) | Payload::Binary(payload)) = payload;
                let text = payload.try_into().unwrap();
                socket.send(Frame::Text(text)).await.unwrap();
            }
        }
    }

    /// The next message; `None` stands for one that is large.
    async fn next(&mut self) -> Option<(Channel, Message)> {
        let socket = match self {
            Self::Zmq(link) => {
                let (channel, said) = link.1.recv().await.unwrap();
                return Some((channel, said.unwrap()));
            }
            Self::V1(socket) | Self::Legacy(socket) => socket,
        };
        loop {
            match socket.next().await.unwrap().unwrap() {
                Frame::Binary(payload) => return Some(v1::decode(&payload).unwrap()),
                Frame::Text(text) if text.len() > LOOKED_INTO_BYTES_MAX => return None,
                Frame::Text(text) => return Some(legacy::decode(&Bytes::from(text)).unwrap()),
                // Pings are answered by the crate.
                _ => {}
            }
        }
    }
}

/// The kernel writes no shorter output, and nothing else on iopub that is as long.
fn is_output(said: &Message) -> bool {
    said.content.len() >= 100 && !said.content.starts_with(b"{\"code\"")
}

fn is_idle(said: &Message) -> bool {
    said.content.as_ref() == br#"{"execution_state":"idle"}"#
}

fn parent_is(said: &Message, id: &str) -> bool {
    HeaderPeek::read(&said.parent_header).is_some_and(|peek| peek.msg_id == id)
}
