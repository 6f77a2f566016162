//! Half-open TCP: clients whose packets vanish, as of a laptop that sleeps. nb ends what is silent, and keeps what it said.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::NOTICED_WITHIN;
use super::namespace::{HERE, Network, ran_inside};
use crate::client::Client;
use crate::gateway::{Gateway, TOKEN, wait_for};
use crate::survival::{holds, inode_of};

/// Prints until there is a file `end`.
const CELL: &str = "import pathlib, time\nn = 0\nwhile not pathlib.Path('end').exists():\n    \
                    print(n, flush=True)\n    n += 1\n    time.sleep(0.1)";

/// So long a head may take here.
const HEAD: &str = "[limits]\nhead_timeout_ms = 2000\n";

/// A gateway that the far side can call.
async fn reachable(gateway: &Gateway) -> (tokio::process::Child, u16) {
    gateway
        .beside(&["--ip", &HERE.to_string(), "--port", "0"])
        .await
}

async fn dial(network: &Network, port: u16, kernel: &str) -> Client {
    let stream = network.connect(port).await;
    let client = Client::over(stream, TOKEN, kernel, "far", true).await;
    client.unwrap()
}

/// What a client heard of a cell.
#[derive(Default)]
struct Of {
    cell: String,
    ids: BTreeSet<String>,
    numbers: Vec<u64>,
}

impl Of {
    /// Listens until the cell has printed this, or to its end: a reply may overtake the last of its output.
    async fn hear(&mut self, client: &mut Client, until: Option<u64>) {
        loop {
            let said = client.next().await.unwrap();
            assert!(self.ids.insert(said.msg_id), "something came twice");
            let text = said.content["text"].as_str().unwrap_or_default();
            let numbers = text.split_whitespace();
            self.numbers
                .extend(numbers.map(|n| n.parse::<u64>().unwrap()));
            let is_there = until.is_some_and(|n| self.numbers.contains(&n));
            let is_idle = said.content["execution_state"] == "idle";
            if is_there || (is_idle && said.parent == self.cell) {
                return;
            }
        }
    }
}

/// The one session of a kernel.
async fn session(gateway: &Gateway, kernel: &str) -> Value {
    let sessions = gateway.supervisor(kernel, "/v1/connections").await;
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    sessions[0].clone()
}

async fn noticed(gateway: &Gateway, kernel: &str) {
    let gone = async {
        while session(gateway, kernel).await["connected"] == true {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let gone = timeout(NOTICED_WITHIN, gone).await;
    gone.expect("a client that is silent is kept");
}

#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "what was counted is for people to read"
)]
async fn a_client_whose_packets_vanish_is_left_and_gets_everything_once_when_it_returns() {
    const NAME: &str = "network::half_open::a_client_whose_packets_vanish_is_left_and_gets_everything_once_when_it_returns";
    if ran_inside(NAME).await {
        return;
    }
    let network = Network::new().await;
    // One whose supervisor has its connection, and one whose gateway stays in between.
    let vanishes = async |handover| {
        let gateway = Gateway::start(handover).await;
        let (_beside, port) = reachable(&gateway).await;
        let kernel = gateway.kernel("{}").await;
        let mut client = dial(&network, port, &kernel).await;
        let mut before = Of {
            cell: client.submit(CELL).await,
            ..Of::default()
        };
        before.hear(&mut client, Some(9)).await;
        (gateway, _beside, port, kernel, client, before)
    };
    let mut gone = Vec::new();
    for handover in ["auto", "never"] {
        gone.push(vanishes(handover).await);
    }
    network.cut().await;
    for (gateway, _, _, kernel, _, _) in &gone {
        noticed(gateway, kernel).await;
        fs::write(gateway.root().join("end"), "").unwrap();
        gateway.wait_for_state(kernel, "idle").await;
    }
    network.heal().await;
    for (_gateway, _beside, port, kernel, old, mut before) in gone {
        // What lies in the old connection is not looked for: it was not acknowledged.
        drop(old);
        let mut client = dial(&network, port, &kernel).await;
        let mut after = Of {
            cell: before.cell,
            ..Of::default()
        };
        after.hear(&mut client, None).await;
        let sent: u64 = client.run("print(n)").await.text.trim().parse().unwrap();
        let twice = before.ids.intersection(&after.ids).count();
        let first = after.numbers[0];
        before.numbers.retain(|n| *n < first);
        let received = [before.numbers, after.numbers].concat();
        println!(
            "{sent} lines sent, {} received, {twice} messages came twice",
            received.len()
        );
        assert_eq!(received, (0..sent).collect::<Vec<_>>());
    }
}

/// What it says vanishes, of what it is told TCP gets the beginning. It says nothing, so that nothing of it is on its
/// way when it is heard again: then it hears the goodbye.
#[tokio::test]
async fn a_client_that_is_not_heard_is_told_4408() {
    const NAME: &str = "network::half_open::a_client_that_is_not_heard_is_told_4408";
    if ran_inside(NAME).await {
        return;
    }
    let network = Network::new().await;
    let gateway = Gateway::start("auto").await;
    let (_beside, port) = reachable(&gateway).await;
    let kernel = gateway.kernel("{}").await;
    let mut client = dial(&network, port, &kernel).await;
    client.run("kept = 1").await;
    network.cut_from_far().await;
    noticed(&gateway, &kernel).await;
    network.heal().await;
    client.submit("kept = 2").await;
    assert_eq!(client.close_code().await, 4408);
    assert_eq!(session(&gateway, &kernel).await["session_id"], "far");
    let mut client = dial(&network, port, &kernel).await;
    assert_eq!(client.run("print(kept)").await.text, "1\n");
}

#[tokio::test]
async fn a_handshake_that_stops_half_way_is_let_go() {
    const NAME: &str = "network::half_open::a_handshake_that_stops_half_way_is_let_go";
    if ran_inside(NAME).await {
        return;
    }
    let network = Network::new().await;
    let gateway = Gateway::start("auto").await;
    gateway.put_settings(HEAD);
    let (beside, port) = reachable(&gateway).await;
    let pid = beside.id().unwrap();
    let mut client = network.connect(port).await;
    let half = "GET /api/kernels HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-Web";
    client.write_all(half.as_bytes()).await.unwrap();
    // Without an inode as long as nobody has accepted it.
    let near = client.local_addr().unwrap().port();
    let held = || Some(inode_of(near, port)).filter(|inode| holds(pid, inode));
    let inode = wait_for("the gateway has the connection", held).await;
    network.cut().await;
    let is_free = || (!holds(pid, &inode)).then_some(());
    wait_for("the gateway lets go of it", is_free).await;
}
