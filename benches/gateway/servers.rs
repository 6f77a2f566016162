//! The processes at the other end: kernels of our own, and the release binary with kernels of its; what
//! they hold and use. Each ends with its value.
//!
//! Requests block: nothing else is to be done meanwhile, and they are made while things are dropped too.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream as BlockingStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nb::kernels::supervisor::link;
use nb::protocol::connection_file::ConnectionFile;
use nb::protocol::v1;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::MANNER;
use crate::ways::{Client, Socket, Wire};

const TOKEN: &str = "bench";
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// A kernel without nb.
pub(crate) struct OwnKernel {
    child: Child,
    connection: ConnectionFile,
    _folder: TempDir,
}

impl OwnKernel {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("k").display().to_string();
        let key = "00000000-0000-4000-8000-000000000000".to_owned();
        let connection = ConnectionFile::ipc(prefix, key, String::new());
        let file = folder.path().join("connection.json");
        fs::write(&file, connection.encode()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let child = command.arg(MANNER).arg(file).spawn().unwrap();
        Self {
            child,
            connection,
            _folder: folder,
        }
    }

    pub(crate) async fn connect(&self, session: &str) -> Client {
        let link = link::connect(&self.connection, session).await.unwrap();
        Client::new(Wire::Zmq(Box::new(link)), session.to_owned())
    }
}

impl Drop for OwnKernel {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// `nb serve`, and a kernelspec of the kernel that answers at once.
pub(crate) struct Gateway {
    child: Child,
    port: u16,
    _folder: TempDir,
}

/// A kernel behind it.
pub(crate) struct Kernel {
    id: String,
    pub(crate) supervisor: u32,
}

/// How a client talks.
#[derive(Clone, Copy)]
pub(crate) enum Framing {
    V1,
    Legacy,
}

impl Gateway {
    /// With all defaults but the folders, and `handover`.
    pub(crate) fn start(handover: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().join("jupyter/kernels").join(MANNER);
        fs::create_dir_all(&spec).unwrap();
        let program = std::env::current_exe().unwrap();
        let argv = json!([program, MANNER, "{connection_file}"]);
        let content = json!({"argv": argv, "language": "peer"});
        fs::write(spec.join("kernel.json"), content.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_nb"))
            .args(["serve", "--port", "0", "--handover", handover])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder.path())
            .env("NB_RUNTIME_DIR", folder.path().join("run"))
            .env("NB_DATA_DIR", folder.path().join("data"))
            .env("NB_STATE_DIR", folder.path().join("state"))
            .env("JUPYTER_PATH", folder.path().join("jupyter"))
            .env("NB_TOKEN", TOKEN)
            .env("NB_LOG", "warn")
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let rest = line.split("127.0.0.1:").nth(1);
        let port = rest.and_then(|rest| rest.split('/').next()).unwrap();
        Self {
            child,
            port: port.trim().parse().unwrap(),
            _folder: folder,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new kernel, ready.
    pub(crate) fn kernel(&self) -> Kernel {
        let body = json!({ "name": MANNER }).to_string();
        let kernel = self.rest("POST", "/api/kernels", &body).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let supervisor = kernel["nb"]["supervisor_pid"].as_u64();
        Kernel {
            id: text(&kernel["id"]).unwrap_or_else(|| panic!("no kernel: {kernel}")),
            supervisor: u32::try_from(supervisor.unwrap()).unwrap(),
        }
    }

    pub(crate) async fn connect(&self, kernel: &Kernel, framing: Framing, session: &str) -> Client {
        let (port, id) = (self.port, &kernel.id);
        let url = format!(
            "ws://127.0.0.1:{port}/api/kernels/{id}/channels?session_id={session}&token={TOKEN}"
        );
        let mut request = url.into_client_request().unwrap();
        if let Framing::V1 = framing {
            let subprotocol = v1::SUBPROTOCOL.parse().unwrap();
            let headers = request.headers_mut();
            headers.insert("Sec-WebSocket-Protocol", subprotocol);
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let socket: Box<Socket> = Box::new(client_async(request, stream).await.unwrap().0);
        let wire = match framing {
            Framing::V1 => Wire::V1(socket),
            Framing::Legacy => Wire::Legacy(socket),
        };
        Client::new(wire, session.to_owned())
    }

    pub(crate) fn end(&self, kernel: &Kernel) {
        let path = format!("/api/kernels/{}", kernel.id);
        self.rest("DELETE", &path, "").unwrap();
    }

    /// HTTP/1.0, so that the answer ends with the connection.
    fn rest(&self, method: &str, path: &str, body: &str) -> io::Result<Value> {
        let mut stream = BlockingStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: token {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(serde_json::from_str(body).unwrap_or_default())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let kernels = self.rest("GET", "/api/kernels", "").unwrap_or_default();
        for kernel in kernels.as_array().into_iter().flatten() {
            let id = kernel["id"].as_str().unwrap_or_default();
            let _gone = self.rest("DELETE", &format!("/api/kernels/{id}"), "");
        }
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What a process holds, in KiB; `None` when we may not see it.
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) private: u64,
}

pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let lines = || rollup.lines().filter_map(|line| line.split_once(':'));
    let sum = |names: &[&str]| -> u64 {
        let named = lines().filter(|(name, _)| names.contains(name));
        let kib = |value: &str| value.trim().trim_end_matches(" kB").parse::<u64>().ok();
        named.filter_map(|(_, value)| kib(value)).sum()
    };
    Some(Memory {
        resident: sum(&["Rss"]),
        private: sum(&["Private_Clean", "Private_Dirty"]),
    })
}

/// The processor time that a process has used so far, all its threads together.
pub(crate) fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    let nanoseconds = |task: fs::DirEntry| -> Option<u64> {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse().ok()
    };
    let all = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(nanoseconds);
    Duration::from_nanos(all.sum())
}
