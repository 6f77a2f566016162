//! A foreign program run to its end: its lines are passed on, the last ones kept for an error.
//!
//! Knows nothing of what the program does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::Say;

/// How many of the last lines are kept.
const LINES_KEPT: usize = 12;

/// Variables that would lead Python, pip or uv to another environment than the one they are told.
const MISLEADING: [&str; 13] = [
    "CONDA_PREFIX",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_TARGET",
    "PYTHONHOME",
    "PYTHONPATH",
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
    let started = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Failure::Missing),
        Err(error) => return Err(Failure::Failed(error.to_string())),
    };
    let kept = RefCell::new(VecDeque::new());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    tokio::join!(read(output, &kept, say), read(errors, &kept, say));
    let status = child.wait().await;
    let tail = Vec::from(kept.into_inner()).join("\n");
    match status {
        Ok(status) if status.success() => Ok(tail),
        Ok(status) if tail.is_empty() => Err(Failure::Failed(format!("it ended with {status}"))),
        Ok(_) => Err(Failure::Failed(tail)),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// The same; nothing when it was ended since `stop` has ended. Then it is gone.
pub(super) async fn run_until(
    command: &mut Command,
    say: Say<'_>,
    stop: impl Future<Output = ()>,
) -> Option<Result<String, Failure>> {
    tokio::select! {
        done = run(command, say) => Some(done),
        () = stop => None,
    }
}

async fn read(
    from: Option<impl AsyncRead + Unpin>,
    kept: &RefCell<VecDeque<String>>,
    say: Say<'_>,
) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        say(line.trim_start());
        let mut kept = kept.borrow_mut();
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
    }
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
    async fn a_missing_program_and_a_silent_one_are_told_apart() {
        let missing = run(&mut command("no-such-program"), &|_| ()).await;
        assert_eq!(missing, Err(Failure::Missing));
        let silent = shell("exit 4").await;
        assert!(matches!(silent, Err(Failure::Failed(why)) if why.contains('4')));
    }

    #[tokio::test]
    async fn what_would_mislead_it_is_not_passed_on() {
        let mut command = command("sh");
        command.args(["-c", "echo \"${UV_TARGET-none}\"; pwd"]);
        assert_eq!(run(&mut command, &|_| ()).await, Ok("none\n/".to_owned()));
    }
}
