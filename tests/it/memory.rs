//! What nb's processes hold, and the bounds that the design sets.

use std::fs;

use crate::gateway::Gateway;
use crate::processes::pid_of;

/// What a journal may have in memory by default.
pub(crate) const JOURNAL_BYTES_MAX: usize = 128 << 20;

/// What a supervisor needs beside its journal and the messages that it carries.
pub(crate) const BESIDE_KIB: u64 = 20 * 1024;

/// What a gateway needs, which never holds a message: with hundreds of connections in which it stays, 80 KiB for each.
const GATEWAY_KIB_MAX: u64 = 64 * 1024;

pub(crate) fn kib(bytes: usize) -> u64 {
    (bytes / 1024) as u64
}

/// The most that a kernel's supervisor and the gateway have ever held.
async fn peaks(gateway: &Gateway, kernel: &str) -> [u64; 2] {
    let supervisor = pid_of(&gateway.model(kernel).await, "supervisor_pid");
    [supervisor, gateway.pid()].map(peak_kib)
}

/// At no time a supervisor held more than a journal of this bound and so much for what was on its way, and the gateway
/// anything of that.
pub(crate) async fn assert_peaks(
    gateway: &Gateway,
    kernel: &str,
    journal: usize,
    on_its_way: usize,
) {
    let [supervisor, own] = peaks(gateway, kernel).await;
    let bound = kib(journal + on_its_way) + BESIDE_KIB;
    assert!(
        supervisor < bound,
        "supervisor: {supervisor} of {bound} KiB"
    );
    assert!(own < GATEWAY_KIB_MAX, "gateway: {own} KiB");
}

/// How much memory a process holds, without its program, of which a debug build maps some 20 MiB that grow with every
/// feature.
pub(crate) fn held_kib(pid: u32) -> u64 {
    line_of(pid, "RssAnon:")
}

/// The most that it has ever held, likewise.
fn peak_kib(pid: u32) -> u64 {
    line_of(pid, "VmHWM:") - line_of(pid, "RssFile:")
}

fn line_of(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}
