//! Processes by their numbers, and signals to them. Must not know what they are for.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use crate::gateway::{LIMIT, wait_for};

/// The process that REST or `state.json` shows of a kernel as `nb.key`.
pub(crate) fn pid_of(model: &Value, key: &str) -> u32 {
    let pid = model["nb"][key].as_u64();
    let pid = pid.unwrap_or_else(|| panic!("no {key}: {model}"));
    pid.try_into().unwrap()
}

/// Sends a signal. One that has gone is none the worse for it.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let _gone = kill_process(pid.unwrap(), signal);
}

/// Stops a process, and waits until it is: a signal that was sent has not yet been heard.
pub(crate) async fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let is_stopped = |task: &fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // After a name in parentheses.
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let all_are = || {
        let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        tasks.all(|task| is_stopped(&task)).then_some(())
    };
    wait_for("a stopped process", all_are).await;
}

/// The exit code and what was printed on stdout and stderr.
pub(crate) async fn ended(child: Child) -> (i32, String, String) {
    let done = timeout(LIMIT, child.wait_with_output()).await;
    let done = done.expect("it hangs").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = done.status.code().unwrap();
    (code, text(done.stdout), text(done.stderr))
}
