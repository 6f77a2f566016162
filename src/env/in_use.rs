//! Which processes run in an environment: those that were started from a program in its folder, but for what works on the
//! environment itself, as what compiles it in the background: that holds a lock on it, and ends for whoever wants to change it.
//! And kernels that may come back to it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::leftovers;

/// What a kernel that was rebased has in its environment: the Python that it is taken back to.
pub const RETURNS_TO: &str = "NB_RETURNS_TO";

/// One of them, by its number; nothing when there is none.
pub(super) fn process_in(folder: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut programs = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        Some((pid, process.path()))
    });
    let folder = folder.join("").into_os_string().into_encoded_bytes();
    let returns = [RETURNS_TO.as_bytes(), b"=", &folder].concat();
    let found = programs.find(|(pid, process)| {
        let variables = fs::read(process.join("environ")).unwrap_or_default();
        let mut variables = variables.split(|byte| *byte == 0);
        let is_of_it =
            fs::read(process.join("cmdline")).is_ok_and(|program| program.starts_with(&folder));
        (is_of_it && !leftovers::is_marked(*pid))
            || variables.any(|variable| variable.starts_with(&returns))
    });
    found.map(|(pid, _)| pid)
}

/// Whether there is a supervisor of the kernel with this id: it may start a process again.
pub(super) fn is_supervised(kernel: &str) -> bool {
    supervised().iter().any(|folder| folder.ends_with(kernel))
}

/// The folders of the kernels that have a supervisor.
pub fn supervised() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let folders = lines.filter_map(|line| {
        let mut words = line.split(|byte| *byte == 0).skip(1);
        let is_supervise = words.next() == Some(b"supervise");
        let folder = words.next().filter(|_| is_supervise)?;
        Some(OsStr::from_bytes(folder).into())
    });
    folders.collect()
}
