//! The JupyterLab of a notebook server: how it is started on a gateway.
//!
//! Tokens go by environment, never by argument.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::child::{self, Child};
use super::http::Peer;
use super::slot::Slot;
use super::token::Token;
use crate::env::{COMPANION, COMPANION_CLASS};
use crate::error::Error;

/// How long Lab waits for a kernel's start, in seconds; its requests wait a little longer.
const LAUNCH_SECONDS: u32 = 60;

/// The default of a setting that its user may still change.
const NO_NEWS: &str = r#"{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
"#;

/// How a database of SQLite begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What one is started with.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) python: &'a Path,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) root: &'a Path,
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Lab {
    child: Child,
    pub(super) port: u16,
    /// Its port among all of this user.
    _reserved: Option<File>,
}

impl Lab {
    /// Starts it on the gateway and waits until it answers.
    pub(super) async fn start(
        asked: &Asked<'_>,
        gateway: SocketAddr,
        slot: &Slot,
        token: &Token,
    ) -> Result<Self, Error> {
        let log = slot.state.join("lab.log");
        let sessions = slot.state.join("sessions.db");
        forget_unless_sessions(&sessions)
            .map_err(|error| Error::nb(format!("{}: {error}", sessions.display())))?;
        ask_for_no_news(asked.python)
            .map_err(|error| Error::nb(format!("JupyterLab's settings: {error}")))?;
        let mut wanted = asked.port;
        loop {
            let mut reserved = slot.reserve(wanted)?;
            if reserved.is_none() {
                wanted = 0;
            }
            let port = free_port(asked.ip, wanted)?;
            if port != wanted {
                reserved = slot.reserve(port)?;
            }
            let output = child::open_log(&log)
                .map_err(|error| Error::nb(format!("{}: {error}", log.display())))?;
            let mut command = child::command(asked.python.as_os_str());
            command
                .args(arguments(asked, port, gateway, &sessions))
                .current_dir(asked.root)
                .envs(environment(&token.text))
                .env_remove("JUPYTERLAB_DIR")
                .stdout(output);
            let mut child = Child::start("JupyterLab", &mut command, &log)?;
            // A stranger's server on this port does not take our token, and others of ours keep off it.
            let peer = Peer {
                address: SocketAddr::from((asked_at(asked.ip), port)),
                token: &token.text,
            };
            match child.answers(peer, "/api/status").await {
                Ok(()) => {
                    return Ok(Self {
                        child,
                        port,
                        _reserved: reserved,
                    });
                }
                // Somebody else took the port in between.
                Err(_) if wanted != 0 && free_port(asked.ip, port)? != port => wanted = 0,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a death that nobody asked for. Cancelling loses nothing.
    pub(super) async fn died(&mut self) -> Error {
        self.child.died().await
    }

    /// Asks it to end; it ends its kernels.
    pub(super) async fn end(&mut self) {
        self.child.end(child::END).await;
    }

    /// Ends it without asking, so that its kernels stay.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await;
    }
}

/// A file that is no database, after a crash of the machine say, would keep Lab from starting at all.
fn forget_unless_sessions(file: &Path) -> io::Result<()> {
    let mut begins = Vec::new();
    match File::open(file) {
        Ok(file) => file.take(SQLITE.len() as u64).read_to_end(&mut begins)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match begins.is_empty() || begins == SQLITE {
        true => Ok(()),
        false => fs::remove_file(file),
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

fn arguments(lab: &Asked<'_>, port: u16, gateway: SocketAddr, sessions: &Path) -> Vec<OsString> {
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
    for (setting, path) in [
        ("--ServerApp.root_dir=", lab.root),
        // With the companion, the next Lab has the kernels of this one.
        ("--SessionManager.database_filepath=", sessions),
    ] {
        let mut argument = OsString::from(setting);
        argument.push(path);
        arguments.push(argument);
    }
    if rustix::process::getuid().is_root() {
        arguments.push("--allow-root".into());
    }
    arguments
}

/// What Lab learns by its environment; the timeouts only where the user has set none.
fn environment(token: &str) -> Vec<(&'static str, String)> {
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
        let lab = Asked {
            python: Path::new("/e/bin/python"),
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 8888,
            root: Path::new("/w"),
        };
        let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
        let arguments = arguments(&lab, 8889, gateway, Path::new("/s"));
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
        assert!(environment("s").contains(&("JUPYTER_TOKEN", "s".to_owned())));
    }

    #[test]
    fn a_taken_port_is_replaced() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let taken = TcpListener::bind((ip, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let free = free_port(ip, port).unwrap();
        assert!(free != port && free != 0);
    }
}
