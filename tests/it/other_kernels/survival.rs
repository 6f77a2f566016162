//! A cell in another kernel when the gateway or supervisors die under it.

use rustix::process::Signal;
use serde_json::json;

use super::put_spec;
use crate::adoption::{kill_supervisor, state};
use crate::gateway::{Gateway, wait_for};
use crate::packages::run;
use crate::processes::{pid_of, signal};

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

/// The pid of the supervisor of the one other kernel.
fn other_supervisor(gateway: &Gateway, kernel: &str) -> u32 {
    let folders = std::fs::read_dir(gateway.root().join("run/kernels"))
        .unwrap()
        .flatten();
    let mut others = folders.filter(|folder| folder.file_name() != kernel);
    let other = others.next().unwrap().file_name().into_string().unwrap();
    pid_of(&state(gateway, &other), "supervisor_pid")
}
