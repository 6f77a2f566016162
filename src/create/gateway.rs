//! The gateway of a notebook server: how it is started, started again, and asked to end its kernels.
//!
//! Its token goes by file, never by argument. It listens on this machine alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::{Instant, sleep, timeout};

use super::child::{self, ASK_AGAIN, Child, START};
use super::http::{self, ANSWER, Peer};
use super::slot::Slot;
use super::token::Token;
use crate::config;
use crate::error::Error;

/// How long all kernels may take to end.
const KERNELS_END: Duration = Duration::from_secs(10);

/// The setting of what kernels get of the gateway's environment.
const ENV_INHERITED: &str = "kernels.env_inherited";

/// One that runs.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Gateway {
    /// Starts it at a port, or at any one with 0, and waits until it answers.
    pub(super) async fn start(
        port: u16,
        slot: &Slot,
        token: &Token,
        root: &Path,
    ) -> Result<Self, Error> {
        let log = slot.state.join("gateway.log");
        let mut command = child::command(&child::newest());
        command
            .args(["serve", "--ip", "127.0.0.1", "--port", &port.to_string()])
            .arg("--root")
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
        let mut child = Child::start("the gateway", &mut command, &log)?;
        let Some(stdout) = child.take_stdout() else {
            return Err(Error::nb("the gateway has no output"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let Ok(port) = timeout(START, port_told(&mut lines)).await else {
            return Err(child.fault("does not say where it listens"));
        };
        let Some(port) = port else {
            return Err(child.died().await);
        };
        tokio::spawn(keep(lines, log));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let token = &token.text;
        child.answers(Peer { address, token }, "/healthz").await?;
        Ok(Self { child, address })
    }

    /// Waits for a death that nobody asked for. Cancelling loses nothing.
    pub(super) async fn died(&mut self) -> Error {
        self.child.died().await
    }

    /// Ends it; kernels stay as they are.
    pub(super) async fn end(&mut self) {
        self.child.end(child::END).await;
    }
}

/// Ends every kernel of the gateway; gives how many are left. A gateway that is gone has none that we could end.
pub(super) async fn end_kernels(peer: Peer<'_>) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

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
