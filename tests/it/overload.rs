//! More than anybody should ask for at once: what it costs, that all of it arrives, and that others are served.
//!
//! Bounds are asserted on each process's own peak; times are printed and not asserted.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Client;
use crate::counting;
use crate::gateway::{Gateway, LIMIT, TOKEN, wait_for};
use crate::memory::{JOURNAL_BYTES_MAX, assert_peaks};
use crate::processes::{pid_of, signal};
use crate::rest::{receive, request};

/// What a supervisor needs for hundreds of connections at once.
const CROWD_BYTES: usize = 44 << 20;

/// For hundreds of clients.
const DESCRIPTORS: u32 = 8192;

const KERNEL: &str = r#"{"name":"instant"}"#;

async fn pid(gateway: &Gateway, kernel: &str, key: &str) -> u32 {
    pid_of(&gateway.model(kernel).await, key)
}

/// The median of so many round trips.
async fn round_trip(client: &mut Client, count: usize) -> Duration {
    let mut trips = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        assert_eq!(client.run("here").await.text, "here");
        trips.push(begun.elapsed());
    }
    trips.sort_unstable();
    trips[count / 2]
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "times are for people to read")]
async fn a_gigabyte_arrives_whole_while_others_are_served() {
    const MEGABYTES: usize = 1000;
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let (loud, quiet) = (gateway.kernel(KERNEL).await, gateway.kernel(KERNEL).await);
    let mut other = gateway.connect(&quiet, "other").await;
    let idle = round_trip(&mut other, 101).await;
    let mut client = gateway.connect(&loud, "a").await;
    let reading = tokio::spawn(async move {
        let cell = client.submit(&format!("burst {MEGABYTES} 1000000")).await;
        let mut bytes = 0;
        loop {
            let said = client.next().await.unwrap();
            if said.msg_type == "stream" {
                bytes += said.content["text"].as_str().unwrap().len();
            }
            // The reply may overtake the last of the output.
            if said.content["execution_state"] == "idle" && said.parent == cell {
                return bytes;
            }
        }
    });
    let mut busy = Vec::new();
    while !reading.is_finished() {
        busy.push(round_trip(&mut other, 1).await);
    }
    assert_eq!(reading.await.unwrap(), MEGABYTES * 1_000_000);
    busy.sort_unstable();
    let median = busy[busy.len() / 2];
    println!(
        "a round trip beside a gigabyte: {median:?} of {}, idle {idle:?}",
        busy.len()
    );
    assert_peaks(&gateway, &loud, JOURNAL_BYTES_MAX, 1_000_000).await;
}

/// Who comes back reads on only when the other has been answered once more: at each tenth of what was missed, the rest
/// of it waits.
#[tokio::test]
async fn a_long_replay_from_the_disk_keeps_no_other_client_waiting() {
    const MEGABYTES: usize = 100;
    const PARTS: usize = 10;
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    gateway
        .replace_set("journal.memory_bytes_max = 8_000_000")
        .await;
    let kernel = gateway.kernel(KERNEL).await;
    let mut away = gateway.connect(&kernel, "away").await;
    away.arrived().await;
    drop(away);
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(&format!("burst {MEGABYTES} 1000000")).await;
    let missed = client.outcome(&cell, "").await.text.len();
    assert_eq!(missed, MEGABYTES * 1_000_000);
    let journal = gateway.root().join("state/journals").join(&kernel);
    wait_for("the journal on the disk", || {
        let files = fs::read_dir(&journal).unwrap().flatten();
        let bytes = files.map(|file| file.metadata().map_or(0, |file| file.len()));
        (bytes.sum::<u64>() > (MEGABYTES as u64 - 10) * 1_000_000).then_some(())
    })
    .await;

    let mut away = gateway.connect(&kernel, "away").await;
    let (mut bytes, mut is_over) = (0, false);
    for part in 1..=PARTS {
        while bytes < missed * part / PARTS {
            let said = away.next().await.unwrap();
            assert!(!is_over, "the cell is over before all of it has come");
            if said.parent == cell {
                bytes += said.content["text"].as_str().map_or(0, str::len);
                is_over = said.content["execution_state"] == "idle";
            }
        }
        if part < PARTS {
            assert_eq!(client.run("here").await.text, "here");
        }
    }
    assert_eq!((bytes, is_over), (missed, false));
    // What was said meanwhile comes in its turn.
    let mut heard = 0;
    while heard < PARTS - 1 {
        let said = away.next().await.unwrap();
        heard += usize::from(said.content["text"] == "here");
    }
}

#[tokio::test]
async fn two_hundred_clients_of_one_kernel_get_all_of_it() {
    const CLIENTS: usize = 200;
    let gateway = Gateway::start_with("auto", DESCRIPTORS).await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(KERNEL).await;
    let names: Vec<_> = (0..CLIENTS).map(|n| format!("c{n}")).collect();
    let clients = names.iter().map(|name| gateway.connect(&kernel, name));
    let mut clients = join_all(clients).await;
    // A client that is not there yet does not get what is said.
    join_all(clients.iter_mut().map(Client::arrived)).await;
    let cell = clients[0].submit("burst 2000 100").await;
    let all = clients.iter_mut().map(async |client| {
        let (mut bytes, mut idle) = (0, false);
        while !idle {
            let said = client.next().await.unwrap();
            if said.parent != cell {
                continue;
            }
            idle = said.content["execution_state"] == "idle";
            bytes += said.content["text"].as_str().map_or(0, str::len);
        }
        bytes
    });
    assert_eq!(join_all(all).await, [200_000; CLIENTS]);
    // Each has its say.
    let codes: Vec<_> = (0..CLIENTS).map(|n| format!("I am {n}")).collect();
    let said = clients
        .iter_mut()
        .zip(&codes)
        .map(|(client, code)| client.run(code));
    let said = join_all(said).await.into_iter().map(|outcome| outcome.text);
    assert_eq!(said.collect::<Vec<_>>(), codes);
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES_MAX, CROWD_BYTES).await;
}

#[tokio::test]
async fn five_hundred_connects_at_once_are_all_served() {
    const CONNECTS: usize = 500;
    for handover in ["auto", "never"] {
        let gateway = Gateway::start_with(handover, DESCRIPTORS).await;
        gateway.put_peer_spec("instant");
        let kernel = gateway.kernel(KERNEL).await;
        let served = (0..CONNECTS).map(async |n| {
            let mut client = gateway.connect(&kernel, &format!("c{n}")).await;
            client.run(&format!("I am {n}")).await.text
        });
        let served = join_all(served).await;
        assert!(
            (0..CONNECTS).all(|n| served[n] == format!("I am {n}")),
            "{handover}"
        );
        assert_peaks(&gateway, &kernel, JOURNAL_BYTES_MAX, CROWD_BYTES).await;
    }
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go_and_keeps_nobody_waiting() {
    const SILENT: usize = 200;
    let mut gateway = Gateway::start("auto").await;
    gateway
        .replace_set("[limits]\nhead_timeout_ms = 3000\n")
        .await;
    gateway.put_peer_spec("instant");
    let address = ("127.0.0.1", gateway.port);
    let silent = join_all((0..SILENT).map(|_| TcpStream::connect(address))).await;
    let kernel = gateway.kernel(KERNEL).await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
    let ends = silent.into_iter().map(|stream| async move {
        let mut answer = Vec::new();
        let read = stream.unwrap().read_to_end(&mut answer).await;
        assert!(read.is_err() || answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"));
    });
    timeout(LIMIT, join_all(ends)).await.expect("they stay");
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES_MAX, CROWD_BYTES).await;
}

/// A process that is stopped until this goes.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

#[tokio::test]
async fn a_gateway_that_is_stopped_goes_unnoticed_by_a_cell_and_answers_when_it_goes_on() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    // The connection has been handed over by then.
    assert_eq!(client.run("print('here')").await.text, "here\n");
    let stopped = Stopped::new(gateway.pid());
    assert_eq!(client.run(counting::CELL).await.text, counting::printed());
    let mut asking = TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    let credential = format!("Authorization: token {TOKEN}\r\n");
    let ask = request("GET", &format!("/api/kernels/{kernel}"), &credential, "");
    asking.write_all(&ask).await.unwrap();
    drop(stopped);
    let answer = timeout(LIMIT, receive(&mut asking))
        .await
        .expect("it hangs");
    assert_eq!(answer.json()["execution_state"], "idle", "{answer:?}");
}

#[tokio::test]
async fn a_supervisor_that_is_stopped_is_listed_as_last_seen_and_loses_nothing() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let path = |name: &str| gateway.root().join(name);
    let (go, done) = (path("go"), path("done"));
    // Far more than ZeroMQ holds by itself for whoever does not take it.
    let code = "import os, time\nprint('begun', flush=True)\n\
                while not os.path.exists('go'): time.sleep(0.01)\n\
                for i in range(20000): print(i, 'x' * 200, flush=True)\nopen('done', 'w').close()";
    let cell = client.submit(code).await;
    client.wait_for(&cell, "begun").await;
    let stopped = Stopped::new(pid(&gateway, &kernel, "supervisor_pid").await);
    fs::write(go, "").unwrap();
    let model = gateway.model(&kernel).await;
    assert_eq!(model["nb"]["stale"], true, "{model}");
    wait_for("the end of the cell", || done.exists().then_some(())).await;
    drop(stopped);
    let printed = client.outcome(&cell, "").await.text;
    let numbers = printed.lines().map(|line| line.split(' ').next().unwrap());
    let numbers: Vec<u32> = numbers.map(|n| n.parse().unwrap()).collect();
    let other = numbers.iter().zip(0..).find(|(got, n)| *got != n);
    assert!(other.is_none() && numbers.len() == 20_000, "{other:?}");
    assert_eq!(
        gateway.model(&kernel).await["nb"]["stale"],
        serde_json::Value::Null
    );
}

#[tokio::test]
async fn a_kernel_that_is_stopped_is_busy_goes_on_and_can_be_restarted() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(counting::CELL).await;
    client.wait_for(&cell, "0").await;
    let process = pid(&gateway, &kernel, "kernel_pid").await;
    let stopped = Stopped::new(process);
    wait_for("it to stop", || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.contains(") T ").then_some(())
    })
    .await;
    assert_eq!(gateway.model(&kernel).await["execution_state"], "busy");
    let path = format!("/api/kernels/{kernel}");
    assert_eq!(
        gateway
            .rest("POST", &format!("{path}/interrupt"), "")
            .await
            .0,
        204
    );
    drop(stopped);
    let outcome = client.outcome(&cell, "").await;
    assert_eq!(outcome.reply["ename"], "KeyboardInterrupt");

    let _stopped = Stopped::new(process);
    assert_eq!(
        gateway.rest("POST", &format!("{path}/restart"), "").await.0,
        200
    );
    assert_eq!(client.run("print('here')").await.text, "here\n");
}
