//! Processes that a tool leaves behind when it or its nb is killed: marked by a variable, found by it, ended.
//!
//! Whoever ends those of a folder holds the lock on it, so nobody works there. Knows nothing of what they do.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// What a tool and all that it starts have in their environment: the folder that they change.
pub(super) const MARK: &str = "NB_WORKS_IN";

/// A killed process that is not gone by then waits for a disk that does not answer.
const LIMIT: Duration = Duration::from_secs(20);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether this process was started by a tool that changes a folder.
pub fn is_within_a_tool() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Whether a process was started by a tool that changes a folder, and by which is all the same.
pub(super) fn is_marked(pid: u32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut names = environment
        .split(|byte| *byte == 0)
        .filter_map(|one| one.strip_prefix(MARK.as_bytes()));
    names.any(|rest| rest.starts_with(b"="))
}

/// Marks what is going to change the folder.
pub(super) fn mark(command: &mut Command, folder: &Path) {
    command.env(MARK, folder);
}

/// Kills all that is marked with the folder, and waits until it is gone.
pub(super) async fn end(folder: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = marked(folder);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let pid = left[0].as_raw_nonzero();
            let folder = folder.display();
            return Err(Error::user(format!(
                "process {pid} still works in {folder} and cannot be killed"
            )));
        }
        for pid in left {
            let _gone = kill_process(pid, Signal::KILL);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Those that run; a dead one that nobody has reaped has no environment.
fn marked(folder: &Path) -> Vec<Pid> {
    let mut mark = MARK.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend(folder.as_os_str().as_bytes());
    let is_marked = |name: &OsStr| {
        let environment = fs::read(Path::new("/proc").join(name).join("environ"));
        let environment = environment.unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == mark)
    };
    let ourselves = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| {
        let name = process.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        let is_left = pid != ourselves && is_marked(&name);
        is_left.then(|| Pid::from_raw(pid.try_into().ok()?))?
    });
    pids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::tool;
    use std::process::Stdio;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_a_killed_tool_started_is_ended_and_nothing_else() {
        let (folder, other) = (Path::new("/its/folder"), Path::new("/its/folder-too"));
        let start = async |folder: &Path| {
            let mut command = tool::command("sh");
            mark(&mut command, folder);
            let command = command.args(["-c", "sleep 60 & echo; wait"]);
            let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn();
            let child = child.as_mut().unwrap();
            let mut output = child.stdout.take().unwrap();
            output.read_exact(&mut [0]).await.unwrap();
            child.kill().await.unwrap();
        };
        start(folder).await;
        start(other).await;
        assert_eq!((marked(folder).len(), marked(other).len()), (1, 1));
        end(folder).await.unwrap();
        assert_eq!((marked(folder).len(), marked(other).len()), (0, 1));
        end(other).await.unwrap();
    }
}
