//! An interrupt, and a client's own shutdown_request, in whatever state a kernel is.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use nb::protocol::message::Channel;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, peer, wait_for};

/// An interrupt that was not heard is repeated after this time.
const AGAIN: Duration = Duration::from_secs(2);

async fn interrupt(gateway: &Gateway, kernel: &str) -> u16 {
    let path = format!("/api/kernels/{kernel}/interrupt");
    gateway.rest("POST", &path, "").await.0
}

/// Interrupts a cell: its reply. Python loses a signal that comes just before it begins to sleep, so it is
/// sent again, as people do.
pub(crate) async fn interrupted(
    gateway: &Gateway,
    kernel: &str,
    client: &mut Client,
    cell: &str,
) -> Value {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        assert_eq!(interrupt(gateway, kernel).await, 204);
        while let Ok(said) = timeout(AGAIN, client.next()).await {
            let said = said.unwrap();
            if said.parent == cell && said.msg_type == "execute_reply" {
                return said.content;
            }
        }
    }
    panic!("no interrupt ends it");
}

/// Waits until somebody is asked something.
async fn asked(client: &mut Client) {
    while client.next().await.unwrap().msg_type != "input_request" {}
}

#[tokio::test]
async fn an_interrupt_ends_whatever_a_cell_does() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    // When idle it does nothing.
    assert_eq!(interrupt(&gateway, &kernel).await, 204);
    assert_eq!(client.run("print('idle')").await.text, "idle\n");
    let begun = "print('begun', flush=True)\n";
    for code in [
        "while True: pass",
        "import time; time.sleep(600)",
        "import asyncio; await asyncio.sleep(600)",
        "import subprocess; subprocess.run(['sleep', '600'])",
        "input('name?')",
    ] {
        let cell = client.submit(&format!("{begun}{code}")).await;
        if code.starts_with("input") {
            // Output and questions come by sockets of their own, in any order.
            asked(&mut client).await;
        } else {
            client.wait_for(&cell, "begun").await;
        }
        let reply = interrupted(&gateway, &kernel, &mut client, &cell).await;
        let ename = reply["ename"].as_str().unwrap();
        let expected = match code.contains("asyncio") {
            true => ["KeyboardInterrupt", "CancelledError"],
            false => ["KeyboardInterrupt"; 2],
        };
        assert!(expected.contains(&ename), "{code}: {reply}");
        // ipykernel aborts what it hears right after an error.
        let aborts = async { while client.run("1").await.reply["status"] != "ok" {} };
        timeout(LIMIT, aborts).await.expect("it aborts for ever");
    }
    // An answer that comes after the interrupt is no answer to the next question.
    client
        .send(Channel::Stdin, "input_reply", json!({"value": "late"}))
        .await;
    let next = client.submit("print(input('again?'))").await;
    assert_eq!(client.outcome(&next, "Ada").await.text, "Ada\n");
}

#[tokio::test]
async fn an_interrupt_with_cells_queued_ends_the_first_and_aborts_the_rest() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let first = client
        .submit("print('begun', flush=True)\nimport time; time.sleep(600)")
        .await;
    let behind = [client.submit("a = 1").await, client.submit("a = 2").await];
    // A request of information does not wait for the reply of a cell for ever either.
    let info = client
        .send(Channel::Shell, "kernel_info_request", json!({}))
        .await;
    client.wait_for(&first, "begun").await;
    assert_eq!(interrupt(&gateway, &kernel).await, 204);
    let mut replies = Vec::new();
    while replies.len() < 4 {
        let said = client.next().await.unwrap();
        if said.msg_type.ends_with("_reply") {
            replies.push((said.parent, said.content["status"].clone()));
        }
    }
    let [second, third] = behind;
    let (error, aborted) = (json!("error"), json!("aborted"));
    let expected = [(first, error), (second, aborted.clone()), (third, aborted)];
    assert_eq!(replies[..3], expected);
    assert_eq!(replies[3].0, info);
}

#[tokio::test]
async fn a_busy_kernel_tells_who_it_is_on_the_control_channel() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client
        .submit("print('begun', flush=True)\nimport time; time.sleep(600)")
        .await;
    client.wait_for(&cell, "begun").await;
    let info = client
        .send(Channel::Control, "kernel_info_request", json!({}))
        .await;
    loop {
        let said = client.next().await.unwrap();
        if said.msg_type == "kernel_info_reply" {
            assert_eq!(
                (said.parent, said.content["implementation"].as_str()),
                (info, Some("ipython"))
            );
            break;
        }
    }
    assert_eq!(gateway.model(&kernel).await["execution_state"], "busy");
    // As clients of kernels with interrupt_mode "message" do it.
    let request = client
        .send(Channel::Control, "interrupt_request", json!({}))
        .await;
    let (mut interrupted, mut ended) = (false, false);
    while !(interrupted && ended) {
        let said = client.next().await.unwrap();
        interrupted |= said.parent == request && said.msg_type == "interrupt_reply";
        ended |= said.parent == cell && said.content["ename"] == "KeyboardInterrupt";
    }
}

/// One that starts, restarts or is dead is not hurt by it.
#[tokio::test]
async fn an_interrupt_hurts_no_kernel_that_has_nothing_to_interrupt() {
    let gateway = Gateway::start("auto").await;
    let script = format!(
        "until test -e go; do sleep 0.01; done; exec {} instant {{connection_file}}",
        peer().display()
    );
    gateway.put_shell_spec("gated", &script);
    let go = gateway.root().join("go");
    let id = "00000000-0000-4000-8000-00000000000c";
    let path = format!("/api/kernels/{id}");
    let restart = format!("{path}/restart");
    let body = json!({"name": "gated", "env": {"KERNEL_ID": id}}).to_string();
    for (method, path, body, state, status, restarts) in [
        ("POST", "/api/kernels", &*body, "starting", 201, 0),
        ("POST", &restart, "", "restarting", 200, 1),
    ] {
        let during = async {
            gateway.wait_for_state(id, state).await;
            let interrupted = interrupt(&gateway, id).await;
            fs::write(&go, "").unwrap();
            interrupted
        };
        let (answered, interrupted) = tokio::join!(gateway.rest(method, path, body), during);
        assert_eq!((answered.0, interrupted), (status, 204), "{state}");
        let mut client = gateway.connect(id, "a").await;
        assert_eq!(client.run("here").await.text, "here", "{state}");
        assert_eq!(gateway.model(id).await["nb"]["restarts"], restarts);
        fs::remove_file(&go).unwrap();
    }
    fs::write(&go, "").unwrap();
    let mut client = gateway.connect(id, "a").await;
    while gateway.model(id).await["execution_state"] != "dead" {
        client.submit("exit 3 gone").await;
        if client.close_or_reply().await.is_some() {
            break;
        }
    }
    gateway.wait_for_state(id, "dead").await;
    let answered = interrupt(&gateway, id).await;
    assert_eq!(answered, 204);
    assert_eq!(gateway.rest("POST", &restart, "").await.0, 200);
    let mut client = gateway.connect(id, "b").await;
    assert_eq!(client.run("back").await.text, "back");
}

/// jupyter_kernel_client ends a kernel so and waits until it is gone.
#[tokio::test]
async fn a_shutdown_request_of_a_client_ends_the_kernel_or_starts_it_again() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut other = gateway.connect(&kernel, "b").await;
    let pid = |model: &Value| model["nb"]["kernel_pid"].clone();
    let before = pid(&gateway.model(&kernel).await);
    client.run("x = 1").await;
    let again = json!({"restart": true});
    let request = client
        .send(Channel::Control, "shutdown_request", again)
        .await;
    loop {
        let said = client.next().await.unwrap();
        if said.msg_type == "shutdown_reply" && said.parent == request {
            break;
        }
    }
    let process = format!("/proc/{before}/exe");
    wait_for("the end of the process", || {
        fs::read_link(&process).is_err().then_some(())
    })
    .await;
    let again = client.submit("").await;
    client.outcome(&again, "").await;
    let model = gateway.wait_for_state(&kernel, "idle").await;
    assert_ne!(pid(&model), before);
    assert_eq!(client.run("x").await.reply["ename"], "NameError");

    let end = json!({"restart": false});
    client.send(Channel::Control, "shutdown_request", end).await;
    for client in [&mut client, &mut other] {
        assert_eq!(client.close_code().await, 1000);
    }
    let path = format!("/api/kernels/{kernel}");
    let folder = gateway.root().join("run/kernels").join(&kernel);
    wait_for("the end of its folder", || (!folder.exists()).then_some(())).await;
    assert_eq!(gateway.rest("GET", &path, "").await.0, 404);
}
