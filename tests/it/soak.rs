//! Everything at once, for a while: twenty notebooks, ten of them with another kernel beside their own, mixed clients that
//! count, random ends of everything; then it is looked for whatever was left behind. `cargo xtask soak --minutes N` is a longer one.
//!
//! ```text
//! faults ── kill, stop, cut, takeover ──> gateway, supervisors, kernels, clients
//! notebook (one for each kernel) ── cells ──> kernel, another kernel: asserts that what comes back is whole, and once
//! leftovers: processes, files, memory
//! ```
//!
//! Who loses what by a fault is as DESIGN says: a request that was being written while its line broke is sent again, what a
//! kernel says while its supervisor is dead is a gap. Each is counted and printed, anything else fails.

mod faults;
mod leftovers;
mod notebook;
mod rest;
mod story;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::Notify;

use self::faults::Faults;
use self::notebook::{Counts, Notebook};
use self::story::Story;
use crate::gateway::Gateway;

/// Kernels of Python, and the instant ones of the tests' own.
const PYTHONS: usize = 6;
const KERNELS: usize = 20;

/// Of so many the third has another kernel of Python, the others with one have an instant one.
const OTHER_PYTHONS: usize = 6;

/// When nothing else is said.
const MINUTES: f64 = 0.5;

/// Cells that each runs when all is quiet again.
const QUIET_CELLS: usize = 3;

/// What a process of ours holds when nobody wants anything of it.
const QUIET_KIB_MAX: u64 = 24 * 1024;

/// Descriptors for all.
const DESCRIPTORS: u32 = 8192;

/// One kernel, as all parts of this see it.
#[derive(Debug)]
struct Target {
    kernel: String,
    folder: PathBuf,
    is_python: bool,
    /// The kernelspec of another kernel of its notebook, for every second cell.
    other: Option<&'static str>,
    /// How often its supervisor, or that of the other kernel, was killed so far.
    supervisors_killed: AtomicU64,
    /// Its client is to lose its connection.
    cut: Notify,
    story: Story,
}

/// What was last written down of the other kernels of this one's notebook.
fn parts(root: &Path, kernel: &str) -> Vec<Value> {
    let folders = fs::read_dir(root.join("run/kernels")).into_iter();
    let states = folders.flatten().flatten().filter_map(|folder| {
        let state = fs::read(folder.path().join("state.json")).ok()?;
        serde_json::from_slice::<Value>(&state).ok()
    });
    states
        .filter(|state| state["nb"]["part"]["of"] == kernel)
        .collect()
}

impl Target {
    /// The folder of the gateway.
    fn root(&self) -> &Path {
        self.folder.ancestors().nth(3).unwrap()
    }
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "what happened is for people to read")]
async fn whatever_is_killed_nothing_is_lost_and_nothing_is_left() {
    let minutes = number("NB_SOAK_MINUTES").unwrap_or(MINUTES);
    let seed: u64 = number("NB_SOAK_SEED").unwrap_or(std::process::id().into());
    println!("soak: {minutes} minutes, NB_SOAK_SEED={seed}");
    let gateway = Gateway::start_with("auto", DESCRIPTORS).await;
    gateway.put_peer_spec("instant");
    let port = gateway.port;
    let mut targets = Vec::new();
    for n in 0..KERNELS {
        let is_python = n < PYTHONS;
        let body = match is_python {
            true => "{}",
            false => r#"{"name":"instant"}"#,
        };
        let kernel = gateway.kernel(body).await;
        targets.push(Arc::new(Target {
            folder: gateway.root().join("run/kernels").join(&kernel),
            kernel,
            is_python,
            other: n.is_multiple_of(2).then_some(match n % OTHER_PYTHONS {
                2 => "python3",
                _ => "instant",
            }),
            supervisors_killed: AtomicU64::new(0),
            cut: Notify::new(),
            story: Story::default(),
        }));
    }
    let quiet = Arc::new(AtomicBool::new(false));
    let start = |(n, target)| {
        let notebook = Notebook::new(Arc::clone(target), port, n);
        tokio::spawn(notebook.run(Arc::clone(&quiet), QUIET_CELLS))
    };
    let notebooks: Vec<_> = targets.iter().enumerate().map(start).collect();
    let mut faults = Faults::new(gateway, targets.clone(), seed);
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    while Instant::now() < end && !notebooks.iter().any(|notebook| notebook.is_finished()) {
        faults.next().await;
    }
    let (gateway, done) = faults.end().await;
    quiet.store(true, Ordering::SeqCst);
    let mut counts = Counts::default();
    for notebook in join_all(notebooks).await {
        counts += notebook.expect("a notebook failed");
    }
    println!("faults: {done}");
    println!("{counts}");

    let others = targets
        .iter()
        .filter(|target| target.other.is_some())
        .count();
    let ids: Vec<_> = targets.iter().map(|target| &target.kernel).collect();
    let (_, listed) = gateway.rest("GET", "/api/kernels", "").await;
    let parts = leftovers::assert_agree(&gateway, &ids, others, &listed);
    println!(
        "{}",
        leftovers::assert_memory(&gateway, &listed, &parts, QUIET_KIB_MAX)
    );
    for id in ids {
        gateway.delete(id).await;
    }
    let (_, listed) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!(listed, Value::Array(Vec::new()));
    leftovers::assert_none(gateway).await;
}
