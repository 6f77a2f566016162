//! One environment and several who change it, at once or in the middle of each other.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use nb::protocol::message::Channel;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::{LOOK_AGAIN, SIX, builds, nb, notebook, own_package, run, with_uv};
use crate::client::{Client, cell};
use crate::gateway::{Gateway, wait_for};
use crate::processes::{pid_of, signal};
use crate::up::SET_UP_LIMIT;

/// The folder of the one environment there is.
fn of_notebook(gateway: &Gateway) -> PathBuf {
    let mut all = fs::read_dir(gateway.root().join("data/venvs")).unwrap();
    all.next().unwrap().unwrap().path()
}

/// A package whose build does not end, and what is there once it is built.
fn slow_package(gateway: &Gateway) -> (PathBuf, PathBuf) {
    let folder = own_package(&gateway.root(), "1");
    let marker = gateway.root().join("builds");
    let slow = format!("import pathlib, time\npathlib.Path({marker:?}).touch()\ntime.sleep(600)\n");
    fs::write(folder.join("setup.py"), slow).unwrap();
    (folder, marker)
}

async fn with_six() -> (Gateway, String, Client) {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut client = gateway.connect(&kernel, "a").await;
    run(&mut client, "%pip install -q six==1.16.0").await;
    (gateway, kernel, client)
}

#[tokio::test]
async fn a_cell_that_waits_for_another_process_can_be_interrupted() {
    let (gateway, _, mut a) = with_six().await;
    let lock = File::open(of_notebook(&gateway).join("lock")).unwrap();
    // Somebody copies files there for a while.
    let held = || flock(&lock, FlockOperation::NonBlockingLockExclusive).ok();
    wait_for("the lock", held).await;
    let request = a.submit("%pip install six==1.17.0").await;
    a.wait_for(&request, "waiting for another nb").await;
    a.send(Channel::Control, "interrupt_request", json!({}))
        .await;
    let stopped = a.outcome(&request, "").await;
    assert_eq!(stopped.reply["ename"], "KeyboardInterrupt", "{stopped:?}");
    drop(lock);
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
    run(&mut a, "%pip install -q six==1.17.0").await;
}

#[tokio::test]
async fn pip_in_a_shell_that_is_ended_takes_back_what_it_did() {
    let (gateway, _, mut a) = with_six().await;
    let before = run(&mut a, "%pip freeze").await;
    let (package, marker) = slow_package(&gateway);
    let folder = of_notebook(&gateway);
    for ends in [Signal::INT, Signal::TERM] {
        let _gone = fs::remove_file(&marker);
        let pip = Command::new(env!("CARGO_BIN_EXE_nb"))
            .args(["pip", "--python"])
            .arg(folder.join("env/bin/python"))
            .args(["install", "six==1.17.0"])
            .arg(&package)
            .env("HOME", gateway.root())
            .env("NB_DATA_DIR", gateway.root().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        wait_for("the build", || marker.exists().then_some(())).await;
        assert!(folder.join("env.undo/index").exists());
        signal(pip.id().unwrap(), ends);
        let ended = timeout(SET_UP_LIMIT, pip.wait_with_output()).await;
        let ended = ended.expect("pip does not end").unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            !ended.status.success() && said.contains("interrupted"),
            "{said}"
        );
        // By itself: nobody came after it.
        assert!(!folder.join("env.undo").exists());
        assert_eq!(builds(&marker), Vec::<i32>::new());
        assert_eq!(run(&mut a, "%pip freeze").await, before);
    }
}

#[tokio::test]
async fn what_a_kernel_without_a_notebook_had_goes_once_it_is_gone() {
    let gateway = with_uv().await;
    let kernel = gateway.kernel(&json!({"name": "pip"}).to_string()).await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    let folder = of_notebook(&gateway);
    let collect = async |how: &str| nb(&gateway, "env", &["gc", "notebooks", "--json", how]).await;
    assert_eq!(collect("--yes").await.trim(), "[]");
    // Nothing runs in it when it has died too often, and then it can be restarted still.
    let deadline = Instant::now() + SET_UP_LIMIT;
    loop {
        let model = gateway.model(&kernel).await;
        if model["execution_state"] == "dead" {
            break;
        }
        if model["execution_state"] == "idle" {
            signal(pid_of(&model, "kernel_pid"), Signal::KILL);
        }
        assert!(Instant::now() < deadline, "{model}");
        sleep(LOOK_AGAIN).await;
    }
    assert_eq!(collect("--yes").await.trim(), "[]");
    gateway.delete(&kernel).await;
    let name = folder.file_name().unwrap().to_str().unwrap();
    let listed: Vec<String> = serde_json::from_str(&collect("--dry-run").await).unwrap();
    assert_eq!(listed, [name]);
    assert!(folder.exists());
    let removed: Vec<String> = serde_json::from_str(&collect("--yes").await).unwrap();
    assert_eq!(removed, [name]);
    assert!(!folder.exists());
}

/// A kernelspec of an environment with a name, which several notebooks have.
fn put_shared(gateway: &Gateway) {
    let spec = json!({
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "shared", "language": "python",
        "metadata": {"nb": {"environment": "named", "name": "shared"}},
    });
    gateway.put_spec("shared", &spec);
}

#[tokio::test]
async fn two_notebooks_install_into_one_environment_at_once() {
    let gateway = with_uv().await;
    put_shared(&gateway);
    let first = notebook(&gateway, "a.ipynb", "shared").await;
    let second = notebook(&gateway, "b.ipynb", "shared").await;
    let mut a = gateway.connect(&first, "a").await;
    let mut b = gateway.connect(&second, "b").await;
    for (of_a, of_b) in [
        ("install -q six==1.16.0", "install -q iniconfig==2.0.0"),
        ("install -q six==1.17.0", "uninstall -q -y iniconfig"),
        ("uninstall -q -y six", "install -q iniconfig==2.1.0"),
        ("install -q six==1.16.0", "install -q six==1.16.0"),
    ] {
        let (of_a, of_b) = (format!("%pip {of_a}"), format!("%pip {of_b}"));
        tokio::join!(run(&mut a, &of_a), run(&mut b, &of_b));
        let (seen, by_b) = (
            run(&mut a, "%pip freeze").await,
            run(&mut b, "%pip freeze").await,
        );
        assert_eq!(seen, by_b, "{of_a} {of_b}");
    }
    let before = run(&mut a, "%pip freeze").await;
    assert!(
        before.contains("six==1.16.0") && before.contains("iniconfig==2.1.0"),
        "{before}"
    );
    run(&mut b, SIX).await;

    // One is killed in the middle, and the other waits for it.
    let (package, marker) = slow_package(&gateway);
    let slow = format!("%pip install six==1.17.0 {}", package.display());
    a.send(Channel::Shell, "execute_request", cell(&slow)).await;
    wait_for("the build", || marker.exists().then_some(())).await;
    let request = b.submit("%pip install iniconfig==2.0.0").await;
    b.wait_for(&request, "waiting for another nb").await;
    let supervisor = pid_of(&gateway.model(&first).await, "supervisor_pid");
    signal(supervisor, Signal::KILL);
    let installed = b.outcome(&request, "").await;
    assert_eq!(installed.reply["status"], "ok", "{installed:?}");
    assert!(
        installed
            .text
            .contains("Successfully installed iniconfig-2.0.0"),
        "{installed:?}"
    );
    let expected = before.replace("iniconfig==2.1.0", "iniconfig==2.0.0");
    assert_eq!(run(&mut b, "%pip freeze").await, expected);
    assert_eq!(builds(&marker), Vec::<i32>::new());
    let mut a = gateway.connect(&first, "c").await;
    assert_eq!(run(&mut a, "%pip freeze").await, expected);
    let elsewhere = format!(
        "import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', {SIX:?}], text=True))"
    );
    assert_eq!(run(&mut a, &elsewhere).await, "1.16.0\n\n");
}
