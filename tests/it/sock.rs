//! `nb serve --sock`: a gateway on a Unix socket, with `nb kernel` as its client.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli;
use crate::gateway::{LIMIT, TOKEN, end_kernels, project};
use crate::processes::{ended, signal};

struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().join("jupyter/kernels/python3");
        fs::create_dir_all(&spec).unwrap();
        let python = project("target/test-env/bin/python");
        let argv = json!([
            python,
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}"
        ]);
        let json = json!({"argv": argv, "language": "python"}).to_string();
        fs::write(spec.join("kernel.json"), json).unwrap();
        Self { folder }
    }

    fn sock(&self) -> PathBuf {
        self.folder.path().join("nb.sock")
    }

    /// A gateway on the socket, and what it printed.
    async fn serve(&self, handover: &str) -> (Child, String) {
        let jupyter = self.folder.path().join("jupyter").display().to_string();
        let env = [("JUPYTER_PATH", &*jupyter), ("NB_TOKEN", TOKEN)];
        let sock = self.sock().display().to_string();
        let arguments = ["--sock", &sock, "--handover", handover];
        cli::serve(&self.folder, &arguments, &env).await
    }

    fn nb(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("NB_RUNTIME_DIR", self.folder.path().join("run"))
            .env("NB_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn kernel(&self, token: &str, arguments: &[&str]) -> (i32, String, String) {
        let sock = self.sock().display().to_string();
        let arguments = [&["kernel"], arguments, &["--sock", &sock]].concat();
        ended(self.nb(token, &arguments).spawn().unwrap()).await
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        end_kernels(&self.folder.path().join("run"));
    }
}

#[tokio::test]
async fn kernels_are_used_over_a_socket_that_goes_with_its_gateway() {
    for handover in ["auto", "never"] {
        let home = Home::new();
        let (mut serving, line) = home.serve(handover).await;
        assert!(
            line.starts_with("http+unix://%2F") && line.ends_with("nb.sock/"),
            "{line}"
        );
        assert_eq!(fs::metadata(home.sock()).unwrap().mode() & 0o777, 0o600);
        // The socket is no credential.
        let (code, _, stderr) = home.kernel("wrong", &["list"]).await;
        assert_eq!(code, 1);
        assert!(stderr.contains("wants another token"), "{stderr}");

        let (code, id, stderr) = home.kernel(TOKEN, &["start", "python3"]).await;
        assert_eq!(code, 0, "{stderr}");
        let (code, stdout, stderr) = home.kernel(TOKEN, &["exec", id.trim(), "6 * 7"]).await;
        assert_eq!((code, &*stdout), (0, "42\n"), "{stderr}");
        let url = format!("unix:{}", home.sock().display());
        let by_url = home
            .nb(TOKEN, &["kernel", "stop", id.trim(), "--gateway", &url])
            .spawn();
        assert_eq!(ended(by_url.unwrap()).await.0, 0);

        // While it lives nobody takes its place.
        let sock = home.sock().display().to_string();
        let second = home.nb(TOKEN, &["serve", "--sock", &sock]).spawn().unwrap();
        let (code, _, stderr) = ended(second).await;
        assert_eq!(code, 1);
        assert!(stderr.contains("another process listens on it"), "{stderr}");
        signal(serving.id().unwrap(), Signal::TERM);
        let ended = timeout(LIMIT, serving.wait()).await;
        assert!(ended.expect("it does not end").unwrap().success());
        assert!(!home.sock().exists());
    }
}

#[tokio::test]
async fn a_connection_over_the_socket_outlives_its_gateway_and_what_that_left_is_replaced() {
    let home = Home::new();
    let (mut serving, _) = home.serve("auto").await;
    let (_, id, _) = home.kernel(TOKEN, &["start", "python3"]).await;
    let go = home.folder.path().join("go");
    let code = format!(
        "import os, time\nprint('begun', flush=True)\n\
         while not os.path.exists({go:?}): time.sleep(0.01)\nprint('done')"
    );
    let sock = home.sock().display().to_string();
    let mut exec = home.nb(
        TOKEN,
        &["kernel", "exec", id.trim(), &code, "--sock", &sock],
    );
    let mut exec = exec.spawn().unwrap();
    let mut stdout = BufReader::new(exec.stdout.take().unwrap()).lines();
    let mut next = async || {
        timeout(LIMIT, stdout.next_line())
            .await
            .expect("nothing comes")
    };
    assert_eq!(next().await.unwrap().as_deref(), Some("begun"));
    serving.kill().await.unwrap();
    assert!(home.sock().exists());
    fs::write(&go, "").unwrap();
    assert_eq!(next().await.unwrap().as_deref(), Some("done"));
    assert_eq!(ended(exec).await.0, 0);

    let (_serving, _) = home.serve("auto").await;
    let (code, stdout, _) = home.kernel(TOKEN, &["list"]).await;
    assert!(code == 0 && stdout.contains(id.trim()), "{stdout}");
}

/// Asks over the socket, as whoever runs it.
const ASK: &str = "import socket, sys\n\
    s = socket.socket(socket.AF_UNIX)\n\
    s.connect(sys.argv[1])\n\
    try:\n    s.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n    \
    print(s.recv(12).decode())\n\
    except OSError:\n    print('')\n";

#[tokio::test]
async fn another_user_gets_no_answer_even_where_the_file_lets_him_in() {
    const NOBODY: u32 = 65534;
    // Only root can become somebody else.
    let users: &[Option<u32>] = match rustix::process::geteuid().is_root() {
        true => &[None, Some(NOBODY)],
        false => &[None],
    };
    let home = Home::new();
    let (_serving, _) = home.serve("auto").await;
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(home.folder.path(), 0o755);
    open(&home.sock(), 0o666);
    for user in users {
        let mut ask = Command::new("python3");
        ask.args(["-c", ASK]).arg(home.sock()).current_dir("/");
        if let Some(user) = user {
            ask.uid(*user);
        }
        let said = timeout(LIMIT, ask.output())
            .await
            .expect("it hangs")
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let expected = if user.is_none() { "HTTP/1.1 200" } else { "" };
        assert_eq!(said.trim(), expected, "{user:?}");
    }
}
