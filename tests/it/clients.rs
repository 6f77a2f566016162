//! Real clients, in programs of their own: @jupyterlab/services from Node, and JupyterLab from `nb up`
//! in Chromium.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::{Gateway, TOKEN};

/// A suite that takes longer hangs; its own steps have deadlines of a minute.
const SUITE_LIMIT: Duration = Duration::from_secs(300);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn node(script: &str, arguments: &[&str]) {
    let suite = Command::new("node")
        .arg(project("tests/js").join(script))
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = timeout(SUITE_LIMIT, suite)
        .await
        .expect("the suite hangs")
        .unwrap();
    let (said, errors) = (output.stdout.as_slice(), output.stderr.as_slice());
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(said),
        String::from_utf8_lossy(errors)
    );
}

#[tokio::test]
async fn jupyterlab_services_from_node() {
    let gateway = Gateway::start("auto").await;
    let url = format!("http://127.0.0.1:{}/", gateway.port);
    node("services.mjs", &[&url, TOKEN]).await;
}

#[tokio::test]
async fn jupyterlab_of_up_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_nb"))
        .args(["up", "--port", "0", "--root"])
        .arg(folder.path())
        .env("HOME", folder.path())
        .env("NB_RUNTIME_DIR", folder.path().join("run"))
        .env("NB_STATE_DIR", folder.path().join("state"))
        // Made once and kept: what a second `up` on this machine finds.
        .env("NB_DATA_DIR", project("target/nb-data"))
        .env_remove("NB_TOKEN")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut url = String::new();
    let mut stdout = BufReader::new(up.stdout.take().unwrap());
    let told = timeout(SUITE_LIMIT, stdout.read_line(&mut url)).await;
    told.expect("nb up says nothing").unwrap();
    let shots = project("target/screenshots");
    node("lab.mjs", &[url.trim(), shots.to_str().unwrap()]).await;
    let pid = up.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    kill_process(pid.unwrap(), Signal::INT).unwrap();
    let ended = timeout(SUITE_LIMIT, up.wait())
        .await
        .expect("nb up does not end");
    assert!(ended.unwrap().success());
    let left = std::fs::read_dir(folder.path().join("run/up/kernels")).unwrap();
    assert_eq!(left.count(), 0);
}
