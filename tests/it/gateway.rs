//! A gateway of a test's own: its process, its folders, and REST by hand.
//!
//! Ends what it started by its pid, kernels included, also when the test fails.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::memory::held_kib;

/// No wait of any test is longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The program under test.
const NB: &str = env!("CARGO_BIN_EXE_nb");

/// What a process has on most machines.
const DESCRIPTORS: u32 = 1024;

pub(crate) const TOKEN: &str = "it-token";

/// A path in the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) struct Gateway {
    child: Child,
    pub(crate) port: u16,
    handover: &'static str,
    descriptors: u32,
    folder: TempDir,
}

/// A kernelspec `python3` of the test environment, for whoever has this home.
pub(crate) fn put_python(home: &Path) {
    let environment = project("target/test-env");
    let python = environment.join("bin/python");
    assert!(python.exists(), "run cargo xtask setup");
    let folder = home.join("data/kernels/python3");
    fs::create_dir_all(&folder).unwrap();
    let brought = environment.join("share/jupyter/kernels/python3");
    for entry in fs::read_dir(brought).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let spec = folder.join("kernel.json");
    let mut content: Value = serde_json::from_slice(&fs::read(&spec).unwrap()).unwrap();
    content["argv"][0] = json!(python);
    fs::write(spec, content.to_string()).unwrap();
}

impl Gateway {
    pub(crate) async fn start(handover: &'static str) -> Self {
        Self::start_with(handover, DESCRIPTORS).await
    }

    /// One that may have so many descriptors.
    pub(crate) async fn start_with(handover: &'static str, descriptors: u32) -> Self {
        Self::start_program(NB.as_ref(), handover, descriptors).await
    }

    /// One of the last release; those that replace it are of today.
    pub(crate) async fn start_last_release(handover: &'static str) -> Self {
        let program = project("target/last-release/nb");
        assert!(program.exists(), "run cargo xtask setup");
        Self::start_program(&program, handover, DESCRIPTORS).await
    }

    async fn start_program(program: &Path, handover: &'static str, descriptors: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        put_python(folder.path());
        let (child, port) = spawn(
            program,
            folder.path(),
            handover,
            descriptors,
            None,
            &["--port", "0"],
        )
        .await;
        Self {
            child,
            port,
            handover,
            descriptors,
            folder,
        }
    }

    /// `kill -9`, and another gateway on the same folders.
    pub(crate) async fn replace(&mut self) {
        self.child.kill().await.unwrap();
        self.replace_with(None).await;
    }

    /// The same, with these settings.
    pub(crate) async fn replace_set(&mut self, settings: &str) {
        self.put_settings(settings);
        self.replace().await;
    }

    /// What the next one on these folders is set to.
    pub(crate) fn put_settings(&self, settings: &str) {
        let config = self.root().join(".config/nb");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("nb.toml"), settings).unwrap();
    }

    /// The same, with all that it logs in the file that is returned.
    pub(crate) async fn replace_and_log(&mut self, level: &str) -> PathBuf {
        let log = self.folder.path().join("log");
        self.replace_with(Some((level, &log))).await;
        log
    }

    async fn replace_with(&mut self, log: Option<(&str, &Path)>) {
        let folder = self.folder.path();
        let any = &["--port", "0"];
        (self.child, self.port) = spawn(
            NB.as_ref(),
            folder,
            self.handover,
            self.descriptors,
            log,
            any,
        )
        .await;
    }

    /// Another gateway on the same folders, with these arguments; it ends when it is dropped.
    pub(crate) async fn beside(&self, arguments: &[&str]) -> (Child, u16) {
        let folder = self.folder.path();
        spawn(
            NB.as_ref(),
            folder,
            self.handover,
            self.descriptors,
            None,
            arguments,
        )
        .await
    }

    /// Lets another one be the gateway of this test; the one before.
    pub(crate) fn succeed(&mut self, child: Child) -> Child {
        std::mem::replace(&mut self.child, child)
    }

    /// `kill -9`, and nobody in its place yet.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// A kernelspec.
    pub(crate) fn put_spec(&self, name: &str, spec: &Value) {
        let folder = self.folder.path().join("jupyter/kernels").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("kernel.json"), spec.to_string()).unwrap();
    }

    /// A kernelspec that runs `script` in a shell.
    pub(crate) fn put_shell_spec(&self, name: &str, script: &str) {
        let spec = json!({"argv": ["/bin/sh", "-c", script], "language": "sh"});
        self.put_spec(name, &spec);
    }

    /// A kernelspec of our own kernel `peer` with this manner, named like it.
    pub(crate) fn put_peer_spec(&self, manner: &str) {
        let argv = json!([peer(), manner, "{connection_file}"]);
        self.put_spec(manner, &json!({"argv": argv, "language": "peer"}));
    }

    /// How much memory the supervisor of a kernel holds.
    pub(crate) async fn supervisor_kib(&self, kernel: &str) -> u64 {
        let about = self.supervisor(kernel, "/v1/about").await;
        held_kib(about["pid"].as_u64().unwrap().try_into().unwrap())
    }

    /// Waits until a supervisor holds less than this.
    pub(crate) async fn wait_for_kib(&self, kernel: &str, bound: u64, after: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let held = self.supervisor_kib(kernel).await;
            if held < bound {
                return;
            }
            let handover = self.handover;
            let late = Instant::now() > deadline;
            assert!(!late, "{held} KiB of {bound} after {after}, {handover}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The kernelspec `plain`, of a kernel that is not IPython.
    pub(crate) fn put_plain_spec(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/test-env/bin/python");
        let kernel = root.join("tests/it/peers/plain_kernel.py");
        let argv = json!([python, kernel, "-f", "{connection_file}"]);
        self.put_spec("plain", &json!({"argv": argv, "language": "plain"}));
    }

    /// A request with the token; the answer's status and body (`null` when it has none).
    pub(crate) async fn rest(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        timeout(LIMIT, request(self.port, method, path, body))
            .await
            .expect("REST hangs")
    }

    /// What REST shows of a kernel.
    pub(crate) async fn model(&self, kernel: &str) -> Value {
        let path = format!("/api/kernels/{kernel}");
        let (status, model) = self.rest("GET", &path, "").await;
        assert_eq!(status, 200, "{model}");
        model
    }

    /// Waits until REST shows a kernel in this state.
    pub(crate) async fn wait_for_state(&self, kernel: &str, state: &str) -> Value {
        let deadline = Instant::now() + LIMIT;
        let path = format!("/api/kernels/{kernel}");
        loop {
            let (_, model) = self.rest("GET", &path, "").await;
            if model["execution_state"] == state {
                return model;
            }
            assert!(Instant::now() < deadline, "never {state}: {model}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// `nb` with these arguments, asking this gateway: exit code, stdout and stderr.
    pub(crate) async fn nb<A: AsRef<OsStr>>(
        &self,
        token: &str,
        arguments: &[A],
    ) -> (i32, String, String) {
        let url = format!("http://127.0.0.1:{}", self.port);
        let known = ("NB_GATEWAY_URL", OsStr::new(&url));
        self.nb_that_knows(known, token, arguments).await
    }

    /// The same, with this variable to know the gateway from.
    pub(crate) async fn nb_that_knows<A: AsRef<OsStr>>(
        &self,
        (variable, value): (&str, &OsStr),
        token: &str,
        arguments: &[A],
    ) -> (i32, String, String) {
        let command = Command::new(NB)
            .args(arguments)
            .env_clear()
            .env("HOME", self.root())
            .env(variable, value)
            .env("NB_TOKEN", token)
            .kill_on_drop(true)
            .output();
        let done = timeout(LIMIT, command).await.expect("nb hangs").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            done.status.code().unwrap(),
            text(done.stdout),
            text(done.stderr),
        )
    }

    /// The id of a new kernel.
    pub(crate) async fn kernel(&self, body: &str) -> String {
        let (status, kernel) = self.rest("POST", "/api/kernels", body).await;
        assert_eq!(status, 201, "{kernel}");
        kernel["id"].as_str().unwrap().to_owned()
    }

    /// A notebook session of a kernel.
    pub(crate) async fn notebook_session(&self, kernel: &str) -> Value {
        let body = json!({
            "path": "folder/a b.ipynb", "name": "Ada's", "type": "notebook", "kernel": {"id": kernel},
        });
        let made = self.rest("POST", "/api/sessions", &body.to_string()).await;
        assert_eq!(made.0, 201, "{}", made.1);
        made.1
    }

    /// This notebook session is there with all that it was made of, and no other is.
    pub(crate) async fn assert_only_session(&self, session: &Value) {
        let (_, sessions) = self.rest("GET", "/api/sessions", "").await;
        assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
        for key in ["id", "path", "name", "type"] {
            assert_eq!(sessions[0][key], session[key], "{key}: {sessions}");
        }
        assert_eq!(sessions[0]["kernel"]["id"], session["kernel"]["id"]);
    }

    /// Ends a kernel.
    pub(crate) async fn delete(&self, kernel: &str) {
        let path = format!("/api/kernels/{kernel}");
        assert_eq!(self.rest("DELETE", &path, "").await.0, 204);
    }

    /// What a kernel's supervisor itself answers.
    pub(crate) async fn supervisor(&self, kernel: &str, path: &str) -> Value {
        let (status, body) = self.ask_supervisor(kernel, "GET", path, "").await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A request to a kernel's supervisor itself.
    pub(crate) async fn ask_supervisor(
        &self,
        kernel: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let socket = format!("run/kernels/{kernel}/supervisor.sock");
        let socket = UnixStream::connect(self.folder.path().join(socket));
        let answer = exchange(socket.await.unwrap(), method, path, body);
        timeout(LIMIT, answer).await.expect("the supervisor hangs")
    }

    pub(crate) async fn connect(&self, kernel: &str, session: &str) -> Client {
        Client::connect(self.port, TOKEN, kernel, session).await
    }
}

/// The program of the kernel `peer`.
pub(crate) fn peer() -> PathBuf {
    let peer = Path::new(env!("CARGO_BIN_EXE_nb")).with_file_name("examples/peer");
    assert!(peer.exists(), "run cargo build --example peer");
    peer
}

/// Waits until what `look` looks for is there.
pub(crate) async fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.child.start_kill();
        end_kernels(&self.folder.path().join("run"));
    }
}

/// Kills the kernels of a runtime folder with their supervisors.
pub(crate) fn end_kernels(runtime: &Path) {
    let kernels = runtime.join("kernels");
    // The supervisors first: one that lives starts a kernel again, which stands in no file yet.
    end_all_with(&kernels);
    for folder in fs::read_dir(kernels).into_iter().flatten().flatten() {
        let state = fs::read(folder.path().join("state.json")).unwrap_or_default();
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        let pid = state["nb"]["kernel_pid"].as_i64();
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _gone = kill_process_group(pid, Signal::KILL);
        }
        // In shared memory.
        let notes = fs::read_link(folder.path().join("requests"));
        let _none = notes.and_then(fs::remove_file);
    }
}

/// Kills the processes whose command has a file of this folder, until there is none: supervisors and kernels.
fn end_all_with(folder: &Path) {
    let deadline = std::time::Instant::now() + LIMIT;
    let folder = folder.join("").into_os_string().into_encoded_bytes();
    while std::time::Instant::now() < deadline {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let found = processes.filter_map(|process| {
            let pid: i32 = process.file_name().to_str()?.parse().ok()?;
            // That of one that has ended is empty.
            let command = fs::read(process.path().join("cmdline")).ok()?;
            let has = command.windows(folder.len()).any(|part| part == folder);
            Pid::from_raw(pid).filter(|_| has)
        });
        let found: Vec<Pid> = found.collect();
        if found.is_empty() {
            return;
        }
        for pid in found {
            let _gone = kill_process_group(pid, Signal::KILL);
            let _gone = kill_process(pid, Signal::KILL);
        }
        std::thread::yield_now();
    }
}

async fn spawn(
    program: &Path,
    folder: &Path,
    handover: &str,
    descriptors: u32,
    log: Option<(&str, &Path)>,
    arguments: &[&str],
) -> (Child, u16) {
    let stderr = log.map_or(Stdio::inherit(), |(_, file)| {
        fs::File::create(file).unwrap().into()
    });
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"])
        .arg(program)
        .args(["serve", "--handover", handover, "--runtime-dir"])
        .arg(folder.join("run"))
        .arg("--root")
        .arg(folder)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("NB_DATA_DIR", folder.join("data"))
        .env("NB_STATE_DIR", folder.join("state"))
        .env("JUPYTER_PATH", folder.join("jupyter"))
        .env("JPY_PARENT_PID", "1")
        .env("NB_TOKEN", TOKEN)
        .env("NB_LOG", log.map_or("warn", |(level, _)| level))
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    timeout(LIMIT, stdout.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let port = line
        .split_once("://")
        .and_then(|(_, at)| at.split_once(':')?.1.split('/').next());
    (child, port.unwrap().trim().parse().unwrap())
}

async fn request(port: u16, method: &str, path: &str, body: &str) -> (u16, Value) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    exchange(stream, method, path, body).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let (status, body) = ask(stream, TOKEN, method, path, body).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// What another server on this port answers.
pub(crate) async fn page(
    port: u16,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let asked = ask(stream, token, method, path, body);
    timeout(LIMIT, asked).await.expect("the server hangs")
}

/// What a request without a token is answered: status, head, body.
pub(crate) async fn whole(
    port: u16,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(LIMIT, answer).await.expect("REST hangs");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
