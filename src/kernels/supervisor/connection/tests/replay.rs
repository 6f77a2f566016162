//! What a client gets that has missed much, or cannot take a message.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::{
    close_code, connect, frame, publish, run, run_paused, running, running_with, send, told,
};
use crate::kernels::supervisor::broker::{Broker, Phase};
use crate::kernels::supervisor::journal::far::FarJournal;
use crate::protocol::message::{Channel, Message};
use crate::protocol::v1;

const PONG: u8 = 0xa;
const CLOSE: u8 = 0x8;
const TOO_BIG: u16 = 1009;

fn print(broker: &Broker, text: &str) {
    let message = Message {
        header: json!({"msg_id": "k", "msg_type": "stream", "session": "kernel"})
            .to_string()
            .into(),
        metadata: Bytes::from_static(b"{}"),
        content: json!({"name": "stdout", "text": text}).to_string().into(),
        ..Message::empty()
    };
    broker.kernel_said(Channel::Iopub, message);
}

/// One connection of a client that closes when it is sent `poison`: what it was told.
async fn listen(broker: &Broker, poison: &str, until: &str) -> Vec<String> {
    let mut client = connect(broker, "a");
    let mut texts = Vec::new();
    loop {
        match frame(&mut client).await {
            (0x9, payload) => send(&mut client, PONG, &payload).await,
            (0x2, payload) => {
                let (_, message) = v1::decode(&payload.into()).unwrap();
                let content: Value = serde_json::from_slice(&message.content).unwrap();
                let text = content["text"].as_str().unwrap_or_default().to_owned();
                if text == poison {
                    send(&mut client, CLOSE, &TOO_BIG.to_be_bytes()).await;
                    // The answer to it: the session has lost this connection by then.
                    while frame(&mut client).await.0 != CLOSE {}
                    client.shutdown().await.unwrap();
                    return texts;
                }
                let is_over = text == until;
                texts.push(text);
                if is_over {
                    return texts;
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_message_that_a_client_cannot_take_is_not_repeated_for_ever() {
    run(async {
        let broker = running();
        drop(listen(&broker, "none", "").await);
        for text in ["one", "poison", "two"] {
            publish(&broker, text);
        }
        let mut got = Vec::new();
        while got.last().is_none_or(|text| text != "two") {
            got.extend(listen(&broker, "poison", "two").await);
            assert!(got.len() < 100, "{got:?}");
        }
        let note = got
            .iter()
            .filter(|text| text.starts_with("[nb] a message (stream, "));
        assert_eq!(note.count(), 1, "{got:?}");
        // From here on nothing is special.
        publish(&broker, "poison");
        publish(&broker, "three");
        assert_eq!(
            listen(&broker, "none", "three").await.last().unwrap(),
            "three"
        );
    });
}

#[test]
fn text_that_was_missed_in_many_pieces_comes_in_few() {
    const LINES: usize = 5000;
    run(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        drop(client);
        while broker.snapshot().connections > 0 {
            yield_now().await;
        }
        let lines: Vec<_> = (0..LINES).map(|n| format!("{n}\n")).collect();
        lines.iter().for_each(|line| print(&broker, line));
        publish(&broker, "over");
        let got = listen(&broker, "none", "over").await;
        assert!(got.len() < LINES / 100, "{}", got.len());
        let (_, got) = got.split_last().unwrap();
        assert_eq!(got.concat(), lines.concat());
    });
}

/// The first thing that is brought may not be for whoever comes back, or wait for what follows.
#[test]
fn whoever_comes_back_waits_for_nothing_that_is_there() {
    run_paused(async {
        let broker = running_with(Box::new(FarJournal::new(1 << 20)));
        let (mut asker, mut other) = (connect(&broker, "asker"), connect(&broker, "other"));
        for client in [&mut asker, &mut other] {
            assert_eq!(told(client).await, "idle");
        }
        drop((asker, other));
        let header = json!({"msg_id": "1", "msg_type": "execute_request", "session": "asker"});
        let request = Message {
            header: header.to_string().into(),
            ..Message::empty()
        };
        broker.submit(&"asker".into(), Channel::Shell, request.clone());
        let said = |msg_type: &str, content: Value| Message {
            header: json!({"msg_id": msg_type, "msg_type": msg_type, "session": "kernel"})
                .to_string()
                .into(),
            parent_header: request.header.clone(),
            content: content.to_string().into(),
            ..Message::empty()
        };
        let reply = said("execute_reply", json!({"status": "reply"}));
        broker.kernel_said(Channel::Shell, reply);
        let idle = said("status", json!({"execution_state": "idle"}));
        broker.kernel_said(Channel::Iopub, idle);
        publish(&broker, "last");
        let begun = Instant::now();
        let (mut asker, mut other) = (connect(&broker, "asker"), connect(&broker, "other"));
        for expected in ["idle", "idle", "reply", "last"] {
            assert_eq!(told(&mut asker).await, expected);
        }
        for expected in ["idle", "idle", "last"] {
            assert_eq!(told(&mut other).await, expected);
        }
        assert!(begun.elapsed() < Duration::from_millis(100));
        // Nor is a line closed before all of it is there.
        drop(other);
        broker.close_epoch(Phase::Dead("gone".to_owned()), "KernelDied", "gone");
        let mut other = connect(&broker, "other");
        for expected in ["dead", "idle", "last", "dead"] {
            assert_eq!(told(&mut other).await, expected);
        }
        assert_eq!(close_code(&mut other).await, 1000);
    });
}
