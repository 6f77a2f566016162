//! Which processes run in an environment: those that were started from a program in its folder.

use std::fs;
use std::path::Path;

/// One of them, by its number; nothing when there is none.
pub(super) fn process_in(folder: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut programs = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        Some((pid, fs::read(process.path().join("cmdline")).ok()?))
    });
    let folder = folder.join("").into_os_string().into_encoded_bytes();
    let found = programs.find(|(_, program)| program.starts_with(&folder));
    found.map(|(pid, _)| pid)
}
