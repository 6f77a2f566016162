//! A git repository of a test's own with a manifest and first-party packages, the `nb env` that follows it, and a server
//! of it that asks for a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::gateway::project;
use crate::up::SET_UP_LIMIT;

/// A lock of `six`, as uv makes it.
const LOCK: &str = "six==1.17.0 \\\n    \
    --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n";

/// What a first-party package has that is built by setuptools.
const PROJECT: &str = "[project]\nname = \"acme-foo\"\nversion = \"1.0\"\ndependencies = [\"six\"]\n\
    [build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\
    [tool.setuptools]\npackages = [\"foo\"]\n";

pub(crate) struct Monorepo {
    folder: TempDir,
}

impl Monorepo {
    /// One with a manifest, its lock, and the package `libs/foo`, whose module has the variable `x`.
    pub(crate) async fn new() -> Self {
        let repository = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        repository
            .git(&["init", "--quiet", "--initial-branch=main"])
            .await;
        repository.put("pycx.in", "six  # what foo needs\n./libs/foo\n");
        repository.put("pycx.txt", LOCK);
        repository.put("libs/foo/pyproject.toml", PROJECT);
        repository.put("libs/foo/foo/__init__.py", "x = 1\n");
        repository
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.folder.path().join("data/releases/pycx")
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) async fn git(&self, arguments: &[&str]) -> String {
        fs::create_dir_all(self.root()).unwrap();
        let git = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(arguments)
            .current_dir(self.root())
            .env("HOME", self.folder.path())
            .output();
        let output = git.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits all that is there; the commit's hash.
    pub(crate) async fn commit(&self) -> String {
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "--allow-empty", "--message=a change"])
            .await;
        self.git(&["rev-parse", "HEAD"]).await
    }

    /// `nb env` with these arguments.
    pub(crate) fn nb(&self, arguments: &[&str]) -> Command {
        let home = self.folder.path();
        let uv = project("target/nb-data/tools/uv/bin");
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
        command
            .arg("env")
            .args(arguments)
            .current_dir(home)
            .env("HOME", home)
            .env("NB_DATA_DIR", home.join("data"))
            // As many builds are to share what they download, and a uv if there is one.
            .env(
                "UV_CACHE_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("uv-cache"),
            )
            .env("PATH", format!("{}:{path}", uv.display()))
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let output = timeout(SET_UP_LIMIT, self.nb(arguments).output()).await;
        said(output.expect("nb hangs").unwrap())
    }

    /// `nb env watch --once` of this repository.
    pub(crate) async fn look(&self, more: &[&str]) -> (bool, String, String) {
        let mut arguments = vec!["watch", "pycx", "repository", "--once"];
        arguments.extend(more);
        self.run(&arguments).await
    }

    /// What one look is told as, which has to be one event after those of its beginning.
    pub(crate) async fn event(&self) -> Value {
        let (_, told, progress) = self.look(&["--json"]).await;
        let last = told.lines().last().unwrap_or_else(|| panic!("{progress}"));
        serde_json::from_str(last).unwrap()
    }

    /// The release that kernels are started in.
    pub(crate) async fn current(&self) -> String {
        let (_, listed, _) = self.run(&["releases", "pycx", "--json"]).await;
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let mut current = listed.iter().filter(|release| release["current"] == true);
        current.next().unwrap()["name"].as_str().unwrap().to_owned()
    }

    /// What a release prints for this Python.
    pub(crate) async fn python(&self, release: &str, code: &str) -> String {
        let python = self.releases().join(release).join("bin/python");
        let output = Command::new(python).args(["-c", code]).output().await;
        said(output.unwrap()).1.trim().to_owned()
    }

    /// The names of the folders of releases, whole or not.
    pub(crate) fn release_folders(&self) -> Vec<String> {
        let entries = fs::read_dir(self.releases()).into_iter().flatten();
        let folders = entries
            .flatten()
            .filter(|entry| entry.file_type().unwrap().is_dir());
        let mut names: Vec<_> = folders
            .map(|folder| folder.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn said(output: Output) -> (bool, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// An `nb env watch` that goes on, and its events.
pub(crate) struct Watching {
    pub(crate) child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    pub(crate) fn start(repository: &Monorepo) -> Self {
        let arguments = ["watch", "pycx", "repository", "--every", "1", "--json"];
        let mut command = repository.nb(&arguments);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, events }
    }

    /// The next event of this name; none of another one but that a build begins may come before it.
    pub(crate) async fn next(&mut self, name: &str) -> Value {
        loop {
            let line = timeout(SET_UP_LIMIT, self.events.next_line()).await;
            let line = line.expect("no event").unwrap().expect("nb has ended");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return event;
            }
            assert_eq!(event["event"], "building", "{event}");
        }
    }
}

/// Serves repositories below a folder by git's own program, to whoever knows the password.
pub(crate) struct GitServer {
    pub(crate) port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl GitServer {
    pub(crate) async fn start(root: &Path, login: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let encoded = base64::engine::general_purpose::STANDARD.encode(login);
        let (root, expected) = (root.to_owned(), format!("Basic {encoded}"));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &root, &expected).await;
            }
        });
        Self { port, task }
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What everybody can read of the git programs that run.
fn git_arguments() -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines =
        processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split('\0')
                .next()
                .is_some_and(|name| name.contains("git"))
        })
        .collect()
}

/// One request, handed to `git http-backend` as CGI has it.
async fn answer(stream: TcpStream, root: &Path, expected: &str) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let mut headers = head.iter().filter_map(|line| line.split_once(": "));
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let told = git_arguments();
    assert!(!told.contains("cret"), "{told}");
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    let reply = if header("authorization") != expected {
        b"Status: 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\n\r\n".to_vec()
    } else {
        let line: Vec<_> = head[0].split(' ').collect();
        let (path, query) = line[1].split_once('?').unwrap_or((line[1], ""));
        let mut child = Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", line[0])
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", header("content-type"))
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&body).await.unwrap();
        child.wait_with_output().await.unwrap().stdout
    };
    let reply = String::from_utf8_lossy(&reply)
        .strip_prefix("Status: ")
        .map_or_else(
            || [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", &*reply].concat(),
            |rest| {
                format!(
                    "HTTP/1.1 {}",
                    rest.replacen("\r\n", "\r\nConnection: close\r\n", 1)
                )
                .into_bytes()
            },
        );
    let _gone = stream.get_mut().write_all(&reply).await;
}
