//! A journal whose disk is full or does not answer.

use std::fs;
use std::time::Instant;

use nb::protocol::message::Channel;
use rustix::process::Signal;
use serde_json::json;

use super::disk::SmallDisk;
use super::{alone, assert_all, back, files_in, holds, lines};
use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, wait_for};
use crate::memory::assert_peaks;
use crate::processes::{pid_of, signal};

/// A kernel whose client is away while its journal's disk takes nothing: what it is told of that, and that all of the
/// cell arrives.
async fn without_a_disk(
    gateway: &Gateway,
    kernel: &str,
    spoil: impl FnOnce(),
    mend: impl FnOnce(),
    fault: &str,
) {
    let mut client = gateway.connect(kernel, "a").await;
    let mut witness = gateway.connect(kernel, "witness").await;
    witness.run("1").await;
    let code = "import time, os\nprint('begun', flush=True)\n\
                for i in range(20000):\n    print(i, 'x' * 1000, flush=True)\n\
                while not os.path.exists('go'): time.sleep(0.05)\nprint('over')";
    let cell = client.submit(code).await;
    client.wait_for(&cell, "begun").await;
    spoil();
    drop(client);
    // Others are served as ever, and told.
    let mut told = String::new();
    while !told.contains("cannot be written") {
        let said = witness.next().await.unwrap();
        let text = said.content["text"].as_str().unwrap_or_default();
        if text.starts_with("[nb]") {
            text.clone_into(&mut told);
        }
    }
    assert!(told.contains(fault), "{told}");
    assert_eq!(gateway.model(kernel).await["execution_state"], "busy");
    assert!(gateway.model(kernel).await["nb"]["journal_fault"].is_string());
    let held = gateway.supervisor_kib(kernel).await;
    assert!(held < (64 + 16) * 1024, "{held} KiB");
    fs::write(gateway.root().join("go"), "").unwrap();
    witness.wait_for(&cell, "over").await;
    mend();
    let mut client = gateway.connect(kernel, "a").await;
    let mut printed = String::new();
    while !printed.ends_with("over\n") {
        let said = client.next().await.unwrap();
        if said.parent == cell && said.content["name"] == "stdout" {
            printed += said.content["text"].as_str().unwrap();
        }
    }
    assert_all(printed.strip_suffix("over\n").unwrap(), 0..20000);
    fs::remove_file(gateway.root().join("go")).unwrap();
}

/// A gateway whose kernels' journals are on a disk of its own, with so much memory beside.
async fn on_a_small_disk(memory: usize) -> (Gateway, SmallDisk) {
    let mut gateway = Gateway::start("auto").await;
    let disk = SmallDisk::mount();
    let settings = format!(
        "journal.dir = {:?}\njournal.memory_bytes_max = {memory}",
        disk.folder(),
    );
    gateway.replace_set(&settings).await;
    (gateway, disk)
}

#[tokio::test]
async fn a_full_disk_stops_no_kernel_and_is_told() {
    let (gateway, disk) = on_a_small_disk(64 << 20).await;
    let kernel = gateway.kernel("{}").await;
    let (spoil, mend) = (|| disk.fill(), || disk.empty());
    without_a_disk(&gateway, &kernel, spoil, mend, "No space left").await;
    gateway.delete(&kernel).await;
    // Nor does it stop a start, or an end.
    disk.fill();
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let text = client.run("print('here')").await.text;
    assert!(
        text.contains("cannot be written") && text.ends_with("here\n"),
        "{text}"
    );
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_disk_that_does_not_answer_stops_no_kernel_and_is_told() {
    let (gateway, disk) = on_a_small_disk(64 << 20).await;
    let kernel = gateway.kernel("{}").await;
    let (spoil, mend) = (|| disk.freeze(), || disk.thaw());
    without_a_disk(&gateway, &kernel, spoil, mend, "does not take it").await;
    // What waits for an answer that never comes is the journal alone.
    disk.freeze();
    let mut client = gateway.connect(&kernel, "a").await;
    let id = client
        .send(Channel::Shell, "kernel_info_request", json!({}))
        .await;
    while client.next().await.unwrap().parent != id {}
    drop::<Client>(client);
    gateway.delete(&kernel).await;
    disk.thaw();
}

#[tokio::test]
async fn while_the_disk_takes_nothing_memory_keeps_its_bound_and_what_goes_is_told() {
    const LINES: usize = 40_000;
    const MEMORY: usize = 8 << 20;
    let (gateway, disk) = on_a_small_disk(MEMORY).await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let code = format!(
        "import os, sys, time\nprint('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n\
         for i in range({LINES}):\n    sys.stdout.write(f'{{i}} {{\"x\" * 1000}}\\n')\n    sys.stdout.flush()\n\
         open('done', 'w').close()"
    );
    let cell = client.submit(&code).await;
    client.wait_for(&cell, "begun").await;
    drop(client);
    alone(&gateway, &kernel).await;
    disk.freeze();
    fs::write(gateway.root().join("go"), "").unwrap();
    let done = gateway.root().join("done");
    wait_for("the cell's end", || done.exists().then_some(())).await;
    gateway.wait_for_state(&kernel, "idle").await;
    assert_peaks(&gateway, &kernel, MEMORY, 0).await;
    disk.thaw();
    let mut client = gateway.connect(&kernel, "a").await;
    let (mut got, mut told) = (String::new(), 0);
    loop {
        let said = client.next().await.unwrap();
        let text = said.content["text"].as_str().unwrap_or_default();
        if text.contains("were dropped") {
            told += text.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
        } else if said.parent == cell && said.content["name"] == "stdout" {
            got += text;
        }
        if said.parent == cell && said.content["execution_state"] == "idle" {
            break;
        }
    }
    let got = lines(&got);
    assert!(got.is_sorted() && got.last() == Some(&(LINES - 1)));
    // What began the cell may be among it.
    let all = got.len() + told;
    assert!(
        (LINES..LINES + 10).contains(&all),
        "{} and {told}",
        got.len()
    );
    assert!(told > LINES / 2, "{told}: the bound was not reached");
}

/// By default a kernel's sockets, its state and its journal are on one disk.
#[tokio::test]
async fn a_state_folder_whose_disk_does_not_answer_stops_no_cell_and_forgets_none() {
    let mut gateway = Gateway::start("auto").await;
    let disk = SmallDisk::mount_over(&gateway.root().join("run"));
    gateway.replace().await;
    // It goes before its disk.
    let gateway = gateway;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    client.run("x = 1").await;
    disk.freeze();
    for n in 0..20 {
        let text = client.run(&format!("x += 1; print(x, {n})")).await.text;
        assert_eq!(text, format!("{} {n}\n", n + 2));
    }
    let code = "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint(x)";
    let cell = client.submit(code).await;
    client.wait_for(&cell, "begun").await;
    // Its note waits for no disk.
    let notes = gateway.root().join("run/kernels").join(&kernel);
    let notes = fs::read_to_string(notes.join("requests")).unwrap();
    assert!(notes.contains(&cell), "{notes}");
    disk.thaw();
    let supervisor = pid_of(&gateway.model(&kernel).await, "supervisor_pid");
    signal(supervisor, Signal::KILL);
    let mut client = back(&gateway, &kernel, "a").await;
    fs::write(gateway.root().join("go"), "").unwrap();
    let outcome = client.outcome(&cell, "").await;
    assert!(outcome.text.ends_with("21\n"), "{}", outcome.text);
}

#[tokio::test]
async fn a_takeover_goes_on_with_what_is_on_a_disk_that_is_full_or_takes_nothing() {
    let (gateway, disk) = on_a_small_disk(64 << 20).await;
    for is_full in [true, false] {
        let kernel = gateway.kernel("{}").await;
        let mut client = gateway.connect(&kernel, "a").await;
        let code = "import os, time\nprint('begun', flush=True)\n\
                    while not os.path.exists('go'): time.sleep(0.01)\n\
                    for i in range(300):\n    print(i, flush=True)\nprint('all of it')";
        let cell = client.submit(code).await;
        client.wait_for(&cell, "begun").await;
        drop(client);
        alone(&gateway, &kernel).await;
        fs::write(gateway.root().join("go"), "").unwrap();
        let folder = disk.folder().join(&kernel);
        gateway.wait_for_state(&kernel, "idle").await;
        // What comes after is safe after it.
        let mut third = gateway.connect(&kernel, "three").await;
        third.run("print('later')").await;
        drop(third);
        let is_saved = || holds(&files_in(&folder), "later").then_some(());
        wait_for("the end of the cell in a file", is_saved).await;
        let before = gateway.model(&kernel).await["nb"]["supervisor_pid"].clone();
        let (fault, mend): (_, &dyn Fn()) = if is_full {
            disk.fill();
            ("No space left", &|| disk.empty())
        } else {
            disk.freeze();
            ("does not take it", &|| disk.thaw())
        };
        let supervisor = pid_of(&gateway.model(&kernel).await, "supervisor_pid");
        signal(supervisor, Signal::KILL);
        let mut client = back(&gateway, &kernel, "a").await;
        let outcome = client.outcome(&cell, "").await;
        assert_all(outcome.text.strip_suffix("all of it\n").unwrap(), 0..300);
        assert_eq!(outcome.reply["status"], "ok");
        drop(client);
        alone(&gateway, &kernel).await;
        let mut witness = gateway.connect(&kernel, "witness").await;
        let code = "for i in range(3000): print(i, 'x' * 1000)";
        let cell = witness.submit(code).await;
        witness.outcome(&cell, "").await;
        let deadline = Instant::now() + LIMIT;
        loop {
            let model = gateway.model(&kernel).await;
            assert_ne!(model["nb"]["supervisor_pid"], before);
            let told = model["nb"]["journal_fault"].as_str().unwrap_or_default();
            if told.contains(fault) {
                break;
            }
            assert!(Instant::now() < deadline, "{model}");
        }
        mend();
        // All of it, and from the files.
        let is_saved = || holds(&files_in(&folder), "2999 xxx").then_some(());
        wait_for("what was said meanwhile in a file", is_saved).await;
        let mut client = gateway.connect(&kernel, "a").await;
        let mut text = String::new();
        while lines(&text).last() != Some(&2999) {
            let said = client.next().await.unwrap();
            if said.parent == cell && said.content["name"] == "stdout" {
                text += said.content["text"].as_str().unwrap();
            }
        }
        assert_eq!(lines(&text), (0..3000).collect::<Vec<_>>());
        fs::remove_file(gateway.root().join("go")).unwrap();
        gateway.delete(&kernel).await;
    }
}
