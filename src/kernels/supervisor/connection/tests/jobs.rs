//! Clients that name no session and take only text: jobs through jupyter_server's client.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use super::{LIMIT, close_code, connect, connect_with, frame, publish, running, told};
use crate::kernels::contract::Framing;
use crate::kernels::supervisor::broker::{Broker, Phase};
use crate::protocol::message::{Channel, Message};

/// The text or status of the next message in the legacy framing, with pings passed over.
async fn told_legacy(client: &mut DuplexStream) -> String {
    loop {
        let (opcode, payload) = frame(client).await;
        if opcode == 0x1 {
            let message: Value = serde_json::from_slice(&payload).unwrap();
            let names = ["text", "execution_state", "status"];
            let content = &message["content"];
            let text = names.iter().find_map(|name| content[name].as_str());
            return text.unwrap().to_owned();
        }
    }
}

fn answer_to(session: &str, msg_type: &str, content: &Value) -> Message {
    let header = |session, msg_type| {
        json!({"msg_id": "1", "msg_type": msg_type, "session": session}).to_string()
    };
    Message {
        header: header("kernel", msg_type).into(),
        parent_header: header(session, "execute_request").into(),
        content: content.to_string().into(),
        ..Message::empty()
    }
}

/// A cell whose reply overtakes its output.
fn overtaken(broker: &Broker, session: &str) {
    let cell = Message {
        header: answer_to(session, "", &Value::Null).parent_header,
        ..Message::empty()
    };
    broker.submit(&session.into(), Channel::Shell, cell);
    let reply = answer_to(session, "execute_reply", &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
}

#[tokio::test(start_paused = true)]
async fn a_job_gets_a_reply_after_the_output_that_it_overtook() {
    LocalSet::new()
        .run_until(async {
            let broker = running();
            let mut job = connect_with(&broker, "job", Framing::Legacy);
            assert_eq!(told_legacy(&mut job).await, "idle");
            overtaken(&broker, "job");
            // Longer than anything is waited for, but never silent for long.
            for n in 0..8 {
                tokio::time::sleep(Duration::from_millis(600)).await;
                publish(&broker, &n.to_string());
                assert_eq!(told_legacy(&mut job).await, n.to_string());
            }
            let idle = answer_to("job", "status", &json!({"execution_state": "idle"}));
            broker.kernel_said(Channel::Iopub, idle);
            assert_eq!(told_legacy(&mut job).await, "idle");
            assert_eq!(told_legacy(&mut job).await, "ok");

            // A kernel that says no idle keeps nobody waiting, and one that dies neither.
            overtaken(&broker, "job");
            let asked = Instant::now();
            assert_eq!(told_legacy(&mut job).await, "ok");
            assert!(asked.elapsed() < Duration::from_secs(2));
            overtaken(&broker, "job");
            broker.close_epoch(Phase::Dead("gone".into()), "DeadKernel", "gone");
            // The idle of both is said in the kernel's place.
            for expected in ["idle", "ok", "idle", "dead"] {
                assert_eq!(told_legacy(&mut job).await, expected);
            }
            assert_eq!(close_code(&mut job).await, 1000);
        })
        .await;
}

#[tokio::test]
async fn a_session_that_nobody_can_name_ends_with_its_connection() {
    LocalSet::new()
        .run_until(async {
            let broker = running();
            let mut unnamed = connect_with(&broker, "", Framing::Legacy);
            let mut named = connect(&broker, "named");
            told_legacy(&mut unnamed).await;
            told(&mut named).await;
            drop((unnamed, named));
            let left = || {
                broker
                    .client_sessions()
                    .iter()
                    .all(|session| !session.connected)
            };
            let away = async {
                while !left() {
                    tokio::task::yield_now().await
                }
            };
            timeout(LIMIT, away).await.unwrap();
            let ids: Vec<_> = broker
                .client_sessions()
                .into_iter()
                .map(|s| s.session_id)
                .collect();
            assert_eq!(ids, ["named"]);
        })
        .await;
}
