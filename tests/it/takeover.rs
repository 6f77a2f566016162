//! `nb serve --takeover`: another gateway gets the sockets of the one that runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli;
use crate::counting::{self, assert_complete};
use crate::gateway::{Gateway, LIMIT, TOKEN, project, wait_for};
use crate::processes::signal;
use crate::rest::drain::process_ended;
use crate::rest::endings::{post, process};
use crate::rest::{receive, request, send};

/// Connects during a takeover, and how many at a time.
const CONNECTS: usize = 1000;
const AT_ONCE: usize = 8;

impl Gateway {
    /// Another gateway takes over the one on this port, whose pid is returned.
    async fn take_over(&mut self) -> u32 {
        let old = self.pid();
        let port = self.port.to_string();
        let (child, new_port) = self.beside(&["--port", &port, "--takeover"]).await;
        assert_eq!(new_port, self.port);
        // It ends by itself, or the test fails.
        let mut before = self.succeed(child);
        tokio::spawn(async move { before.wait().await });
        old
    }
}

#[tokio::test]
async fn of_a_thousand_connects_during_a_takeover_none_is_refused_and_a_start_is_answered() {
    let mut gateway = Gateway::start("auto").await;
    let script = format!(
        "echo $$ >pid; until test -e go; do sleep 0.01; done; \
         exec {} -m ipykernel_launcher -f {{connection_file}}",
        project("target/test-env/bin/python").display()
    );
    gateway.put_shell_spec("waiting", &script);
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(counting::CELL).await;
    let mut starting = post(&gateway, "/api/kernels", r#"{"name":"waiting"}"#).await;
    process(&gateway).await;

    let (begun, taken) = (AtomicUsize::new(0), AtomicBool::new(false));
    let port = gateway.port;
    let connects = (0..AT_ONCE).map(|_| async {
        let credential = format!("Authorization: token {TOKEN}\r\n");
        let status = request("GET", "/api/status", &credential, "");
        let mut seen = BTreeSet::new();
        while begun.fetch_add(1, Ordering::SeqCst) < CONNECTS || !taken.load(Ordering::SeqCst) {
            let reply = send(port, &status).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            seen.insert(reply.json()["started"].to_string());
        }
        seen
    });
    let takeover = async {
        wait_for("a part of the connects", || {
            (begun.load(Ordering::SeqCst) > CONNECTS / 4).then_some(())
        })
        .await;
        let old = gateway.take_over().await;
        taken.store(true, Ordering::SeqCst);
        old
    };
    let (seen, old) = tokio::join!(join_all(connects), takeover);
    // Each of the two has answered.
    let gateways: BTreeSet<_> = seen.into_iter().flatten().collect();
    assert_eq!(gateways.len(), 2, "{gateways:?}");

    // The old one is there for as long as its start takes.
    assert!(Path::new(&format!("/proc/{old}")).exists());
    fs::write(gateway.root().join("go"), "").unwrap();
    let reply = timeout(LIMIT, receive(&mut starting)).await.unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
    process_ended(old).await;
    let path = format!("/api/kernels/{}", reply.json()["id"].as_str().unwrap());
    assert_eq!(gateway.rest("GET", &path, "").await.0, 200);
    let printed = client.outcome(&cell, "").await.text;
    assert_eq!(printed, counting::printed());
    assert_eq!(
        client.run("print('same socket')").await.text,
        "same socket\n"
    );
}

#[tokio::test]
async fn who_has_connected_before_a_takeover_and_asks_after_it_is_answered() {
    let mut gateway = Gateway::start("auto").await;
    let address = ("127.0.0.1", gateway.port);
    let mut fresh = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(receive(&mut idle).await.status, 200);
    let log = gateway.take_over().await;
    // The new one has said where it is, which it does before the old one stops.
    for stream in [&mut fresh, &mut idle] {
        stream
            .write_all(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let reply = timeout(LIMIT, receive(stream)).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    process_ended(log).await;
}

#[tokio::test]
async fn a_spliced_client_is_told_to_come_back_and_misses_nothing() {
    let mut gateway = Gateway::start("never").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client.submit(counting::CELL).await;
    client.wait_for(&cell, "3").await;
    let old = gateway.take_over().await;
    assert_eq!(client.close_code().await, 1012);
    process_ended(old).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let printed = client.outcome(&cell, "").await.text;
    assert_complete(&counting::numbers(&printed), 4);
}

#[tokio::test]
async fn a_unix_socket_is_taken_over_with_its_file() {
    let home = tempfile::tempdir().unwrap();
    let sock = home.path().join("nb.sock");
    let path = sock.display().to_string();
    let env = [("NB_TOKEN", TOKEN)];
    let (mut old, first) = cli::serve(&home, &["--sock", &path], &env).await;
    let (mut new, second) = cli::serve(&home, &["--sock", &path, "--takeover"], &env).await;
    assert_eq!(first, second);
    let ended = timeout(LIMIT, old.wait()).await.expect("the old one stays");
    assert!(ended.unwrap().success() && sock.exists());
    let mut stream = UnixStream::connect(&sock).await.unwrap();
    stream
        .write_all(b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    signal(new.id().unwrap(), Signal::TERM);
    timeout(LIMIT, new.wait()).await.unwrap().unwrap();
    assert!(!sock.exists());
}

/// `nb serve --takeover` in the gateway's home, with these arguments.
fn taker(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    command
        .args(["serve", "--takeover"])
        .args(arguments)
        .env_clear()
        .env("HOME", gateway.root())
        .env("NB_RUNTIME_DIR", gateway.root().join("run"))
        .env("NB_TOKEN", TOKEN)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What it says when it does not start.
async fn refusal(mut taker: Command) -> String {
    let done = timeout(LIMIT, taker.output())
        .await
        .expect("it hangs")
        .unwrap();
    assert!(!done.status.success(), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[tokio::test]
async fn the_settings_decide_where_it_listens_and_it_says_whom_it_did_not_take_over() {
    let gateway = Gateway::start("auto").await;
    let port = gateway.port.to_string();
    // The address of the settings cannot be had, and another one is not what they say.
    let said = refusal(taker(&gateway, &["--ip", "0.0.0.0", "--port", &port])).await;
    let expected = format!("listens on 127.0.0.1:{port}, and not on 0.0.0.0:{port}");
    assert!(said.contains(&expected), "{said}");
    // Another port, another gateway; without any, it starts as ever.
    for (ip, says) in [
        (
            "127.0.0.2",
            format!("only on 127.0.0.1:{port}: starts beside it"),
        ),
        ("127.0.0.3", "there is no gateway".to_owned()),
    ] {
        let mut command = taker(&gateway, &["--ip", ip, "--port", "0"]);
        if ip == "127.0.0.3" {
            command.env("NB_RUNTIME_DIR", gateway.root().join("run2"));
        }
        let mut beside = command.spawn().unwrap();
        let mut lines = BufReader::new(beside.stderr.take().unwrap()).lines();
        loop {
            let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
            // Before it stands whose kernels these are.
            match line.expect("it does not say that") {
                line if line.contains(&says) => break,
                line => assert!(line.contains("runs as"), "{line}"),
            }
        }
        beside.kill().await.unwrap();
    }
    assert_eq!(
        gateway.rest("GET", "/api/kernels", "").await,
        (200, json!([]))
    );
}

#[tokio::test]
async fn one_that_does_not_answer_is_named() {
    let gateway = Gateway::start("auto").await;
    signal(gateway.pid(), Signal::STOP);
    let said = refusal(taker(&gateway, &["--port", &gateway.port.to_string()])).await;
    signal(gateway.pid(), Signal::CONT);
    let named = format!("the gateway of process {} does not answer", gateway.pid());
    assert!(said.contains(&named) && said.contains("live on"), "{said}");
    assert_eq!(gateway.rest("GET", "/api/kernels", "").await.0, 200);
}

fn door(gateway: &Gateway) -> PathBuf {
    let doors = fs::read_dir(gateway.root().join("run/gateways")).unwrap();
    doors.flatten().next().unwrap().path()
}

/// The first line that the door says to whoever runs this; nothing when it does not talk.
const KNOCK: &str = "import socket, sys\n\
    s = socket.socket(socket.AF_UNIX)\n\
    s.connect(sys.argv[1])\n\
    print(s.recv(4096).decode().strip())\n";

#[tokio::test]
async fn a_taker_that_dies_has_taken_nothing_and_strangers_are_told_nothing() {
    const NOBODY: u32 = 65534;
    let gateway = Gateway::start("auto").await;
    let door = door(&gateway);
    assert_eq!(
        fs::metadata(&door).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for last in [&b""[..], b"t", b"tx"] {
        let stream = UnixStream::connect(&door).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut hello = String::new();
        stream.read_line(&mut hello).await.unwrap();
        assert!(hello.contains(&gateway.port.to_string()), "{hello}");
        stream.get_mut().write_all(last).await.unwrap();
        if !last.is_empty() {
            assert_eq!(stream.read_u8().await.unwrap(), b'g');
        }
        drop(stream);
        assert_eq!(gateway.rest("GET", "/api/kernels", "").await.0, 200);
    }
    // Only root can become somebody else.
    if rustix::process::geteuid().is_root() {
        for folder in [
            gateway.root(),
            gateway.root().join("run"),
            gateway.root().join("run/gateways"),
        ] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&door, fs::Permissions::from_mode(0o666)).unwrap();
        let mut knock = Command::new("python3");
        knock
            .args(["-c", KNOCK])
            .arg(&door)
            .current_dir("/")
            .uid(NOBODY);
        let said = timeout(LIMIT, knock.output())
            .await
            .expect("it hangs")
            .unwrap();
        assert!(said.stdout.trim_ascii().is_empty(), "{said:?}");
    }
    // What a killed one leaves is cleared away by the next.
    let mut gateway = gateway;
    gateway.replace().await;
    assert!(!door.exists());
}
