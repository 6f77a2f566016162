//! Kernels and clients that break the rules: what it costs, and whom.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::timeout;

use crate::gateway::{self, Gateway, LIMIT, wait_for};
use crate::memory::{JOURNAL_BYTES_MAX, assert_peaks};
use crate::processes::{pid_of, signal};

/// What a journal is set to keep where a test makes it keep all it may.
const JOURNAL_BYTES: usize = 32 << 20;

/// A gateway and a kernel of this manner.
async fn peer(manner: &str) -> (Gateway, String) {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec(manner);
    let kernel = gateway.kernel(&json!({"name": manner}).to_string()).await;
    (gateway, kernel)
}

async fn delete(gateway: &Gateway, kernel: &str) {
    gateway.delete(kernel).await;
    assert_eq!(gateway.rest("GET", "/api/kernels", "").await.1, json!([]));
}

#[tokio::test]
async fn a_burst_arrives_whole_and_in_bounds() {
    let (gateway, kernel) = peer("instant").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let burst = client.run("burst 100000 100").await;
    assert_eq!(burst.text.len(), 10_000_000);
    assert_eq!(
        client.run("burst 200 1000000").await.text.len(),
        200_000_000
    );
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES_MAX, 1_000_000).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_nobody_and_is_told_what_it_missed() {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    gateway
        .replace_set(&format!("journal.bytes_max = {JOURNAL_BYTES}"))
        .await;
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut slow = gateway.connect(&kernel, "slow").await;
    slow.arrived().await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut other = gateway.connect(&kernel, "other").await;
    for _ in 0..4 {
        let burst = client.run("burst 20 1000000").await;
        assert_eq!(burst.text.len(), 20_000_000);
        assert_eq!(other.run("here").await.text, "here");
    }
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES, 1_000_000).await;
    let mut got = String::new();
    while !got.contains("were dropped") {
        let said = slow.next().await.unwrap();
        if let Some(text) = said.content["text"].as_str() {
            got = text.to_owned();
        }
    }
    assert_eq!(slow.run("still here").await.text, "still here");
}

#[tokio::test]
async fn a_kernel_that_stalls_can_be_ended() {
    let (gateway, kernel) = peer("stalling").await;
    let mut client = gateway.connect(&kernel, "a").await;
    client.submit("stall").await;
    loop {
        let said = client.next().await.unwrap();
        if said.msg_type == "execute_input" {
            break;
        }
    }
    client.submit("never answered").await;
    let path = format!("/api/kernels/{kernel}");
    let (_, model) = gateway.rest("GET", &path, "").await;
    assert_eq!(model["execution_state"], "busy");
    delete(&gateway, &kernel).await;
    assert_eq!(client.close_code().await, 1000);
}

#[tokio::test]
async fn a_kernel_that_floods_keeps_answering_and_stays_in_bounds() {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("flooding");
    gateway
        .replace_set(&format!("journal.bytes_max = {JOURNAL_BYTES}"))
        .await;
    let kernel = gateway.kernel(r#"{"name":"flooding"}"#).await;
    // All of it is kept, as far as there is room.
    let mut away = gateway.connect(&kernel, "away").await;
    away.arrived().await;
    drop(away);
    let mut client = gateway.connect(&kernel, "a").await;
    let mut flood = 0;
    while flood < 3 * JOURNAL_BYTES {
        let cell = client.submit("here").await;
        let mut replied = false;
        while !replied {
            let said = client.next().await.unwrap();
            replied = said.msg_type == "execute_reply" && said.parent == cell;
            flood += said.content["text"].as_str().map_or(0, str::len);
        }
    }
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES, 1000).await;
    delete(&gateway, &kernel).await;
}

#[tokio::test]
async fn what_is_signed_with_another_key_is_shown_to_nobody() {
    let (gateway, kernel) = peer("bad-signature").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let outcome = client.run("forged").await;
    assert_eq!(
        (outcome.text.as_str(), &outcome.reply["status"]),
        ("", &json!("ok"))
    );
    delete(&gateway, &kernel).await;
}

#[tokio::test]
async fn a_kernel_that_dies_in_a_reply_is_reported_until_it_is_given_up() {
    let (gateway, kernel) = peer("dies-mid-reply").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let died = client.run("die").await.reply;
    assert_eq!(died["ename"], "KernelDied");
    assert!(
        died["evalue"].as_str().unwrap().contains("SIGABRT"),
        "{died}"
    );
    let path = format!("/api/kernels/{kernel}");
    let given_up = async {
        while gateway.rest("GET", &path, "").await.1["execution_state"] != "dead" {
            client.submit("die again").await;
            if client.close_or_reply().await == Some(1000) {
                break;
            }
        }
    };
    timeout(LIMIT, given_up)
        .await
        .expect("it is started for ever");
    let (_, model) = gateway.rest("GET", &path, "").await;
    assert_eq!(model["execution_state"], "dead", "{model}");
    delete(&gateway, &kernel).await;
}

#[tokio::test]
async fn a_frame_too_large_hurts_its_own_kernel_only() {
    let (gateway, kernel) = peer("huge-frame").await;
    gateway.put_peer_spec("instant");
    let other = gateway.kernel(r#"{"name":"instant"}"#).await;
    let pid = gateway.model(&kernel).await["nb"]["kernel_pid"].clone();
    // Each takes its supervisor with it; the next one takes the kernel over, until it is too often.
    for _ in 0..4 {
        let mut client = gateway.connect(&kernel, "a").await;
        client.submit("huge").await;
        client.gone().await;
        let mut bystander = gateway.connect(&other, "b").await;
        assert_eq!(bystander.run("here").await.text, "here");
    }
    let model = gateway.wait_for_state(&kernel, "dead").await;
    let reason = model["nb"]["reason"].as_str().unwrap();
    assert!(reason.contains("died too often"), "{model}");
    let exe = format!("/proc/{pid}/exe");
    let has_ended = || (!Path::new(&exe).exists()).then_some(());
    wait_for("the end of the kernel", has_ended).await;
}

#[tokio::test]
async fn a_process_that_a_kernel_leaves_behind_is_taken_in_when_it_ends() {
    let gateway = Gateway::start("auto").await;
    let script = format!(
        "(sh -c 'echo $$ >orphan' &); exec {} instant {{connection_file}}",
        gateway::peer().display()
    );
    gateway.put_shell_spec("leaves", &script);
    let kernel = gateway.kernel(r#"{"name":"leaves"}"#).await;
    let orphan = wait_for("the orphan", || {
        let pid = fs::read_to_string(gateway.root().join("orphan")).ok()?;
        pid.strip_suffix('\n').map(str::to_owned)
    });
    let orphan = Path::new("/proc").join(orphan.await);
    wait_for("the end of the orphan", || (!orphan.exists()).then_some(())).await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
    // The kernel itself is not among those that are taken in.
    let death = client.run("exit 3 done").await.reply;
    let cause = death["evalue"].as_str().unwrap();
    assert!(cause.contains("exited with code 3"), "{cause}");
    delete(&gateway, &kernel).await;
}

#[tokio::test]
async fn a_kernel_whose_supervisor_hangs_can_be_deleted() {
    let (gateway, kernel) = peer("instant").await;
    let model = gateway.model(&kernel).await;
    let pids = ["supervisor_pid", "kernel_pid"].map(|key| pid_of(&model, key));
    signal(pids[0], Signal::STOP);
    delete(&gateway, &kernel).await;
    assert!(!gateway.root().join("run/kernels").join(&kernel).exists());
    for pid in pids {
        let process = format!("/proc/{pid}");
        let has_ended = || (!Path::new(&process).exists()).then_some(());
        wait_for("the end of its processes", has_ended).await;
    }
}

/// One output that is larger than all that is kept for clients who are away.
#[tokio::test]
async fn an_output_larger_than_the_journal_reaches_whoever_reads() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let outcome = client.run("burst 1 140000000").await;
    assert!(outcome.text.len() >= 140_000_000, "{}", outcome.text.len());
    assert!(!outcome.text.contains("dropped"));
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES_MAX, 140_000_000).await;
}
