//! A foreign program run to its end: its lines are passed on, the last ones kept for an error.
//!
//! No secret of an address is in what is passed on. Knows nothing of what the program does.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Say;
use crate::redact::redacted;

/// What works longer than that hangs.
const LIMIT: Duration = Duration::from_hours(1);

/// How long what is left in the pipes is waited for: a process that a tool leaves behind may hold them open.
const REST: Duration = Duration::from_secs(1);

/// How many of the last lines are kept.
const LINES_KEPT: usize = 12;

/// A longer line is passed on in parts.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Variables that would lead Python, pip or uv to another environment than the one they are told, or to files that are not its own.
const MISLEADING: [&str; 14] = [
    "CONDA_PREFIX",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_TARGET",
    "PYTHONHOME",
    "PYTHONPATH",
    // A link to uv's cache, and an edit in place is one in the cache.
    "UV_LINK_MODE",
    "UV_NO_BINARY",
    "UV_PREFIX",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_TARGET",
    "VIRTUAL_ENV",
];

/// Why a program did not do its work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such program.
    Missing,
    /// What it said last.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not installed"),
            Self::Failed(tail) => f.write_str(tail),
        }
    }
}

/// A command without the variables that mislead it, in a folder without a project's settings.
pub(super) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir("/");
    forget_misleading(&mut command);
    command
}

/// Takes away the variables that would mislead it.
pub(super) fn forget_misleading(command: &mut Command) {
    for name in MISLEADING {
        command.env_remove(name);
    }
}

/// Runs it and gives what it said last. Dropping the future kills the program.
pub(super) async fn run(command: &mut Command, say: Say<'_>) -> Result<String, Failure> {
    run_for(command, LIMIT, say).await
}

/// [`run`] with another deadline than what is enough for all.
pub(super) async fn run_for(
    command: &mut Command,
    limit: Duration,
    say: Say<'_>,
) -> Result<String, Failure> {
    let mut running = start(command)?;
    let child = &mut running.child;
    let kept = RefCell::new(VecDeque::new());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let reading = async { tokio::join!(read(output, &kept, say), read(errors, &kept, say)) };
    let ended = timeout(limit, end(child, reading)).await;
    let tail = Vec::from(kept.into_inner()).join("\n");
    outcome(ended, tail, limit)
}

/// Runs it and gives what it prints, which has to be less than so many bytes.
pub(super) async fn output(command: &mut Command, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut running = start(command)?;
    let child = &mut running.child;
    let kept = RefCell::new(VecDeque::new());
    let printed = RefCell::new(Vec::new());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        let all = async {
            let mut bytes = Vec::new();
            if let Some(output) = output {
                let _broken = output.take(bytes_max).read_to_end(&mut bytes).await;
            }
            printed.replace(bytes);
        };
        tokio::join!(all, read(errors, &kept, &|_| ()))
    };
    let ended = timeout(LIMIT, end(child, reading)).await;
    let printed = printed.into_inner();
    if printed.len() as u64 == bytes_max {
        return Err(Failure::Failed(format!("it printed {bytes_max} bytes")));
    }
    let tail = Vec::from(kept.into_inner()).join("\n");
    outcome(ended, tail, LIMIT).map(|_| printed)
}

/// The processes of tools that somebody here waits for.
static WAITED_FOR: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Whether this is a tool that somebody here waits for: nobody else may.
pub fn is_waited_for(pid: u32) -> bool {
    waited_for().contains(&pid)
}

fn waited_for() -> MutexGuard<'static, BTreeSet<u32>> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As long as it is kept, nobody but whoever keeps it waits for a process of ours.
#[derive(Debug)]
pub struct WaitedFor(Option<u32>);

impl WaitedFor {
    /// This one, which was started just now.
    pub fn new(child: &Child) -> Self {
        let pid = child.id();
        waited_for().extend(pid);
        Self(pid)
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            waited_for().remove(&pid);
        }
    }
}

/// A tool that runs.
pub(super) struct Running {
    pub(super) child: Child,
    _waited_for: WaitedFor,
}

pub(super) fn start(command: &mut Command) -> Result<Running, Failure> {
    let started = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = started.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::Missing,
        _ => Failure::Failed(error.to_string()),
    })?;
    let _waited_for = WaitedFor::new(&child);
    Ok(Running { child, _waited_for })
}

/// Reads what it says until it ends.
async fn end(
    child: &mut Child,
    reading: impl Future<Output = ((), ())>,
) -> io::Result<std::process::ExitStatus> {
    let mut reading = pin!(reading);
    tokio::select! {
        _ = &mut reading => child.wait().await,
        status = child.wait() => {
            let _held_open = timeout(REST, reading).await;
            status
        }
    }
}

fn outcome(
    ended: Result<io::Result<std::process::ExitStatus>, tokio::time::error::Elapsed>,
    tail: String,
    limit: Duration,
) -> Result<String, Failure> {
    let failed = match ended {
        Ok(Ok(status)) if status.success() => return Ok(tail),
        Ok(Ok(status)) if tail.is_empty() => format!("it ended with {status}"),
        Ok(Ok(_)) => tail,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("{tail}\nit was ended after {} s", limit.as_secs()),
    };
    Err(Failure::Failed(failed))
}

async fn read(
    from: Option<impl AsyncRead + Unpin>,
    kept: &RefCell<VecDeque<String>>,
    say: Say<'_>,
) {
    let mut take = |line: String| {
        if line.is_empty() {
            return;
        }
        say(line.trim_start());
        let mut kept = kept.borrow_mut();
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    };
    lines(from, &mut take).await;
}

/// Passes on what a program prints, a line each, without secrets and without what stands at its end. A line that is to be written over, as
/// progress is, counts as one. What is no text is read to its end as well: who printed it would be ended otherwise.
pub(super) async fn lines(from: Option<impl AsyncRead + Unpin>, take: &mut impl FnMut(String)) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    let mut was_returned = false;
    while let Ok(more @ [_, ..]) = from.fill_buf().await {
        let room = LINE_BYTES_MAX - line.len();
        let more = &more[..more.len().min(room)];
        let end = more.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let taken = end.map_or(more.len(), |end| end + 1);
        line.extend_from_slice(&more[..taken]);
        from.consume(taken);
        // Both together end one line.
        let is_rest = was_returned && line == b"\n";
        if (end.is_some() || line.len() == LINE_BYTES_MAX) && !is_rest {
            take(shown(&line));
        }
        if end.is_some() || line.len() == LINE_BYTES_MAX {
            was_returned = line.ends_with(b"\r");
            line.clear();
        }
    }
    if !line.is_empty() {
        take(shown(&line));
    }
}

fn shown(line: &[u8]) -> String {
    redacted(String::from_utf8_lossy(line).trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> Result<String, Failure> {
        run(command("sh").args(["-c", script]), &|_| ()).await
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let said = shell("seq 100 >&2; echo oops >&2; exit 3").await;
        let Err(Failure::Failed(tail)) = said else {
            panic!("{said:?}");
        };
        assert_eq!(tail.lines().count(), LINES_KEPT, "{tail}");
        assert!(tail.contains("100") && tail.contains("oops"), "{tail}");
    }

    #[tokio::test]
    async fn a_line_without_an_end_and_what_is_no_text_are_taken() {
        let script =
            "head -c 300000 /dev/zero | tr '\\0' x; printf 'caf\\351\\n'; echo after || kill $$";
        let said = shell(script).await.unwrap();
        let longest = said.lines().map(str::len).max();
        assert!(longest <= Some(LINE_BYTES_MAX) && said.len() > 300_000);
        assert!(
            said.ends_with("xcaf\u{fffd}\nafter"),
            "{}",
            &said[said.len() - 20..]
        );
    }

    #[tokio::test]
    async fn a_line_that_is_written_over_is_one() {
        let said = shell("printf '1%%\\r2%%\\r\\nend'").await;
        assert_eq!(said, Ok("1%\n2%\nend".to_owned()));
    }

    #[tokio::test]
    async fn a_missing_program_and_a_silent_one_are_told_apart() {
        let missing = run(&mut command("no-such-program"), &|_| ()).await;
        assert_eq!(missing, Err(Failure::Missing));
        let silent = shell("exit 4").await;
        assert!(matches!(silent, Err(Failure::Failed(why)) if why.contains('4')));
    }

    #[tokio::test]
    async fn what_is_printed_is_had_whole_and_bounded() {
        let print = async |script: &str, bytes_max| {
            output(command("sh").args(["-c", script]), bytes_max).await
        };
        let whole = print("seq 3; echo warning >&2", 100).await;
        assert_eq!(whole, Ok(b"1\n2\n3\n".to_vec()));
        let endless = print("while echo y; do :; done", 100).await;
        assert!(matches!(endless, Err(Failure::Failed(why)) if why.contains("100 bytes")));
        let failed = print("echo x; echo why >&2; exit 1", 100).await;
        assert_eq!(failed, Err(Failure::Failed("why".to_owned())));
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_and_one_that_leaves_its_pipes_to_another_is_not_waited_for() {
        let limit = Duration::from_millis(50);
        let mut sleeper = command("sleep");
        let hangs = run_for(sleeper.arg("60"), limit, &|_| ()).await;
        assert!(matches!(hangs, Err(Failure::Failed(why)) if why.contains("was ended")));
        let said = shell("sleep 60 & echo $!").await.unwrap();
        let left = rustix::process::Pid::from_raw(said.parse().unwrap()).unwrap();
        rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn no_secret_of_an_address_is_passed_on() {
        let said = shell("echo https://ada:secret@host/x").await.unwrap();
        assert_eq!(said, "https://***@host/x");
    }

    #[tokio::test]
    async fn what_would_mislead_it_is_not_passed_on() {
        let mut command = command("sh");
        let removed = |name| {
            let mut variables = command.as_std().get_envs();
            variables.any(|(known, value)| known == name && value.is_none())
        };
        assert!(MISLEADING.into_iter().all(removed));
        command.args(["-c", "pwd"]);
        assert_eq!(run(&mut command, &|_| ()).await, Ok("/".to_owned()));
    }
}
