//! The JVM's process: its start, the line to it, what it writes to its standard output and error, and its end.
//!
//! Knows nothing of Jupyter. The line is the socket that is its standard input; when that is closed the JVM ends itself.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::said::{FRAME_BYTES_MAX, Said, Told, encode};
use crate::env::scala::{Image, UNINTERRUPTED};
use crate::error::Error;

/// What is heard and not taken, in messages; beyond that the JVM waits, and so do its cells.
const HEARD_MAX: usize = 64;

/// What native code writes is passed on in pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;

/// How long the JVM may take to end in good order: its shutdown hooks.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// What is heard of it.
#[derive(Debug)]
pub(super) enum Heard {
    Said(Said),
    /// Written past the line: by native code, or by child processes.
    Wrote(&'static str, String),
    /// It says nothing any more.
    Closed,
}

/// One that was started.
pub(super) struct Jvm {
    process: Child,
    to: Option<OwnedWriteHalf>,
    heard: mpsc::Receiver<Heard>,
}

impl Jvm {
    /// Starts it in our process group: whoever ends that ends it.
    pub(super) fn start(image: &Image) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::nb(format!("{} cannot be run: {error}", image.java().display()))
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let [shell, rest @ ..] = UNINTERRUPTED;
        let mut command = Command::new(shell);
        command
            .args(rest)
            .arg(image.java())
            .args(image.arguments(&own_options()));
        command.envs(image.variables().iter().map(|(name, value)| (name, value)));
        let mut process = command
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        // The command holds their end.
        drop(command);
        let (from, to) = UnixStream::from_std(ours).map_err(failed)?.into_split();
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        tokio::spawn(listen(from, hear.clone()));
        tokio::spawn(pass_on("stdout", process.stdout.take(), hear.clone()));
        tokio::spawn(pass_on("stderr", process.stderr.take(), hear));
        Ok(Self {
            process,
            to: Some(to),
            heard,
        })
    }

    /// Tells it something; that it is gone is heard otherwise.
    pub(super) async fn tell(&mut self, told: &Told<'_>) {
        if let Some(to) = &mut self.to
            && let Err(error) = to.write_all(&encode(told)).await
        {
            tracing::debug!(%error, "the JVM does not hear");
        }
    }

    /// What is heard next. Cancelling loses nothing.
    pub(super) async fn hear(&mut self) -> Heard {
        self.heard.recv().await.unwrap_or(Heard::Closed)
    }

    /// How it ended, with what it still wrote.
    pub(super) async fn ended(&mut self) -> (io::Result<ExitStatus>, String) {
        self.to = None;
        let status = match timeout(ENDS_WITHIN, self.process.wait()).await {
            Ok(status) => status,
            Err(_) => {
                let _gone = self.process.start_kill();
                self.process.wait().await
            }
        };
        let mut wrote = String::new();
        // Child processes may hold the pipes open.
        let rest = async {
            while let Some(heard) = self.heard.recv().await {
                if let Heard::Wrote(_, text) = heard {
                    wrote += &text;
                }
            }
        };
        let _held_open = timeout(Duration::from_millis(200), rest).await;
        (status, wrote)
    }

    /// Ends it: in good order if it can.
    pub(super) async fn end(mut self) {
        let ended = self.ended().await;
        tracing::debug!(?ended, "the JVM was ended");
    }
}

/// What users say for every JVM of theirs.
fn own_options() -> Vec<String> {
    let said = std::env::var("JAVA_OPTS").unwrap_or_default();
    said.split_whitespace().map(str::to_owned).collect()
}

/// Reads frames until the line is closed, or broken.
async fn listen(mut from: OwnedReadHalf, hear: mpsc::Sender<Heard>) {
    loop {
        let heard = match frame(&mut from).await {
            Ok(said) => Heard::Said(said),
            Err(error) => {
                tracing::debug!(%error, "the line of the JVM is closed");
                Heard::Closed
            }
        };
        let is_last = matches!(heard, Heard::Closed);
        if hear.send(heard).await.is_err() || is_last {
            return;
        }
    }
}

async fn frame(from: &mut OwnedReadHalf) -> io::Result<Said> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut json = Vec::new();
    from.take(length as u64).read_to_end(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}

/// Passes on what is written, as text. A character that two pieces share is lost.
async fn pass_on(
    name: &'static str,
    from: Option<impl AsyncRead + Unpin>,
    hear: mpsc::Sender<Heard>,
) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        let text = String::from_utf8_lossy(&piece[..bytes]).into_owned();
        if hear.send(Heard::Wrote(name, text)).await.is_err() {
            return;
        }
    }
}
