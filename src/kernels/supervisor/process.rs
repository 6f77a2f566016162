//! The kernel's process: its start, its signals, its end, and what it said on stdout and stderr.
//!
//! Knows nothing of messages.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::oom::OomKills;
use crate::kernels::contract::file;
use crate::kernels::kept_pid::KeptPid;

/// How much of the end of stderr is shown with a failure.
const TAIL_BYTES: u64 = 4096;

/// An output file with more than this on disk loses its beginning.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How much of the end is left then.
const KEPT_BYTES: u64 = 256 * 1024;

/// What others send to end a process.
const FROM_OUTSIDE: [Signal; 4] = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP];

/// How one ends that the system has killed for want of memory.
const OUT_OF_MEMORY: &str = "ran out of memory: the system killed it (SIGKILL)";

/// How a process is started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// All of its environment.
    pub env: &'a BTreeMap<String, String>,
    pub cwd: &'a Path,
    /// Where `stdout` and `stderr` are written to.
    pub folder: &'a Path,
}

/// A running kernel process, the leader of a process group of its own.
#[derive(Debug)]
pub struct KernelProcess {
    life: Life,
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Where in it this process began: before that are the words of earlier ones.
    stderr_from: u64,
    oom_kills: OomKills,
    /// Some of its output is being freed, which may have to wait for a disk.
    trims: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Life {
    Child(Child),
    /// An earlier supervisor's: how it ends is told to nobody.
    Adopted(KeptPid, Option<oneshot::Receiver<()>>),
}

impl KernelProcess {
    /// Takes over a process that is somebody else's child.
    pub fn adopt(process: KeptPid, folder: &Path) -> io::Result<Self> {
        let stderr = folder.join(file::STDERR);
        Ok(Self {
            life: Life::Adopted(process, Some(end_of(process)?)),
            pid: Pid::from_raw(process.pid).ok_or(io::ErrorKind::NotFound)?,
            stdout: folder.join(file::STDOUT),
            stderr_from: 0,
            stderr,
            oom_kills: OomKills::watch(),
            trims: Arc::default(),
        })
    }

    /// Starts the process.
    ///
    /// Its output goes to files opened for appending, so our own death breaks no pipe of its.
    pub fn start(launch: &Launch<'_>) -> io::Result<Self> {
        let (program, arguments) = launch
            .argv
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let [stdout, stderr] = [file::STDOUT, file::STDERR].map(|name| launch.folder.join(name));
        let errors = append_to(&stderr)?;
        let stderr_from = errors.metadata()?.len();
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(launch.env)
            .current_dir(launch.cwd)
            .stdin(Stdio::null())
            .stdout(append_to(&stdout)?)
            .stderr(errors)
            .process_group(0)
            .spawn()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            life: Life::Child(child),
            pid,
            stdout,
            stderr,
            stderr_from,
            oom_kills: OomKills::watch(),
            trims: Arc::default(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal to the whole group; it may be gone already.
    pub fn signal(&self, signal: Signal) {
        if let Life::Adopted(process, _) = &self.life
            && KeptPid::of(process.pid).is_some_and(|other| other != *process)
        {
            return;
        }
        if let Err(error) = rustix::process::kill_process_group(self.pid, signal) {
            tracing::debug!(%error, ?signal, "the kernel's process group could not be signalled");
        }
    }

    /// Waits for the end and says how it came. Cancelling loses nothing.
    pub async fn ended(&mut self) -> String {
        let status = match &mut self.life {
            Life::Child(child) => child.wait().await,
            Life::Adopted(_, end) => {
                if let Some(end) = end {
                    let _ended = end.await;
                }
                *end = None;
                return match self.oom_kills.happened() {
                    true => OUT_OF_MEMORY.to_owned(),
                    false => "ended; how is not known, since it was taken over".to_owned(),
                };
            }
        };
        match status {
            Ok(status) if is_kill(status) && self.oom_kills.happened() => OUT_OF_MEMORY.to_owned(),
            Ok(status) => describe(status),
            Err(error) => format!("was lost: {error}"),
        }
    }

    /// Whether a signal from outside ended it; crashes are its own.
    pub fn was_killed(&mut self) -> bool {
        let Life::Child(child) = &mut self.life else {
            return false;
        };
        let status = child.try_wait().ok().flatten();
        let signal = status.and_then(|status| status.signal());
        signal.is_some_and(|signal| FROM_OUTSIDE.map(Signal::as_raw).contains(&signal))
    }

    /// To be called now and then: frees the disk that the beginning of its output takes, where there is much of it,
    /// and looks whether the machine has memory.
    pub fn look_after(&self) {
        self.oom_kills.look();
        for path in [&self.stdout, &self.stderr] {
            let is_long = std::fs::metadata(path).is_ok_and(|metadata| is_long(&metadata));
            if !is_long || self.trims.swap(true, Ordering::SeqCst) {
                continue;
            }
            let (path, trims) = (path.clone(), Arc::clone(&self.trims));
            spawn_blocking(move || {
                if let Err(error) = trim(&path) {
                    tracing::debug!(path = %path.display(), %error, "the kernel's output stays whole");
                }
                trims.store(false, Ordering::SeqCst);
            });
        }
    }

    /// The end of what it wrote to stderr.
    pub fn stderr_tail(&self) -> String {
        read_tail(&self.stderr, self.stderr_from).unwrap_or_default()
    }
}

impl Drop for KernelProcess {
    /// Nothing of the group is left behind, whatever became of its leader.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Comes when the process has ended. A thread waits for it: there is one such process in ours.
fn end_of(process: KeptPid) -> io::Result<oneshot::Receiver<()>> {
    let watched = process.watch()?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new()
        .name("kernel".to_owned())
        .spawn(move || {
            let mut polled = [PollFd::new(&watched, PollFlags::IN)];
            while poll(&mut polled, None).is_err() {}
            let _gone = ended.send(());
        })?;
    Ok(end)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// The beginning becomes a hole: the file stays as long as it was, so whoever appends does not notice.
/// Where files cannot have holes it becomes empty.
fn is_long(metadata: &Metadata) -> bool {
    const BLOCK_BYTES: u64 = 512;
    metadata.blocks() * BLOCK_BYTES > FILE_BYTES_MAX
}

fn trim(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let metadata = file.metadata()?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let old = metadata.len().saturating_sub(KEPT_BYTES);
    fallocate(&file, flags, 0, old).or_else(|_| file.set_len(0))
}

fn is_kill(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(9)) => "was killed (SIGKILL)".to_owned(),
        (None, Some(6)) => "aborted (SIGABRT)".to_owned(),
        (None, Some(7)) => "crashed (SIGBUS)".to_owned(),
        (None, Some(11)) => "crashed (SIGSEGV)".to_owned(),
        (None, Some(15)) => "was ended (SIGTERM)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn read_tail(path: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL_BYTES).max(from);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(folder: &Path, script: &str) -> KernelProcess {
        let env = BTreeMap::from([("ONLY".to_owned(), "this".to_owned())]);
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let cwd = Path::new("/");
        KernelProcess::start(&Launch {
            argv: &argv,
            env: &env,
            cwd,
            folder,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn how_it_ended_and_what_it_said_last_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = launch(folder.path(), "env >&2; pwd >&2; exit 3");
        assert_eq!(process.ended().await, "exited with code 3");
        let tail = process.stderr_tail();
        assert!(tail.contains("ONLY=this") && tail.ends_with('/'), "{tail}");
        assert!(!tail.contains("HOME="), "{tail}");
        // The next one is not blamed for it.
        let mut process = launch(folder.path(), "exit 4");
        assert_eq!(process.ended().await, "exited with code 4");
        assert!(!process.was_killed());
        assert_eq!(process.stderr_tail(), "");
    }

    #[tokio::test]
    async fn a_signal_reaches_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = launch(folder.path(), "sleep 1000 & wait");
        process.signal(Signal::KILL);
        assert_eq!(process.ended().await, "was killed (SIGKILL)");
        assert!(process.was_killed());
    }

    #[tokio::test]
    async fn much_output_loses_its_beginning_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let script = format!(
            "yes | head -c 3000000 >&2; echo end >&2; until test -e {}; do sleep 0.01; done; \
             echo last >&2",
            go.display()
        );
        let mut process = launch(folder.path(), &script);
        let written = async {
            while process.stderr_tail().lines().last() != Some("end") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), written)
            .await
            .expect("the end is never written");
        process.look_after();
        let is_trimmed = || {
            let metadata = std::fs::metadata(folder.path().join("stderr")).unwrap();
            metadata.blocks() * 512 <= KEPT_BYTES + 64 * 1024
        };
        let trimmed = async {
            while !is_trimmed() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), trimmed)
            .await
            .expect("its beginning stays");
        std::fs::write(go, "").unwrap();
        process.ended().await;
        assert!(process.stderr_tail().ends_with("end\nlast"));
    }
}
