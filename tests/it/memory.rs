//! What nb's processes hold.

use std::fs;

/// How much memory a process holds, without its program, of which a debug build maps some 20 MiB that grow with every
/// feature.
pub(crate) fn held_kib(pid: u32) -> u64 {
    line_of(pid, "RssAnon:")
}

fn line_of(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}
