//! Processes by their numbers, and signals to them. Must not know what they are for.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

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
