//! How the death of a kernel is told: to REST, to every client, in which order and with what cause.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, Said};
use crate::gateway::{Gateway, peer};
use crate::processes::{pid_of, signal};

/// Starts the kernel `peer` at once if there is a file `go`, and waits for it otherwise.
fn gated() -> String {
    let peer = peer();
    format!(
        "until test -e go; do sleep 0.01; done; exec {} instant {{connection_file}}",
        peer.display()
    )
}

/// The next message of this type.
async fn said(client: &mut Client, msg_type: &str) -> Said {
    loop {
        let said = client.next().await.unwrap();
        if said.msg_type == msg_type {
            return said;
        }
    }
}

/// Whatever is said next of the kernel's own state, by nobody's request.
async fn state(client: &mut Client) -> Value {
    loop {
        let said = said(client, "status").await;
        if said.parent.is_empty() {
            return said.content["execution_state"].clone();
        }
    }
}

/// The kernel that follows is held back, so what is told here is told of the death and by nobody's poll.
#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "how long it took is for people to read"
)]
async fn a_death_is_told_at_once_to_rest_and_to_every_client_with_its_cause() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("gated", &gated());
    fs::write(gateway.root().join("go"), "").unwrap();
    let kernel = gateway.kernel(r#"{"name":"gated"}"#).await;
    fs::remove_file(gateway.root().join("go")).unwrap();
    let mut asker = gateway.connect(&kernel, "asker").await;
    let mut other = gateway.connect(&kernel, "other").await;
    assert_eq!(state(&mut other).await, "idle");
    let cell = asker.submit("wait").await;
    asker.wait_for(&cell, "begun").await;
    let pid = pid_of(&gateway.model(&kernel).await, "kernel_pid");

    let killed = Instant::now();
    signal(pid, Signal::KILL);
    assert_eq!(state(&mut other).await, "restarting");
    println!("a death was told after {:?}", killed.elapsed());
    let reply = said(&mut asker, "execute_reply").await;
    assert_eq!(
        (reply.parent, &reply.content["ename"]),
        (cell, &json!("KernelDied"))
    );
    let cause = reply.content["evalue"].as_str().unwrap();
    assert!(cause.contains("SIGKILL"), "{cause}");
    assert_eq!(state(&mut asker).await, "restarting");
    assert_eq!(
        gateway.model(&kernel).await["execution_state"],
        "restarting"
    );

    // The same sockets and the same session go on with the next process.
    let waiting = asker.submit("here").await;
    fs::write(gateway.root().join("go"), "").unwrap();
    assert_eq!(asker.outcome(&waiting, "").await.text, "here");
    assert_eq!(state(&mut other).await, "idle");
    let model = gateway.model(&kernel).await;
    assert_eq!(
        (&model["nb"]["restarts"], &model["connections"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_kernel_that_dies_six_times_in_a_row_is_dead_and_says_why_until_it_is_restarted() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(state(&mut client).await, "idle");
    for death in 1..=6 {
        let reply = client
            .run(&format!("exit 3 death number {death}"))
            .await
            .reply;
        let cause = reply["evalue"].as_str().unwrap();
        assert!(cause.contains("exited with code 3"), "{cause}");
        // Of this death, and of none before it.
        assert!(
            cause.ends_with(&format!("stderr:\ndeath number {death}")),
            "{cause}"
        );
        let expected: &[&str] = match death {
            6 => &["dead"],
            _ => &["restarting", "idle"],
        };
        for expected in expected {
            assert_eq!(state(&mut client).await, *expected, "{death}");
        }
    }
    assert_eq!(client.close_code().await, 1000);
    let model = gateway.model(&kernel).await;
    assert_eq!(model["execution_state"], "dead");
    let reason = model["reason"].as_str().unwrap();
    assert!(
        reason.contains("not started again") && reason.contains("death number 6"),
        "{reason}"
    );

    // Whoever comes is told so and sent away, and a restart that is asked for brings it back.
    let mut late = gateway.connect(&kernel, "late").await;
    assert_eq!(state(&mut late).await, "dead");
    assert_eq!(late.close_code().await, 1000);
    let (status, model) = gateway
        .rest("POST", &format!("/api/kernels/{kernel}/restart"), "")
        .await;
    assert_eq!((status, &model["execution_state"]), (200, &json!("idle")));
    assert!(model.get("reason").is_none(), "{model}");
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
}

#[tokio::test]
async fn a_kernel_that_cannot_be_started_again_says_why() {
    let gateway = Gateway::start("auto").await;
    let peer = peer();
    let script = format!(
        "if test -e once; then echo no luck today >&2; exit 4; fi; touch once; \
         exec {} instant {{connection_file}}",
        peer.display()
    );
    gateway.put_shell_spec("once", &script);
    let kernel = gateway.kernel(r#"{"name":"once"}"#).await;
    let (status, error) = gateway
        .rest("POST", &format!("/api/kernels/{kernel}/restart"), "")
        .await;
    let message = error["message"].as_str().unwrap();
    assert_eq!((status, error["fault"].as_str()), (502, Some("kernel")));
    assert!(
        message.contains("code 4") && message.contains("no luck today"),
        "{message}"
    );
    let model = gateway.model(&kernel).await;
    assert_eq!(model["execution_state"], "dead");
    let reason = model["reason"].as_str().unwrap();
    assert!(
        reason.contains("code 4") && reason.contains("no luck today"),
        "{reason}"
    );
}

/// A kernel closes its sockets before it ends, and whoever asks in between does not hide how it ended.
#[tokio::test]
async fn a_request_to_a_kernel_that_is_leaving_does_not_hide_how_it_left() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let file = gateway.root().join("leave");
    let cell = client.submit(&format!("leave {}", file.display())).await;
    client.wait_for(&cell, "left").await;
    let late = client.submit("anybody there?").await;
    fs::write(file, "").unwrap();
    let reply = client.outcome(&late, "").await.reply;
    let cause = reply["evalue"].as_str().unwrap();
    assert!(cause.contains("exited with code 7"), "{cause}");
}

#[tokio::test]
async fn clients_of_a_kernel_that_is_deleted_while_it_starts_or_restarts_are_told() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("gated", &gated());
    let go = gateway.root().join("go");
    let id = "00000000-0000-4000-8000-00000000000a";
    let path = format!("/api/kernels/{id}");
    let body = json!({"name": "gated", "env": {"KERNEL_ID": id}}).to_string();
    for restarts in [false, true] {
        let delete = async {
            if restarts {
                fs::write(&go, "").unwrap();
                gateway.wait_for_state(id, "idle").await;
                fs::remove_file(&go).unwrap();
                let pid = pid_of(&gateway.model(id).await, "kernel_pid");
                signal(pid, Signal::KILL);
                gateway.wait_for_state(id, "restarting").await;
            } else {
                gateway.wait_for_state(id, "starting").await;
            }
            let mut client = gateway.connect(id, "a").await;
            assert_eq!(state(&mut client).await, "starting");
            let waiting = client.submit("never").await;
            client.arrived().await;
            let (deleted, ()) = tokio::join!(gateway.rest("DELETE", &path, ""), async move {
                let reply = said(&mut client, "execute_reply").await;
                assert_eq!(
                    (reply.parent, reply.content["ename"].as_str()),
                    (waiting, Some("KernelShutDown"))
                );
                assert_eq!(state(&mut client).await, "dead");
                assert_eq!(client.close_code().await, 1000);
            });
            assert_eq!(deleted.0, 204);
        };
        let (started, ()) = tokio::join!(gateway.rest("POST", "/api/kernels", &body), delete);
        assert_eq!(started.0, if restarts { 201 } else { 409 });
        assert_eq!(gateway.rest("GET", &path, "").await.0, 404);
    }
}

#[tokio::test]
async fn a_restart_that_a_delete_ends_is_not_told_as_a_success() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("gated", &gated());
    let go = gateway.root().join("go");
    fs::write(&go, "").unwrap();
    let kernel = gateway.kernel(r#"{"name":"gated"}"#).await;
    fs::remove_file(&go).unwrap();
    let path = format!("/api/kernels/{kernel}");
    let restart = format!("{path}/restart");
    let delete = async {
        gateway.wait_for_state(&kernel, "restarting").await;
        gateway.rest("DELETE", &path, "").await
    };
    let (restarted, deleted) = tokio::join!(gateway.rest("POST", &restart, ""), delete);
    assert_eq!(deleted.0, 204);
    assert_eq!(restarted.0, 503, "{}", restarted.1);
}

/// A memory control group of the test's own, with either version of them. Only root can make one.
struct MemoryLimit(std::path::PathBuf);

impl MemoryLimit {
    /// Or why there is none.
    fn new(bytes: u64) -> Result<Self, String> {
        let name = format!("nb-test-{}", std::process::id());
        let mut whys = String::new();
        for (parent, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let group = std::path::Path::new(parent).join(&name);
            let limit = group.join(limit);
            match fs::create_dir(&group) {
                Ok(()) => {
                    let group = Self(group);
                    match fs::write(&limit, bytes.to_string()) {
                        Ok(()) => return Ok(group),
                        Err(error) => whys += &format!("{}: {error}; ", limit.display()),
                    }
                }
                Err(error) => whys += &format!("{}: {error}; ", group.display()),
            }
        }
        Err(whys)
    }

    fn hold(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _busy = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "who reads the tests' output is to know"
)]
async fn a_kernel_that_runs_out_of_memory_says_so() {
    let limit = match MemoryLimit::new(300 << 20) {
        Ok(limit) => limit,
        Err(why) => {
            let is_root = rustix::process::geteuid().is_root();
            assert!(!is_root, "this needs a memory control group: {why}");
            println!("not tested: only root can make a control group");
            return;
        }
    };
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    limit.hold(pid_of(&gateway.model(&kernel).await, "kernel_pid"));
    let reply = client.run("x = bytearray(600 << 20)").await.reply;
    let cause = reply["evalue"].as_str().unwrap();
    assert!(cause.contains("ran out of memory"), "{cause}");
    // Who is merely killed did not.
    let code = "import time\nprint('begun', flush=True)\ntime.sleep(600)";
    let cell = client.submit(code).await;
    client.wait_for(&cell, "begun").await;
    let pid = pid_of(&gateway.model(&kernel).await, "kernel_pid");
    signal(pid, Signal::KILL);
    let cause = client.outcome(&cell, "").await.reply["evalue"].to_string();
    assert!(cause.contains("was killed (SIGKILL)"), "{cause}");
}
