//! A program that a notebook server is made of: it ends with whoever started it, writes to a log, and its death is told with that.
//!
//! Knows of the program only whether it is we ourselves.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::http::{ANSWER, Peer};
use crate::error::Error;

/// How long a server may take until it answers. Lab's first start compiles its Python files.
pub(super) const START: Duration = Duration::from_secs(120);

/// How often a starting server is asked.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(25);

/// How long a server may take to end.
pub(super) const END: Duration = Duration::from_secs(5);

/// How much of the end of a log is shown with a failure.
const TAIL_BYTES: u64 = 3000;

/// This very binary, even if its file was replaced meanwhile.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// This program as it is on the disk now: a version that has replaced ours, say. Else this very binary.
pub(super) fn newest() -> OsString {
    let path = std::fs::read_link(OURSELVES).unwrap_or_default();
    // What Linux says of a file that was replaced.
    let path = path.as_os_str().as_encoded_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let path = OsStr::from_bytes(path);
    match Path::new(path).is_file() {
        true => path.to_owned(),
        false => OURSELVES.into(),
    }
}

/// A command that runs `program` so that it ends when this process is gone, even by SIGKILL.
///
/// We ourselves are asked, anything else is killed: JupyterLab when asked would end its kernels, which are
/// to be found by the next start, or fail at that because its gateway has ended first, and then stay.
///
/// The detour through ourselves is what sets that up without `unsafe` between fork and exec. The kernel
/// watches the thread that starts it: call [`Child::start`] on the main thread only.
pub(super) fn command(program: &OsStr) -> Command {
    let mut command = Command::new(OURSELVES);
    let parent = std::process::id().to_string();
    command
        .args(["up", "--child-of", &parent, "--"])
        .arg(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(path) = with_ours(&path, Path::new(&newest())) {
        command.env("PATH", path);
    }
    command
}

/// A search path on which cells and terminals find us, if this one is none.
fn with_ours(path: &OsStr, ours: &Path) -> Option<OsString> {
    let name = ours.file_name()?;
    let folder = ours.parent().filter(|_| ours != Path::new(OURSELVES))?;
    let mut folders: Vec<_> = std::env::split_paths(path).collect();
    if folders.iter().any(|folder| folder.join(name).is_file()) {
        return None;
    }
    folders.push(folder.to_owned());
    std::env::join_paths(folders).ok()
}

/// What a program is started through: becomes it, which then ends with `parent`. Returns only if that fails.
pub fn become_program(parent: u32, argv: &[OsString]) -> Error {
    let Some((program, arguments)) = argv.split_first() else {
        return Error::nb("there is nothing to run");
    };
    let is_ours = program == OURSELVES || *program == newest();
    let signal = if is_ours { Signal::TERM } else { Signal::KILL };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(signal)) {
        return Error::nb(format!(
            "the death of the parent cannot be watched: {error}"
        ));
    }
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(now) != Ok(parent) {
        return Error::nb("the parent is gone");
    }
    // A name that says more in a list of processes.
    let name = if is_ours { OsStr::new("nb") } else { program };
    let mut command = std::process::Command::new(program);
    let error = command.arg0(name).args(arguments).exec();
    Error::nb(format!("{} cannot be run: {error}", program.display()))
}

/// A running program.
#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts it in a process group of its own, so that Ctrl-C reaches only us. What it writes goes to a
    /// fresh log.
    pub(super) fn start(
        name: &'static str,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::nb(format!("{name} cannot be started: {error}"));
        if let Err(error) = std::fs::remove_file(log)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        let process = command
            .stdin(Stdio::null())
            .stderr(open_log(log).map_err(failed)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            name,
            process,
            log: log.to_owned(),
        })
    }

    /// Its standard output, if that is a pipe that nobody has taken.
    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Waits for a death that nobody asked for. Cancelling loses nothing.
    pub(super) async fn died(&mut self) -> Error {
        match self.process.wait().await {
            Ok(status) => self.fault(&format!("ended ({status})")),
            Err(error) => self.fault(&format!("was lost ({error})")),
        }
    }

    /// Waits until it answers `path` with 200.
    pub(super) async fn answers(&mut self, peer: Peer<'_>, path: &str) -> Result<(), Error> {
        let asking = async {
            loop {
                match peer.request("GET", path, ANSWER).await {
                    Ok(reply) if reply.status == 200 => return,
                    _ => sleep(ASK_AGAIN).await,
                }
            }
        };
        let answered = tokio::select! {
            answered = timeout(START, asking) => answered.is_ok(),
            error = self.died() => return Err(error),
        };
        match answered {
            true => Ok(()),
            false => Err(self.fault(&format!("does not answer after {} s", START.as_secs()))),
        }
    }

    /// An error about it with the end of its log.
    pub(super) fn fault(&self, what: &str) -> Error {
        let Self { name, log, .. } = self;
        let tail = read_tail(log).unwrap_or_default();
        let log = log.display();
        match tail.as_str() {
            "" => Error::nb(format!("{name} {what}; its log {log} is empty")),
            tail => Error::nb(format!("{name} {what}. The end of its log {log}:\n{tail}")),
        }
    }

    /// Ends it without asking.
    pub(super) async fn kill(&mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::debug!(%error, self.name, "could not be killed");
        }
    }

    /// Asks it to end; SIGKILL after `grace`. Nothing happens if it has ended.
    pub(super) async fn end(&mut self, grace: Duration) {
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = rustix::process::kill_process(pid, Signal::TERM) {
            tracing::debug!(%error, self.name, "could not be signalled");
        }
        if timeout(grace, self.process.wait()).await.is_err() {
            self.kill().await;
        }
    }
}

/// Opens a log for appending; only its owner reads it.
pub(super) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        Child::start("the shell", &mut command, &folder.join("log")).unwrap()
    }

    #[test]
    fn we_are_found_last_where_nobody_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("nb");
        std::fs::write(&ours, "").unwrap();
        let path = with_ours(OsStr::new("/nowhere"), &ours).unwrap();
        assert_eq!(
            path,
            format!("/nowhere:{}", folder.path().display()).as_str()
        );
        assert_eq!(with_ours(&path, &ours), None);
        assert_eq!(
            with_ours(OsStr::new("/nowhere"), Path::new(OURSELVES)),
            None
        );
    }

    #[tokio::test]
    async fn a_death_is_told_with_the_end_of_a_fresh_log() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log"), "old").unwrap();
        let mut child = shell(folder.path(), "echo why >&2; exit 3");
        let error = child.died().await;
        assert!(error.message.contains("ended (exit status: 3)"), "{error}");
        assert!(
            error.message.ends_with("why") && !error.message.contains("old"),
            "{error}"
        );
        child.end(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn one_that_does_not_listen_is_killed() {
        use tokio::io::AsyncReadExt;
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell(folder.path(), "trap '' TERM; echo ready; exec sleep 1000");
        let mut said = [0; 5];
        child
            .take_stdout()
            .unwrap()
            .read_exact(&mut said)
            .await
            .unwrap();
        child.end(Duration::from_millis(10)).await;
        assert!(child.process.id().is_none());
    }
}
