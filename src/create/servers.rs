//! The two programs of a notebook server, how they are started and asked whether they are there, and their end.
//!
//! Tokens go by file and environment, never by argument. Knows nothing of signals or of set-up.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::{Instant, sleep, timeout};

use super::child::{self, Child};
use super::http::{self, Peer};
use super::slot::Slot;
use crate::config::{self, OnStop};
use crate::env::{COMPANION, COMPANION_CLASS};
use crate::error::Error;

/// How long a server may take until it answers. Lab's first start compiles its Python files.
const START: Duration = Duration::from_secs(120);
/// How often a starting server is asked.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a server may take to end.
const END: Duration = Duration::from_secs(5);
/// How long all kernels may take to end.
const KERNELS_END: Duration = Duration::from_secs(10);
/// How long Lab waits for a kernel's start, in seconds; its requests wait a little longer.
const LAUNCH_SECONDS: u32 = 60;

/// The setting of what kernels get of the gateway's environment.
const ENV_INHERITED: &str = "kernels.env_inherited";

/// The token of the gateway and of Lab.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    /// Where the gateway reads it; without one it has `NB_TOKEN` as we do.
    pub(super) file: Option<PathBuf>,
}

/// The default of a setting that its user may still change.
const NO_NEWS: &str = r#"{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
"#;

/// What runs for one.
#[derive(Debug, Default)]
pub(super) struct Servers {
    gateway: Option<(Child, SocketAddr)>,
    lab: Option<Child>,
    /// Lab's port among all of this user.
    reserved: Option<File>,
}

/// What Lab is started with.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    pub(super) python: &'a Path,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) root: &'a Path,
}

impl Servers {
    /// Starts the gateway and waits until it answers; gives its address.
    pub(super) async fn start_gateway(
        &mut self,
        slot: &Slot,
        token: &Token,
        root: &Path,
    ) -> Result<SocketAddr, Error> {
        let log = slot.state.join("gateway.log");
        let mut command = child::command(OsStr::new(child::OURSELVES));
        command
            .args(["serve", "--ip", "127.0.0.1", "--port", "0", "--root"])
            .arg(root)
            .arg("--runtime-dir")
            .arg(&slot.runtime)
            .stdout(Stdio::piped());
        if let Some(file) = &token.file {
            command.arg("--token-file").arg(file);
        }
        // It runs for its user alone, whose kernels have what the user has.
        if !config::load()?.say(ENV_INHERITED) {
            command.env(config::variable(ENV_INHERITED), "*");
        }
        let mut gateway = Child::start("the gateway", &mut command, &log)?;
        let Some(stdout) = gateway.take_stdout() else {
            return Err(Error::nb("the gateway has no output"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let Ok(port) = timeout(START, port_told(&mut lines)).await else {
            return Err(gateway.fault("does not say where it listens"));
        };
        let Some(port) = port else {
            return Err(gateway.died().await);
        };
        tokio::spawn(keep(lines, log));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let peer = Peer {
            address,
            token: &token.text,
        };
        let ready = ready(&mut gateway, peer, "/healthz").await;
        self.gateway = Some((gateway, address));
        ready.map(|()| address)
    }

    /// Starts Lab on the gateway and waits until it answers; gives the port it listens on.
    pub(super) async fn start_lab(
        &mut self,
        lab: &Lab<'_>,
        gateway: SocketAddr,
        slot: &Slot,
        token: &Token,
    ) -> Result<u16, Error> {
        let log = slot.state.join("lab.log");
        ask_for_no_news(lab.python)
            .map_err(|error| Error::nb(format!("JupyterLab's settings: {error}")))?;
        let mut wanted = lab.port;
        loop {
            let mut reserved = slot.reserve(wanted)?;
            if reserved.is_none() {
                wanted = 0;
            }
            let port = free_port(lab.ip, wanted)?;
            if port != wanted {
                reserved = slot.reserve(port)?;
            }
            self.reserved = reserved;
            let output = child::open_log(&log)
                .map_err(|error| Error::nb(format!("{}: {error}", log.display())))?;
            let mut command = child::command(lab.python.as_os_str());
            command
                .args(lab_arguments(lab, port, gateway))
                .current_dir(lab.root)
                .envs(lab_environment(&token.text))
                .env_remove("JUPYTERLAB_DIR")
                .stdout(output);
            let address = SocketAddr::from((asked_at(lab.ip), port));
            let child = self
                .lab
                .insert(Child::start("JupyterLab", &mut command, &log)?);
            // A stranger's server on this port does not take our token, and others of ours keep off it.
            let peer = Peer {
                address,
                token: &token.text,
            };
            match ready(child, peer, "/api/status").await {
                Ok(()) => return Ok(port),
                // Somebody else took the port in between.
                Err(_) if wanted != 0 && free_port(lab.ip, port)? != port => wanted = 0,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there is anything to end.
    pub(super) fn any(&self) -> bool {
        self.gateway.is_some() || self.lab.is_some()
    }

    /// Waits until one of them dies.
    pub(super) async fn died(&mut self) -> Error {
        let (Some((gateway, _)), Some(lab)) = (&mut self.gateway, &mut self.lab) else {
            return Error::nb("not everything was started");
        };
        tokio::select! {
            error = gateway.died() => error,
            error = lab.died() => error,
        }
    }

    /// Ends Lab, then the kernels unless they are to be kept, then the gateway; what did not end is told.
    pub(super) async fn end(&mut self, token: &str, on_stop: OnStop) -> Result<(), Error> {
        if on_stop == OnStop::Keep {
            // Asked, it would end its kernels.
            if let Some(lab) = &mut self.lab {
                lab.kill().await;
            }
            if let Some((gateway, _)) = &mut self.gateway {
                gateway.end(END).await;
            }
            return Ok(());
        }
        let lab = async {
            if let Some(lab) = &mut self.lab {
                lab.end(END).await;
            }
        };
        let Some((gateway, address)) = &mut self.gateway else {
            lab.await;
            return Ok(());
        };
        let peer = Peer {
            address: *address,
            token,
        };
        // Lab ends its own kernels too; again afterwards for one that it started in the meantime.
        tokio::join!(lab, end_kernels(peer));
        let left = end_kernels(peer).await;
        gateway.end(END).await;
        match left {
            0 => Ok(()),
            left => Err(Error::kernel(format!(
                "{left} kernels did not end; the next start finds them again, and its end ends them"
            ))),
        }
    }
}

/// A Lab of ours does not ask on its first page whether it may fetch news from outside.
fn ask_for_no_news(python: &Path) -> io::Result<()> {
    let environment = python.ancestors().nth(2).unwrap_or(python);
    let settings = environment.join("share/jupyter/lab/settings");
    let overrides = settings.join("overrides.json");
    if overrides.exists() {
        return Ok(());
    }
    fs::create_dir_all(&settings)?;
    fs::write(overrides, NO_NEWS)
}

/// Ends every kernel of the gateway; gives how many are left. A gateway that is gone has none that we could end.
async fn end_kernels(peer: Peer<'_>) -> usize {
    let deadline = Instant::now() + KERNELS_END;
    loop {
        let Ok(list) = peer.request("GET", "/api/kernels", ANSWER).await else {
            return 0;
        };
        let kernels = kernel_ids(&list.body);
        if kernels.is_empty() || Instant::now() >= deadline {
            return kernels.len();
        }
        let ends = kernels.iter().map(|id| async move {
            let path = format!("/api/kernels/{id}");
            peer.request("DELETE", &path, KERNELS_END).await
        });
        for outcome in join_all(ends).await {
            tracing::debug!(?outcome, "a kernel was asked to end");
        }
        sleep(ASK_AGAIN).await;
    }
}

fn kernel_ids(body: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Kernel {
        id: String,
    }
    let kernels: Vec<Kernel> = serde_json::from_slice(body).unwrap_or_default();
    let ids = kernels.into_iter().map(|kernel| kernel.id);
    ids.filter(|id| uuid::Uuid::try_parse(id).is_ok()).collect()
}

/// Waits until `path` is answered with 200.
async fn ready(child: &mut Child, peer: Peer<'_>, path: &str) -> Result<(), Error> {
    let asking = async {
        loop {
            match peer.request("GET", path, ANSWER).await {
                Ok(reply) if reply.status == 200 => return,
                _ => sleep(ASK_AGAIN).await,
            }
        }
    };
    let answered = tokio::select! {
        answered = timeout(START, asking) => answered.is_ok(),
        error = child.died() => return Err(error),
    };
    if answered {
        Ok(())
    } else {
        Err(child.fault(&format!("does not answer after {} s", START.as_secs())))
    }
}

/// Reads until a line says where the server listens; nothing if it ends before.
async fn port_told(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<u16> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(port) = http::port_in(&line) {
            return Some(port);
        }
    }
    None
}

/// Keeps the pipe empty and the lines in the log. The first line is not among them: it may hold the token.
async fn keep(mut lines: Lines<BufReader<ChildStdout>>, log: PathBuf) -> std::io::Result<()> {
    let mut log = tokio::fs::File::from_std(child::open_log(&log)?);
    while let Some(line) = lines.next_line().await? {
        log.write_all(format!("{line}\n").as_bytes()).await?;
        log.flush().await?;
    }
    Ok(())
}

/// `wanted` if it can be listened on now, else any port that can.
fn free_port(ip: IpAddr, wanted: u16) -> Result<u16, Error> {
    let bound = TcpListener::bind((ip, wanted)).or_else(|_| TcpListener::bind((ip, 0)));
    let address = bound.and_then(|listener| listener.local_addr());
    match address {
        Ok(address) => Ok(address.port()),
        Err(error) => Err(Error::user(format!("{ip} cannot be listened on: {error}"))),
    }
}

/// Where a server that listens on `ip` is reached from this machine.
pub(super) fn asked_at(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn lab_arguments(lab: &Lab<'_>, port: u16, gateway: SocketAddr) -> Vec<OsString> {
    // -I: neither PYTHONPATH nor the folder that we are in reaches Lab; its terminals still have both.
    let mut arguments: Vec<OsString> = ["-I", "-m", "jupyterlab", "--no-browser"]
        .map(OsString::from)
        .into();
    arguments.extend(
        [
            format!("--gateway-url=http://{gateway}"),
            format!("--ServerApp.ip={}", lab.ip),
            format!("--ServerApp.port={port}"),
            "--ServerApp.port_retries=0".to_owned(),
            "--ServerApp.base_url=/".to_owned(),
            format!("--ServerApp.kernel_websocket_connection_class={COMPANION_CLASS}"),
            format!("--ServerApp.jpserver_extensions={{'{COMPANION}': True}}"),
            // No package is to be installed into Lab's own environment.
            "--LabApp.extension_manager=readonly".to_owned(),
            // Nothing is fetched from outside, and nobody is asked about it.
            "--LabApp.news_url=None".to_owned(),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate".to_owned(),
        ]
        .map(OsString::from),
    );
    let mut root = OsString::from("--ServerApp.root_dir=");
    root.push(lab.root);
    arguments.push(root);
    if rustix::process::getuid().is_root() {
        arguments.push("--allow-root".into());
    }
    arguments
}

/// What Lab learns by its environment; the timeouts only where the user has set none.
fn lab_environment(token: &str) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("JUPYTER_TOKEN", token.to_owned()),
        ("JUPYTER_GATEWAY_AUTH_TOKEN", token.to_owned()),
    ];
    for (name, value) in [
        ("KERNEL_LAUNCH_TIMEOUT", LAUNCH_SECONDS.to_string()),
        (
            "JUPYTER_GATEWAY_REQUEST_TIMEOUT",
            (LAUNCH_SECONDS + 5).to_string(),
        ),
        // Which notebook a kernel is for: what was added to its environment is found by that.
        (
            "JUPYTER_GATEWAY_ALLOWED_ENVS",
            "JPY_SESSION_NAME".to_owned(),
        ),
    ] {
        if std::env::var_os(name).is_none() {
            environment.push((name, value));
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_holds_a_token_and_everything_is_told() {
        let lab = Lab {
            python: Path::new("/e/bin/python"),
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 8888,
            root: Path::new("/w"),
        };
        let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
        let arguments = lab_arguments(&lab, 8889, gateway);
        for expected in [
            "--gateway-url=http://127.0.0.1:4711",
            "--ServerApp.port=8889",
            "--ServerApp.root_dir=/w",
        ] {
            assert!(
                arguments.iter().any(|argument| argument == expected),
                "{expected}"
            );
        }
        assert!(
            !arguments
                .iter()
                .any(|argument| argument.to_string_lossy().contains("oken"))
        );
        assert!(lab_environment("s").contains(&("JUPYTER_TOKEN", "s".to_owned())));
    }

    #[test]
    fn a_taken_port_is_replaced() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let taken = TcpListener::bind((ip, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let free = free_port(ip, port).unwrap();
        assert!(free != port && free != 0);
    }

    #[test]
    fn only_ids_come_out_of_a_list_of_kernels() {
        let id = "6f1b2c1e-0000-4000-8000-000000000000";
        let body = format!(r#"[{{"id":"{id}","name":"x"}}]"#);
        assert_eq!(kernel_ids(body.as_bytes()), [id]);
        assert!(
            kernel_ids(br#"[{"id":"../../etc"}]"#).is_empty() && kernel_ids(b"<html>").is_empty()
        );
    }
}
