//! What a client gets that has missed much, or cannot take a message.

use tokio::task::yield_now;

use super::*;

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

#[test]
fn a_reconnect_repeats_what_no_pong_has_confirmed() {
    run(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, "one");
        assert_eq!(told(&mut client).await, "one");
        let seq = ping(&mut client).await;
        send(&mut client, 0xa, &seq).await;
        publish(&broker, "two");
        assert_eq!(told(&mut client).await, "two");
        // The pong has been read, since the ping after it is there.
        ping(&mut client).await;
        drop(client);
        publish(&broker, "three");
        let mut client = connect(&broker, "a");
        for expected in ["idle", "two", "three"] {
            assert_eq!(told(&mut client).await, expected);
        }
    });
}

#[test]
fn a_restart_is_told_once_whoever_reconnects_because_of_it() {
    run(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        broker.close_epoch(Phase::Restarting { asked: false }, "KernelDied", "gone");
        assert_eq!(told(&mut client).await, "restarting");
        drop(client);
        publish(&broker, "next");
        let mut client = connect(&broker, "a");
        for expected in ["starting", "next"] {
            assert_eq!(told(&mut client).await, expected);
        }
    });
}

/// A cell of the session `a`.
fn cell_of_a() -> Message {
    let header = json!({"msg_id": "1", "msg_type": "execute_request", "session": "a"});
    Message {
        header: header.to_string().into(),
        ..Message::empty()
    }
}

/// What the kernel says of a request.
fn said_of(request: &Message, msg_type: &str, content: &Value) -> Message {
    let header = json!({"msg_id": "k", "msg_type": msg_type, "session": "kernel"});
    Message {
        header: header.to_string().into(),
        parent_header: request.header.clone(),
        content: content.to_string().into(),
        ..Message::empty()
    }
}

/// The journal behind the broker is a detail: a session that comes back and one that is new are told
/// the same, whether entries are at hand or have to be brought first.
#[test]
fn any_journal_replays_the_running_cell() {
    let journals: [Box<dyn Journal>; 2] = [
        Box::new(MemoryJournal::new(1 << 25)),
        Box::new(FarJournal::new(1 << 25)),
    ];
    for journal in journals {
        run(async {
            let broker = running_with(journal);
            let mut client = connect(&broker, "a");
            assert_eq!(told(&mut client).await, "idle");
            let cell = cell_of_a();
            let says = |channel, msg_type: &str, content: Value| {
                broker.kernel_said(channel, said_of(&cell, msg_type, &content));
            };
            broker.submit(&"a".into(), Channel::Shell, cell.clone());
            says(Channel::Iopub, "status", json!({"execution_state": "busy"}));
            assert_eq!(told(&mut client).await, "busy");
            drop(client);
            says(Channel::Iopub, "stream", json!({"text": "one"}));
            publish(&broker, "of another");
            let mut new = connect(&broker, "b");
            for expected in ["busy", "busy", "one"] {
                assert_eq!(told(&mut new).await, expected);
            }
            says(Channel::Shell, "execute_reply", json!({"status": "ok"}));
            says(Channel::Iopub, "stream", json!({"text": "two"}));
            says(Channel::Iopub, "status", json!({"execution_state": "idle"}));
            for expected in ["ok", "two", "idle"] {
                assert_eq!(told(&mut new).await, expected);
            }
            let mut client = connect(&broker, "a");
            for expected in ["idle", "busy", "one", "of another", "two", "idle", "ok"] {
                assert_eq!(told(&mut client).await, expected);
            }
        });
    }
}

/// VS Code listens late: what it resumes waits for it, the rest does not, and all of it is acknowledged
/// only when it was written.
#[test]
fn a_client_that_resumes_gets_the_cell_late_and_whole_whether_it_runs_or_is_over() {
    for is_over in [false, true] {
        run_paused(async {
            let broker = running();
            let mut client = connect(&broker, "a");
            assert_eq!(told(&mut client).await, "idle");
            let cell = cell_of_a();
            let says = |channel, msg_type: &str, content: Value| {
                broker.kernel_said(channel, said_of(&cell, msg_type, &content));
            };
            let end = || {
                says(Channel::Shell, "execute_reply", json!({"status": "ok"}));
                says(Channel::Iopub, "status", json!({"execution_state": "idle"}));
            };
            broker.submit(&"a".into(), Channel::Shell, cell.clone());
            says(Channel::Iopub, "status", json!({"execution_state": "busy"}));
            assert_eq!(told(&mut client).await, "busy");
            says(Channel::Iopub, "execute_input", json!({"text": "the cell"}));
            says(Channel::Iopub, "stream", json!({"text": "one"}));
            drop(client);
            if is_over {
                end();
            }
            let came = Instant::now();
            let mut new = connect(&broker, "resumes 1");
            assert_eq!(told(&mut new).await, "busy");
            publish(&broker, "of another");
            assert_eq!(told(&mut new).await, "of another");
            assert!(came.elapsed() < Duration::from_secs(1));
            if !is_over {
                end();
            }
            assert_eq!(told(&mut new).await, "busy");
            assert!(came.elapsed() > Duration::from_secs(6));
            // The busy of the cell itself: nobody had acknowledged it.
            let order = match is_over {
                true => ["busy", "one", "idle", "ok"],
                false => ["busy", "one", "ok", "idle"],
            };
            for expected in order {
                assert_eq!(told(&mut new).await, expected);
            }
            // Nothing of it was acknowledged: the next one gets all of it.
            drop(new);
            let mut third = connect(&broker, "resumes 2");
            for expected in ["busy", "busy", "busy", "one", "idle", "ok"] {
                assert_eq!(told(&mut third).await, expected);
            }
            let number = ping(&mut third).await;
            send(&mut third, 0xA, &number).await;
            tokio::task::yield_now().await;
            drop(third);
            let mut fourth = connect(&broker, "resumes 3");
            assert_eq!(told(&mut fourth).await, "idle");
        });
    }
}

/// The note is in no journal: a line that breaks before its ping is answered may have lost it.
#[test]
fn a_loss_is_told_again_until_the_ping_after_it_is_answered() {
    run(async {
        const NOTE: &str = "[nb] 3 messages";
        let journal = Box::new(MemoryJournal::new(1500));
        let broker = running_with(journal);
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        drop(client);
        while broker.snapshot().connections > 0 {
            tokio::task::yield_now().await;
        }
        for text in ["one", "two", "three", "four", "five", "six"] {
            publish(&broker, &format!("{text} {}", "x".repeat(90)));
        }
        assert_eq!(broker.snapshot().lost.messages, 3);
        for _ in 0..2 {
            let mut client = connect(&broker, "a");
            for expected in ["idle", "four", "five", "six", NOTE] {
                let told = told(&mut client).await;
                assert!(told.starts_with(expected), "{told}");
            }
            ping(&mut client).await;
        }
        let mut client = connect(&broker, "a");
        let number = ping(&mut client).await;
        send(&mut client, 0xA, &number).await;
        let number = str::from_utf8(&number).unwrap().parse().unwrap();
        while broker.client_sessions()[0].cursor < number {
            tokio::task::yield_now().await;
        }
        drop(client);
        let mut client = connect(&broker, "a");
        publish(&broker, "seven");
        assert_eq!(told(&mut client).await, "idle");
        assert_eq!(told(&mut client).await, "seven");
        publish(&broker, "eight");
        assert_eq!(told(&mut client).await, "eight");
    });
}
