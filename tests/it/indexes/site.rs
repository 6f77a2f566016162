//! The servers of a site, as processes: an index of tiny packages, a CA and TLS in front of a server, a proxy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::gateway::{LIMIT, project, wait_for};

/// Of everything that asks for one. A git server of a test looks for its end in what everybody can read.
pub(super) const PASSWORD: &str = "planted-s@cret";

/// Who may use the index.
const USERS: [&str; 2] = ["ada=planted-s@cret", "bob=typed-s3cret"];

fn python() -> PathBuf {
    let python = project("target/index-env/bin/python");
    assert!(python.exists(), "run cargo xtask setup");
    python
}

/// A peer that prints its port; it ends when it is dropped.
async fn start(script: &str, arguments: &[&str]) -> (Child, u16) {
    let mut child = Command::new(python())
        .arg(project("tests/it/peers").join(script))
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let read = timeout(LIMIT, stdout.read_line(&mut line)).await;
    read.expect("no port").unwrap();
    (child, line.trim().parse().unwrap())
}

/// The index.
pub(super) struct Site {
    pub(super) port: u16,
    _child: Child,
    _folder: TempDir,
}

impl Site {
    /// One that has these packages: `acme-one`, whose `x` is "one".
    pub(super) async fn start(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            wheel(folder.path(), name).await;
        }
        let path = folder.path().to_str().unwrap();
        let (child, port) = start("index.py", &[path, USERS[0], USERS[1]]).await;
        Self {
            port,
            _child: child,
            _folder: folder,
        }
    }
}

async fn wheel(folder: &Path, name: &str) {
    let files = serde_json::json!({format!("acme_{name}.py"): format!("x = {name:?}\n")});
    let from = folder.join("files.json");
    fs::write(&from, files.to_string()).unwrap();
    let made = Command::new(python())
        .arg(project("tests/python/wheel.py"))
        .arg(folder)
        .args([&format!("acme_{name}"), "1.0"])
        .stdin(fs::File::open(&from).unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(made.await.unwrap().success());
    fs::remove_file(from).unwrap();
}

/// A program of the shell; its path.
pub(super) fn script(path: &Path, text: &str) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A new file: the old one may be running.
    let part = path.with_extension("part");
    fs::write(&part, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(part, path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// TLS in front of a server.
pub(super) struct Front {
    pub(super) port: u16,
    _child: Child,
}

/// A CA that nobody knows, and a certificate of it for this machine.
pub(super) struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub(super) async fn make(root: &Path) -> Self {
        let folder = root.join("authority");
        fs::create_dir_all(&folder).unwrap();
        let script = "set -e
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=nb-test-ca
            openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=127.0.0.1
            printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > extensions
            openssl x509 -req -days 2 -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out cert.pem
            cat /etc/ssl/certs/ca-certificates.crt ca.pem > bundle.pem";
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(&folder)
            .output();
        let made = made.await.unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        Self { folder }
    }

    /// It, and those that the machine trusts.
    pub(super) fn bundle(&self) -> PathBuf {
        self.folder.join("bundle.pem")
    }

    /// TLS in front of the server at this port.
    pub(super) async fn before(&self, port: u16) -> Front {
        let file = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        let arguments = [&*file("cert.pem"), &file("key.pem"), &port.to_string()];
        let (child, port) = start("tls.py", &arguments).await;
        Front {
            port,
            _child: child,
        }
    }
}

/// A proxy that asks for a password.
pub(super) struct Proxy {
    pub(super) port: u16,
    log: PathBuf,
    child: Child,
}

impl Drop for Proxy {
    /// With the processes that do its work.
    fn drop(&mut self) {
        let pid = self.child.id().and_then(|pid| pid.try_into().ok());
        if let Some(group) = pid.and_then(Pid::from_raw) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Proxy {
    pub(super) async fn start(root: &Path, login: &str) -> Self {
        let (log, port) = (root.join("proxy.log"), root.join("proxy.port"));
        let child = Command::new(python())
            .args(["-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"])
            .args(["--num-workers", "1", "--num-acceptors", "1", "--log-file"])
            .arg(&log)
            .arg("--port-file")
            .arg(&port)
            .args(["--basic-auth", login])
            .env("HOME", root)
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let port = wait_for("the proxy", || {
            fs::read_to_string(&port).ok()?.trim().parse().ok()
        });
        Self {
            port: port.await,
            log,
            child,
        }
    }

    /// Where it has connected to.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}
