//! What must not be there in the end: processes that nobody knows, zombies of ours, files, memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::parts;
use crate::gateway::{Gateway, wait_for};
use crate::rest::drain::process_ended;

/// A process: its pid, parent, state, and the words that started it.
struct Process {
    pid: u32,
    parent: u32,
    state: String,
    words: String,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.to_owned();
        let parent = fields.next()?.parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Process {
            pid,
            parent,
            state,
            words: String::from_utf8_lossy(&words).replace('\0', " "),
        })
    };
    pids.filter_map(process).collect()
}

/// The processes that have this folder in their words.
fn of(root: &Path) -> BTreeSet<u32> {
    let root = root.display().to_string();
    let ours = processes().into_iter();
    let ours = ours.filter(|process| process.words.contains(&root));
    ours.map(|process| process.pid).collect()
}

/// What is listed is what there is, with so many other kernels of notebooks, and nobody waits to be waited for; those others.
pub(super) fn assert_agree(
    gateway: &Gateway,
    ids: &[&String],
    others: usize,
    listed: &Value,
) -> Vec<Value> {
    let listed = listed.as_array().unwrap();
    let known: BTreeSet<_> = listed
        .iter()
        .filter_map(|kernel| kernel["id"].as_str())
        .collect();
    assert_eq!(known, ids.iter().map(|id| id.as_str()).collect());
    let mut expected = BTreeSet::from([gateway.pid()]);
    let root = gateway.root();
    let parts: Vec<_> = ids.iter().flat_map(|id| parts(&root, id)).collect();
    assert_eq!(parts.len(), others, "{parts:?}");
    for kernel in listed {
        assert_eq!(kernel["execution_state"], "idle", "{kernel}");
    }
    for kernel in listed.iter().chain(&parts) {
        for key in ["kernel_pid", "supervisor_pid"] {
            expected.insert(kernel["nb"][key].as_u64().unwrap().try_into().unwrap());
        }
    }
    assert_eq!(of(&root), expected);
    let all = processes();
    let zombies = all
        .iter()
        .filter(|process| process.state == "Z" && expected.contains(&process.parent));
    let zombies: Vec<_> = zombies.map(|zombie| zombie.pid).collect();
    assert!(zombies.is_empty(), "{zombies:?}");
    parts
}

/// Each process of ours holds less than `max`; what they hold, for people.
pub(super) fn assert_memory(
    gateway: &Gateway,
    listed: &Value,
    parts: &[Value],
    max: u64,
) -> String {
    let supervisors = listed.as_array().unwrap().iter().chain(parts);
    let supervisors = supervisors.map(|kernel| kernel["nb"]["supervisor_pid"].as_u64().unwrap());
    let mut held: Vec<_> = supervisors.map(anonymous_kib).collect();
    held.sort_unstable();
    let own = anonymous_kib(gateway.pid().into());
    let most = held.last().copied().unwrap_or_default();
    assert!(
        most.max(own) < max,
        "gateway {own} KiB, supervisors {held:?}"
    );
    let median = held[held.len() / 2];
    format!("memory: gateway {own} KiB, supervisors {median} KiB in the middle, {most} KiB at most")
}

fn anonymous_kib(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// Ends the gateway: no file and no process is left.
pub(super) async fn assert_none(gateway: Gateway) {
    let root = gateway.root();
    let files = || {
        let mut left = Vec::new();
        for folder in ["run/kernels", "run/gateways", "state/journals"] {
            let entries = fs::read_dir(root.join(folder))
                .into_iter()
                .flatten()
                .flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
        let shared = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        let ours = shared.filter(|file| file.file_name().to_string_lossy().starts_with("nb-"));
        left.extend(ours.map(|entry| entry.path()).filter(|file| {
            let notes = fs::read(file).unwrap_or_default();
            let owner = root.as_os_str().as_encoded_bytes();
            notes.windows(owner.len()).any(|part| part == owner)
        }));
        left
    };
    let pid = gateway.pid();
    kill_process(
        Pid::from_raw(pid.try_into().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    process_ended(pid).await;
    wait_for("no process of ours", || of(&root).is_empty().then_some(())).await;
    assert_eq!(files(), Vec::<std::path::PathBuf>::new());
}
