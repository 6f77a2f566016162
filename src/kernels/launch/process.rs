//! A supervisor as a process: what it runs in, and its log.

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, ChildStdout, Command};
use tokio::task::spawn_blocking;

use super::LOG_FORMAT;
use crate::config::{self, LogFormat};
use crate::kernels::contract;

/// glibc gives what a large message took back to the system. By itself it raises the first bound to the largest
/// block that was ever freed, 32 MiB at most, and keeps twice as much.
const MEMORY: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
];

/// How much of the end of a supervisor's log is shown when it says nothing else.
const LOG_TAIL_BYTES: u64 = 4096;

/// The supervisor has a process group of its own: what ends the gateway's group spares it.
pub(super) fn spawn(
    program: &Path,
    log_format: LogFormat,
    folder: &Path,
) -> io::Result<(Child, ChildStdout)> {
    let mut child = Command::new(program)
        .arg("supervise")
        .arg(folder)
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| is_for_supervisors(name)))
        .env(config::variable(LOG_FORMAT), log_format.name())
        .envs(configuration())
        .envs(MEMORY)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(private_file(&folder.join(contract::file::LOG))?)
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, stdout))
}

/// Where a supervisor finds the settings that it reads itself, each time that it needs them.
fn configuration() -> Option<(&'static str, PathBuf)> {
    let named = env::var_os(config::FILE).filter(|path| !path.is_empty())?;
    Some((config::FILE, std::path::absolute(named).ok()?))
}

/// The environment that a supervisor itself runs in; the kernel's comes with the start. A list of
/// what is passed on, so that no secret can be forgotten.
fn is_for_supervisors(name: &OsString) -> bool {
    const NAMES: [&str; 11] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "TZ",
        "TMPDIR",
        "NB_LOG",
        "NB_RUNTIME_DIR",
        "NB_STATE_DIR",
        "NB_DATA_DIR",
    ];
    name.to_str().is_some_and(|name| {
        let prefixes = ["LC_", "XDG_", config::PACKAGES];
        NAMES.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
    })
}

pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

pub(super) async fn log_tail(path: PathBuf) -> String {
    let read = move || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match spawn_blocking(read).await {
        Ok(Ok(tail)) => tail,
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisors_get_no_secret() {
        for name in ["PATH", "LC_ALL", "XDG_STATE_HOME"] {
            assert!(is_for_supervisors(&name.into()), "{name}");
        }
        for name in ["NB_TOKEN", "JPY_PARENT_PID", "AWS_SECRET_ACCESS_KEY"] {
            assert!(!is_for_supervisors(&name.into()), "{name}");
        }
    }
}
