//! Which processes run in an environment: those that were started from a program in its folder, but for what works on the
//! environment itself, as what compiles it in the background: that holds a lock on it, and ends for whoever wants to change it.

use std::fs;
use std::path::Path;

use super::leftovers;

/// One of them, by its number; nothing when there is none.
pub(super) fn process_in(folder: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut programs = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        Some((pid, fs::read(process.path().join("cmdline")).ok()?))
    });
    let folder = folder.join("").into_os_string().into_encoded_bytes();
    let found =
        programs.find(|(pid, program)| program.starts_with(&folder) && !leftovers::is_marked(*pid));
    found.map(|(pid, _)| pid)
}
