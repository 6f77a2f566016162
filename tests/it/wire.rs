//! Between clients and kernels: transports, interrupts by message, large messages, the state on connect.

use std::fs;

use serde_json::{Value, json};

use crate::gateway::{Gateway, peer};

/// What tornado takes at most by default, and more.
const LARGE_BYTES: usize = 12 << 20;

/// A kernelspec `mine` of the kernel `peer` with more in it.
fn put_peer_with(gateway: &Gateway, more: &Value) {
    let mut spec = json!({"argv": [peer(), "instant", "{connection_file}"], "language": "peer"});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    gateway.put_spec("mine", &spec);
}

/// What the kernel's connection file says.
pub(crate) fn transport(gateway: &Gateway, kernel: &str) -> Value {
    let folder = gateway.root().join("run/kernels").join(kernel);
    let connection = fs::read(folder.join("connection.json")).unwrap();
    let connection: Value = serde_json::from_slice(&connection).unwrap();
    connection["transport"].clone()
}

#[tokio::test]
async fn a_kernelspec_opts_out_of_ipc() {
    let gateway = Gateway::start("auto").await;
    for (metadata, expected) in [
        (json!({}), "ipc"),
        (json!({"nb": {"transport": "tcp"}}), "tcp"),
    ] {
        put_peer_with(&gateway, &json!({"metadata": metadata}));
        let kernel = gateway.kernel(r#"{"name":"mine"}"#).await;
        assert_eq!(transport(&gateway, &kernel), expected);
        let mut client = gateway.connect(&kernel, "a").await;
        assert_eq!(client.run("here").await.text, "here");
        assert_eq!(client.run("burst 10000 100").await.text.len(), 1_000_000);
        let path = format!("/api/kernels/{kernel}/restart");
        assert_eq!(gateway.rest("POST", &path, "").await.0, 200);
        assert_eq!(client.run("again").await.text, "again");
    }
}

#[tokio::test]
async fn ipykernel_works_over_tcp() {
    let gateway = Gateway::start("auto").await;
    let (_, python3) = gateway.rest("GET", "/api/kernelspecs/python3", "").await;
    let mut spec = python3["spec"].clone();
    spec["metadata"]["nb"]["transport"] = json!("tcp");
    gateway.put_spec("python-tcp", &spec);
    let kernel = gateway.kernel(r#"{"name":"python-tcp"}"#).await;
    assert_eq!(transport(&gateway, &kernel), "tcp");
    let mut client = gateway.connect(&kernel, "a").await;
    let asked = client.submit("print(input('name?'))").await;
    assert_eq!(client.outcome(&asked, "Ada").await.text, "Ada\n");
}

/// SIGINT would end this kernel.
#[tokio::test]
async fn an_interrupt_by_message_reaches_the_running_cell_and_is_no_signal() {
    let gateway = Gateway::start("auto").await;
    put_peer_with(&gateway, &json!({"interrupt_mode": "message"}));
    let kernel = gateway.kernel(r#"{"name":"mine"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit("wait").await;
    client.wait_for(&cell, "begun").await;
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    assert_eq!(
        client.outcome(&cell, "").await.reply["ename"],
        "Interrupted"
    );
    assert_eq!(client.run("here").await.text, "here");
    assert_eq!(gateway.model(&kernel).await["nb"]["restarts"], 0);
}

#[tokio::test]
async fn a_large_message_passes_both_ways() {
    for handover in ["auto", "never"] {
        let gateway = Gateway::start(handover).await;
        gateway.put_peer_spec("instant");
        let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
        let mut client = gateway.connect(&kernel, "a").await;
        let large = "x".repeat(LARGE_BYTES);
        assert_eq!(client.run(&large).await.text, large);
    }
}

#[tokio::test]
async fn whoever_connects_is_told_the_true_state_first() {
    let gateway = Gateway::start("auto").await;
    put_peer_with(&gateway, &json!({"interrupt_mode": "message"}));
    let kernel = gateway.kernel(r#"{"name":"mine"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(
        client.next().await.unwrap().content["execution_state"],
        "idle"
    );
    let cell = client.submit("wait").await;
    client.wait_for(&cell, "begun").await;
    for session in ["new", "another"] {
        let mut late = gateway.connect(&kernel, session).await;
        let first = late.next().await.unwrap();
        assert_eq!((first.msg_type.as_str(), &first.parent), ("status", &cell));
        assert_eq!(first.content["execution_state"], "busy");
    }
    assert_eq!(gateway.model(&kernel).await["execution_state"], "busy");
}
