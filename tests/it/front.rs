//! Clients that know no gateway, real and unmodified, before kernels of nb: `nb launch` through the
//! kernelspecs that `nb kernel install` writes.
//!
//! A gateway on the same folders shows what became of the kernels, and ends them when a test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::driver::runs;
use crate::gateway::{Gateway, LIMIT, TOKEN, project, wait_for};
use crate::headless::clients_python;
use crate::processes::signal;

/// The kernel that every test uses.
const KERNEL: &str = "nb-python3";

pub(crate) struct Home {
    pub(crate) gateway: Gateway,
}

impl Home {
    /// One without kernelspecs of nb.
    pub(crate) async fn bare() -> Self {
        Self {
            gateway: Gateway::start("auto").await,
        }
    }

    /// Installs a kernelspec of nb for one that there is.
    pub(crate) async fn install_spec(&self, spec: &str) {
        let mut install = self.command(env!("CARGO_BIN_EXE_nb"));
        install.args(["kernel", "install", spec]);
        runs(install).await;
    }

    /// One whose kernelspec has these arguments on top.
    pub(crate) async fn new(arguments: &[&str]) -> Self {
        let home = Self::bare().await;
        home.install(arguments).await;
        home
    }

    /// One with the kernelspecs `books`, whose kernel has what clients have, and `nb-books`.
    pub(crate) async fn of_clients() -> Self {
        let home = Self::bare().await;
        let argv = json!([
            clients_python(),
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}"
        ]);
        let spec = json!({"argv": argv, "language": "python", "display_name": "Books"});
        home.gateway.put_spec("books", &spec);
        home.install_spec("books").await;
        home
    }

    async fn install(&self, arguments: &[&str]) {
        self.install_spec("python3").await;
        let file = self.root().join("jupyter/kernels").join(KERNEL);
        let file = file.join("kernel.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let argv = spec["argv"].as_array_mut().unwrap();
        argv.extend(arguments.iter().map(|argument| json!(argument)));
        fs::write(file, spec.to_string()).unwrap();
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.gateway.root()
    }

    /// A program in the environment of a user who has only this folder.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        self.set_environment(&mut command);
        command
    }

    /// Of a user who has only this folder.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        let root = self.root();
        command
            .env("HOME", &root)
            .env("NB_RUNTIME_DIR", root.join("run"))
            .env("NB_DATA_DIR", root.join("data"))
            .env("NB_STATE_DIR", root.join("state"))
            .env("NB_TOKEN", TOKEN)
            .env("JUPYTER_DATA_DIR", root.join("jupyter"))
            // Where others install theirs who know of no such variable.
            .env("JUPYTER_PATH", root.join(".local/share/jupyter"))
            .env("JUPYTER_RUNTIME_DIR", root.join("jupyter-run"))
            .env("IT_KERNEL", KERNEL)
            .env("IT_GO_ON", root.join("go-on"))
            .current_dir(&root)
            .stdin(Stdio::null())
            .kill_on_drop(true);
    }

    pub(crate) fn python(&self) -> Command {
        let python = project("target/clients-env/bin/python");
        assert!(python.exists(), "run cargo xtask setup");
        self.command(python)
    }

    pub(crate) fn case(&self, case: &str) -> Command {
        let mut command = self.python();
        command.arg(project("tests/python/front.py"));
        command.args([case, KERNEL]);
        // What clients that are killed leave.
        command.env("TMPDIR", self.root());
        command
    }

    /// Runs a case to its good end, after which no kernel is left.
    async fn passes(&self, case: &str) {
        runs(self.case(case)).await;
        assert_eq!(self.kernels().await, Vec::<Value>::new());
    }

    /// Starts a case that goes on; what it says first.
    async fn starts(&self, case: &str) -> (Child, BufReader<tokio::process::ChildStdout>, String) {
        let mut child = self.case(case).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let read = timeout(LIMIT, stdout.read_line(&mut line)).await;
        assert!(read.unwrap().unwrap() > 0, "{case} has ended");
        (child, stdout, line)
    }

    /// Waits until nothing is left of any kernel.
    async fn none_left(&self) {
        let kernels = self.root().join("run/kernels");
        let is_empty = || fs::read_dir(&kernels).unwrap().next().is_none();
        wait_for("no kernel is left", || is_empty().then_some(())).await;
    }

    pub(crate) async fn kernels(&self) -> Vec<Value> {
        let (status, kernels) = self.gateway.rest("GET", "/api/kernels", "").await;
        assert_eq!(status, 200, "{kernels}");
        kernels.as_array().unwrap().clone()
    }
}

fn lives(pid: &Value) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    state.is_some_and(|state| state != "Z")
}

async fn gone(what: &str, pid: &Value) {
    wait_for(what, || (!lives(pid)).then_some(())).await;
}

fn kill(pid: &Value) {
    signal(pid.as_u64().unwrap().try_into().unwrap(), Signal::KILL);
}

#[tokio::test]
async fn nbclient_runs_notebooks() {
    Home::new(&[]).await.passes("notebook").await;
}

#[tokio::test]
async fn nbclient_runs_notebooks_behind_a_gateway() {
    let home = Home::new(&[]).await;
    let url = format!("http://127.0.0.1:{}", home.gateway.port);
    home.install(&["--gateway", &url]).await;
    home.passes("notebook").await;
    home.passes("interrupts").await;
}

/// The kernel there lives on for a while when the front is killed, as one of this machine does.
#[tokio::test]
async fn a_kernel_behind_a_gateway_lingers_too() {
    let home = Home::new(&[]).await;
    let url = format!("http://127.0.0.1:{}", home.gateway.port);
    home.install(&["--gateway", &url, "--linger", "2h"]).await;
    let (mut client, _stdout, known) = home.starts("kept").await;
    let known: Value = serde_json::from_str(&known).unwrap();
    let kernels = home.kernels().await;
    let id = kernels[0]["id"].as_str().unwrap();
    let start = home.root().join("run/kernels").join(id).join("start.json");
    let start: Value = serde_json::from_slice(&fs::read(start).unwrap()).unwrap();
    assert_eq!(start["linger_ms"], 7_200_000);
    home.gateway.delete(id).await;
    client.start_kill().unwrap();
    client.wait().await.unwrap();
    gone("the front ends", &known["front"]).await;
}

#[tokio::test]
async fn papermill_runs_a_notebook_with_parameters() {
    let home = Home::new(&[]).await;
    let cell = |source: &str, tags: &[&str]| {
        json!({"cell_type": "code", "source": source, "metadata": {"tags": tags}, "outputs": [],
            "execution_count": null})
    };
    let notebook = json!({
        "cells": [cell("n = 1", &["parameters"]), cell("print(n * n)", &[])],
        "metadata": {"kernelspec": {"name": KERNEL, "language": "python", "display_name": "x"}},
        "nbformat": 4, "nbformat_minor": 4,
    });
    fs::write(home.root().join("in.ipynb"), notebook.to_string()).unwrap();
    let mut papermill = home.python();
    papermill.args(["-m", "papermill", "in.ipynb", "out.ipynb", "-p", "n", "7"]);
    runs(papermill).await;
    let done = fs::read(home.root().join("out.ipynb")).unwrap();
    let done: Value = serde_json::from_slice(&done).unwrap();
    let last = done["cells"].as_array().unwrap().last().unwrap();
    assert_eq!(last["outputs"][0]["text"], json!(["49\n"]), "{done}");
    assert!(home.kernels().await.is_empty());
}

#[tokio::test]
async fn jupyter_kernel_test_passes() {
    let home = Home::new(&[]).await;
    let mut suite = home.python();
    suite.args(["-m", "unittest", "kernel_tests"]);
    suite.env("PYTHONPATH", project("tests/python"));
    suite.env("PYTHONDONTWRITEBYTECODE", "1");
    runs(suite).await;
    assert!(home.kernels().await.is_empty());
}

#[tokio::test]
async fn jupyter_console_joins_a_kernel_of_another_client() {
    Home::new(&[]).await.passes("existing").await;
}

#[tokio::test]
async fn interrupts_reach_the_kernel_as_message_and_as_signal() {
    Home::new(&[]).await.passes("interrupts").await;
}

#[tokio::test]
async fn a_restart_keeps_the_sockets_and_leaves_no_second_kernel() {
    Home::new(&[]).await.passes("restart").await;
}

#[tokio::test]
async fn input_is_asked_of_whoever_runs_the_cell() {
    Home::new(&[]).await.passes("stdin").await;
}

#[tokio::test]
async fn a_kernel_that_dies_is_started_again_until_it_is_dead_for_good() {
    Home::new(&[]).await.passes("deaths").await;
}

#[tokio::test]
async fn a_kernel_whose_supervisor_dies_goes_on() {
    Home::new(&[]).await.passes("orphaned").await;
}

#[tokio::test]
async fn what_a_client_does_not_read_is_lost_nowhere_and_not_held_by_the_front() {
    Home::new(&[]).await.passes("unread").await;
}

#[tokio::test]
async fn a_kernel_outlives_a_client_that_is_killed_by_its_linger() {
    let home = Home::new(&["--linger", "4s"]).await;
    let (mut client, _stdout, known) = home.starts("kept").await;
    let known: Value = serde_json::from_str(&known).unwrap();
    kill(&known["client"]);
    client.wait().await.unwrap();
    gone("the front ends with its client", &known["front"]).await;
    let kernels = home.kernels().await;
    assert_eq!(kernels.len(), 1);
    assert!(lives(&known["kernel"]));
    // As long as somebody is connected it is not alone.
    let id = kernels[0]["id"].as_str().unwrap().to_owned();
    let mut other = home.gateway.connect(&id, "other").await;
    let longer = "import time; time.sleep(5); print('done')";
    assert_eq!(other.run(longer).await.text, "done\n");
    drop(other);
    gone("the kernel ends", &known["kernel"]).await;
    home.none_left().await;
}

#[tokio::test]
async fn a_kernel_may_die_with_its_client() {
    let home = Home::new(&["--die-with-client"]).await;
    for victim in ["client", "front"] {
        let (mut client, _stdout, known) = home.starts("kept").await;
        let known: Value = serde_json::from_str(&known).unwrap();
        kill(&known[victim]);
        gone("the kernel ends with it", &known["kernel"]).await;
        home.none_left().await;
        drop(client.start_kill());
        client.wait().await.unwrap();
        gone("the front ends", &known["front"]).await;
    }
}

#[tokio::test]
async fn a_lost_line_is_mended_without_loss_or_repetition() {
    const THEFTS: u64 = 10;
    let home = Home::new(&[]).await;
    let go_on = home.root().join("go-on");
    fs::write(&go_on, "").unwrap();
    let (mut client, mut stdout, _) = home.starts("long").await;
    let kernels = home.kernels().await;
    let id = kernels[0]["id"].as_str().unwrap().to_owned();
    let session = async || {
        let path = "/v1/connections";
        let (_, sessions) = home.gateway.ask_supervisor(&id, "GET", path, "").await;
        sessions[0].clone()
    };
    for _ in 0..THEFTS {
        let before = session().await;
        // Takes the front's place. It reads nothing, so it acknowledges nothing of what is sent to it.
        let thief = home
            .gateway
            .connect(&id, before["session_id"].as_str().unwrap());
        let thief = thief.await;
        let deadline = Instant::now() + LIMIT;
        while session().await["cursor"].as_u64() <= before["cursor"].as_u64() {
            assert!(Instant::now() < deadline, "the front does not come back");
        }
        drop(thief);
    }
    fs::remove_file(go_on).unwrap();
    let mut line = String::new();
    let read = timeout(LIMIT, stdout.read_line(&mut line)).await;
    read.unwrap().unwrap();
    assert!(client.wait().await.unwrap().success(), "{line}");
    // At least what was acknowledged between one theft and the next.
    let lines: Value = serde_json::from_str(&line).unwrap();
    assert!(lines["lines"].as_u64().unwrap() >= THEFTS, "{line}");
}

#[tokio::test]
async fn what_cannot_be_launched_is_told_in_a_sentence() {
    let home = Home::new(&[]).await;
    home.gateway
        .put_shell_spec("bad", "echo no luck >&2; exit 3");
    let metadata = json!({"kernel_provisioner": {"provisioner_name": "yarn-provisioner"}});
    let far = json!({"argv": ["/bin/sh", "-c", "exit 3"], "metadata": metadata});
    home.gateway.put_spec("far", &far);
    let connection = json!({
        "transport": "ipc", "ip": home.root().join("k"), "shell_port": 1, "iopub_port": 2,
        "stdin_port": 3, "control_port": 4, "hb_port": 5, "key": "k",
        "signature_scheme": "hmac-sha256",
    });
    fs::write(home.root().join("c.json"), connection.to_string()).unwrap();
    for (arguments, told) in [
        (vec!["bad", "-f", "c.json"], "no luck"),
        (vec!["far", "-f", "c.json"], "yarn-provisioner"),
        (
            vec!["none", "-f", "c.json"],
            "there is no kernelspec \"none\"",
        ),
        (
            vec!["python3", "-f", "none.json"],
            "none.json cannot be used",
        ),
        (
            vec!["python3", "-f", "c.json", "--gateway", "https://h"],
            "nb speaks no TLS yet",
        ),
        (
            vec!["python3", "-f", "c.json", "--gateway", "http://127.0.0.1:1"],
            "the gateway at 127.0.0.1:1: ",
        ),
    ] {
        let mut nb = home.command(env!("CARGO_BIN_EXE_nb"));
        let done = nb.arg("launch").args(&arguments).output();
        let done = timeout(LIMIT, done).await.expect("it hangs").unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
    assert!(home.kernels().await.is_empty());
}
