//! All cells of a notebook at once, as "Run All" sends them, the error in each position.

use std::fs;

use nb::protocol::message::Channel;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::Client;
use crate::gateway::{Gateway, LIMIT};

/// A cell that goes well, the same where it fails, and why it does.
type Pair = (&'static str, &'static str, &'static str);

const PYTHON: [Pair; 7] = [
    ("a = 1", "1/0", "ZeroDivisionError"),
    ("%nb help", "%nb nonsense", "UsageError"),
    (
        "x = %nb status\nb = 2",
        "x = %nb nonsense\nb = 2",
        "UsageError",
    ),
    ("%%nb help\nbody", "%%nb nonsense\nbody", "UsageError"),
    ("%%time\n%nb help", "%%time\n%nb nonsense", "UsageError"),
    ("%nb help\nc = 3", "%nb help\nraise OSError('c')", "OSError"),
    ("%%bash\necho hi", "%%bash\nexit 3", "CalledProcessError"),
];

const PLAIN: [Pair; 5] = [
    ("text", "fail", "Told"),
    ("%nb help", "%nb nonsense", "UsageError"),
    ("%nb help\nthe rest", "%nb help\nfail", "Told"),
    ("%%nb help\nbody", "%%nb nonsense\nbody", "UsageError"),
    ("more text", " fail", "Told"),
];

/// Sends the cells while the first one holds the kernel, lets it go on and waits for all: the replies in their order.
async fn all(
    client: &mut Client,
    first: &str,
    cells: &[&str],
    go_on: impl AsyncFnOnce(&mut Client),
) -> Vec<Value> {
    let mut requests = vec![client.submit(first).await];
    for cell in cells {
        requests.push(client.submit(cell).await);
    }
    go_on(client).await;
    let (mut replies, mut idle) = (Vec::new(), 0);
    while replies.len() < requests.len() || idle < requests.len() {
        let said = client.next().await.unwrap();
        let Some(at) = requests.iter().position(|request| *request == said.parent) else {
            continue;
        };
        idle += usize::from(said.content["execution_state"] == "idle");
        if said.msg_type == "execute_reply" {
            assert_eq!(at, replies.len(), "a reply is out of turn");
            replies.push(said.content);
        }
    }
    replies
}

/// What is to be run when the cell in this position fails.
fn with_error(pairs: &[Pair], position: usize) -> Vec<&'static str> {
    let chosen = |(at, pair): (usize, &Pair)| if at == position { pair.1 } else { pair.0 };
    pairs.iter().enumerate().map(chosen).collect()
}

/// Those before it succeed, it fails as it does, those behind are aborted.
fn assert_stopped(replies: &[Value], pairs: &[Pair], position: usize) {
    for (at, reply) in replies.iter().enumerate() {
        let expected = match at.cmp(&position) {
            std::cmp::Ordering::Less => "ok",
            std::cmp::Ordering::Equal => "error",
            std::cmp::Ordering::Greater => "aborted",
        };
        assert_eq!(
            reply["status"], expected,
            "cell {at} of {position}: {reply}"
        );
    }
    if let Some((_, _, ename)) = pairs.get(position) {
        assert_eq!(replies[position]["ename"], *ename, "{replies:?}");
    }
}

/// A kernel goes on aborting for a moment after an error.
async fn runs_again(client: &mut Client, code: &str) -> Value {
    let aborts = async {
        loop {
            let reply = client.run(code).await.reply;
            if reply["status"] != "aborted" {
                return reply;
            }
        }
    };
    timeout(LIMIT, aborts).await.expect("it aborts for ever")
}

#[tokio::test]
async fn run_all_in_ipython_stops_at_the_error_wherever_it_is() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut count = 0;
    // One run has no error.
    for position in 0..=PYTHON.len() {
        let go = gateway.root().join(format!("go-{position}"));
        let first = format!(
            "import os, time\nwhile not os.path.exists({:?}): time.sleep(0.005)",
            go.to_str().unwrap()
        );
        let cells = with_error(&PYTHON, position);
        let replies = all(&mut client, &first, &cells, async |client| {
            client.arrived().await;
            gateway.wait_for_state(&kernel, "busy").await;
            fs::write(&go, "").unwrap();
        });
        let replies = replies.await;
        assert_stopped(&replies[1..], &PYTHON, position);
        // Each that ran has the next number, those that were aborted none.
        for reply in replies.iter().filter(|reply| reply["status"] != "aborted") {
            count += 1;
            assert_eq!(reply["execution_count"], count, "{position}: {replies:?}");
        }
        let after = runs_again(&mut client, "x = %nb status").await;
        count += 1;
        assert_eq!(
            (&after["status"], &after["execution_count"]),
            (&json!("ok"), &json!(count)),
            "{position}"
        );
    }
}

#[tokio::test]
async fn run_all_in_a_kernel_that_is_not_ipython_stops_at_the_error_wherever_it_is() {
    let gateway = Gateway::start("auto").await;
    gateway.put_plain_spec();
    let kernel = gateway.kernel(r#"{"name":"plain"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut count = 0;
    for position in 0..=PLAIN.len() {
        let cells = with_error(&PLAIN, position);
        let replies = all(&mut client, "ask", &cells, async |client| {
            while client.next().await.unwrap().msg_type != "input_request" {}
            client.arrived().await;
            let content = json!({"value": "go on"});
            client.send(Channel::Stdin, "input_reply", content).await;
        });
        let replies = replies.await;
        assert_stopped(&replies[1..], &PLAIN, position);
        // What the kernel ran has its next number, what is ours alone has none.
        for reply in replies
            .iter()
            .filter(|reply| !reply["execution_count"].is_null())
        {
            count += 1;
            assert_eq!(reply["execution_count"], count, "{position}: {replies:?}");
        }
        count += 1;
        let after = runs_again(&mut client, "%nb help\nafter").await;
        assert_eq!(
            (&after["status"], &after["execution_count"]),
            (&json!("ok"), &json!(count)),
            "{position}"
        );
    }
}
