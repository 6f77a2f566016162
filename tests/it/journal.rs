//! What is kept for clients that are away: in files, beside the death of a supervisor, within bounds, and what
//! happens when the disk is full or does not answer.

pub(crate) mod disk;
mod spoiled;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, TOKEN, wait_for};

fn assert_all(text: &str, range: std::ops::Range<usize>) {
    let odd = text
        .lines()
        .find(|line| line.split(' ').next().unwrap().parse::<usize>().is_err() && *line != "begun");
    assert!(odd.is_none(), "{odd:?}");
    let got = lines(text);
    let other = got.iter().zip(range.clone()).find(|(got, n)| *got != n);
    assert!(
        other.is_none() && got.len() == range.len(),
        "{other:?} of {}",
        got.len()
    );
}

/// What a supervisor may hold that has everything in files.
const SUPERVISOR_KIB_MAX: u64 = 16 * 1024;

fn folder(gateway: &Gateway, kernel: &str) -> PathBuf {
    gateway.root().join("state/journals").join(kernel)
}

/// All that the files of a kernel's journal hold.
fn files(gateway: &Gateway, kernel: &str) -> Vec<u8> {
    files_in(&folder(gateway, kernel))
}

fn files_in(folder: &Path) -> Vec<u8> {
    let files = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    let contents = paths.iter().map(|path| fs::read(path).unwrap_or_default());
    contents.collect::<Vec<_>>().concat()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// Waits until the kernel's journal has this text in a file.
async fn saved(gateway: &Gateway, kernel: &str, text: &str) {
    let is_there = || holds(&files(gateway, kernel), text).then_some(());
    wait_for(&format!("{text:?} in a file"), is_there).await;
}

/// Comes back as soon as somebody has taken the kernel over: before that the gateway may say that it takes time.
async fn back(gateway: &Gateway, kernel: &str, session: &str) -> Client {
    let deadline = Instant::now() + LIMIT;
    loop {
        match Client::dial(gateway.port, TOKEN, kernel, session, true).await {
            Ok(client) => return client,
            Err(error) => assert!(
                error.contains("503") && Instant::now() < deadline,
                "{error}"
            ),
        }
    }
}

/// Waits until no client is there.
async fn alone(gateway: &Gateway, kernel: &str) {
    let deadline = Instant::now() + LIMIT;
    while gateway.model(kernel).await["connections"] != 0 {
        assert!(Instant::now() < deadline, "somebody stays");
    }
}

/// The numbers that a cell printed. How it begins may come again: it was not acknowledged.
fn lines(text: &str) -> Vec<usize> {
    let lines = text.lines().filter(|line| *line != "begun");
    let numbers = lines.map(|line| line.split(' ').next().unwrap().parse().unwrap());
    numbers.collect()
}

#[tokio::test]
async fn much_is_said_while_a_client_is_away_and_memory_stays_small() {
    const LINES: usize = 40_000;
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let code = format!(
        "import time\nprint('begun', flush=True)\nfor i in range({LINES}):\n    print(i, 'x' * 1000, flush=True)\n\
         open('done', 'w').close()"
    );
    let cell = client.submit(&code).await;
    client.wait_for(&cell, "begun").await;
    drop(client);
    let done = gateway.root().join("done");
    wait_for("the cell's end", || done.exists().then_some(())).await;
    saved(&gateway, &kernel, &format!("{} xxx", LINES - 1)).await;
    let held = gateway.supervisor_kib(&kernel).await;
    assert!(held < SUPERVISOR_KIB_MAX, "{held} KiB");
    let mut client = gateway.connect(&kernel, "a").await;
    let outcome = client.outcome(&cell, "").await;
    assert_all(&outcome.text, 0..LINES);
    assert_eq!(outcome.reply["status"], "ok");
    let held = gateway.supervisor_kib(&kernel).await;
    assert!(held < SUPERVISOR_KIB_MAX, "{held} KiB");
}

#[tokio::test]
async fn what_was_said_to_nobody_outlives_the_supervisor_and_goes_with_the_kernel() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut one = gateway.connect(&kernel, "one").await;
    let mut two = gateway.connect(&kernel, "two").await;
    two.run("1").await;
    let code = "import os, time\nprint('begun', flush=True)\n\
                while not os.path.exists('go'): time.sleep(0.01)\n\
                for i in range(300):\n    print(i, flush=True)\nprint('all of it')";
    let cell = one.submit(code).await;
    one.wait_for(&cell, "begun").await;
    two.wait_for(&cell, "begun").await;
    drop((one, two));
    alone(&gateway, &kernel).await;
    fs::write(gateway.root().join("go"), "").unwrap();
    saved(&gateway, &kernel, "all of it").await;
    gateway.wait_for_state(&kernel, "idle").await;
    // What comes after is safe after it.
    let mut third = gateway.connect(&kernel, "three").await;
    third.run("print('later')").await;
    saved(&gateway, &kernel, "later").await;
    for file in fs::read_dir(folder(&gateway, &kernel)).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mode = fs::metadata(folder(&gateway, &kernel))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let supervisor = gateway.model(&kernel).await["nb"]["supervisor_pid"].clone();
    let supervisor = Pid::from_raw(supervisor.as_i64().unwrap().try_into().unwrap()).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    // Each gets its own, the reply only who asked.
    let mut one = back(&gateway, &kernel, "one").await;
    let outcome = one.outcome(&cell, "").await;
    let text = outcome.text.strip_suffix("all of it\n").unwrap();
    assert_all(text, 0..300);
    assert_eq!(outcome.reply["execution_count"], 2);
    let mut two = gateway.connect(&kernel, "two").await;
    two.wait_for(&cell, "all of it").await;
    assert_eq!(one.run("print('on')").await.text, "on\n");
    gateway.delete(&kernel).await;
    assert!(!folder(&gateway, &kernel).exists());
}

#[tokio::test]
async fn a_question_waits_for_its_asker_and_the_answer_is_in_no_file() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let code = "import os, time, getpass\nprint('begun', flush=True)\n\
                while not os.path.exists('go'): time.sleep(0.01)\n\
                word = getpass.getpass('the word: ')\nprint(len(word))";
    let cell = client.submit(code).await;
    client.wait_for(&cell, "begun").await;
    drop(client);
    alone(&gateway, &kernel).await;
    fs::write(gateway.root().join("go"), "").unwrap();
    saved(&gateway, &kernel, "the word: ").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let outcome = client.outcome(&cell, "s3cret-of-mine").await;
    assert!(outcome.text.ends_with("14\n"), "{}", outcome.text);
    drop(client);
    let mut other = gateway.connect(&kernel, "b").await;
    let next = other.run("print('next')").await;
    assert_eq!(next.text, "next\n");
    saved(&gateway, &kernel, "next").await;
    assert!(!holds(&files(&gateway, &kernel), "s3cret-of-mine"));
}

#[tokio::test]
async fn all_kernels_of_a_user_keep_to_a_bound_together_and_a_loss_is_told() {
    let mut gateway = Gateway::start("auto").await;
    gateway
        .replace_set("journal.user_bytes_max = 3000000\njournal.bytes_max = 2500000")
        .await;
    let mut clients = Vec::new();
    for name in ["one", "two"] {
        let kernel = gateway.kernel("{}").await;
        let mut client = gateway.connect(&kernel, "a").await;
        let code = format!(
            "import sys\nprint('begun', flush=True)\nfor i in range(2000):\n    \
             sys.stdout.write(f'{{i}} {{\"x\" * 1000}}\\n')\n    sys.stdout.flush()\nprint('{name}')"
        );
        let cell = client.submit(&code).await;
        client.wait_for(&cell, "begun").await;
        clients.push((kernel, cell, name));
    }
    let total = || {
        let sizes = clients
            .iter()
            .map(|(kernel, ..)| files(&gateway, kernel).len());
        let sizes: Vec<_> = sizes.collect();
        let is_saved = |(kernel, _, name): &(String, String, &str)| {
            holds(&files(&gateway, kernel), &format!("{name}\\n"))
        };
        let fits = sizes.iter().sum::<usize>() < 3_400_000;
        (clients.iter().all(is_saved) && fits).then_some(sizes)
    };
    let sizes = wait_for("the bound", total).await;
    assert!(sizes.iter().all(|size| *size > 500_000), "{sizes:?}");
    for (kernel, cell, name) in &clients {
        let mut client = gateway.connect(kernel, "a").await;
        let (mut got, mut told) = (String::new(), 0);
        loop {
            let said = client.next().await.unwrap();
            let text = said.content["text"].as_str().unwrap_or_default();
            if text.starts_with("[nb]") {
                let count = text.split(' ').nth(1).unwrap();
                told += count.parse::<usize>().unwrap();
            } else if said.parent == *cell && said.msg_type == "stream" {
                got += text;
            }
            // The reply may overtake the last of the output.
            if said.parent == *cell && said.content["execution_state"] == "idle" {
                break;
            }
        }
        let got = lines(got.strip_suffix(&format!("{name}\n")).unwrap());
        assert!(got.is_sorted() && got.last() == Some(&1999));
        // What began the cell was lost too, if it had not been acknowledged.
        let all = got.len() + told;
        assert!((2000..2010).contains(&all), "{} and {told}", got.len());
    }
}

#[tokio::test]
async fn with_memory_nothing_is_written_and_with_off_nothing_is_kept() {
    let mut gateway = Gateway::start("auto").await;
    for mode in ["memory", "off"] {
        gateway
            .replace_set(&format!("journal.mode = \"{mode}\""))
            .await;
        let kernel = gateway.kernel("{}").await;
        let mut client = gateway.connect(&kernel, "a").await;
        client.run("1").await;
        drop(client);
        let mut witness = gateway.connect(&kernel, "witness").await;
        witness.run("print('meanwhile')").await;
        assert!(!folder(&gateway, &kernel).exists());
        let mut client = gateway.connect(&kernel, "a").await;
        let cell = client.submit("print('now')").await;
        let mut texts = Vec::new();
        while texts.last().is_none_or(|text| text != "now\n") {
            let said = client.next().await.unwrap();
            texts.extend(said.content["text"].as_str().map(str::to_owned));
        }
        assert_eq!(
            texts.iter().any(|text| text == "meanwhile\n"),
            mode == "memory",
            "{texts:?}"
        );
        drop(cell);
    }
}
