//! `nb kernel logs`: what a kernel's process wrote to its own stdout and stderr.

use std::io::{self, Write};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fleet::{find_id, text};
use crate::cli::access::Access;
use crate::cli::{output, runtime};
use crate::error::Error;
use crate::front::Gateway;

/// How often a followed log is asked for more.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// How often in a row it may be in vain.
const MISSES_MAX: u32 = 100;

/// How much is asked for at once.
const BYTES: u64 = 256 * 1024;

/// Shows what a kernel's process wrote itself, not what its cells print
///
/// Warnings, crashes, what native code prints: its stdout goes to stdout, its stderr to stderr. Of much the
/// end is kept.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// The kernel's id, or the beginning of it
    kernel: String,
    /// Goes on with what comes, until the kernel is ended
    #[arg(long, short)]
    follow: bool,
    /// At most so many bytes of the end of each
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u64).range(1..=BYTES))]
    bytes: u64,
    #[command(flatten)]
    access: Access,
}

/// One of the two, and how far it was read.
struct Stream {
    name: &'static str,
    after: Option<u64>,
    /// How often in a row the kernel's supervisor did not answer.
    misses: u32,
}

impl Logs {
    pub(super) fn run(&self) -> Result<(), Error> {
        runtime()?.block_on(self.show())
    }

    async fn show(&self) -> Result<(), Error> {
        let gateway = self.access.open().await?;
        let id = find_id(&gateway, &self.kernel).await?;
        let mut streams = ["stdout", "stderr"].map(|name| Stream {
            name,
            after: None,
            misses: 0,
        });
        loop {
            let mut any = false;
            for stream in &mut streams {
                match self.piece(&gateway, &id, stream).await? {
                    Some(more) => any |= more,
                    // It was ended: there is nothing more.
                    None => return Ok(()),
                }
            }
            match (any, self.follow) {
                (true, true) => {}
                (_, false) => return Ok(()),
                (false, true) => sleep(ASK_EVERY).await,
            }
        }
    }

    /// Shows one more piece; whether there was any, or nothing when a followed kernel is gone.
    async fn piece(
        &self,
        gateway: &Gateway,
        id: &str,
        stream: &mut Stream,
    ) -> Result<Option<bool>, Error> {
        let name = stream.name;
        let place = match stream.after {
            Some(after) => format!("&after={after}&bytes={BYTES}"),
            None => format!("&bytes={}", self.bytes),
        };
        let path = format!("/api/kernels/{id}/logs?stream={name}{place}");
        let answer = gateway.ask(Method::GET, &path, &Value::Null).await?;
        match answer.status {
            404 if stream.after.is_some() => return Ok(None),
            // It is being ended, or does not answer for now.
            503 if stream.after.is_some() && stream.misses < MISSES_MAX => {
                stream.misses += 1;
                return Ok(Some(false));
            }
            _ => stream.misses = 0,
        }
        let piece = answer.good()?;
        let lost = piece.get("lost").and_then(Value::as_u64).unwrap_or(0);
        if stream.after.is_some() && lost > 0 {
            output::warn(&format!("{lost} bytes of its {name} are not kept any more"));
        }
        stream.after = piece.get("after").and_then(Value::as_u64).or(stream.after);
        let shown = text(&piece, "text");
        match (self.access.json, name) {
            (true, _) if shown.is_empty() => {}
            (true, _) => output::line(&json!({"stream": name, "text": shown}).to_string())?,
            (false, "stdout") => output::text(shown)?,
            (false, _) => {
                if let Err(error) = io::stderr().write_all(shown.as_bytes()) {
                    tracing::debug!(%error, "nobody reads stderr");
                }
            }
        }
        Ok(Some(!shown.is_empty()))
    }
}
