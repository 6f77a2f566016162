//! nb as a service: the shipped units, played. There is no systemd here: what it would send to whom, what it would
//! remove, and the socket that it keeps, are done by hand as the units say (`systemd.kill(5)`, `systemd.exec(5)`).

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, TOKEN, end_kernels, page, project, put_python, wait_for};
use crate::processes::signal;
use crate::rest::drain::process_ended;

/// What a unit says, the last word of each name.
fn said(unit: &str, name: &str) -> String {
    let unit = fs::read_to_string(project("packaging/systemd").join(unit)).unwrap();
    let mut values = unit.lines().filter_map(|line| line.split_once('='));
    let value = values.rfind(|(key, _)| *key == name);
    value.unwrap_or_else(|| panic!("no {name}")).1.to_owned()
}

/// A service manager with one service.
struct Manager {
    home: TempDir,
    socket: TcpListener,
    main: Child,
}

impl Manager {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        put_python(home.path());
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let main = spawn(home.path(), &socket, "$$");
        Self { home, socket, main }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// All processes that were started below the main one, as its control group would have them.
    fn control_group(&self) -> Vec<u32> {
        let kernels = fs::read_dir(self.home.path().join("run/kernels")).unwrap();
        let states = kernels.flatten().map(|kernel| {
            let state = fs::read(kernel.path().join("state.json")).unwrap();
            serde_json::from_slice::<Value>(&state).unwrap()
        });
        let mut pids = vec![self.main.id().unwrap()];
        for state in states {
            for key in ["supervisor_pid", "kernel_pid"] {
                pids.push(state["nb"][key].as_u64().unwrap().try_into().unwrap());
            }
        }
        pids
    }

    /// Ends the service by this signal as its unit says, and clears up after it.
    async fn stop(&mut self, first: Signal) {
        let all = self.control_group();
        let (told, killed) = match &*said("nb.service", "KillMode") {
            "process" => (&all[..1], &all[..0]),
            "mixed" => (&all[..1], &all[1..]),
            "control-group" => (&all[..], &all[..]),
            other => panic!("{other}"),
        };
        told.iter().for_each(|pid| signal(*pid, first));
        told.iter().for_each(|pid| signal(*pid, Signal::CONT));
        timeout(LIMIT, self.main.wait())
            .await
            .expect("it does not end")
            .unwrap();
        killed.iter().for_each(|pid| signal(*pid, Signal::KILL));
        if said("nb.service", "RuntimeDirectoryPreserve") != "yes" {
            fs::remove_dir_all(self.home.path().join("run")).unwrap();
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        end_kernels(&self.home.path().join("run"));
    }
}

/// The command of the unit with the socket as its descriptor 3, which `pid` says to be for.
fn spawn(home: &Path, socket: &TcpListener, pid: &str) -> Child {
    let command = said("nb.service", "ExecStart");
    let arguments: Vec<_> = command.split(' ').skip(1).map(str::to_owned).collect();
    assert_eq!(arguments, ["serve", "--root", "/var/lib/nb"]);
    let script = format!(r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID={pid} exec "$@""#);
    Command::new("/bin/sh")
        .args([
            "-c",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_nb"),
            "serve",
            "--root",
        ])
        .arg(home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("NB_RUNTIME_DIR", home.join("run"))
        .env("NB_DATA_DIR", home.join("data"))
        .env("NB_STATE_DIR", home.join("state"))
        // Where the sockets were not taken, it would listen here.
        .env("NB_SERVER_PORT", "0")
        .env("NB_TOKEN", TOKEN)
        .env("NB_LOG", "warn")
        .stdin(OwnedFd::from(socket.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The sockets that a process has, by their inodes.
fn sockets(pid: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let targets = targets.map(|target| target.display().to_string());
    targets
        .filter(|target| target.starts_with("socket:"))
        .collect()
}

#[tokio::test]
async fn kernels_and_connects_live_through_a_restart_and_a_crash_of_the_service() {
    let mut service = Manager::new();
    let port = service.port();
    let (status, kernel) = page(port, TOKEN, "POST", "/api/kernels", "{}").await;
    assert_eq!(status, 201, "{kernel}");
    let kernel: Value = serde_json::from_str(&kernel).unwrap();
    let kernel = kernel["id"].as_str().unwrap();
    let mut client = Client::connect(port, TOKEN, kernel, "a").await;
    assert_eq!(client.run("x = 6").await.reply["status"], "ok");

    // The socket is the gateway's and nobody else's: a kernel that had it would keep the port.
    let ours = sockets(std::process::id());
    let all = service.control_group();
    let shared = |pid: u32| sockets(pid).iter().any(|socket| ours.contains(socket));
    assert!(
        shared(all[0]),
        "the gateway does not listen on the passed socket"
    );
    assert!(all[1..].iter().all(|pid| !shared(*pid)), "{all:?}");

    for (round, first) in [Signal::TERM, Signal::KILL].into_iter().enumerate() {
        service.stop(first).await;
        // Nobody is there, and nobody is refused.
        let mut early = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let ask = format!(
            "GET /api/kernels/{kernel} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\n\
             Connection: close\r\n\r\n"
        );
        early.write_all(ask.as_bytes()).await.unwrap();
        service.main = spawn(service.home.path(), &service.socket, "$$");
        let mut answer = String::new();
        let read = timeout(LIMIT, early.read_to_string(&mut answer)).await;
        read.expect("it hangs").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let code = format!("x += 1\nprint(x, {round})");
        assert_eq!(
            client.run(&code).await.text,
            format!("{} {round}\n", 7 + round)
        );
    }
}

#[tokio::test]
async fn sockets_that_were_passed_to_another_process_are_not_taken() {
    let home = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gateway = spawn(home.path(), &socket, "1");
    let mut line = String::new();
    let mut stdout = tokio::io::BufReader::new(gateway.stdout.take().unwrap());
    let read = tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line);
    timeout(LIMIT, read).await.unwrap().unwrap();
    let port = socket.local_addr().unwrap().port();
    assert!(
        !line.contains(&format!(":{port}/")) && line.contains("127.0.0.1:"),
        "{line}"
    );
}

#[tokio::test]
async fn a_stop_ends_kernels_where_the_settings_say_so_and_nobody_else_serves_them() {
    let mut gateway = Gateway::start("auto").await;
    gateway.replace_set("[server]\non_stop = \"end\"\n").await;
    gateway.put_peer_spec("instant");
    let kernels = |gateway: &Gateway| {
        fs::read_dir(gateway.root().join("run/kernels"))
            .unwrap()
            .count()
    };
    gateway.kernel(r#"{"name":"instant"}"#).await;
    gateway.kernel(r#"{"name":"instant"}"#).await;
    let (mut beside, _) = gateway.beside(&["--port", "0"]).await;
    signal(gateway.pid(), Signal::TERM);
    process_ended(gateway.pid()).await;
    assert_eq!(kernels(&gateway), 2, "another gateway serves them");
    signal(beside.id().unwrap(), Signal::TERM);
    let ended = timeout(LIMIT, beside.wait())
        .await
        .expect("it does not end");
    assert!(ended.unwrap().success());
    wait_for("no kernel", || (kernels(&gateway) == 0).then_some(())).await;
}
