//! Asks interpreters what they are, and keeps what they said for as long as their files stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::search::Candidate;
use super::{About, Interpreter};
use crate::config::private_folder;
use crate::env::tool;

/// Python code that defines `about()`, which gives what an [`About`] is made of.
pub const ABOUT: &str = include_str!("about.py");

/// One that has not said what it is by then does not work.
const ONE: Duration = Duration::from_secs(10);

/// So many are asked at a time: each is a process that reads a library.
const AT_A_TIME: usize = 4;

/// One answer, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    inode: u64,
    modified: i64,
    /// Nothing: it does not work.
    about: Option<About>,
}

type Answers = BTreeMap<PathBuf, Kept>;

/// What those say that answer in time or have answered before.
pub(super) async fn all(data: &Path, found: Vec<Candidate>, within: Duration) -> Vec<Interpreter> {
    let until = Instant::now() + within;
    let file = data.join("interpreters.json");
    let mut answers = read(&file).await;
    let is_known = |candidate: &&Candidate| {
        answers.get(&candidate.path).is_some_and(|kept| {
            (kept.inode, kept.modified) == (candidate.inode, candidate.modified)
        })
    };
    let places = Semaphore::new(AT_A_TIME);
    let unknown = found.iter().filter(|candidate| !is_known(candidate));
    let mut asked: FuturesUnordered<_> = unknown
        .map(async |candidate: &Candidate| {
            let _place = places.acquire().await;
            (candidate, about(&candidate.path).await)
        })
        .collect();
    let mut heard = Vec::new();
    while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
        heard.push(answer);
    }
    drop(asked);
    let is_new = !heard.is_empty();
    for (candidate, about) in heard {
        let kept = Kept {
            inode: candidate.inode,
            modified: candidate.modified,
            about,
        };
        answers.insert(candidate.path.clone(), kept);
    }
    if is_new {
        answers.retain(|path, _| path.exists());
        let data = data.to_owned();
        let write = move || {
            keep(&data, &file, &answers);
            answers
        };
        answers = spawn_blocking(write).await.unwrap_or_default();
    }
    split(answers, found).0
}

/// What those say that have answered before, and where the others are.
pub(super) async fn known(data: &Path, found: Vec<Candidate>) -> (Vec<Interpreter>, Vec<PathBuf>) {
    split(read(&data.join("interpreters.json")).await, found)
}

async fn read(file: &Path) -> Answers {
    let kept = tokio::fs::read(file).await.ok();
    let answers = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
    answers.unwrap_or_default()
}

fn split(mut answers: Answers, found: Vec<Candidate>) -> (Vec<Interpreter>, Vec<PathBuf>) {
    let mut said = Vec::new();
    let mut silent = Vec::new();
    for Candidate {
        path,
        inode,
        modified,
    } in found
    {
        let kept = answers.remove(&path);
        match kept.filter(|kept| (kept.inode, kept.modified) == (inode, modified)) {
            Some(Kept {
                about: Some(about), ..
            }) => said.push(Interpreter { path, about }),
            Some(_) => {}
            None => silent.push(path),
        }
    }
    (said, silent)
}

/// What it says of itself; nothing when it does not work.
async fn about(path: &Path) -> Option<About> {
    let code = format!("{ABOUT}\nimport json\nprint(json.dumps(about()))\n");
    let mut command = tool::command(path);
    command.args(["-I", "-S", "-c", &code]);
    let said = timeout(ONE, tool::run(&mut command, &|_| ())).await;
    serde_json::from_str(said.ok()?.ok()?.lines().last()?).ok()
}

/// Another process may do the same: one of the two is kept. Where nothing can be written they are asked again.
fn keep(data: &Path, file: &Path, answers: &Answers) {
    let part = file.with_extension(format!("{}.part", std::process::id()));
    let write = || -> Option<()> {
        private_folder(data).ok()?;
        fs::write(&part, serde_json::to_vec(answers).ok()?).ok()?;
        fs::rename(&part, file).ok()
    };
    if write().is_none() {
        let _none = fs::remove_file(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::interpreters::search::look_at;
    use std::os::unix::fs::PermissionsExt;

    const ENOUGH: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_real_interpreter_is_asked_once() {
        let data = tempfile::tempdir().unwrap();
        let found = || {
            let path = std::env::var_os("PATH");
            let all = crate::env::interpreters::search::candidates(|name| {
                path.clone().filter(|_| name == "PATH")
            });
            vec![all.into_iter().next().expect("there is a Python")]
        };
        let first = all(data.path(), found(), ENOUGH).await;
        assert_eq!(first[0].about.version.number(0), 3);
        assert!(!first[0].about.platform.is_empty());
        // What it has said is taken from the file.
        let file = data.path().join("interpreters.json");
        let text = fs::read_to_string(&file).unwrap();
        let version = first[0].about.version.to_string();
        fs::write(&file, text.replace(&version, "3.1.41")).unwrap();
        let second = all(data.path(), found(), ENOUGH).await;
        assert_eq!(second[0].about.version.to_string(), "3.1.41");
        // A file that changes is asked again.
        let mut changed = found();
        changed[0].modified += 1;
        let third = all(data.path(), changed, ENOUGH).await;
        assert_eq!(third[0].about.version.to_string(), version);
    }

    #[tokio::test]
    async fn one_that_does_not_work_is_left_out_and_known() {
        let data = tempfile::tempdir().unwrap();
        let program = data.path().join("python3");
        fs::write(&program, "\x7fELF, or so it says").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let found = vec![look_at(&program).unwrap()];
        assert_eq!(all(data.path(), found, ENOUGH).await, []);
        let kept = fs::read_to_string(data.path().join("interpreters.json")).unwrap();
        assert!(kept.contains("\"about\":null"), "{kept}");
    }
}
