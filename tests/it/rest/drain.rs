//! What a gateway that is told to end still does, and what it does not wait for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::endings::{ENDLESS, body, gone, kernels, no_kernel, post, process};
use super::*;
use crate::gateway::wait_for;
use crate::processes::signal;

/// Less than what the gateway gives to requests.
const SOON: Duration = Duration::from_secs(4);

/// Waits until the gateway takes no more connections.
async fn closed(gateway: &Gateway) {
    let address = ("127.0.0.1", gateway.port);
    wait_for("a closed door", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    })
    .await;
}

/// Waits until the gateway's process has ended.
async fn ended(gateway: &Gateway) {
    process_ended(gateway.pid()).await;
}

/// Waits until a process has ended.
pub(crate) async fn process_ended(pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    wait_for("the end of the gateway", || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        (stat.is_empty() || state.starts_with('Z')).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_start_under_way_is_answered_and_connections_handed_over_stay() {
    let mut gateway = Gateway::start("auto").await;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-env/bin/python");
    let script = format!(
        "echo $$ >pid; until test -e go; do sleep 0.01; done; \
         exec {} -m ipykernel_launcher -f {{connection_file}}",
        python.display()
    );
    gateway.put_shell_spec("waiting", &script);
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let mut starting = post(&gateway, "/api/kernels", r#"{"name":"waiting"}"#).await;
    process(&gateway).await;

    signal(gateway.pid(), Signal::TERM);
    closed(&gateway).await;
    fs::write(gateway.root().join("go"), "").unwrap();
    let reply = timeout(LIMIT, receive(&mut starting)).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"));
    ended(&gateway).await;
    assert_eq!(client.run("print('still here')").await.text, "still here\n");

    gateway.replace().await;
    let path = format!("/api/kernels/{}", reply.json()["id"].as_str().unwrap());
    assert_eq!(ask(&gateway, "GET", &path, "").await.status, 200);
}

#[tokio::test]
async fn neither_idle_nor_spliced_connections_are_waited_for() {
    let gateway = Gateway::start("never").await;
    let kernel = gateway.kernel("{}").await;
    let address = ("127.0.0.1", gateway.port);
    let silent = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(receive(&mut idle).await.status, 200);
    let mut spliced = TcpStream::connect(address).await.unwrap();
    let handshake = format!(
        "GET /api/kernels/{kernel}/channels?token={TOKEN} HTTP/1.1\r\nHost: x\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    spliced.write_all(handshake.as_bytes()).await.unwrap();
    assert_eq!(receive(&mut spliced).await.status, 101);

    let told = Instant::now();
    signal(gateway.pid(), Signal::INT);
    for mut connection in [silent, idle, spliced] {
        let mut rest = Vec::new();
        let read = timeout(LIMIT, connection.read_to_end(&mut rest)).await;
        let _reset = read.expect("a connection stays");
    }
    ended(&gateway).await;
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    assert_eq!(kernels(&gateway).len(), 1);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("endless", ENDLESS);
    let _client = post(&gateway, "/api/kernels", &body("/api/kernels", "endless")).await;
    let process = process(&gateway).await;
    let told = Instant::now();
    signal(gateway.pid(), Signal::TERM);
    closed(&gateway).await;
    signal(gateway.pid(), Signal::INT);
    ended(&gateway).await;
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    // What nobody asks for any more is for its supervisor to end; here it need not be waited for.
    let kernel = process.file_name().unwrap().to_str().unwrap();
    signal(kernel.parse().unwrap(), Signal::KILL);
    let killed = Instant::now();
    no_kernel(&gateway).await;
    // It is not taken for one that wants other endpoints.
    assert!(killed.elapsed() < LIMIT / 2, "{:?}", killed.elapsed());
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_cut_off_and_undone() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("endless", ENDLESS);
    let mut client = post(&gateway, "/api/kernels", &body("/api/kernels", "endless")).await;
    let process = process(&gateway).await;
    signal(gateway.pid(), Signal::TERM);
    ended(&gateway).await;
    let mut answer = Vec::new();
    let read = timeout(LIMIT, client.read_to_end(&mut answer)).await;
    let _reset = read.unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(kernels(&gateway), Vec::<PathBuf>::new());
    gone(&process).await;
}
