//! `nb create`: notebook servers with names, from a repository to a kernel that works in it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::{self, project, wait_for};
use crate::up::SET_UP_LIMIT;

/// nb, for somebody with this home.
fn nb(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    command
        .args(arguments)
        .current_dir(home)
        .env("HOME", home)
        .env("NB_RUNTIME_DIR", home.join("run"))
        .env("NB_STATE_DIR", home.join("state"))
        .env("NB_DATA_DIR", project("target/nb-data"))
        .env_remove("NB_TOKEN")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What it prints, and its end: whether it was a good one.
async fn said(home: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = timeout(SET_UP_LIMIT, nb(home, arguments).output()).await;
    let output = output.expect("nb hangs").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn done(home: &Path, arguments: &[&str]) -> String {
    let (is_done, said, problem) = said(home, arguments).await;
    assert!(is_done, "{arguments:?}: {problem}");
    said
}

async fn listed(home: &Path) -> Value {
    serde_json::from_str(&done(home, &["list", "--json"]).await).unwrap()
}

/// Ends whatever a failed test leaves.
struct Leaves<'a>(&'a Path);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        for (pid, _) in crate::up::of_home(self.0) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// A repository with one file; its name is that of the workspace, which lies beside those of others.
fn repository(root: &Path, name: &str) -> String {
    let folder = root.join(name);
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git")
            .args(["-c", "user.name=it", "-c", "user.email=it@localhost"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let path = folder.to_str().unwrap().to_owned();
    git(&["init", "-q", "-b", "main", &path]);
    fs::write(folder.join("only-here.txt"), "x").unwrap();
    git(&["-C", &path, "add", "."]);
    git(&["-C", &path, "commit", "-q", "-m", "one"]);
    format!("file://{path}")
}

#[tokio::test]
async fn one_is_made_of_a_repository_stopped_started_again_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let _leaves = Leaves(home);
    let workspace = format!("it-create-{}", std::process::id());
    let url = repository(home, &workspace);
    let (is_there, _, problem) = said(home, &["open", "mine"]).await;
    assert!(!is_there && problem.contains("nb create mine"), "{problem}");

    let address = done(
        home,
        &["create", "mine", "--port", "0", "--workspace", &url],
    )
    .await;
    let address = address.trim();
    let (lab, token) = address.split_once("/lab?token=").expect(address);
    let port: u16 = lab.rsplit_once(':').unwrap().1.parse().unwrap();
    let lab = format!("/lab?token={token}");
    let (status, page) = gateway::page(port, token, "GET", &lab, "").await;
    assert!(
        status == 200 && page.contains("<title>JupyterLab"),
        "{page}"
    );
    // Its notebooks are the files of the repository.
    let (status, files) = gateway::page(port, token, "GET", "/api/contents", "").await;
    assert!(status == 200 && files.contains("only-here.txt"), "{files}");
    let (status, kernel) = gateway::page(port, token, "POST", "/api/kernels", "{}").await;
    assert_eq!(status, 201, "{kernel}");

    let shown = listed(home).await;
    assert_eq!(shown[0]["name"], "mine", "{shown}");
    assert_eq!(shown[0]["state"], "running", "{shown}");
    assert_eq!(shown[0]["workspace"], *workspace, "{shown}");
    // The token is told to whoever asks for it and nobody else.
    assert!(!shown.to_string().contains(token), "{shown}");
    assert_eq!(
        done(home, &["open", "mine", "--no-browser"]).await.trim(),
        address
    );
    let (is_again, _, problem) = said(home, &["create", "mine"]).await;
    assert!(!is_again && problem.contains("runs already"), "{problem}");
    let (is_gone, _, problem) = said(home, &["delete", "mine"]).await;
    assert!(!is_gone && problem.contains("nb stop mine"), "{problem}");
    let tokens: Vec<String> = crate::up::of_home(home)
        .into_iter()
        .filter_map(|(_, command)| command.contains(token).then_some(command))
        .collect();
    assert_eq!(tokens, Vec::<String>::new());

    done(home, &["stop", "mine"]).await;
    wait_for("its end", || {
        crate::up::of_home(home).is_empty().then_some(())
    })
    .await;
    assert_eq!(listed(home).await[0]["state"], "stopped");
    // As it was, without being told again.
    let again = done(home, &["create", "mine", "--port", "0", "--json"]).await;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert!(
        again["url"].as_str().unwrap().contains("/lab?token="),
        "{again}"
    );
    assert_eq!(listed(home).await[0]["workspace"], *workspace);
    done(home, &["delete", "mine", "--force"]).await;
    wait_for("its end", || {
        crate::up::of_home(home).is_empty().then_some(())
    })
    .await;
    assert_eq!(listed(home).await, serde_json::json!([]));
    let left = fs::read_dir(home.join("run/servers")).unwrap().count();
    assert_eq!(left, 0, "a folder of its sockets");
    // The workspace is somebody's work.
    let path = project("target/nb-data/workspaces").join(&workspace);
    assert!(path.join("only-here.txt").exists());
    done(home, &["workspace", "delete", &workspace]).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn one_that_is_given_up_or_cannot_start_leaves_nothing_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let _leaves = Leaves(home);
    let (is_made, _, problem) = said(home, &["create", "../x"]).await;
    assert!(!is_made && problem.contains("no name"), "{problem}");
    let (is_made, _, problem) = said(home, &["create", "a", "--workspace", "none"]).await;
    assert!(!is_made && problem.contains("none"), "{problem}");
    // Somebody else's address.
    let (is_made, _, problem) = said(home, &["create", "a", "--ip", "192.0.2.7"]).await;
    assert!(!is_made && problem.contains("192.0.2.7"), "{problem}");
    wait_for("its end", || {
        crate::up::of_home(home).is_empty().then_some(())
    })
    .await;
    // Ctrl-C while it starts.
    let mut making = nb(home, &["create", "b", "--port", "0"]).spawn().unwrap();
    wait_for("its process", || {
        (crate::up::of_home(home).len() > 1).then_some(())
    })
    .await;
    let pid = Pid::from_raw(making.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = timeout(Duration::from_secs(60), making.wait()).await;
    assert!(!ended.expect("it does not end").unwrap().success());
    wait_for("its end", || {
        crate::up::of_home(home).is_empty().then_some(())
    })
    .await;
    assert_eq!(listed(home).await[1]["state"], "stopped");
}
