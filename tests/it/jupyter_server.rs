//! A Jupyter server in gateway mode, stock or with the companion: its process, its folders, and where it listens.
//!
//! Runs from the environment that `nb up` makes, which is made here if no `up` has made it. Must not
//! know what is asked of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nb::env::{Environment, Uv, install_companion};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::gateway::{LIMIT, TOKEN, project};
use crate::up::SET_UP_LIMIT;

/// What it asks of those who want to come in; the gateway's token is another.
pub(crate) const OWN_TOKEN: &str = "server-token";

pub(crate) struct JupyterServer {
    process: Child,
    /// Ends with a slash.
    pub(crate) url: String,
    pub(crate) port: u16,
    _folder: TempDir,
}

impl JupyterServer {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Starts `python -m module`, stock, on the gateway behind `port`.
    pub(crate) async fn start(module: &str, port: u16) -> Self {
        Self::start_with(module, port, &[]).await
    }

    /// Starts one with the companion, which it loads as it does when pip has installed it. One that would call
    /// a gateway that is away again as often as the stock server gives up at once.
    pub(crate) async fn start_with_companion(module: &str, port: u16) -> Self {
        let more = [
            "--ServerApp.jpserver_extensions={'nb_jupyter': True}",
            "--GatewayClient.gateway_retry_max=0",
        ];
        Self::start_with(module, port, &more).await
    }

    async fn start_with(module: &str, port: u16, more: &[&str]) -> Self {
        let python = timeout(SET_UP_LIMIT, python()).await;
        let python = python.expect("the environment is not made");
        let folder = tempfile::tempdir().unwrap();
        no_news(folder.path());
        let notebooks = folder.path().join("notebooks");
        fs::create_dir(&notebooks).unwrap();
        let mut process = Command::new(python)
            .args(["-I", "-m", module, "--no-browser", "--allow-root"])
            .arg(format!("--gateway-url=http://127.0.0.1:{port}"))
            .args(["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"])
            .args(more)
            .current_dir(notebooks)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", folder.path())
            .env("JUPYTER_TOKEN", OWN_TOKEN)
            .env("JUPYTER_GATEWAY_AUTH_TOKEN", TOKEN)
            .env("JUPYTERLAB_SETTINGS_DIR", folder.path().join("settings"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = timeout(LIMIT, port_told(&mut log)).await;
        let port = port.expect("the server does not say where it listens");
        // It tells before it listens.
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                yield_now().await;
            }
        };
        let listens = timeout(LIMIT, listens).await;
        listens.expect("the server does not listen");
        tokio::spawn(async move { while show(&mut log).await.is_some() {} });
        Self {
            process,
            url: format!("http://127.0.0.1:{port}/"),
            port,
            _folder: folder,
        }
    }
}

/// The Python of Lab's environment, which is made once and kept, with the companion in it.
pub(crate) async fn python() -> PathBuf {
    let data = project("target/nb-data");
    let environment = Environment::lab(&data);
    if !environment.is_ready() {
        let uv = Uv::find(&data, &|_| ()).await.unwrap();
        environment.make(&uv, &|_| ()).await.unwrap();
    }
    install_companion(&environment).unwrap();
    environment.python()
}

/// Lab asks nobody whether it may fetch news.
fn no_news(folder: &Path) {
    let settings = folder.join("settings/@jupyterlab/apputils-extension");
    fs::create_dir_all(&settings).unwrap();
    let settings = settings.join("notification.jupyterlab-settings");
    fs::write(settings, r#"{"fetchNews": "false"}"#).unwrap();
}

async fn port_told(log: &mut Lines<BufReader<ChildStderr>>) -> u16 {
    loop {
        let line = show(log).await.expect("the server has ended");
        let told = line.split_once("http://127.0.0.1:");
        let port = told.and_then(|(_, rest)| rest.split_once('/')?.0.parse::<u16>().ok());
        // The gateway's address is told too, without a page.
        if let Some(port) = port.filter(|_| line.contains("token=")) {
            return port;
        }
    }
}

/// The next line of its log, which is shown when the test fails.
#[expect(clippy::print_stderr, reason = "a failing test shows what it wrote")]
async fn show(log: &mut Lines<BufReader<ChildStderr>>) -> Option<String> {
    let line = log.next_line().await.ok()??;
    eprintln!("{line}");
    Some(line)
}
