//! Processes by their numbers, and signals to them. Must not know what they are for.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use crate::gateway::LIMIT;

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

/// The exit code and what was printed on stdout and stderr.
pub(crate) async fn ended(child: Child) -> (i32, String, String) {
    let done = timeout(LIMIT, child.wait_with_output()).await;
    let done = done.expect("it hangs").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = done.status.code().unwrap();
    (code, text(done.stdout), text(done.stderr))
}
