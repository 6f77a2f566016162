//! What the messaging protocol promises of a cell, with a real ipykernel: what is asked, shown, counted and aborted.

use serde_json::{Value, json};

use nb::protocol::message::Channel;
use tokio::time::timeout;

use crate::client::{Client, Said};
use crate::gateway::{Gateway, LIMIT};

/// A kernel, and a client of it.
async fn python() -> (Gateway, String, Client) {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let client = gateway.connect(&kernel, "a").await;
    (gateway, kernel, client)
}

/// A cell with these fields on top.
async fn submit(client: &mut Client, code: &str, more: Value) -> String {
    let mut content = json!({
        "code": code, "silent": false, "store_history": true, "user_expressions": {},
        "allow_stdin": true, "stop_on_error": true,
    });
    let fields = content.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    client
        .send(Channel::Shell, "execute_request", content)
        .await
}

/// All that is said of a request, from its busy to its reply and idle.
async fn said_of(client: &mut Client, request: &str) -> Vec<Said> {
    let mut all = Vec::new();
    let (mut idle, mut replied) = (false, false);
    while !(idle && replied) {
        let said = client.next().await.unwrap();
        if said.parent == request {
            idle |= said.content["execution_state"] == "idle";
            replied |= said.msg_type.ends_with("_reply");
            all.push(said);
        }
    }
    all
}

fn types(said: &[Said]) -> Vec<&str> {
    let shown = said
        .iter()
        .filter(|said| !said.msg_type.ends_with("_reply"));
    shown.map(|said| said.msg_type.as_str()).collect()
}

fn one<'a>(said: &'a [Said], msg_type: &str) -> &'a Value {
    let mut found = said.iter().filter(|said| said.msg_type == msg_type);
    let first = found.next().unwrap_or_else(|| panic!("no {msg_type}"));
    assert!(found.next().is_none(), "a second {msg_type}");
    &first.content
}

#[tokio::test]
async fn what_a_cell_publishes_is_what_its_flags_and_its_code_say() {
    let (_gateway, _, mut client) = python().await;
    let display = |code: &str| format!("from IPython.display import *\n{code}");
    let two = display(
        "h = display({'text/plain': 'old'}, raw=True, display_id='d')\nprint('said', flush=True)",
    );
    let update = display("update_display({'text/plain': 'new'}, raw=True, display_id='d')");
    let clear = display("clear_output(wait=True); print('after', flush=True)");
    for (code, flags, expected) in [
        ("1", json!({}), &["execute_input", "execute_result"][..]),
        ("1", json!({"silent": true}), &[]),
        ("print(1)", json!({"silent": true}), &["stream"]),
        (
            "1",
            json!({"store_history": false}),
            &["execute_input", "execute_result"],
        ),
        ("1/0", json!({}), &["execute_input", "error"]),
        ("1/0", json!({"silent": true}), &["error"]),
        (
            &two,
            json!({}),
            &["execute_input", "display_data", "stream"],
        ),
        (
            &update,
            json!({}),
            &["execute_input", "update_display_data"],
        ),
        (
            &clear,
            json!({}),
            &["execute_input", "clear_output", "stream"],
        ),
    ] {
        let request = submit(&mut client, code, flags.clone()).await;
        let said = said_of(&mut client, &request).await;
        let types = types(&said);
        let (first, inner) = types.split_first().unwrap();
        let (last, inner) = inner.split_last().unwrap();
        assert_eq!((*first, *last), ("status", "status"), "{code}");
        assert_eq!(inner, expected, "{code} {flags}");
        for said in &said {
            match said.msg_type.as_str() {
                "display_data" | "update_display_data" => {
                    assert_eq!(said.content["transient"]["display_id"], "d");
                }
                "clear_output" => assert_eq!(said.content["wait"], true),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn cells_are_counted_kept_and_their_expressions_evaluated() {
    let (_gateway, _, mut client) = python().await;
    for (code, flags, count) in [
        ("x = 6", json!({}), 1),
        ("y = 7", json!({"store_history": false}), 1),
        ("z = 8", json!({"silent": true}), 1),
        ("x * y", json!({}), 2),
    ] {
        let request = submit(&mut client, code, flags.clone()).await;
        let said = said_of(&mut client, &request).await;
        let reply = one(&said, "execute_reply");
        assert_eq!(reply["execution_count"], count, "{code} {flags}: {reply}");
    }
    let wishes = json!({"good": "x * y + z", "bad": "1/0"});
    let flags = json!({"user_expressions": wishes});
    let request = submit(&mut client, "", flags).await;
    let said = said_of(&mut client, &request).await;
    let given = &one(&said, "execute_reply")["user_expressions"];
    assert_eq!(given["good"]["data"]["text/plain"], "50");
    assert_eq!(given["bad"]["ename"], "ZeroDivisionError");

    let lines = |history: &Value| {
        let lines = history.as_array().unwrap().iter();
        let texts = lines.map(|line| line[2].as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    let plain = json!({"output": false, "raw": true, "session": 0, "start": 1, "stop": 3});
    for (asked, expected) in [
        (json!({"hist_access_type": "tail", "n": 1}), vec!["x * y"]),
        (json!({"hist_access_type": "range"}), vec!["x = 6", "x * y"]),
        (
            json!({"hist_access_type": "search", "pattern": "x = *", "n": 9}),
            vec!["x = 6"],
        ),
    ] {
        let mut content = plain.clone();
        let fields = content.as_object_mut().unwrap();
        fields.extend(asked.as_object().unwrap().clone());
        let request = client
            .send(Channel::Shell, "history_request", content)
            .await;
        let said = said_of(&mut client, &request).await;
        let history = &one(&said, "history_reply")["history"];
        assert_eq!(lines(history), expected, "{asked}");
    }
}

#[tokio::test]
async fn code_is_completed_inspected_and_judged_also_while_other_clients_listen() {
    let (gateway, kernel, mut client) = python().await;
    let mut other = gateway.connect(&kernel, "other").await;
    // One that came while the cell runs would be caught up on it, reply included.
    other.arrived().await;
    client.run("import math\nspelling = 1").await;
    let complete = json!({"code": "spelli", "cursor_pos": 6});
    let inspect = json!({"code": "math.hypot", "cursor_pos": 10, "detail_level": 0});
    for (msg_type, content, key, expected) in [
        ("complete_request", complete, "matches", "spelling"),
        ("inspect_request", inspect, "data", "hypot"),
        (
            "is_complete_request",
            json!({"code": "1 + 1"}),
            "status",
            "\"complete\"",
        ),
        (
            "is_complete_request",
            json!({"code": "def f():"}),
            "status",
            "incomplete",
        ),
        (
            "is_complete_request",
            json!({"code": "1 +* 1"}),
            "status",
            "invalid",
        ),
        ("comm_info_request", json!({}), "comms", "{}"),
        (
            "kernel_info_request",
            json!({}),
            "supported_features",
            "kernel subshells",
        ),
    ] {
        let request = client.send(Channel::Shell, msg_type, content).await;
        let said = said_of(&mut client, &request).await;
        let answer = &said
            .iter()
            .find(|said| said.msg_type.ends_with("_reply"))
            .unwrap();
        let shown = answer.content[key].to_string();
        assert!(shown.contains(expected), "{msg_type}: {shown}");
    }
    // A reply is its asker's alone.
    let last = other.submit("print('mine')").await;
    loop {
        let said = other.next().await.unwrap();
        let is_its_own = !said.msg_type.ends_with("_reply") || said.parent == last;
        assert!(is_its_own, "{}: {}", said.msg_type, said.content);
        if said.msg_type == "execute_reply" {
            break;
        }
    }
}

#[tokio::test]
async fn a_failed_cell_aborts_those_behind_it_unless_it_says_otherwise() {
    let (gateway, kernel, mut client) = python().await;
    for (stops, expected) in [(true, "aborted"), (false, "ok")] {
        let go = gateway.root().join(format!("go-{stops}"));
        let code = format!(
            "import os, time\nwhile not os.path.exists({:?}): time.sleep(0.005)\n1/0",
            go.to_str().unwrap()
        );
        let failing = submit(&mut client, &code, json!({"stop_on_error": stops})).await;
        let behind = [client.submit("a = 1").await, client.submit("b = 1").await];
        client.arrived().await;
        gateway.wait_for_state(&kernel, "busy").await;
        std::fs::write(go, "").unwrap();
        let (mut replies, mut idle) = (Vec::new(), 0);
        while replies.len() < 3 || idle < 3 {
            let said = client.next().await.unwrap();
            let is_idle = said.content["execution_state"] == "idle" && !said.parent.is_empty();
            idle += usize::from(is_idle);
            if said.msg_type == "execute_reply" {
                replies.push((said.parent, said.content["status"].clone()));
            }
        }
        let [first, second] = behind;
        let expected = [
            (failing, json!("error")),
            (first, json!(expected)),
            (second, json!(expected)),
        ];
        assert_eq!(replies, expected, "stop_on_error {stops}");
        // ipykernel goes on aborting for a moment.
        let aborts = async { while client.run("c = 1").await.reply["status"] != "ok" {} };
        timeout(LIMIT, aborts).await.expect("it aborts for ever");
    }
}

/// The answer to a question, typed unseen or seen, is in no journal.
#[tokio::test]
async fn a_password_is_asked_for_as_such_and_what_is_typed_is_nowhere() {
    let (gateway, kernel, mut client) = python().await;
    let mut away = gateway.connect(&kernel, "away").await;
    away.next().await.unwrap();
    // Whoever is away has everything kept.
    drop(away);
    for (code, password, allowed) in [
        (
            "from getpass import getpass; n = len(getpass('pin?'))",
            true,
            true,
        ),
        ("n = len(input('pin?'))", false, true),
        ("n = len(input('pin?'))", false, false),
    ] {
        let request = submit(&mut client, code, json!({"allow_stdin": allowed})).await;
        let reply = loop {
            let said = client.next().await.unwrap();
            if said.msg_type == "input_request" {
                assert_eq!(said.parent, request);
                assert_eq!(
                    said.content,
                    json!({"prompt": "pin?", "password": password})
                );
                let content = json!({"value": "hunter2-secret"});
                client.send(Channel::Stdin, "input_reply", content).await;
            } else if said.msg_type == "execute_reply" && said.parent == request {
                break said.content;
            }
        };
        match allowed {
            true => assert_eq!(client.run("print(n)").await.text, "14\n"),
            false => assert_eq!(reply["ename"], "StdinNotImplementedError"),
        }
    }
    let journal = gateway
        .supervisor(&kernel, "/v1/journal?limit=1000")
        .await
        .to_string();
    assert!(journal.contains("pin?"), "{journal}");
    assert!(!journal.contains("hunter2"), "{journal}");
    let folder = gateway.root().join("run/kernels").join(&kernel);
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        let content = std::fs::read(file.path()).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        assert!(!content.contains("hunter2"), "{:?}", file.path());
    }
}

/// ipykernel 7 greets whoever subscribes to iopub, which is nb, once for each process: a client that is there
/// hears of it before the state and goes on, one that comes later never does.
#[tokio::test]
async fn the_greeting_of_a_kernel_disturbs_no_client() {
    let (gateway, kernel, mut client) = python().await;
    assert_eq!(client.run("print('first')").await.text, "first\n");
    let restart = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &restart, "").await.0, 200);
    let (mut greetings, mut states) = (0, Vec::new());
    while states.last() != Some(&json!("idle")) {
        let said = client.next().await.unwrap();
        match said.msg_type.as_str() {
            "iopub_welcome" => greetings += 1,
            "status" => states.push(said.content["execution_state"].clone()),
            _ => {}
        }
    }
    assert_eq!(
        (greetings, states),
        (1, vec![json!("starting"), json!("idle")])
    );
    let mut late = gateway.connect(&kernel, "late").await;
    assert_eq!(late.next().await.unwrap().msg_type, "status");
    let request = late.submit("print('second')").await;
    for client in [&mut late, &mut client] {
        loop {
            let said = client.next().await.unwrap();
            assert_ne!(said.msg_type, "iopub_welcome");
            if said.parent == request && said.content["execution_state"] == "idle" {
                break;
            }
        }
    }
}
