//! Waits for the processes that the kernel's children leave behind. We are their subreaper: one that
//! nobody waits for would stay in the table of processes for as long as we live.
//!
//! The kernel process is left to `process`, which wants to know how it ended, and a tool to whoever runs it.

use std::fs;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::Signal;
use tracing::debug;

use super::vitals::Vitals;
use crate::env::is_waited_for;

/// Waits for orphans for as long as it is polled; `child` is SIGCHLD.
pub(super) async fn take_in(mut child: Signal, vitals: &Vitals) {
    while child.recv().await.is_some() {
        let kernel = vitals.kernel_pid.get();
        let is_known = |pid: &Pid| {
            let pid = pid.as_raw_nonzero().get();
            Some(pid) == kernel || u32::try_from(pid).is_ok_and(is_waited_for)
        };
        for pid in children().filter(|pid| !is_known(pid)) {
            if let Err(error) = waitpid(Some(pid), WaitOptions::NOHANG) {
                debug!(%error, pid = pid.as_raw_nonzero(), "an orphan was not waited for");
            }
        }
    }
    std::future::pending().await
}

/// Our children, of all threads.
fn children() -> impl Iterator<Item = Pid> {
    let threads = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        let pids = list.split_whitespace().map(str::parse);
        pids.filter_map(Result::ok).collect::<Vec<_>>()
    });
    pids.filter_map(Pid::from_raw)
}
