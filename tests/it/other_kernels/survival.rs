//! A cell in another kernel when the gateway or supervisors die under it.

use rustix::process::Signal;
use serde_json::json;

use super::put_spec;
use crate::adoption::{kill_supervisor, state};
use crate::client::Client;
use crate::gateway::{Gateway, wait_for};
use crate::packages::run;
use crate::processes::{pid_of, signal, stop};

#[tokio::test]
async fn what_runs_elsewhere_outlives_gateway_and_supervisors() {
    let mut gateway = Gateway::start("auto").await;
    put_spec(&gateway, "second", &json!({}));
    let kernel = gateway.kernel("{}").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(
        &mut a,
        "%%kernel second\nx = 41\nimport os, time, signal\nmy_pid = os.getpid()",
    )
    .await;
    let go = gateway.root().join("go");
    let long = format!(
        "%%kernel second\nprint('begun', flush=True)\nwhile not os.path.exists({go:?}): time.sleep(0.01)\n\
         os.unlink({go:?})\nprint('over', x)\nx + 1"
    );

    // The supervisor of the notebook's kernel dies: the cell goes on, and its end is the cell's.
    let request = a.submit(&long).await;
    a.wait_for(&request, "begun").await;
    kill_supervisor(&gateway, &kernel);
    a.gone().await;
    let mut a = gateway.connect(&kernel, "a").await;
    std::fs::write(&go, "").unwrap();
    let outcome = a.outcome(&request, "").await;
    assert_eq!(outcome.reply["status"], "ok", "{outcome:?}");
    assert!(outcome.text.contains("over 41\n"), "{outcome:?}");
    let reply = a
        .run("%%kernel second\nprint(x, my_pid == os.getpid())")
        .await;
    assert_eq!(reply.text, "41 True\n");
    assert_eq!(reply.reply["execution_count"], 3);

    // That of the other kernel dies.
    let request = a.submit(&long).await;
    a.wait_for(&request, "begun").await;
    let other = other_supervisor(&gateway, &kernel);
    signal(other, Signal::KILL);
    let next = || Some(other_supervisor(&gateway, &kernel)).filter(|next| *next != other);
    wait_for("another supervisor", next).await;
    std::fs::write(&go, "").unwrap();
    let outcome = a.outcome(&request, "").await;
    assert!(
        outcome.text.contains("another one took over"),
        "{outcome:?}"
    );
    assert_eq!(
        run(&mut a, "%%kernel second\nprint(x, my_pid == os.getpid())").await,
        "41 True\n"
    );

    // Both, and the gateway.
    let request = a.submit(&long).await;
    a.wait_for(&request, "begun").await;
    kill_supervisor(&gateway, &kernel);
    signal(other_supervisor(&gateway, &kernel), Signal::KILL);
    gateway.replace().await;
    a.gone().await;
    let mut a = gateway.connect(&kernel, "a").await;
    std::fs::write(&go, "").unwrap();
    let outcome = a.outcome(&request, "").await;
    assert!(
        outcome.text.contains("another one took over"),
        "{outcome:?}"
    );
    assert_eq!(
        run(&mut a, "%%kernel second\nprint(x, my_pid == os.getpid())").await,
        "41 True\n"
    );
    // All of it goes with the kernel.
    gateway.delete(&kernel).await;
    let left = std::fs::read_dir(gateway.root().join("run/kernels")).unwrap();
    assert_eq!(left.count(), 0);
}

/// A notebook whose cell for another kernel is in the hands of that one's supervisor, which does nothing; the other's x is 0.
async fn with_a_cell_on_its_way(gateway: &Gateway) -> (String, Client, String) {
    put_spec(gateway, "second", &json!({}));
    let kernel = gateway.kernel("{}").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%%kernel second\nx = 0").await;
    stop(other_supervisor(gateway, &kernel)).await;
    let request = a.submit("%%kernel second\nx += 1\nprint(x)").await;
    let notes = gateway
        .root()
        .join(format!("run/kernels/{kernel}/requests"));
    let is_sent = || {
        let notes = std::fs::read_to_string(&notes).ok()?;
        let mut notes = notes.lines();
        let is_it = |note: &str| note.contains(r#""elsewhere""#) && note.contains(&request);
        notes.any(is_it).then_some(())
    };
    wait_for("the cell on its way", is_sent).await;
    (kernel, a, request)
}

#[tokio::test]
async fn a_cell_that_never_came_to_the_other_kernel_is_sent_again() {
    let gateway = Gateway::start("auto").await;
    let (kernel, mut a, request) = with_a_cell_on_its_way(&gateway).await;
    signal(other_supervisor(&gateway, &kernel), Signal::KILL);
    let outcome = a.outcome(&request, "").await;
    assert_eq!(
        (outcome.text.as_str(), &outcome.reply["status"]),
        ("1\n", &json!("ok"))
    );
    assert_eq!(run(&mut a, "%%kernel second\nprint(x)").await, "1\n");
    gateway.delete(&kernel).await;
}

/// Nobody has it any more: what a client said is written nowhere.
#[tokio::test]
async fn a_cell_that_died_with_both_supervisors_is_told_not_to_have_run() {
    let gateway = Gateway::start("auto").await;
    let (kernel, mut a, request) = with_a_cell_on_its_way(&gateway).await;
    kill_supervisor(&gateway, &kernel);
    signal(other_supervisor(&gateway, &kernel), Signal::KILL);
    a.gone().await;
    let mut a = gateway.connect(&kernel, "a").await;
    let outcome = a.outcome(&request, "").await;
    assert_eq!(outcome.reply["ename"], "SupervisorDied", "{outcome:?}");
    let why = outcome.reply["evalue"].as_str().unwrap();
    assert!(why.contains("it was not run"), "{why}");
    assert_eq!(run(&mut a, "%%kernel second\nprint(x)").await, "0\n");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn another_kernel_that_died_too_often_is_made_anew() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel("{}").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%%kernel instant\nhello").await;
    let before = other_supervisor(&gateway, &kernel);
    while state(&gateway, &other(&gateway, &kernel))["execution_state"] != "dead" {
        let outcome = a.run("%%kernel instant\nexit 3 by itself").await;
        assert_eq!(outcome.reply["status"], "error", "{outcome:?}");
    }
    assert_eq!(run(&mut a, "%%kernel instant\nagain").await, "\nagain");
    assert_ne!(other_supervisor(&gateway, &kernel), before);
    gateway.delete(&kernel).await;
}

/// The one other kernel.
fn other(gateway: &Gateway, kernel: &str) -> String {
    let folders = std::fs::read_dir(gateway.root().join("run/kernels"))
        .unwrap()
        .flatten();
    let mut others = folders.filter(|folder| folder.file_name() != kernel);
    others.next().unwrap().file_name().into_string().unwrap()
}

/// The pid of its supervisor.
fn other_supervisor(gateway: &Gateway, kernel: &str) -> u32 {
    pid_of(&state(gateway, &other(gateway, kernel)), "supervisor_pid")
}
