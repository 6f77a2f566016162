//! What goes wrong, at random: each with a seed that repeats the choices.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Target;
use super::rest::ask;
use crate::gateway::Gateway;

/// So long a supervisor lives at least: of one that dies four times in a minute the kernel is given up.
const SUPERVISOR_LIVES: Duration = Duration::from_secs(25);

/// Between two faults, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 50..500;

const STOP_MS: std::ops::Range<u64> = 20..400;

/// Those that there are, each with its share in all.
const KINDS: [(&str, u64); 9] = [
    ("kernel killed", 20),
    ("supervisor killed", 15),
    ("gateway killed", 8),
    ("gateway taken over", 8),
    ("something stopped for a while", 12),
    ("interrupt", 10),
    ("restart", 6),
    ("client cut", 18),
    ("all clients cut", 3),
];

pub(super) struct Faults {
    gateway: Gateway,
    targets: Vec<Arc<Target>>,
    random: Random,
    killed: BTreeMap<usize, Instant>,
    done: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(super) fn new(gateway: Gateway, targets: Vec<Arc<Target>>, seed: u64) -> Self {
        Self {
            gateway,
            targets,
            random: Random(seed),
            killed: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// Waits a little, then lets something go wrong.
    pub(super) async fn next(&mut self) {
        sleep(Duration::from_millis(self.random.of(&PAUSE_MS))).await;
        let total = KINDS.iter().map(|(_, share)| share).sum();
        let mut choice = self.random.of(&(0..total));
        let kind = KINDS.iter().find(|(_, share)| {
            let is_it = choice < *share;
            choice = choice.wrapping_sub(*share);
            is_it
        });
        let kind = kind.unwrap().0;
        let index = self.random.of(&(0..self.targets.len() as u64));
        let index = usize::try_from(index).unwrap();
        let target = Arc::clone(&self.targets[index]);
        let path = format!("/api/kernels/{}", target.kernel);
        let port = self.gateway.port;
        let told = match kind {
            "client cut" | "kernel killed" | "supervisor killed" | "interrupt" | "restart" => {
                std::slice::from_ref(&target)
            }
            _ => &self.targets,
        };
        told.iter().for_each(|target| target.story.tell(kind));
        match kind {
            "kernel killed" => self.signal(&target, "kernel_pid", Signal::KILL),
            "supervisor killed" => {
                let now = Instant::now();
                let last = self.killed.get(&index);
                if last.is_some_and(|last| now - *last < SUPERVISOR_LIVES) {
                    return;
                }
                self.killed.insert(index, now);
                // Before it dies, so that nobody can see the death and not this.
                target.supervisors_killed.fetch_add(1, Ordering::SeqCst);
                self.signal(&target, "supervisor_pid", Signal::KILL);
            }
            "gateway killed" => {
                self.gateway.kill().await;
                let port = port.to_string();
                let (child, _) = self.gateway.beside(&["--port", &port]).await;
                self.gateway.succeed(child);
            }
            "gateway taken over" => {
                let port = port.to_string();
                let (child, _) = self.gateway.beside(&["--port", &port, "--takeover"]).await;
                let mut before = self.gateway.succeed(child);
                // It ends when it has done what it had begun.
                tokio::spawn(async move { before.wait().await });
            }
            "something stopped for a while" => {
                let kinds = ["kernel_pid", "supervisor_pid", "gateway"];
                let one = kinds[usize::try_from(self.random.of(&(0..3))).unwrap()];
                let pid = match one {
                    "gateway" => Pid::from_raw(self.gateway.pid().try_into().unwrap()),
                    key => self.pid(&target, key),
                };
                let Some(pid) = pid else { return };
                target.story.tell(format!("stopped: its {one}"));
                let _gone = kill_process(pid, Signal::STOP);
                sleep(Duration::from_millis(self.random.of(&STOP_MS))).await;
                let _gone = kill_process(pid, Signal::CONT);
            }
            "interrupt" => drop(ask(port, "POST", &format!("{path}/interrupt")).await),
            "restart" => drop(ask(port, "POST", &format!("{path}/restart")).await),
            "client cut" => target.cut.notify_waiters(),
            _ => self
                .targets
                .iter()
                .for_each(|target| target.cut.notify_waiters()),
        }
        target.story.tell(format!("done: {kind}"));
        *self.done.entry(kind).or_default() += 1;
    }

    /// No more: the gateway, and what was done.
    pub(super) async fn end(self) -> (Gateway, String) {
        let done = self
            .done
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"));
        (self.gateway, done.collect::<Vec<_>>().join(", "))
    }

    fn signal(&self, target: &Target, key: &str, signal: Signal) {
        if let Some(pid) = self.pid(target, key) {
            let _gone = kill_process(pid, signal);
        }
    }

    /// As the kernel's folder has it.
    fn pid(&self, target: &Target, key: &str) -> Option<Pid> {
        let state = format!("run/kernels/{}/state.json", target.kernel);
        let state = fs::read(self.gateway.root().join(state)).ok()?;
        let state: Value = serde_json::from_slice(&state).ok()?;
        let pid = i32::try_from(state["nb"][key].as_i64()?).ok()?;
        Pid::from_raw(pid)
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn of(&mut self, range: &std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (z ^ (z >> 31)) % (range.end - range.start)
    }
}
