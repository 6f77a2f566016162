//! What survives what: the gateway's death, a cut line, the kernel's death.

use std::fs;

use serde_json::{Value, json};

use crate::client::Client;
use crate::counting::{self, assert_complete};
use crate::gateway::Gateway;

/// The numbers that a cell printed, as the client got them.
async fn numbers(client: &mut Client, cell: &str, numbers: &mut Vec<u32>) {
    loop {
        let said = client.next().await.unwrap();
        if said.parent != cell {
            continue;
        }
        if let Some(text) = said.content["text"].as_str() {
            numbers.extend(counting::numbers(text));
        }
        // The reply may overtake the last of the output.
        if said.content["execution_state"] == "idle" {
            return;
        }
    }
}

/// The inode of the server's end of the connection from this local port.
pub(crate) fn inode_of(local_port: u16, server_port: u16) -> String {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (near, far) = (format!(":{server_port:04X}"), format!(":{local_port:04X}"));
    let row = table.lines().find(|row| {
        let fields: Vec<_> = row.split_whitespace().collect();
        fields[1].ends_with(&near) && fields[2].ends_with(&far)
    });
    row.unwrap().split_whitespace().nth(9).unwrap().to_owned()
}

pub(crate) fn holds(pid: u32, inode: &str) -> bool {
    let socket = format!("socket:[{inode}]");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_string_lossy() == socket)
}

#[tokio::test]
async fn a_killed_gateway_goes_unnoticed_by_a_running_cell() {
    let mut gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let session = gateway.notebook_session(&kernel).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(counting::CELL).await;
    client.wait_for(&cell, "3").await;
    let inode = inode_of(client.local_port(), gateway.port);
    assert!(
        !holds(gateway.pid(), &inode),
        "the gateway still holds the connection"
    );
    gateway.replace().await;
    let mut got = Vec::new();
    numbers(&mut client, &cell, &mut got).await;
    assert_eq!(got, (4..40).collect::<Vec<_>>());
    assert_eq!(
        client.run("print('same socket')").await.text,
        "same socket\n"
    );
    let (_, kernels) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!(kernels[0]["id"].as_str(), Some(kernel.as_str()));
    gateway.assert_only_session(&session).await;
    let path = format!("/api/kernels/{kernel}");
    assert_eq!(gateway.rest("DELETE", &path, "").await.0, 204);
    assert_eq!(client.close_code().await, 1000);
    assert_eq!(gateway.rest("DELETE", &path, "").await.0, 404);
}

#[tokio::test]
async fn a_spliced_client_comes_back_after_its_gateway_died() {
    let mut gateway = Gateway::start("never").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(counting::CELL).await;
    client.wait_for(&cell, "3").await;
    drop(client);
    gateway.replace().await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut got = Vec::new();
    numbers(&mut client, &cell, &mut got).await;
    assert_complete(&got, 4);
}

#[tokio::test]
async fn a_cut_line_loses_nothing() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut witness = gateway.connect(&kernel, "witness").await;
    let cell = client.submit(counting::CELL).await;
    client.wait_for(&cell, "3").await;
    drop(client);
    // Somebody else sees the cell go on while the client is away.
    witness.wait_for(&cell, "20").await;
    let about = gateway.supervisor(&kernel, "/v1/about").await;
    assert_eq!(
        (&about["api"], about["kernel_id"].as_str()),
        (&1.into(), Some(&*kernel))
    );
    let path = format!("/v1/journal?msg_id={cell}&limit=1000");
    let journal = gateway.supervisor(&kernel, &path).await;
    let held = journal["entries"].as_array().unwrap();
    let is_of_cell = |entry: &Value| entry["message"]["parent_header"]["msg_id"] == cell;
    assert!(held.len() > 10 && held.iter().all(is_of_cell), "{journal}");
    let sessions = gateway.supervisor(&kernel, "/v1/connections").await;
    assert_eq!(
        (&sessions[0]["session_id"], &sessions[0]["connected"]),
        (&json!("a"), &json!(false))
    );
    let mut client = gateway.connect(&kernel, "a").await;
    let mut got = Vec::new();
    numbers(&mut client, &cell, &mut got).await;
    assert_complete(&got, 4);
}

#[tokio::test]
async fn a_killed_kernel_is_reported_and_started_again() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let died = client
        .run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        .await;
    assert_eq!(died.reply["ename"], "KernelDied");
    assert!(died.reply["evalue"].as_str().unwrap().contains("SIGKILL"));
    assert_eq!(client.run("print('again')").await.text, "again\n");
    let (_, model) = gateway
        .rest("GET", &format!("/api/kernels/{kernel}"), "")
        .await;
    assert_eq!(model["nb"]["restarts"], 1);
}

#[tokio::test]
async fn the_newer_connection_of_a_session_wins_while_the_kernel_restarts() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let path = format!("/api/kernels/{kernel}/restart");
    let upgrades = async {
        let mut newest = gateway.connect(&kernel, "a").await;
        for _ in 0..100 {
            let mut older = std::mem::replace(&mut newest, gateway.connect(&kernel, "a").await);
            assert_eq!(older.close_code().await, 4000);
        }
        newest
    };
    let ((status, _), mut newest) = tokio::join!(gateway.rest("POST", &path, ""), upgrades);
    assert_eq!(status, 200);
    assert_eq!(newest.run("print('here')").await.text, "here\n");
}
