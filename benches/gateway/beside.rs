//! What a cell takes while another kernel of the same gateway says as much as it can, as times of what it takes alone.
//!
//! The loud kernel's client has a thread of its own. On a machine of few cores the processes of both compete for
//! them; raw ZeroMQ shows how much of it is that.

use std::fmt::Write;
use std::sync::Arc;
use std::thread;

use crate::paths::{Servers, turns};
use crate::report;
use crate::table::{WAYS, median};
use crate::ways::Client;

const ROUNDS: usize = 3;

/// Cells that are measured alone.
const TRIPS: usize = 400;

/// What the loud kernel says: what it is called, how many messages of how many bytes.
const LOUD: [(&str, u32, u32); 2] = [
    ("a gigabyte", 1_000, 1_000_000),
    ("100,000 messages", 100_000, 100),
];

pub(crate) async fn measure() {
    report("");
    report("A reply beside a loud kernel, p50 in us, and as times of that without (goal: <= 2).");
    let quiet = Servers::start();
    let loud = Arc::new(quiet.beside());
    let mut clients = Vec::new();
    for way in 0..WAYS.len() {
        clients.push(quiet.connect(way, "quiet").await);
    }
    let mut head = format!("{:<30}", "");
    for way in WAYS {
        let _written = write!(head, "{way:>19}");
    }
    report(&head);
    for (name, count, bytes) in LOUD {
        let mut replies = [const { Vec::new() }; WAYS.len()];
        let mut times = [const { Vec::new() }; WAYS.len()];
        for round in 0..ROUNDS {
            for way in turns(round) {
                let client = &mut clients[way];
                let mut alone = Vec::new();
                for _ in 0..TRIPS {
                    alone.push(reply_us(client).await);
                }
                let mut busy = Vec::new();
                let loud = loud.clone();
                let saying = thread::spawn(move || say(&loud, way, count, bytes));
                while !saying.is_finished() {
                    busy.push(reply_us(client).await);
                }
                assert_eq!(saying.join().unwrap(), count, "{}: {name}", WAYS[way]);
                let busy = median(busy);
                times[way].push(busy / median(alone));
                replies[way].push(busy);
            }
        }
        let mut line = format!("{name:<30}");
        for (replies, times) in replies.into_iter().zip(times) {
            let times = median(times);
            let missed = if times > 2.0 { '!' } else { ' ' };
            let _written = write!(line, "{:>11.0}{times:>6.2}x{missed}", median(replies));
        }
        report(line.trim_end());
    }
}

async fn reply_us(client: &mut Client) -> f64 {
    client.run("x").await.replied.as_secs_f64() * 1e6
}

/// Has the loud kernel of this way say it all; how much came.
fn say(loud: &Servers, way: usize, count: u32, bytes: u32) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // Of its own: what one has asked is nothing to the next.
        let session = format!("loud-{:?}", thread::current().id());
        let mut client = loud.connect(way, &session).await;
        client.run(&format!("burst {count} {bytes}")).await.outputs
    })
}
