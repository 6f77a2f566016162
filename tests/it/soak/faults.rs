//! What goes wrong, at random: each with a seed that repeats the choices.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::rest::ask;
use super::{Target, parts};
use crate::gateway::Gateway;

/// So long a supervisor lives at least: of one that dies four times in a minute the kernel is given up.
const SUPERVISOR_LIVES: Duration = Duration::from_secs(25);

/// Between two faults, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 50..500;

const STOP_MS: std::ops::Range<u64> = 20..400;

/// Those that there are, each with its share in all.
const KINDS: [(&str, u64); 11] = [
    ("kernel killed", 20),
    ("supervisor killed", 15),
    ("other kernel killed", 10),
    ("other supervisor killed", 10),
    ("gateway killed", 8),
    ("gateway taken over", 8),
    ("something stopped for a while", 12),
    ("interrupt", 10),
    ("restart", 6),
    ("client cut", 18),
    ("all clients cut", 3),
];

/// Which kernel of a notebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Own,
    Other,
}

pub(super) struct Faults {
    gateway: Gateway,
    targets: Vec<Arc<Target>>,
    random: Random,
    /// When supervisors were, by what their kernel is.
    killed: BTreeMap<(usize, Whose), Instant>,
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
            "client cut"
            | "kernel killed"
            | "supervisor killed"
            | "other kernel killed"
            | "other supervisor killed"
            | "interrupt"
            | "restart" => std::slice::from_ref(&target),
            _ => &self.targets,
        };
        told.iter().for_each(|target| target.story.tell(kind));
        match kind {
            "kernel killed" => self.signal(&target, Whose::Own, "kernel_pid"),
            "other kernel killed" => self.signal(&target, Whose::Other, "kernel_pid"),
            "supervisor killed" if !self.kill_supervisor(index, Whose::Own) => return,
            "supervisor killed" => {}
            "other supervisor killed" if !self.kill_supervisor(index, Whose::Other) => return,
            "other supervisor killed" => {}
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
                let kinds = [
                    (Whose::Own, "kernel_pid"),
                    (Whose::Own, "supervisor_pid"),
                    (Whose::Other, "kernel_pid"),
                    (Whose::Other, "supervisor_pid"),
                    (Whose::Own, "gateway"),
                ];
                let any = self.random.of(&(0..kinds.len() as u64));
                let (whose, one) = kinds[usize::try_from(any).unwrap()];
                let pid = match one {
                    "gateway" => Pid::from_raw(self.gateway.pid().try_into().unwrap()),
                    key => self.pid(&target, whose, key),
                };
                let Some(pid) = pid else { return };
                target.story.tell(format!("stopped: {whose:?} {one}"));
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

    /// Kills a supervisor, unless that of this kernel was not long ago.
    fn kill_supervisor(&mut self, index: usize, whose: Whose) -> bool {
        let target = &self.targets[index];
        let now = Instant::now();
        let last = self.killed.get(&(index, whose));
        if last.is_some_and(|last| now - *last < SUPERVISOR_LIVES) {
            return false;
        }
        let Some(pid) = self.pid(target, whose, "supervisor_pid") else {
            return false;
        };
        self.killed.insert((index, whose), now);
        // Before it dies, so that nobody can see the death and not this.
        target.supervisors_killed.fetch_add(1, Ordering::SeqCst);
        let _gone = kill_process(pid, Signal::KILL);
        true
    }

    fn signal(&self, target: &Target, whose: Whose, key: &str) {
        if let Some(pid) = self.pid(target, whose, key) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }

    /// As the kernel's folder has it.
    fn pid(&self, target: &Target, whose: Whose, key: &str) -> Option<Pid> {
        let state = match whose {
            Whose::Own => {
                let state = fs::read(target.folder.join("state.json")).ok()?;
                serde_json::from_slice::<Value>(&state).ok()?
            }
            Whose::Other => parts(&self.gateway.root(), &target.kernel).pop()?,
        };
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
