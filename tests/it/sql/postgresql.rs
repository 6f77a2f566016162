//! A real PostgreSQL of the test's own, which asks for a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::process::{Child, Command};

use crate::gateway::{LIMIT, wait_for};

/// The user's, and what the server asks for.
pub(super) const PASSWORD: &str = "pg-s3cret";

/// A server that ends when this is dropped.
pub(super) struct Postgresql {
    pub(super) port: u16,
    server: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        // SIGINT is its fast shutdown: its own children end with it.
        let Some(pid) = self.server.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        let pid = Pid::from_raw(pid).unwrap();
        let _gone = kill_process(pid, Signal::INT);
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            let limit = LIMIT.try_into().unwrap();
            let _late = poll(&mut ended, Some(&limit));
        }
        let _gone = self.server.start_kill();
    }
}

/// The folder of the server's programs: Debian has them not on the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("run cargo xtask setup");
    let newest = versions.flatten().map(|entry| entry.path()).max();
    newest.unwrap().join("bin")
}

/// As the user that Debian has for it, since it refuses to run as root.
fn as_its_user(program: &Path) -> Blocking {
    if !rustix::process::geteuid().is_root() {
        return Blocking::new(program);
    }
    let mut command = Blocking::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ])
        .arg(program);
    command
}

impl Postgresql {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let root = folder.path().to_owned();
        if rustix::process::geteuid().is_root() {
            let given = Blocking::new("chown").arg("postgres").arg(&root).status();
            assert!(given.unwrap().success());
        }
        let password = root.join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(
            &password,
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
        let data = root.join("data");
        let made = as_its_user(&programs().join("initdb"))
            .arg("-D")
            .arg(&data)
            .args([
                "--auth=scram-sha-256",
                "--username=ada",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg(format!("--pwfile={}", password.display()))
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = free_port();
        let mut server = as_its_user(&programs().join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
            ])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", root.display()))
            .current_dir(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(root.join("log")).unwrap());
        let server = Command::from(server).spawn().unwrap();
        let log = root.join("log");
        wait_for("PostgreSQL", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            text.contains("ready to accept connections").then_some(())
        })
        .await;
        Self {
            port,
            server,
            _folder: folder,
        }
    }

    /// What a query of the test's own prints.
    pub(super) fn ask(&self, sql: &str) -> String {
        let said = Blocking::new("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "ada",
                "-d",
                "postgres",
                "-At",
                "-c",
                sql,
            ])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
