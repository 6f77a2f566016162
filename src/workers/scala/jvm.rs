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
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::said::{FRAME_BYTES_MAX, Said, Told, encode};
use crate::env::scala::{Image, UNINTERRUPTED};
use crate::error::Error;

/// What is heard and not taken, in messages; beyond that the JVM waits, and so do its cells.
const HEARD_MAX: usize = 64;

/// What native code writes is passed on in pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;

/// So many frames may wait until the JVM takes them: of a cell, of each hint, of an answer, and as many interrupts again.
const TOLD_MAX: usize = 64;

/// How long the JVM may take to end in good order: its shutdown hooks.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// What is heard of it.
#[derive(Debug)]
pub(super) enum Heard {
    Said(Said),
    /// Written past the line: by native code, or by child processes.
    Wrote(&'static str, String),
    /// It says nothing any more; why, where that is not its end.
    Closed(Option<String>),
}

/// One that was started.
pub(super) struct Jvm {
    process: Child,
    /// What it is told, until it takes it.
    to: mpsc::Sender<Vec<u8>>,
    tells: JoinHandle<()>,
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
        let process = command
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        // The command holds their end.
        drop(command);
        let line = UnixStream::from_std(ours).map_err(failed)?;
        Ok(Self::of(process, line))
    }

    fn of(mut process: Child, line: UnixStream) -> Self {
        let (from, line) = line.into_split();
        let (to, tell) = mpsc::channel(TOLD_MAX);
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        tokio::spawn(listen(from, hear.clone()));
        tokio::spawn(pass_on("stdout", process.stdout.take(), hear.clone()));
        tokio::spawn(pass_on("stderr", process.stderr.take(), hear));
        Self {
            process,
            to,
            tells: tokio::spawn(tell_on(tell, line)),
            heard,
        }
    }

    /// Tells it something, and waits for nothing: it takes that when it can. That it is gone is heard otherwise.
    pub(super) fn tell(&mut self, told: &Told<'_>) {
        // Those that wait will do, and leave room for what is said once.
        if matches!(told, Told::Interrupt) && self.to.capacity() <= TOLD_MAX / 2 {
            return;
        }
        if let Err(error) = self.to.try_send(encode(told)) {
            tracing::warn!(%error, "the JVM does not hear");
        }
    }

    /// What is heard next. Cancelling loses nothing.
    pub(super) async fn hear(&mut self) -> Heard {
        self.heard.recv().await.unwrap_or(Heard::Closed(None))
    }

    /// How it ended, with what it still wrote.
    pub(super) async fn ended(&mut self) -> (io::Result<ExitStatus>, String) {
        // Its line is closed, whether it has taken all or not.
        self.tells.abort();
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
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Heard::Closed(None),
            Err(error) => Heard::Closed(Some(error.to_string())),
        };
        let is_last = matches!(heard, Heard::Closed(_));
        if hear.send(heard).await.is_err() || is_last {
            return;
        }
    }
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Said> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut json = Vec::new();
    from.take(length as u64).read_to_end(&mut json).await?;
    if json.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&json).map_err(|error| io::Error::other(format!("no frame: {error}")))
}

/// Tells what there is to tell, until the line is broken.
async fn tell_on(mut told: mpsc::Receiver<Vec<u8>>, mut to: OwnedWriteHalf) {
    while let Some(frame) = told.recv().await {
        if let Err(error) = to.write_all(&frame).await {
            tracing::debug!(%error, "the JVM is gone");
            return;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that hears nothing, with a line to somebody.
    fn deaf() -> (Jvm, UnixStream) {
        let process = Command::new("sleep").arg("1000").kill_on_drop(true).spawn();
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Jvm::of(process.unwrap(), ours), theirs)
    }

    #[tokio::test]
    async fn nobody_waits_for_a_jvm_that_does_not_listen() {
        let (mut jvm, mut theirs) = deaf();
        let code = "x".repeat(8 * 1024 * 1024);
        let long = Told::Execute {
            code: &code,
            count: 1,
            silent: false,
        };
        jvm.tell(&long);
        for _each in 0..2 * TOLD_MAX {
            jvm.tell(&Told::Interrupt);
        }
        // What is said once has its place behind all those interrupts.
        let answer = Told::Input {
            value: Some("a"),
            refused: None,
        };
        jvm.tell(&answer);
        let interrupts = TOLD_MAX / 2 - 1;
        let told = [
            encode(&long),
            encode(&Told::Interrupt).repeat(interrupts),
            encode(&answer),
        ]
        .concat();
        let mut heard = vec![0; told.len()];
        theirs.read_exact(&mut heard).await.unwrap();
        assert!(heard == told);
        jvm.process.start_kill().unwrap();
        jvm.end().await;
    }

    #[tokio::test]
    async fn rubbish_on_the_line_is_the_end_of_it_and_told() {
        for (rubbish, why) in [
            (
                &b"\xff\xff\xff\xffx"[..],
                Some("a frame of 4294967295 bytes"),
            ),
            (b"\0\0\0\x02{]", Some("no frame")),
            (b"\0\0\0\x09{\"op\":\"x\"}", Some("no frame")),
            // Its end.
            (b"\0\0\0\x09{\"op\"", None),
            (b"", None),
        ] {
            let (mut jvm, mut theirs) = deaf();
            theirs.write_all(rubbish).await.unwrap();
            drop(theirs);
            let Heard::Closed(told) = jvm.hear().await else {
                panic!("{rubbish:?} was understood");
            };
            match why {
                Some(why) => assert!(told.is_some_and(|told| told.contains(why)), "{why}"),
                None => assert_eq!(told, None),
            }
            jvm.process.start_kill().unwrap();
            jvm.end().await;
        }
    }
}
