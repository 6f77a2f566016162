//! One connection over a pipe: what the client reads, and what its answers do.

mod jobs;
mod liveness;
mod replay;

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use super::{Client, Common, serve};
use crate::kernels::contract::{Acknowledges, Framing};
use crate::kernels::supervisor::broker::{Broker, Phase};
use crate::kernels::supervisor::journal::Journal;
use crate::kernels::supervisor::journal::far::FarJournal;
use crate::kernels::supervisor::journal::memory::MemoryJournal;
use crate::kernels::supervisor::sessions::Holder;
use crate::protocol::message::{Channel, Message};
use crate::protocol::v1;

const LIMIT: Duration = Duration::from_secs(20);
const PIPE_BYTES: usize = 1 << 16;

fn running() -> Broker {
    running_with(Box::new(MemoryJournal::new(1 << 25)))
}

fn running_with(journal: Box<dyn Journal>) -> Broker {
    let broker = Broker::new(journal);
    let (outbox, _requests) = mpsc::unbounded_channel();
    broker.open_epoch(outbox);
    broker
}

fn common() -> Rc<Common> {
    Rc::new(Common::new(1 << 20))
}

fn connect(broker: &Broker, session: &str) -> DuplexStream {
    connect_with(broker, session, Framing::V1)
}

/// A legacy client is a stock jupyter_server here.
fn connect_with(broker: &Broker, session: &str, framing: Framing) -> DuplexStream {
    connect_among(&common(), broker, session, framing, Acknowledges::default())
}

/// A client that acknowledges for somebody else.
fn connect_companion(broker: &Broker, session: &str) -> DuplexStream {
    connect_among(
        &common(),
        broker,
        session,
        Framing::V1,
        Acknowledges::Client,
    )
}

fn connect_among(
    common: &Rc<Common>,
    broker: &Broker,
    session: &str,
    framing: Framing,
    acknowledges: Acknowledges,
) -> DuplexStream {
    let (near, far) = duplex(PIPE_BYTES);
    let (reader, writer) = split(near);
    let client = Client {
        session: session.into(),
        holder: Holder {
            identity: "me".into(),
            credential: "1".into(),
        },
        framing,
        text_only: framing == Framing::Legacy,
        unnamed: session.is_empty(),
        acknowledges,
        resumes: session.starts_with("resumes"),
        expires_in: None,
    };
    let (broker, common) = (broker.clone(), Rc::clone(common));
    tokio::task::spawn_local(async move {
        serve(reader, writer, Bytes::new(), client, broker, &common).await;
    });
    far
}

fn publish(broker: &Broker, text: &str) {
    let message = Message {
        header: json!({"msg_id": "k", "msg_type": "stream", "session": "kernel"})
            .to_string()
            .into(),
        content: json!({"text": text}).to_string().into(),
        ..Message::empty()
    };
    broker.kernel_said(Channel::Iopub, message);
}

/// The next frame's opcode and payload; servers do not mask.
async fn frame(client: &mut DuplexStream) -> (u8, Vec<u8>) {
    let head = client.read_u16().await.unwrap();
    let length = match head & 0x7f {
        126 => u64::from(client.read_u16().await.unwrap()),
        127 => client.read_u64().await.unwrap(),
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    client.read_exact(&mut payload).await.unwrap();
    ((head >> 8) as u8 & 0xf, payload)
}

/// The text, state or status of the next message, with pings passed over.
async fn told(client: &mut DuplexStream) -> String {
    loop {
        let (opcode, payload) = frame(client).await;
        if opcode == 0x2 {
            let (_, message) = v1::decode(&payload.into()).unwrap();
            let content: Value = serde_json::from_slice(&message.content).unwrap();
            let names = ["text", "execution_state", "status"];
            let text = names.iter().find_map(|name| content[name].as_str());
            return text.unwrap().to_owned();
        }
    }
}

async fn ping(client: &mut DuplexStream) -> Vec<u8> {
    loop {
        if let (0x9, payload) = frame(client).await {
            return payload;
        }
    }
}

async fn close_code(client: &mut DuplexStream) -> u16 {
    loop {
        if let (0x8, payload) = frame(client).await {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}

/// A masked frame with a mask of zeros.
async fn send(client: &mut DuplexStream, opcode: u8, payload: &[u8]) {
    let mut frame = BytesMut::new();
    frame.put_u8(0x80 | opcode);
    frame.put_u8(0x80 | u8::try_from(payload.len()).unwrap());
    frame.put_u32(0);
    frame.put_slice(payload);
    client.write_all(&frame).await.unwrap();
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { timeout(LIMIT, test).await.expect("the connection hangs") };
    LocalSet::new().block_on(&runtime, limited);
}

#[test]
fn a_pong_for_what_was_never_written_confirms_nothing() {
    run(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, "one");
        ping(&mut client).await;
        for lie in ["99", "-1", "x", ""] {
            send(&mut client, 0xa, lie.as_bytes()).await;
        }
        send(&mut client, 0x9, b"are you there").await;
        while frame(&mut client).await != (0xa, b"are you there".to_vec()) {}
        drop(client);
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        assert_eq!(told(&mut client).await, "one");
    });
}

#[test]
fn whoever_acknowledges_for_another_does_so_by_text_and_not_by_pong() {
    run(async {
        let broker = running();
        let mut client = connect_companion(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, "one");
        assert_eq!(told(&mut client).await, "one");
        let seq = String::from_utf8(ping(&mut client).await).unwrap();
        send(&mut client, 0xa, seq.as_bytes()).await;
        for lie in [
            r#"{"nb":{"ack":99}}"#,
            r#"{"nb":{"ack":-1}}"#,
            r#"{"nb":{}}"#,
            "x",
            "",
        ] {
            send(&mut client, 0x1, lie.as_bytes()).await;
        }
        drop(client);
        let mut client = connect_companion(&broker, "a");
        for expected in ["idle", "one"] {
            assert_eq!(told(&mut client).await, expected);
        }
        let seq = String::from_utf8(ping(&mut client).await).unwrap();
        let ack = format!(r#"{{"nb":{{"ack":{seq}}}}}"#);
        send(&mut client, 0x1, ack.as_bytes()).await;
        publish(&broker, "two");
        assert_eq!(told(&mut client).await, "two");
        // There is no second ping before the first is acknowledged.
        ping(&mut client).await;
        drop(client);
        let mut client = connect_companion(&broker, "a");
        for expected in ["idle", "two"] {
            assert_eq!(told(&mut client).await, expected);
        }
    });
}

#[test]
fn the_newer_connection_of_a_session_replaces_the_older() {
    run(async {
        let broker = running();
        let mut old = connect(&broker, "a");
        assert_eq!(told(&mut old).await, "idle");
        let mut new = connect(&broker, "a");
        assert_eq!(told(&mut new).await, "idle");
        assert_eq!(close_code(&mut old).await, 4000);
        publish(&broker, "to the new one");
        assert_eq!(told(&mut new).await, "to the new one");
    });
}

#[test]
fn a_dead_kernel_says_everything_before_its_connections_close() {
    run(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, "last words");
        broker.close_epoch(Phase::Dead("gone".to_owned()), "KernelDied", "gone");
        for expected in ["last words", "dead"] {
            assert_eq!(told(&mut client).await, expected);
        }
        assert_eq!(close_code(&mut client).await, 1000);
    });
}

#[test]
fn a_broken_frame_closes_with_its_code_and_harms_nobody_else() {
    run(async {
        let broker = running();
        let (mut bad, mut good) = (connect(&broker, "bad"), connect(&broker, "good"));
        send(&mut bad, 0x2, b"not a message").await;
        send(&mut bad, 0x7, b"no such opcode").await;
        assert_eq!(close_code(&mut bad).await, 1002);
        publish(&broker, "still here");
        assert_eq!(told(&mut good).await, "idle");
        assert_eq!(told(&mut good).await, "still here");
    });
}

/// By a clock that goes on when everything waits.
fn run_paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let limited = async {
        timeout(LIMIT * 60, test)
            .await
            .expect("the connection hangs")
    };
    LocalSet::new().block_on(&runtime, limited);
}

#[test]
fn a_goodbye_is_answered_with_its_code() {
    run(async {
        let broker = running();
        for (said, answered) in [
            (&[][..], 1000),
            (&1000_u16.to_be_bytes(), 1000),
            (&1001_u16.to_be_bytes(), 1001),
            (&4321_u16.to_be_bytes(), 4321),
            (&1005_u16.to_be_bytes(), 1002),
        ] {
            let mut client = connect(&broker, "a");
            assert_eq!(told(&mut client).await, "idle");
            send(&mut client, 0x8, said).await;
            assert_eq!(close_code(&mut client).await, answered, "{said:?}");
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(broker.snapshot().connections, 0);
        }
    });
}

#[test]
fn a_stock_jupyter_server_gets_nothing_that_breaks_it() {
    run(async {
        let broker = running();
        let mut client = connect_with(&broker, "a", Framing::Legacy);
        frame(&mut client).await;
        let header = json!({"msg_id": "k", "msg_type": "display_data", "session": "kernel"});
        let large = "x".repeat(10 << 20);
        for (buffers, data) in [
            (vec![Bytes::from_static(b"\xff")], "small"),
            (vec![], &large),
        ] {
            let message = Message {
                header: header.to_string().into(),
                content: json!({ "data": data }).to_string().into(),
                buffers,
                ..Message::empty()
            };
            broker.kernel_said(Channel::Iopub, message);
        }
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let (opcode, payload) = frame(&mut client).await;
            assert_ne!(opcode, 0x2);
            if opcode == 0x1 {
                heard.push(serde_json::from_slice::<Value>(&payload).unwrap());
            }
        }
        assert_eq!(heard[0]["content"]["data"], "small");
        let note = heard[1]["content"]["text"].as_str().unwrap();
        assert!(note.contains("10 MiB"), "{note}");
        publish(&broker, &large);
        let (mut text, mut frames) = (String::new(), 0);
        while text.len() < large.len() {
            if let (0x1, payload) = frame(&mut client).await {
                assert!(payload.len() <= 10 << 20);
                let message: Value = serde_json::from_slice(&payload).unwrap();
                text += message["content"]["text"].as_str().unwrap();
                frames += 1;
            }
        }
        assert_eq!((text == large, frames), (true, 2));
    });
}

#[test]
fn connections_that_share_what_is_encoded_get_all_of_it_each_at_its_pace() {
    run(async {
        let (broker, common) = (running(), common());
        let texts: Vec<String> = (0..40).map(|n| format!("{n}").repeat(4000)).collect();
        let mut clients = ["a", "b", "c"].map(|session| {
            connect_among(
                &common,
                &broker,
                session,
                Framing::Legacy,
                Acknowledges::Pong,
            )
        });
        for client in &mut clients {
            frame(client).await;
        }
        texts.iter().for_each(|text| publish(&broker, text));
        for client in &mut clients {
            let mut heard = Vec::new();
            while heard.len() < texts.len() {
                if let (0x1, payload) = frame(client).await {
                    let message: Value = serde_json::from_slice(&payload).unwrap();
                    heard.push(message["content"]["text"].as_str().unwrap().to_owned());
                }
            }
            assert_eq!(heard, texts);
        }
    });
}

#[test]
fn a_reply_that_a_stock_jupyter_server_cannot_take_becomes_an_error() {
    run(async {
        let broker = running();
        let mut client = connect_with(&broker, "a", Framing::Legacy);
        frame(&mut client).await;
        let header = json!({"msg_id": "1", "msg_type": "execute_request", "session": "a"});
        let request = Message {
            header: header.to_string().into(),
            ..Message::empty()
        };
        broker.submit(&"a".into(), Channel::Shell, request.clone());
        let header = json!({"msg_id": "k", "msg_type": "execute_reply", "session": "kernel"});
        let reply = Message {
            header: header.to_string().into(),
            parent_header: request.header,
            content: json!({"status": "ok", "more": "x".repeat(10 << 20)})
                .to_string()
                .into(),
            ..Message::empty()
        };
        broker.kernel_said(Channel::Shell, reply);
        let told = loop {
            if let (0x1, payload) = frame(&mut client).await {
                break serde_json::from_slice::<Value>(&payload).unwrap();
            }
        };
        assert_eq!(told["channel"], "shell");
        assert_eq!(told["parent_header"]["msg_id"], "1");
        assert_eq!(told["content"]["status"], "error");
        let why = told["content"]["evalue"].as_str().unwrap();
        assert!(why.contains("10 MiB"), "{why}");
    });
}
