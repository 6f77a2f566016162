//! A build tool of a repository's own (pants, bazel): where it is, and a run of it whose lines are shown as they come.
//!
//! The tool and what it starts is one process group, which ends with the run, however that ends. What has a session of its
//! own, as all that pants starts, is the tool's to end; where the tool itself is ended by force, it goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Say, tool};

/// How long a tool may take to end after an interrupt.
const GRACE: Duration = Duration::from_secs(3);

/// Of what it prints to stdout, the last lines are given back, and of all that it says for an error.
const LINES_KEPT: usize = 200;

/// A tool, where it is to run, and with which variables.
#[derive(Clone, Debug)]
pub struct Tool {
    pub program: PathBuf,
    pub folder: PathBuf,
    pub env: BTreeMap<String, String>,
}

/// Why a run did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Interrupted,
    /// What it said last.
    Failed(String),
}

/// The first of these programs: one with a slash is a file in the folder, others are looked for on the path.
pub fn find(programs: &[&str], folder: &Path, path: &str) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        let about = fs::metadata(file);
        about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let mut places = programs
        .iter()
        .flat_map(|program| match program.contains('/') {
            true => vec![folder.join(program)],
            false => std::env::split_paths(path)
                .map(|folder| folder.join(program))
                .collect(),
        });
    places.find(is_program)
}

/// The nearest folder from here upwards that has one of these files.
pub fn root(folder: &Path, files: &[&str]) -> Option<PathBuf> {
    let mut folders = folder.ancestors();
    let root = folders.find(|folder| files.iter().any(|file| folder.join(file).is_file()));
    root.map(Path::to_owned)
}

impl Tool {
    /// Runs it until it ends or `stop` does; gives the lines that it printed to stdout last.
    pub async fn run(
        &self,
        arguments: &[&str],
        say: Say<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<String>, Ended> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder);
        command.env_clear().envs(&self.env).process_group(0);
        let mut running = tool::start(&mut command)
            .map_err(|failure| Ended::Failed(format!("{}: {failure}", self.program.display())))?;
        let child = &mut running.child;
        let mut group = Group {
            leader: child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)),
            is_led: true,
        };
        let run = finish(child, say);
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => {
                // All that is left of it has its own reasons, as the server of a build tool has.
                group.leader = None;
                ended
            }
            () = stop => {
                group.signal(Signal::INT);
                group.is_led = timeout(GRACE, &mut run).await.is_err();
                Err(Ended::Interrupted)
            }
        }
    }
}

async fn finish(child: &mut Child, say: Say<'_>) -> Result<Vec<String>, Ended> {
    let failed = |error: std::io::Error| Ended::Failed(error.to_string());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut printed = Vec::new();
    let mut said = Vec::new();
    {
        let mut keep_out = |line: String| {
            say(&line);
            keep(&mut printed, line);
        };
        let mut keep_err = |line: String| {
            say(&line);
            keep(&mut said, line);
        };
        tokio::join!(
            tool::lines(stdout, &mut keep_out),
            tool::lines(stderr, &mut keep_err)
        );
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(printed);
    }
    said.extend(printed);
    said.push(format!("It ended with {status}."));
    Err(Ended::Failed(said.join("\n")))
}

fn keep(lines: &mut Vec<String>, line: String) {
    if lines.len() == LINES_KEPT {
        lines.remove(0);
    }
    lines.push(line);
}

/// Ends a process group when it is dropped, and what its leader has started elsewhere as long as there is the leader.
struct Group {
    leader: Option<Pid>,
    is_led: bool,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.leader {
            // It has ended already.
            let _gone = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let elsewhere = match self.leader {
            Some(leader) if self.is_led => below(leader),
            _ => Vec::new(),
        };
        self.signal(Signal::KILL);
        for process in elsewhere {
            let _gone = kill_process(process, Signal::KILL);
        }
    }
}

/// What a process has started, and what that has.
fn below(process: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<_> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((Pid::from_raw(pid)?, parse_parent(&stat)?))
        })
        .collect();
    let mut found = vec![process];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = all.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// The parent in `/proc/PID/stat`: the second word behind the name, which may hold anything.
fn parse_parent(stat: &str) -> Option<Pid> {
    let (_, behind) = stat.rsplit_once(')')?;
    Pid::from_raw(behind.split_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future;

    fn shell() -> Tool {
        let path = std::env::var("PATH").unwrap();
        Tool {
            program: find(&["sh"], Path::new("/"), &path).unwrap(),
            folder: PathBuf::from("/"),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
        }
    }

    #[tokio::test]
    async fn lines_are_shown_as_they_come_and_those_of_stdout_given_back() {
        let shown = RefCell::new(Vec::new());
        let say = |line: &str| shown.borrow_mut().push(line.to_owned());
        let shell = shell();
        let ran = shell.run(&["-c", "echo a; echo b >&2; pwd"], &say, future::pending());
        assert_eq!(ran.await, Ok(vec!["a".to_owned(), "/".to_owned()]));
        assert_eq!(shown.borrow().len(), 3);
        let failed = shell
            .run(&["-c", "echo why >&2; exit 3"], &say, future::pending())
            .await;
        assert!(
            matches!(failed, Err(Ended::Failed(why)) if why.starts_with("why\n") && why.contains('3'))
        );
    }

    #[tokio::test]
    async fn an_interrupt_ends_all_that_was_started() {
        let shown = RefCell::new(Vec::new());
        let started = tokio::sync::Notify::new();
        let say = |line: &str| {
            shown.borrow_mut().push(line.to_owned());
            if shown.borrow().len() == 2 {
                started.notify_one();
            }
        };
        // It does not listen to the interrupt, and neither does what it starts, in its session and in another.
        let script =
            "trap '' INT; sleep 600 & echo $!; setsid sh -c 'sleep 600 & echo $!; wait' & wait";
        let ended = shell().run(&["-c", script], &say, started.notified()).await;
        assert_eq!(ended, Err(Ended::Interrupted));
        let is_gone = |pid: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            status.map_or(true, |text| text.contains("State:\tZ"))
        };
        timeout(Duration::from_secs(60), async {
            while !shown.borrow().iter().all(is_gone) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[test]
    fn a_repository_is_found_from_below() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(folder.path().join("pants.toml"), "").unwrap();
        assert_eq!(
            root(&below, &["pants.toml"]).as_deref(),
            Some(folder.path())
        );
        assert_eq!(root(&below, &["MODULE.bazel.none"]), None);
        assert_eq!(find(&["./pants"], folder.path(), ""), None);
    }
}
