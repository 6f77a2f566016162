//! `nb init`, the first process of a container: here of a pid namespace.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Signal, geteuid};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::Client;
use crate::gateway::{LIMIT, TOKEN, page, put_python, wait_for};
use crate::processes::signal;

/// All processes: pid, state and parent.
fn processes() -> Vec<(u32, String, u32)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.to_owned();
        Some((pid, state, fields.next()?.parse().ok()?))
    };
    pids.filter_map(process).collect()
}

fn children(parent: u32) -> Vec<(u32, String)> {
    let all = processes().into_iter().filter(|(_, _, of)| *of == parent);
    all.map(|(pid, state, _)| (pid, state)).collect()
}

fn is(pid: u32, command: &str) -> bool {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').nth(1) == Some(command)
}

/// `nb init -- nb serve` in a pid namespace, which ends with the child.
fn contained(home: &Path, port: u16) -> Child {
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let nb = env!("CARGO_BIN_EXE_nb");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .args([nb, "init", "--", nb, "serve", "--port"])
        .arg(port.to_string())
        .arg("--root")
        .arg(home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("NB_RUNTIME_DIR", home.join("run"))
        .env("NB_DATA_DIR", home.join("data"))
        .env("NB_STATE_DIR", home.join("state"))
        .env("NB_TOKEN", TOKEN)
        .env("NB_LOG", "warn")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the gateway takes connections.
async fn open(port: u16) {
    wait_for("a gateway", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })
    .await;
}

#[tokio::test]
async fn kernels_in_a_container_outlive_their_gateway_which_comes_back_and_end_with_all() {
    let home = tempfile::tempdir().unwrap();
    put_python(home.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut container = contained(home.path(), port);
    open(port).await;
    let init = children(container.id().unwrap())[0].0;
    let gateway = || {
        let found = children(init)
            .into_iter()
            .find(|(pid, _)| is(*pid, "serve"));
        found.map(|(pid, _)| pid)
    };
    let start = async || {
        let (status, kernel) = page(port, TOKEN, "POST", "/api/kernels", "{}").await;
        assert_eq!(status, 201, "{kernel}");
        let kernel: Value = serde_json::from_str(&kernel).unwrap();
        kernel["id"].as_str().unwrap().to_owned()
    };
    let kernel = start().await;
    let mut client = Client::connect(port, TOKEN, &kernel, "a").await;
    assert_eq!(client.run("x = 6").await.reply["status"], "ok");

    let first = gateway().unwrap();
    signal(first, Signal::KILL);
    wait_for("another gateway", || gateway().filter(|pid| *pid != first)).await;
    open(port).await;
    assert_eq!(client.run("print(x * 7)").await.text, "42\n");
    let path = format!("/api/kernels/{kernel}");
    assert_eq!(page(port, TOKEN, "GET", &path, "").await.0, 200);
    // Its supervisor is an orphan, for which nobody else waits.
    let supervisor = children(init)
        .into_iter()
        .find(|(pid, _)| is(*pid, "supervise"));
    let (supervisor, _) = supervisor.expect("it has another parent");
    assert_eq!(page(port, TOKEN, "DELETE", &path, "").await.0, 204);
    wait_for("an end without a zombie", || {
        (!Path::new(&format!("/proc/{supervisor}")).exists()).then_some(())
    })
    .await;

    // When all ends, kernels end in order: their supervisors clear up. One is the gateway's child, one an orphan.
    start().await;
    let second = gateway().unwrap();
    signal(second, Signal::KILL);
    wait_for("a third gateway", || gateway().filter(|pid| *pid != second)).await;
    open(port).await;
    start().await;
    signal(init, Signal::TERM);
    let ended = timeout(LIMIT, container.wait())
        .await
        .expect("it does not end");
    assert_eq!(ended.unwrap().code(), Some(0));
    assert_eq!(
        fs::read_dir(home.path().join("run/kernels"))
            .unwrap()
            .count(),
        0
    );
}

fn init(program: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    command.args(["init", "--"]).args(program);
    command
        .env_clear()
        .env("NB_LOG", "off")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_program_that_dies_at_once_is_started_again_and_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo x >>starts; exit 3";
    let mut process = init(&["/bin/sh", "-c", script])
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let starts = || {
        fs::read_to_string(folder.path().join("starts"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    wait_for("three starts", || (starts() >= 3).then_some(())).await;
    signal(process.id().unwrap(), Signal::TERM);
    let ended = timeout(LIMIT, process.wait())
        .await
        .expect("it does not end");
    assert_eq!(ended.unwrap().code(), Some(3));

    let missing = timeout(LIMIT, init(&["/no/such/program"]).output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(
        !missing.status.success() && said.contains("/no/such/program cannot be run"),
        "{said}"
    );
}

#[tokio::test]
async fn signals_reach_the_program_and_those_that_are_no_end_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "trap 'echo hup >>heard' HUP; trap 'exit 7' INT; echo >ready; while :; do sleep 0.01; done";
    let mut process = init(&["/bin/sh", "-c", script])
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let there = |name: &str| folder.path().join(name).exists().then_some(());
    wait_for("the program", || there("ready")).await;
    signal(process.id().unwrap(), Signal::HUP);
    wait_for("the signal", || there("heard")).await;
    assert!(process.try_wait().unwrap().is_none());
    signal(process.id().unwrap(), Signal::INT);
    let ended = timeout(LIMIT, process.wait())
        .await
        .expect("it does not end");
    assert_eq!(ended.unwrap().code(), Some(7));
}
