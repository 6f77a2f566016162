//! Whole paths: what a cell, a burst, a start and a crowd of clients take over each way to a kernel.
//!
//! The ways take turns in every round, so that what else the machine does befalls all of them alike.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::report;
use crate::servers::{Framing, Gateway, Kernel, OwnKernel, cpu, memory};
use crate::table::{Goal, RAW, Table, WAYS, median, quantile};
use crate::ways::Client;

const ROUNDS: usize = 9;

/// Cells of one round.
const TRIPS: usize = 400;

/// Bursts of one round: what they are called, how many messages of how many bytes, their goal.
const BURSTS: [(&str, u32, u32, Goal); 4] = [
    ("burst of 100 B, msg/s", 20_000, 100, HALF),
    ("burst of 10 KB, msg/s", 4_000, 10_000, HALF),
    ("burst of 100 KB, msg/s", 800, 100_000, HALF),
    (
        "burst of 1 MB, msg/s",
        120,
        1_000_000,
        Goal::AtLeast([0.4, 0.4]),
    ),
];

const HALF: Goal = Goal::AtLeast([0.5, 0.5]);
const REPLY: Goal = Goal::AtMost([1.5, 2.0]);

const CROWD: usize = 20;
const CROWD_ROUNDS: usize = 5;
const CROWD_LAPS: usize = 20;
/// What one of a crowd has written while all watch.
const WATCHED: (u32, u32) = (1_000, 1_000);

const START_ROUNDS: usize = 15;

/// What a process may hold.
#[derive(Clone, Copy)]
enum Most {
    ResidentKib(u64),
    PrivateKib(u64),
    Anything,
}

/// The servers of all ways.
pub(crate) struct Servers {
    own: OwnKernel,
    handing_over: Arc<Gateway>,
    splicing: Arc<Gateway>,
    kernels: [Kernel; 3],
}

impl Servers {
    pub(crate) fn start() -> Self {
        let [handing_over, splicing] = ["auto", "never"].map(|way| Arc::new(Gateway::start(way)));
        Self::of(handing_over, splicing)
    }

    /// Other kernels of the same gateways.
    pub(crate) fn beside(&self) -> Self {
        Self::of(self.handing_over.clone(), self.splicing.clone())
    }

    fn of(handing_over: Arc<Gateway>, splicing: Arc<Gateway>) -> Self {
        let kernels = [&handing_over, &handing_over, &splicing].map(|gateway| gateway.kernel());
        Self {
            own: OwnKernel::start(),
            handing_over,
            splicing,
            kernels,
        }
    }

    pub(crate) async fn connect(&self, way: usize, session: &str) -> Client {
        let [v1, legacy, spliced] = &self.kernels;
        let gateway = &self.handing_over;
        match way {
            RAW => self.own.connect(session).await,
            1 => gateway.connect(v1, Framing::V1, session).await,
            2 => gateway.connect(legacy, Framing::Legacy, session).await,
            _ => self.splicing.connect(spliced, Framing::V1, session).await,
        }
    }

    /// The processor time that nb has used on this way, in microseconds.
    fn cpu_us(&self, way: usize) -> Option<f64> {
        let supervisor = self.kernels.get(way.checked_sub(1)?)?.supervisor;
        let mut used = cpu(supervisor);
        if way == 3 {
            used += cpu(self.splicing.pid());
        }
        Some(used.as_secs_f64() * 1e6)
    }
}

/// Prints everything about paths, or those of these parts: `idle`, `one`, `starts`, `crowds`.
pub(crate) async fn measure(wanted: impl Fn(&str) -> bool) {
    let binary = fs::metadata(env!("CARGO_BIN_EXE_nb")).unwrap().len();
    report("Size and memory, KiB.");
    report(&format!("{:<28}{:>8}", "nb, the binary", binary / 1024));
    if wanted("idle") {
        idle();
    }
    let mut table = Table::default();
    if wanted("one") {
        let servers = Servers::start();
        one_client(&servers, &mut table).await;
        report_memory(
            "supervisor after bursts",
            servers.kernels[0].supervisor,
            Most::Anything,
        );
        report_memory(
            "gateway after bursts",
            servers.handing_over.pid(),
            Most::Anything,
        );
    }
    if wanted("starts") {
        starts(&mut table).await;
    }
    if wanted("crowds") {
        crowds(&mut table).await;
    }
    report("");
    report(
        "Against a kernel that answers at once; x: the ratio to raw ZeroMQ; !: misses its goal.",
    );
    table.print();
}

/// A gateway without kernels, and a supervisor that has seen nothing but its kernel's start.
fn idle() {
    let gateway = Gateway::start("auto");
    report_memory("gateway, idle", gateway.pid(), Most::ResidentKib(12 * 1024));
    let supervisor = gateway.kernel().supervisor;
    report_memory("supervisor, idle", supervisor, Most::PrivateKib(3 * 1024));
}

/// The ways in the order of this round: none is always the first.
pub(crate) fn turns(round: usize) -> impl Iterator<Item = usize> {
    (0..WAYS.len()).map(move |n| (n + round) % WAYS.len())
}

async fn one_client(servers: &Servers, table: &mut Table) {
    let mut clients = Vec::new();
    for way in 0..WAYS.len() {
        clients.push(servers.connect(way, "one").await);
    }
    for round in 0..ROUNDS {
        for way in turns(round) {
            let client = &mut clients[way];
            let (mut replied, mut done) = (Vec::new(), Vec::new());
            let before = servers.cpu_us(way);
            for _ in 0..TRIPS {
                let outcome = client.run("x").await;
                replied.push(outcome.replied.as_secs_f64() * 1e6);
                done.push(outcome.done.as_secs_f64() * 1e6);
            }
            let after = servers.cpu_us(way);
            table.add("reply p50, us", REPLY, way, median(replied.clone()));
            table.add("reply p99, us", Goal::None, way, quantile(replied, 0.99));
            table.add("reply and idle p50, us", Goal::None, way, median(done));
            if let Some((before, after)) = before.zip(after) {
                let each = (after - before) / TRIPS as f64;
                table.add("nb's CPU per cell, us", Goal::None, way, each);
            }
            for (name, count, bytes, goal) in BURSTS {
                let before = servers.cpu_us(way);
                let outcome = client.run(&format!("burst {count} {bytes}")).await;
                assert_eq!(outcome.outputs, count, "{}: {name}", WAYS[way]);
                let rate = f64::from(count) / outcome.done.as_secs_f64();
                table.add(name, goal, way, rate);
                if bytes == 100
                    && let Some((before, after)) = before.zip(servers.cpu_us(way))
                {
                    let each = (after - before) / f64::from(count);
                    table.add("nb's CPU per 100 B message, us", Goal::None, way, each);
                }
            }
        }
    }
}

/// From the wish for a kernel to its first answer.
async fn starts(table: &mut Table) {
    const NAME: &str = "start, ms";
    let (handing_over, splicing) = (Gateway::start("auto"), Gateway::start("never"));
    for round in 0..START_ROUNDS {
        for way in turns(round) {
            let begun = Instant::now();
            let milliseconds = || begun.elapsed().as_secs_f64() * 1e3;
            if way == RAW {
                let kernel = OwnKernel::start();
                kernel.connect("start").await.kernel_info().await;
                table.add(NAME, Goal::None, way, milliseconds());
                continue;
            }
            let gateway = if way == 3 { &splicing } else { &handing_over };
            let framing = if way == 2 {
                Framing::Legacy
            } else {
                Framing::V1
            };
            let kernel = gateway.kernel();
            let mut client = gateway.connect(&kernel, framing, "start").await;
            client.kernel_info().await;
            table.add(NAME, Goal::None, way, milliseconds());
            // A client that does not answer the goodbye is waited for.
            drop(client);
            gateway.end(&kernel);
        }
    }
}

/// Many clients of one kernel, all at once; each hears of all.
async fn crowds(table: &mut Table) {
    let servers = Servers::start();
    let mut crowds = Vec::new();
    for way in 0..WAYS.len() {
        let mut crowd = Vec::new();
        for n in 0..CROWD {
            crowd.push(servers.connect(way, &format!("one-of-many-{n}")).await);
        }
        crowds.push(crowd);
    }
    for round in 0..CROWD_ROUNDS {
        for way in turns(round) {
            let crowd = &mut crowds[way];
            let mut replied = Vec::new();
            let begun = Instant::now();
            for _ in 0..CROWD_LAPS {
                let all: FuturesUnordered<_> = crowd.iter_mut().map(|one| one.run("x")).collect();
                let outcomes = all.collect::<Vec<_>>().await;
                replied.extend(outcomes.iter().map(|o| o.replied.as_secs_f64() * 1e3));
            }
            let rate = (CROWD * CROWD_LAPS) as f64 / begun.elapsed().as_secs_f64();
            table.add(
                "20 clients, reply p50, ms",
                Goal::None,
                way,
                median(replied),
            );
            table.add("20 clients, cells/s", Goal::None, way, rate);

            let (count, bytes) = WATCHED;
            let before = servers.cpu_us(way);
            let begun = Instant::now();
            if let Some((writer, watchers)) = crowd.split_first_mut() {
                let all: FuturesUnordered<_> =
                    watchers.iter_mut().map(|one| one.watch(count)).collect();
                let burst = format!("burst {count} {bytes}");
                let (outcome, ()) = tokio::join!(writer.run(&burst), all.collect());
                assert_eq!(outcome.outputs, count);
            }
            let rate = f64::from(count) * CROWD as f64 / begun.elapsed().as_secs_f64();
            table.add("20 watch 1 KB, msg/s in all", Goal::None, way, rate);
            if let Some((before, after)) = before.zip(servers.cpu_us(way)) {
                let each = (after - before) / (f64::from(count) * CROWD as f64);
                table.add("nb's CPU per 1 KB watched, us", Goal::None, way, each);
            }
        }
    }
}

fn report_memory(of: &str, pid: u32, most: Most) {
    let Some(memory) = memory(pid) else {
        return report(&format!("{of:<28}       - (only its owner may look)"));
    };
    let (resident, private) = (memory.resident, memory.private);
    let (goal, missed) = match most {
        Most::ResidentKib(most) => (format!("resident <= {most}"), resident > most),
        Most::PrivateKib(most) => (format!("private <= {most}"), private > most),
        Most::Anything => (String::new(), false),
    };
    let mark = if missed { "!" } else { " " };
    let line = format!("{of:<28}{resident:>8} resident{private:>8} private{mark}   {goal}");
    report(line.trim_end());
}
