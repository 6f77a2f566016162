//! What a kernel and its clients keep when its supervisor dies.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::Client;
use crate::counting;
use crate::gateway::{Gateway, LIMIT, wait_for};
use crate::processes::{pid_of, signal};

/// What was last written down of the kernel.
pub(crate) fn state(gateway: &Gateway, kernel: &str) -> Value {
    let path = gateway
        .root()
        .join("run/kernels")
        .join(kernel)
        .join("state.json");
    serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default()
}

/// `kill -9`.
pub(crate) fn kill_supervisor(gateway: &Gateway, kernel: &str) -> u32 {
    let supervisor = pid_of(&state(gateway, kernel), "supervisor_pid");
    signal(supervisor, Signal::KILL);
    supervisor
}

/// Waits for the supervisor after `before`.
async fn taken_over(gateway: &Gateway, kernel: &str, before: u32) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let model = gateway.model(kernel).await;
        if model["nb"]["stale"].is_null() && pid_of(&model, "supervisor_pid") != before {
            return model;
        }
        assert!(Instant::now() < deadline, "nobody took it over: {model}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// How many supervisors of a kernel there are.
fn supervisors(kernel: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            let mut words = line.trim_end_matches('\0').split('\0').skip(1);
            words.next() == Some("supervise")
                && words.next().is_some_and(|folder| folder.ends_with(kernel))
        })
        .count()
}

/// All that is said to a request up to its reply and idle: text, and the reply.
async fn rest(client: &mut Client, request: &str) -> (String, Value) {
    let outcome = client.outcome(request, "Ada").await;
    (outcome.text, outcome.reply)
}

#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "how long it took is for people to read"
)]
async fn an_idle_kernel_keeps_its_variables_clients_and_notebook_sessions() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let session = gateway.notebook_session(&kernel).await;
    let mut client = gateway.connect(&kernel, "a").await;
    client.run("x = 41").await;
    let before = gateway.model(&kernel).await;
    let killed = Instant::now();
    let supervisor = kill_supervisor(&gateway, &kernel);
    client.gone().await;
    // Whoever comes back at once waits for the next one.
    let mut client = gateway.connect(&kernel, "a").await;
    println!("taken over after {:?}", killed.elapsed());
    assert_eq!(client.run("print(x + 1)").await.text, "42\n");
    let after = taken_over(&gateway, &kernel, supervisor).await;
    for key in ["kernel_pid", "started", "language", "restarts"] {
        assert_eq!(after["nb"][key], before["nb"][key], "{key}");
    }
    assert_eq!(after["execution_state"], "idle");
    gateway.assert_only_session(&session).await;
    // Its magics, an interrupt, a restart: nothing is different.
    assert!(
        client
            .run("y = %nb status\nprint(y)")
            .await
            .text
            .contains(&kernel)
    );
    let endless = client
        .submit("import time\nprint('on')\ntime.sleep(600)")
        .await;
    client.wait_for(&endless, "on").await;
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    assert_eq!(
        rest(&mut client, &endless).await.1["ename"],
        "KeyboardInterrupt"
    );
    let path = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 200);
    assert_eq!(client.run("print('x' in dir())").await.text, "False\n");
    // A process that was started anew is our child again: how it ends is known.
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_busy_kernel_goes_on_and_its_cell_is_shown_as_running() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(counting::CELL).await;
    client.wait_for(&cell, "3").await;
    kill_supervisor(&gateway, &kernel);
    client.gone().await;
    let mut client = gateway.connect(&kernel, "a").await;
    let first = client.next().await.unwrap();
    assert_eq!((first.msg_type.as_str(), &first.parent), ("status", &cell));
    assert_eq!(first.content["execution_state"], "busy");
    let (text, reply) = rest(&mut client, &cell).await;
    assert!(
        text.contains("the supervisor of this kernel died"),
        "{text}"
    );
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let first = *numbers.first().unwrap();
    assert!(
        first > 3 && numbers == (first..40).collect::<Vec<_>>(),
        "{text}"
    );
    // It is the kernel's own.
    assert_eq!(
        (&reply["status"], &reply["execution_count"]),
        (&json!("ok"), &json!(1))
    );
    assert_eq!(client.run("print(i)").await.text, "39\n");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_cell_that_ended_while_nobody_listened_is_answered() {
    let mut gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let code = "import pathlib, time\nprint('on', flush=True)\n\
                while not pathlib.Path('go').exists(): time.sleep(0.01)\n\
                print('unheard', flush=True)\npathlib.Path('done').touch()";
    let (cell, next) = (client.submit(code).await, client.submit("z = 1").await);
    client.wait_for(&cell, "on").await;
    gateway.kill().await;
    kill_supervisor(&gateway, &kernel);
    fs::write(gateway.root().join("go"), "").unwrap();
    let done = gateway.root().join("done");
    wait_for("the end of the cell", || done.exists().then_some(())).await;
    // The next gateway to start takes it over.
    gateway.replace().await;
    let mut client = gateway.connect(&kernel, "a").await;
    let (text, reply) = rest(&mut client, &cell).await;
    assert!(text.contains("is lost"), "{text}");
    assert_eq!(reply["status"], "ok");
    assert_eq!(rest(&mut client, &next).await.1["status"], "ok");
    assert_eq!(client.run("print(z)").await.text, "1\n");
    assert_eq!(gateway.model(&kernel).await["execution_state"], "idle");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_question_is_asked_again() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit("print('Hello', input('name?'))").await;
    while client.next().await.unwrap().msg_type != "input_request" {}
    kill_supervisor(&gateway, &kernel);
    client.gone().await;
    let mut client = gateway.connect(&kernel, "a").await;
    let (text, reply) = rest(&mut client, &cell).await;
    assert!(text.ends_with("Hello Ada\n"), "{text}");
    assert_eq!(reply["status"], "ok");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_kernel_that_was_being_started_again_is_started_again() {
    let gateway = Gateway::start("auto").await;
    let script = format!(
        "echo $$ >>pids; until test -e go; do sleep 0.01; done; exec {} instant {{connection_file}}",
        crate::gateway::peer().display()
    );
    gateway.put_shell_spec("gated", &script);
    let go = gateway.root().join("go");
    fs::write(&go, "").unwrap();
    let kernel = gateway.kernel(r#"{"name":"gated"}"#).await;
    fs::remove_file(&go).unwrap();
    let path = format!("/api/kernels/{kernel}/restart");
    let restart = gateway.rest("POST", &path, "");
    let cut = async {
        let pids = || fs::read_to_string(gateway.root().join("pids")).unwrap_or_default();
        wait_for("a second process", || {
            (pids().lines().count() == 2).then_some(())
        })
        .await;
        let second = pids().lines().nth(1).unwrap().to_owned();
        let second_pid: i64 = second.parse().unwrap();
        let known = || state(&gateway, &kernel)["nb"]["kernel_pid"] == second_pid;
        wait_for("what is known of it", || known().then_some(())).await;
        kill_supervisor(&gateway, &kernel);
        wait_for("a third process", || {
            (pids().lines().count() == 3).then_some(())
        })
        .await;
        let stat = format!("/proc/{second}/stat");
        wait_for("the end of the second one", || {
            // Whose parent is gone is waited for by somebody else, or by nobody.
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        })
        .await;
        fs::write(&go, "").unwrap();
    };
    let (_cut_off, ()) = tokio::join!(restart, cut);
    gateway.wait_for_state(&kernel, "idle").await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
    gateway.delete(&kernel).await;
}

/// Without `ROUTER_HANDOVER` a kernel does not hear who comes with an identity that it has. The socket for questions is
/// the one on which it learns only when it asks that somebody has gone.
#[tokio::test]
async fn a_kernel_that_may_not_hand_an_identity_over_is_taken_over_too() {
    let gateway = Gateway::start("auto").await;
    gateway.put_plain_spec();
    let kernel = gateway.kernel(r#"{"name":"plain"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    for round in 0..2 {
        let cell = client.submit("ask").await;
        assert_eq!(client.outcome(&cell, "Ada").await.text, "Ada", "{round}");
        assert_eq!(client.run("here").await.text, "here", "{round}");
        let supervisor = kill_supervisor(&gateway, &kernel);
        client.gone().await;
        client = gateway.connect(&kernel, "a").await;
        taken_over(&gateway, &kernel, supervisor).await;
    }
    let cell = client.submit("ask").await;
    assert_eq!(client.outcome(&cell, "Ada").await.text, "Ada");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn of_two_gateways_one_takes_it_over() {
    let gateway = Gateway::start("auto").await;
    let (mut other, port) = gateway.beside(&["--port", "0"]).await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    for n in 1..4 {
        client.run(&format!("x = {n}")).await;
        let supervisor = kill_supervisor(&gateway, &kernel);
        client.gone().await;
        let port = if n % 2 == 0 { port } else { gateway.port };
        client = Client::connect(port, crate::gateway::TOKEN, &kernel, "a").await;
        taken_over(&gateway, &kernel, supervisor).await;
        assert_eq!(client.run("print(x)").await.text, format!("{n}\n"));
        // Both may have started one; of them one stays.
        wait_for("one supervisor", || {
            (supervisors(&kernel) == 1).then_some(())
        })
        .await;
    }
    other.kill().await.unwrap();
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_kernel_whose_supervisors_die_too_often_is_ended_and_says_so() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    for _ in 0..4 {
        let supervisor = kill_supervisor(&gateway, &kernel);
        taken_over(&gateway, &kernel, supervisor).await;
    }
    let model = gateway.wait_for_state(&kernel, "dead").await;
    let reason = model["nb"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("died too often"), "{model}");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_kernel_that_died_with_its_supervisor_is_started_again() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client
        .submit("import time\nprint('on')\ntime.sleep(600)")
        .await;
    client.wait_for(&cell, "on").await;
    let process = pid_of(&gateway.model(&kernel).await, "kernel_pid");
    let supervisor = kill_supervisor(&gateway, &kernel);
    signal(process, Signal::KILL);
    taken_over(&gateway, &kernel, supervisor).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let (_, reply) = rest(&mut client, &cell).await;
    assert_eq!(reply["ename"], "KernelDied", "{reply}");
    gateway.wait_for_state(&kernel, "idle").await;
    assert_eq!(client.run("print(1)").await.text, "1\n");
    gateway.delete(&kernel).await;
}
