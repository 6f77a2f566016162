//! The SQL worker: a Python program that holds one connection to one database, and the handle to it.
//!
//! Python, since that is where the drivers come from, with the same index, pins and hashes as all else. A worker ends with
//! whoever started it: its stdin ends then. Knows nothing of cells.

pub mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;
use tracing::debug;

use self::wire::{Event, Request};
use crate::env::WaitedFor;

const SOURCE: &str = concat!(
    include_str!("databases.py"),
    "\n\n",
    include_str!("result.py"),
    "\n\n",
    include_str!("worker.py")
);

/// Reads the source, whose length is the first line, and runs it: so it is in no file and in no argument.
const BOOTSTRAP: &str = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())), \
                         '<nb sql worker>', 'exec'))";

/// A longer line is none of a worker's.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// So many events wait for whoever asked; then it waits.
const EVENTS_MAX: usize = 16;

/// Of what a driver prints before its worker dies.
const ERRORS_BYTES_MAX: usize = 4 * 1024;

/// A worker that has closed its output may take so long to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Why one was ended that says what is none of its events.
const RUBBISH: &str = "it said what nobody understands, and was ended";

/// A worker that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    requests: ChildStdin,
    events: mpsc::Receiver<Event>,
    /// The end of what it printed.
    errors: Rc<RefCell<VecDeque<u8>>>,
    /// It has said what is none of its events.
    talks_rubbish: Rc<Cell<bool>>,
    readers: [JoinHandle<()>; 2],
    _waited_for: WaitedFor,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

impl Worker {
    /// Starts one with this Python, with nothing but this environment.
    pub async fn start(
        python: &Path,
        env: &BTreeMap<String, String>,
        folder: &Path,
    ) -> io::Result<Self> {
        let mut command = Command::new(python);
        command
            // Isolated: no variable and no folder of the user's makes it another Python.
            .args(["-I", "-c", BOOTSTRAP])
            .env_clear()
            .envs(env)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt of the kernel is none of its: it is told.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let _waited_for = WaitedFor::new(&child);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut requests), Some(events), Some(printed)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let source = format!("{}\n{SOURCE}", SOURCE.len());
        if let Err(error) = requests.write_all(source.as_bytes()).await {
            debug!(%error, "a worker has ended already: how is heard when it is told something");
        }
        let errors = Rc::new(RefCell::default());
        let talks_rubbish = Rc::default();
        let (said, heard) = mpsc::channel(EVENTS_MAX);
        let readers = [
            spawn_local(hear(events, said, Rc::clone(&talks_rubbish))),
            spawn_local(keep_end(printed, Rc::clone(&errors))),
        ];
        Ok(Self {
            child,
            requests,
            events: heard,
            errors,
            talks_rubbish,
            readers,
            _waited_for,
        })
    }

    /// Tells it something.
    pub async fn tell(&mut self, request: &Request<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests.write_all(&line).await
    }

    /// What it says next; nothing once it is gone. The future may be dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Ends it: how it ended, and the last that it printed.
    pub async fn end(mut self) -> (String, String) {
        if self.talks_rubbish.get() {
            let _gone = self.child.start_kill();
        }
        let ended = match timeout(END_WITHIN, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                let _gone = self.child.start_kill();
                self.child.wait().await
            }
        };
        let how = match ended {
            _ if self.talks_rubbish.get() => RUBBISH.to_owned(),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let printed = Vec::from(self.errors.take());
        (how, String::from_utf8_lossy(&printed).trim().to_owned())
    }
}

async fn hear(events: ChildStdout, said: mpsc::Sender<Event>, talks_rubbish: Rc<Cell<bool>>) {
    let mut events = BufReader::new(events);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut events).take(LINE_BYTES_MAX);
        match { read }.read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        match serde_json::from_slice(&line) {
            Ok(event) => {
                if said.send(event).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                debug!(%error, "a worker said what nobody knows");
                talks_rubbish.set(true);
                return;
            }
        }
    }
}

async fn keep_end(mut printed: ChildStderr, kept: Rc<RefCell<VecDeque<u8>>>) {
    let mut bytes = [0; 1024];
    while let Ok(read @ 1..) = printed.read(&mut bytes).await {
        let mut kept = kept.borrow_mut();
        kept.extend(&bytes[..read]);
        let over = kept.len().saturating_sub(ERRORS_BYTES_MAX);
        kept.drain(..over);
    }
}
