//! Kernels of other languages, real and as their own installers leave them: R from Debian, over Unix sockets, and
//! Deno from npm, which knows only TCP and says so nowhere.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use nb::protocol::message::Channel;

use crate::client::{Client, Said};
use crate::driver::runs;
use crate::front::Home;
use crate::gateway::{Gateway, LIMIT, project};
use crate::interrupts::interrupted;
use crate::wire::transport;

/// What is the same in every language, in this one.
#[derive(Debug)]
pub(crate) struct Language {
    pub(crate) spec: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) implementation: &'static str,
    /// A cell and what it prints.
    pub(crate) prints: (&'static str, &'static str),
    /// A cell and the end of what is shown as its result.
    pub(crate) shows: (&'static str, &'static str),
    /// A cell that fails, and why.
    pub(crate) fails: (&'static str, &'static str),
    /// What is completed, and to what.
    pub(crate) completes: (&'static str, &'static str),
    /// A cell that prints the answer to `name?`.
    pub(crate) asks: &'static str,
    /// A cell that keeps a value, and one that prints it.
    pub(crate) keeps: [&'static str; 2],
}

const R: Language = Language {
    spec: "ir",
    transport: "ipc",
    implementation: "IRkernel",
    prints: ("cat('hello\\n')", "hello"),
    shows: ("6 * 7", "[1] 42"),
    fails: ("stop('no luck')", "no luck"),
    completes: ("read.cs", "read.csv"),
    asks: "cat(readline('name?'))",
    keeps: ["kept <- 'still'", "cat(kept)"],
};

const DENO: Language = Language {
    spec: "deno",
    transport: "tcp",
    implementation: "Deno kernel",
    prints: ("console.log('hello')", "hello"),
    shows: ("6 * 7", "42"),
    fails: ("throw new TypeError('no luck')", "no luck"),
    completes: ("Math.hyp", "hypot"),
    asks: "console.log(prompt('name?'))",
    keeps: ["globalThis.kept = 'still'", "console.log(kept)"],
};

/// Installs Deno's kernelspec for the user whose folder this is, as its documentation says.
async fn install_deno(gateway: &Gateway) {
    let deno = project("tests/js/node_modules/deno/bin.cjs");
    assert!(deno.exists(), "run cargo xtask setup");
    let install = Command::new("node")
        .arg(deno)
        .args(["jupyter", "--install"])
        .env("HOME", gateway.root())
        .env("DENO_NO_UPDATE_CHECK", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = timeout(LIMIT, install).await.expect("it hangs").unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// What is said of a request until its reply has come and `whole` finds all it looks for: Deno says some output
/// after its idle.
async fn said_until(
    client: &mut Client,
    request: &str,
    whole: impl Fn(&[Said]) -> bool,
) -> Vec<Said> {
    let mut all = Vec::new();
    loop {
        let said = client.next().await.unwrap();
        if said.parent == request {
            all.push(said);
        }
        let replied = all.iter().any(|said| said.msg_type.ends_with("_reply"));
        if replied && whole(&all) {
            return all;
        }
    }
}

/// Runs a cell and waits for the line that it prints.
async fn prints(client: &mut Client, (code, expected): (&str, &str)) {
    let request = client.submit(code).await;
    said_until(client, &request, |all| printed(all).trim() == expected).await;
}

/// Runs a cell that fails: why.
async fn fails(client: &mut Client, code: &str) -> String {
    let request = client.submit(code).await;
    let is_error = |said: &&Said| said.msg_type == "error";
    let whole = |all: &[Said]| all.iter().any(|said| is_error(&said));
    let all = said_until(client, &request, whole).await;
    assert_eq!(reply(&all)["status"], "error", "{all:?}");
    let error = all.iter().find(is_error).unwrap();
    // R aborts what it hears right after an error.
    runs_again(client).await;
    error.content["evalue"].as_str().unwrap().to_owned()
}

/// Waits until a kernel aborts no more.
async fn runs_again(client: &mut Client) {
    let aborts = async { while replied(client, "1").await["status"] != "ok" {} };
    timeout(LIMIT, aborts).await.expect("it aborts for ever");
}

/// The reply to a cell, whatever else is said of it.
async fn replied(client: &mut Client, code: &str) -> Value {
    let request = client.submit(code).await;
    loop {
        let said = client.next().await.unwrap();
        if said.msg_type == "execute_reply" && said.parent == request {
            return said.content;
        }
    }
}

/// All text that was printed.
fn printed(said: &[Said]) -> String {
    let streams = said.iter().filter(|said| said.msg_type == "stream");
    streams
        .filter_map(|said| said.content["text"].as_str())
        .collect()
}

/// The plain text of a result without what colours it.
fn shown(said: &[Said]) -> String {
    let mut texts = said
        .iter()
        .filter_map(|said| said.content["data"]["text/plain"].as_str());
    let text = texts.next().unwrap_or_default();
    let mut plain = String::new();
    for (at, part) in text.split('\u{1b}').enumerate() {
        plain += match at {
            0 => part,
            _ => part.split_once('m').map_or("", |(_, rest)| rest),
        };
    }
    plain
}

fn reply(said: &[Said]) -> &Value {
    let reply = said.iter().find(|said| said.msg_type.ends_with("_reply"));
    &reply.unwrap().content
}

pub(crate) async fn speaks(gateway: &Gateway, language: &Language) {
    let name = language.spec;
    let path = format!("/api/kernelspecs/{name}");
    assert_eq!(
        gateway.rest("GET", &path, "").await.0,
        200,
        "{name} is not found"
    );
    let kernel = gateway.kernel(&json!({"name": name}).to_string()).await;
    assert_eq!(transport(gateway, &kernel), language.transport, "{name}");
    let mut client = gateway.connect(&kernel, "a").await;

    let info = client
        .send(Channel::Shell, "kernel_info_request", json!({}))
        .await;
    let info = said_until(&mut client, &info, |_| true).await;
    assert_eq!(reply(&info)["implementation"], language.implementation);

    prints(&mut client, language.prints).await;
    let (code, expected) = language.shows;
    let request = client.submit(code).await;
    said_until(&mut client, &request, |all| shown(all) == expected).await;
    let (code, expected) = language.fails;
    let evalue = fails(&mut client, code).await;
    assert!(evalue.contains(expected), "{name}: {evalue}");

    let (code, expected) = language.completes;
    let content = json!({"code": code, "cursor_pos": code.len()});
    let asked = client
        .send(Channel::Shell, "complete_request", content)
        .await;
    let completed = said_until(&mut client, &asked, |_| true).await;
    let matches = reply(&completed)["matches"].to_string();
    assert!(matches.contains(expected), "{name}: {matches}");

    let asked = client.submit(language.asks).await;
    while client.next().await.unwrap().msg_type != "input_request" {}
    let content = json!({"value": "Ada"});
    client.send(Channel::Stdin, "input_reply", content).await;
    said_until(&mut client, &asked, |all| printed(all).contains("Ada")).await;

    // Ours, by the queue's door; the kernel does not see that line.
    let (code, expected) = language.prints;
    let both = client.submit(&format!("%nb status\n{code}")).await;
    let is_ours = |said: &Said| said.content["data"].to_string().contains(&kernel);
    let whole = |all: &[Said]| all.iter().any(is_ours) && printed(all).trim() == expected;
    let both = said_until(&mut client, &both, whole).await;
    assert_eq!(reply(&both)["status"], "ok", "{name}: {both:?}");

    let [keep, print] = language.keeps;
    assert_eq!(replied(&mut client, keep).await["status"], "ok", "{name}");
    prints(&mut client, (print, "still")).await;
    let restart = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &restart, "").await.0, 200, "{name}");
    fails(&mut client, print).await;
    assert_eq!(transport(gateway, &kernel), language.transport, "{name}");
    prints(&mut client, language.prints).await;
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn r_from_debian_does_what_every_kernel_does() {
    let gateway = Gateway::start("auto").await;
    speaks(&gateway, &R).await;
}

#[tokio::test]
async fn deno_from_npm_does_what_every_kernel_does_over_tcp() {
    let gateway = Gateway::start("auto").await;
    install_deno(&gateway).await;
    speaks(&gateway, &DENO).await;
}

#[tokio::test]
async fn r_is_interrupted_by_a_signal() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel(r#"{"name":"ir"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    for code in ["Sys.sleep(600)", "repeat {}"] {
        let begun = format!("cat('begun\\n'); flush.console(); {code}");
        let running = client.submit(&begun).await;
        client.wait_for(&running, "begun").await;
        let ended = interrupted(&gateway, &kernel, &mut client, &running).await;
        assert_eq!(ended["status"], "abort", "{code}: {ended}");
        // What R hears right after an interrupt it aborts, and says no idle of it.
        runs_again(&mut client).await;
        gateway.wait_for_state(&kernel, "idle").await;
    }
    assert_eq!(gateway.model(&kernel).await["nb"]["restarts"], 0);
}

/// Deno ends by SIGINT, and its kernelspec asks for nothing else: whoever asks learns what became of it.
#[tokio::test]
async fn a_kernel_that_a_signal_ends_is_started_again_and_says_so() {
    let gateway = Gateway::start("auto").await;
    install_deno(&gateway).await;
    let kernel = gateway.kernel(r#"{"name":"deno"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let running = client.submit("console.log('begun'); while (true) {}").await;
    client.wait_for(&running, "begun").await;
    let ended = interrupted(&gateway, &kernel, &mut client, &running).await;
    assert_eq!(ended["ename"], "KernelDied", "{ended}");
    prints(&mut client, ("console.log('again')", "again")).await;
    assert_eq!(gateway.model(&kernel).await["nb"]["restarts"], 1);
}

/// What is generic in jupyter_kernel_test, before `nb launch`.
#[tokio::test]
async fn jupyter_kernel_test_passes_with_other_languages() {
    let home = Home::bare().await;
    install_deno(&home.gateway).await;
    for spec in ["ir", "deno"] {
        home.install_spec(spec).await;
    }
    let mut suite = home.python();
    suite
        .args(["-m", "unittest", "-v", "kernel_tests_languages"])
        .env("PYTHONPATH", project("tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    runs(suite).await;
    assert!(home.kernels().await.is_empty());
}
