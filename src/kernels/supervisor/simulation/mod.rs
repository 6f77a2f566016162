//! Thousands of short lives of a kernel and its clients, each from one seed: the shipped journal, sessions, replay,
//! queue, connections, ledger and policy of restarts, in a world where lines are cut at any byte, clients are slow,
//! silent or gone, kernels ask, fail and die, and supervisors are killed and followed by others. Then there is peace,
//! and everybody has to have what was for him.
//!
//! ```text
//! chance -> client --pipe--> connection, broker, journal --link--> kernel     the product, in the middle, unchanged
//!             `----------------- spy -> notes -> judge ----------------'      who looks on, and judges
//! ```
//!
//! `NB_SIMULATION_SEEDS=n` plays so many, `NB_SIMULATION_SEED=n` plays that one and tells what happens.

mod cells;
mod chance;
mod client;
mod judge;
mod kernel;
mod life;
mod machine;
mod notes;
mod spy;
mod world;

use std::env;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::{self, join_all};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::journal::far::FarJournal;
use super::journal::memory::MemoryJournal;
use chance::Chance;
use client::{Client, Kind};
use world::{Journals, Rule, World};

/// So many seeds take about ten seconds where nothing is optimised.
const SEEDS: u64 = 2000;

/// How long the troubled part of a schedule takes at most, by its own clock.
const LASTS: Duration = Duration::from_secs(3600);

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

const KINDS: [Kind; 6] = [
    Kind::V1,
    Kind::V1,
    Kind::Legacy,
    Kind::Stock,
    Kind::Companion,
    Kind::Resuming,
];

/// More failing seeds are not told.
const TOLD_MAX: usize = 5;

/// One schedule: what is wrong after it.
fn play(seed: u64, rule: Rule, folder: &Path, traces: bool) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, live(seed, rule, folder, traces))
}

async fn live(seed: u64, rule: Rule, folder: &Path, traces: bool) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let journals: Journals = match chance.percent(50) {
        true => |_, bytes_max| Box::new(MemoryJournal::new(bytes_max)),
        false => |_, bytes_max| Box::new(FarJournal::new(bytes_max)),
    };
    let world = World::new(chance.fork(), journals, rule, folder, traces);
    world.supervise(false);
    let mut clients: Vec<_> = (NAMES.iter().take(chance.among(&[1, 1, 2, 2, 2, 3, 4])))
        .map(|name| Client {
            world: Rc::clone(&world),
            name,
            kind: chance.among(&KINDS),
            identity: chance.among(&["me", "me", "they"]).into(),
            chance: chance.fork(),
        })
        .collect();
    let lives = join_all(clients.iter_mut().map(Client::live));
    let troubles = future::join(lives, world.suffer(chance.below(6)));
    let Ok((sessions, ())) = timeout(LASTS, troubles).await else {
        return vec!["the trouble does not end".to_owned()];
    };
    let mut settled = Ok(());
    let drains = clients.iter().zip(&sessions);
    let drains =
        drains.flat_map(|(client, sessions)| sessions.iter().map(|session| client.drain(session)));
    tokio::select! {
        biased;
        _ = join_all(drains) => {}
        peace = world.settle() => settled = peace,
    }
    let mut faults: Vec<_> = settled.err().into_iter().collect();
    let processes = world.machine.processes.borrow();
    let cells: Vec<_> = processes.iter().map(|process| process.cells()).collect();
    faults.extend(judge::judge(&world.notes.record(), &cells));
    faults
}

fn asked(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Plays seeds until `enough` of them have failed: which, and why.
fn failing(seeds: u64, rule: Rule, enough: usize) -> Vec<(u64, Vec<String>)> {
    let next = AtomicU64::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let folder = tempfile::tempdir().unwrap();
                while failed.lock().unwrap().len() < enough {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let folder = folder.path().join(seed.to_string());
                    std::fs::create_dir(&folder).unwrap();
                    let faults = play(seed, rule, &folder, false);
                    if !faults.is_empty() {
                        failed.lock().unwrap().push((seed, faults));
                    }
                    std::fs::remove_dir_all(&folder).unwrap();
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    failed
}

#[test]
fn nothing_is_lost_in_any_schedule() {
    if let Some(seed) = asked("NB_SIMULATION_SEED") {
        let folder = tempfile::tempdir().unwrap();
        let faults = play(seed, Rule::Acknowledged, folder.path(), true);
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
        return;
    }
    let seeds = asked("NB_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let failed = failing(seeds, Rule::Acknowledged, TOLD_MAX);
    assert!(
        failed.is_empty(),
        "play a seed again with NB_SIMULATION_SEED: {failed:#?}"
    );
}

/// What a cursor is for: moved by what is written, it loses what a line had not delivered.
#[test]
fn a_cursor_that_moves_with_what_is_written_loses_something() {
    let failed = failing(SEEDS, Rule::Written, 16);
    let is_loss = |faults: &Vec<String>| faults.iter().any(|fault| fault.contains("never heard"));
    assert!(
        failed.iter().any(|(_, faults)| is_loss(faults)),
        "{failed:#?}"
    );
}
