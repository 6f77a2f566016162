//! Transports that are not there, and TCP ports that others want too.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::gateway::{Gateway, peer, wait_for};
use crate::wire::transport;

const PORTS: [&str; 5] = [
    "shell_port",
    "iopub_port",
    "stdin_port",
    "control_port",
    "hb_port",
];

/// A kernelspec of a shell script that notes its start and then becomes the kernel `peer`.
fn put_script(gateway: &Gateway, name: &str, metadata: &Value, script: &str) {
    let peer = peer().display().to_string();
    let script = format!("echo x >> starts; {script}; exec {peer} instant {{connection_file}}");
    let argv = json!(["/bin/sh", "-c", script]);
    let spec = json!({"argv": argv, "language": "peer", "metadata": metadata});
    gateway.put_spec(name, &spec);
}

fn starts(gateway: &Gateway) -> usize {
    let starts = fs::read_to_string(gateway.root().join("starts"));
    starts.unwrap_or_default().lines().count()
}

fn ports(connection: &Value) -> Vec<u16> {
    let port = |name: &&str| u16::try_from(connection[*name].as_u64().unwrap()).unwrap();
    PORTS.iter().map(port).collect()
}

/// The connection files that are there.
fn connections(gateway: &Gateway) -> Vec<Value> {
    let kernels = fs::read_dir(gateway.root().join("run/kernels"));
    let folders = kernels.into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| fs::read(folder.path().join("connection.json")).ok());
    files
        .map(|file| serde_json::from_slice(&file).unwrap())
        .collect()
}

#[tokio::test]
async fn a_kernel_without_unix_sockets_is_started_over_tcp_unless_its_spec_forbids_it() {
    let only_tcp =
        r#"if grep -q '"ipc"' {connection_file}; then echo no such host >&2; exit 9; fi"#;
    let gateway = Gateway::start("auto").await;
    put_script(&gateway, "only-tcp", &json!({}), only_tcp);
    let kernel = gateway.kernel(r#"{"name":"only-tcp"}"#).await;
    assert_eq!(
        (transport(&gateway, &kernel), starts(&gateway)),
        (json!("tcp"), 2)
    );
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
    assert_eq!(gateway.model(&kernel).await["nb"]["restarts"], 0);
    // It is known from then on.
    let restart = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &restart, "").await.0, 200);
    assert_eq!(
        (transport(&gateway, &kernel), starts(&gateway)),
        (json!("tcp"), 3)
    );

    let metadata = json!({"nb": {"transport": "ipc"}});
    put_script(&gateway, "says-ipc", &metadata, only_tcp);
    let (status, error) = gateway
        .rest("POST", "/api/kernels", r#"{"name":"says-ipc"}"#)
        .await;
    let message = error["message"].as_str().unwrap();
    assert_eq!((status, starts(&gateway)), (502, 4), "{message}");
    assert!(message.contains("no such host"), "{message}");
}

#[tokio::test]
async fn a_kernel_whose_port_is_taken_before_it_binds_gets_others() {
    for name in ["shell_port", "hb_port"] {
        let gateway = Gateway::start("auto").await;
        let script = "if test $(wc -l < starts) = 1; then until test -e go; do test -e starts || exit; sleep 0.01; done; fi";
        put_script(
            &gateway,
            "late",
            &json!({"nb": {"transport": "tcp"}}),
            script,
        );
        let thief = async {
            let first = wait_for("a connection file", || connections(&gateway).pop()).await;
            let port = u16::try_from(first[name].as_u64().unwrap()).unwrap();
            let thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
            fs::write(gateway.root().join("go"), "").unwrap();
            (thief, port)
        };
        let (kernel, (_thief, port)) = tokio::join!(gateway.kernel(r#"{"name":"late"}"#), thief);
        assert_eq!(starts(&gateway), 2, "{name}");
        let taken = connections(&gateway).pop().unwrap();
        assert!(!ports(&taken).contains(&port), "{name}: {taken}");
        let mut client = gateway.connect(&kernel, "a").await;
        assert_eq!(client.run("here").await.text, "here", "{name}");
        assert_eq!(gateway.model(&kernel).await["nb"]["restarts"], 0, "{name}");
    }
}

/// They have to be there before any of them binds.
#[tokio::test]
async fn kernels_that_are_started_at_once_over_tcp_have_ports_of_their_own() {
    const STARTS: usize = 12;
    let gateway = Gateway::start("auto").await;
    let script = "until test -e go; do test -e starts || exit; sleep 0.01; done";
    put_script(
        &gateway,
        "gated",
        &json!({"nb": {"transport": "tcp"}}),
        script,
    );
    let starting = join_all((0..STARTS).map(|_| gateway.kernel(r#"{"name":"gated"}"#)));
    let gate = async {
        wait_for("all of them", || (starts(&gateway) == STARTS).then_some(())).await;
        let all: Vec<_> = connections(&gateway).iter().flat_map(ports).collect();
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), different.len()), (STARTS * 5, STARTS * 5));
        fs::write(gateway.root().join("go"), "").unwrap();
    };
    let (kernels, ()) = tokio::join!(starting, gate);
    assert_eq!(starts(&gateway), STARTS);
    for kernel in kernels {
        let mut client = gateway.connect(&kernel, "a").await;
        assert_eq!(client.run(&kernel).await.text, kernel);
    }
}
