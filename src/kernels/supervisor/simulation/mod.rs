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
mod journals;
mod judge;
mod kernel;
mod life;
mod machine;
mod manner;
mod notes;
mod record;
mod session;
mod spy;
mod world;

use std::env;
use std::fs;
use std::panic;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::{self, join_all};
use tokio::task::LocalSet;
use tokio::time::timeout;

use chance::Chance;
use client::{Client, Kind};
use journals::Journals;
use world::{Rule, World};

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

/// What came of a schedule.
#[derive(Debug, Default)]
struct Played {
    /// What is wrong.
    faults: Vec<String>,
    /// What was said and heard, line by line.
    story: Vec<String>,
}

/// One schedule.
fn play(seed: u64, rule: Rule, folder: &Path, traces: bool) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, live(seed, rule, folder, traces))
}

async fn live(seed: u64, rule: Rule, folder: &Path, traces: bool) -> Played {
    let mut chance = Chance::new(seed);
    let journals = chance.among(&[
        Journals::in_memory,
        Journals::far,
        Journals::on_disk,
        Journals::on_disk,
    ])();
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
        let faults = vec!["the trouble does not end".to_owned()];
        return Played {
            faults,
            ..Played::default()
        };
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
    let record = world.notes.record();
    faults.extend(judge::judge(&record, &cells));
    let story = record.story();
    Played { faults, story }
}

fn asked(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// One schedule with a folder of its own; what panics is wrong too.
fn try_play(seed: u64, rule: Rule, root: &Path) -> Vec<String> {
    let folder = root.join(seed.to_string());
    fs::create_dir(&folder).unwrap();
    let played = panic::catch_unwind(|| play(seed, rule, &folder, false).faults);
    fs::remove_dir_all(&folder).unwrap();
    played.unwrap_or_else(|_| vec!["it panicked".to_owned()])
}

/// Plays seeds on all processors until some have failed: which, and why.
fn failing(seeds: u64) -> Vec<(u64, Vec<String>)> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let root = tempfile::tempdir().unwrap();
    let plays = || {
        while failed.lock().unwrap().len() < TOLD_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let faults = try_play(seed, Rule::Acknowledged, root.path());
            if !faults.is_empty() {
                failed.lock().unwrap().push((seed, faults));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(plays);
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn nothing_is_lost_in_any_schedule() {
    if let Some(seed) = asked("NB_SIMULATION_SEED") {
        let folder = tempfile::tempdir().unwrap();
        let faults = play(seed, Rule::Acknowledged, folder.path(), true).faults;
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
        return;
    }
    let failed = failing(asked("NB_SIMULATION_SEEDS").unwrap_or(SEEDS));
    assert!(
        failed.is_empty(),
        "play a seed again with NB_SIMULATION_SEED: {failed:#?}"
    );
}

/// What a cursor is for: moved by what is written, it loses what a line had not delivered.
#[test]
fn a_cursor_that_moves_with_what_is_written_loses_something() {
    let root = tempfile::tempdir().unwrap();
    let is_loss = |fault: &String| fault.contains("never heard");
    let mut seeds = 0..SEEDS;
    let loses = seeds.any(|seed| {
        let faults = try_play(seed, Rule::Written, root.path());
        faults.iter().any(is_loss)
    });
    assert!(loses, "it does no harm in {SEEDS} schedules");
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..100 {
        let [one, other] = [(); 2].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            play(seed, Rule::Acknowledged, folder.path(), false).story
        });
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        assert!(
            differs.is_none() && one.len() == other.len(),
            "seed {seed}: {differs:#?}"
        );
        assert!(!one.is_empty());
    }
}
