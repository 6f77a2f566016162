//! The kernel as its clients see it: the protocol, the order of cells, and the JVM behind it.
//!
//! One loop owns all of it; nothing here blocks. A cell that has begun waits for the JVM where there is none yet. What clients ask is in `requests`.

mod requests;

use std::future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;

use bytes::Bytes;
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::cells::Cells;
use super::content::{self, Execute};
use super::hints::Hints;
use super::history::History;
use super::jvm::{Heard, Jvm};
use super::outbox::{Asker, Outbox};
use super::said::{Done, Fault, Hint, Said, Told};
use super::steps::told;
use crate::ends::Ends;
use crate::error::Error;
use crate::sockets::{Request, Sockets};

/// How the kernel ended.
#[derive(Debug)]
pub enum Ending {
    /// Somebody asked for it.
    Asked,
    /// The JVM died, in this way.
    Jvm(ExitStatus),
}

/// What makes a JVM.
type Starting = Pin<Box<dyn Future<Output = Result<Jvm, Error>>>>;

/// Where the JVM is.
enum Life {
    /// On its way; `None` when it has its process and takes no cells yet.
    Comes(Option<Starting>),
    Ready,
    /// It could not be had, and the next cell tries again.
    Failed,
}

/// A cell.
struct Cell {
    asker: Asker,
    asked: Execute,
    /// Once it has begun.
    count: i64,
    is_sent: bool,
    is_asking: bool,
}

struct Kernel {
    outbox: Outbox,
    cells: Cells<Cell>,
    hints: Hints,
    history: History,
    /// Of the last cell that counted.
    count: i64,
    /// The header of the cell that runs, or ran last: whatever is printed is under it.
    parent: Bytes,
    life: Life,
    jvm: Option<Jvm>,
    data: PathBuf,
    /// What is told while the JVM comes.
    progress: (
        mpsc::UnboundedSender<String>,
        mpsc::UnboundedReceiver<String>,
    ),
    ending: Option<Ending>,
}

/// What there is to do next.
enum Event {
    Request(Result<Request, Error>),
    Heard(Heard),
    Started(Result<Jvm, Error>),
    Progress(String),
    Overdue,
    Interrupt,
    End(&'static str),
}

pub(super) async fn serve(
    sockets: Sockets,
    data: PathBuf,
    mut ends: Ends,
    mut interrupts: Signal,
) -> Result<Ending, Error> {
    let Sockets {
        mut requests,
        replies,
        iopub,
        heartbeat,
    } = sockets;
    let mut kernel = Kernel {
        outbox: Outbox::new(replies, iopub),
        cells: Cells::default(),
        hints: Hints::default(),
        history: History::default(),
        count: 0,
        parent: Bytes::from_static(b"{}"),
        life: Life::Failed,
        jvm: None,
        data,
        progress: mpsc::unbounded_channel(),
        ending: None,
    };
    kernel.start();
    let mut heartbeat = std::pin::pin!(heartbeat.beat());
    loop {
        let due = kernel.hints.deadline();
        let event = tokio::select! {
            // Who has subscribed before something is said gets it.
            biased;
            () = kernel.outbox.iopub.watch() => continue,
            () = &mut heartbeat => continue,
            why = ends.next() => Event::End(why),
            _ = interrupts.recv() => Event::Interrupt,
            request = requests.next() => Event::Request(request),
            heard = hear(&mut kernel.jvm) => Event::Heard(heard),
            started = come(&mut kernel.life) => Event::Started(started),
            Some(line) = kernel.progress.1.recv() => Event::Progress(line),
            () = until(due) => Event::Overdue,
        };
        match event {
            Event::Request(request) => kernel.handle(request?).await,
            Event::Heard(heard) => kernel.heard(heard).await?,
            Event::Started(started) => kernel.started(started).await,
            Event::Progress(line) => kernel.tell(&line).await,
            Event::Overdue => {
                while let Some((kind, asker)) = kernel.hints.overdue(Instant::now()) {
                    kernel.answer(kind, &asker, &Hint::default()).await;
                }
            }
            Event::Interrupt => kernel.interrupt().await,
            Event::End(why) => {
                info!(why, "ends");
                kernel.ending = Some(Ending::Asked);
            }
        }
        if let Some(ending) = kernel.ending.take() {
            if let Some(jvm) = kernel.jvm.take() {
                jvm.end().await;
            }
            kernel.outbox.flushed().await;
            return Ok(ending);
        }
    }
}

async fn hear(jvm: &mut Option<Jvm>) -> Heard {
    match jvm {
        Some(jvm) => jvm.hear().await,
        None => future::pending().await,
    }
}

async fn come(life: &mut Life) -> Result<Jvm, Error> {
    match life {
        Life::Comes(Some(starting)) => starting.await,
        _ => future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}

impl Kernel {
    /// Begins to make a JVM.
    fn start(&mut self) {
        let (data, progress) = (self.data.clone(), self.progress.0.clone());
        self.life = Life::Comes(Some(Box::pin(async move {
            let tell = |line: &str| {
                let _nobody_listens = progress.send(line.to_owned());
            };
            let ready = async |say: &dyn Fn(&str)| super::ready(&data, say).await;
            Jvm::start(&told(ready, tell).await?)
        })));
    }

    async fn started(&mut self, started: Result<Jvm, Error>) {
        match started {
            Ok(jvm) => {
                self.jvm = Some(jvm);
                self.life = Life::Comes(None);
            }
            Err(error) => self.failed(&error.message).await,
        }
    }

    /// There is no JVM, and the cell that waits for it gets to know why.
    async fn failed(&mut self, why: &str) {
        warn!(why, "there is no JVM");
        self.life = Life::Failed;
        self.answer_all().await;
        if self.cells.running().is_some() {
            self.done(Err(Fault::new("NoJvm", why))).await;
        }
    }

    /// Progress, to whoever waits.
    async fn tell(&mut self, line: &str) {
        info!("{line}");
        if self.cells.running().is_some() {
            let text = format!("Scala: {line}\n");
            self.outbox
                .stream(&self.parent.clone(), "stderr", &text)
                .await;
        }
    }

    /// Begins the next cell, if none runs.
    async fn begin(&mut self) {
        let Some(cell) = self.cells.begin() else {
            return;
        };
        let (header, asked) = (cell.asker.header.clone(), cell.asked.clone());
        self.parent = header.clone();
        if asked.is_counted() {
            self.count += 1;
            self.history.push(self.count, &asked.code);
        }
        self.outbox.state(&header, "busy").await;
        if !asked.silent {
            let input = json!({"code": asked.code, "execution_count": self.count});
            self.outbox.publish("execute_input", &header, &input).await;
        }
        let count = self.count;
        if let Some(cell) = self.cells.running_mut() {
            cell.count = count;
        }
        match self.life {
            Life::Ready => self.send(),
            Life::Comes(_) => {}
            Life::Failed => self.start(),
        }
    }

    /// Gives the cell that has begun to the JVM.
    fn send(&mut self) {
        if let (Some(cell), Some(jvm)) = (self.cells.running_mut(), &mut self.jvm)
            && !cell.is_sent
        {
            cell.is_sent = true;
            let Execute { code, silent, .. } = &cell.asked;
            let (count, silent) = (cell.count, *silent);
            jvm.tell(&Told::Execute {
                code,
                count,
                silent,
            });
        }
    }

    async fn heard(&mut self, heard: Heard) -> Result<(), Error> {
        match heard {
            Heard::Said(said) => self.said(said).await,
            Heard::Wrote(name, text) => self.wrote(name, &text).await,
            Heard::Closed(why) => self.died(why).await?,
        }
        Ok(())
    }

    async fn said(&mut self, said: Said) {
        match said {
            Said::Ready => {
                self.life = Life::Ready;
                self.send();
                self.ask_on();
            }
            Said::Stream { name, text } => {
                self.outbox.stream(&self.parent.clone(), &name, &text).await
            }
            Said::Display { data } => {
                let content = json!({"data": data, "metadata": {}, "transient": {}});
                self.outbox
                    .publish("display_data", &self.parent.clone(), &content)
                    .await;
            }
            Said::Input => self.ask_client().await,
            Said::Done(Done::Ok { text }) => self.done(Ok(text)).await,
            Said::Done(Done::Error(fault)) => self.done(Err(fault)).await,
            Said::Hint(hint) => {
                if let Some((kind, asker)) = self.hints.answered(hint.id) {
                    self.answer(kind, &asker, &hint).await;
                }
            }
        }
    }

    /// What was written past the JVM's own streams is output of the cells, and in our own stderr the reason of a death.
    async fn wrote(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let _nobody_reads = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        if matches!(self.life, Life::Ready) {
            self.outbox.stream(&self.parent.clone(), name, text).await;
        }
    }

    /// The cell that runs has ended.
    async fn done(&mut self, outcome: Result<Option<String>, Fault>) {
        let Some(cell) = self.cells.end() else {
            return;
        };
        let header = &cell.asker.header;
        match &outcome {
            Ok(Some(text)) if !cell.asked.silent => {
                if cell.asked.is_counted() {
                    self.history.result(cell.count, text);
                }
                let content = json!({"execution_count": cell.count, "data": {"text/plain": text}, "metadata": {}});
                self.outbox
                    .publish("execute_result", header, &content)
                    .await;
            }
            Err(fault) if !cell.asked.silent => {
                self.outbox
                    .publish("error", header, &content::error(fault))
                    .await
            }
            _ => {}
        }
        let reply = content::executed(cell.count, outcome.as_ref().err());
        self.outbox
            .reply(&cell.asker, "execute_reply", &reply)
            .await;
        self.outbox.state(header, "idle").await;
        if outcome.is_err() && cell.asked.stop_on_error {
            for waits in self.cells.abort() {
                self.answer_at_once(&waits.asker, "execute_reply", &json!({"status": "aborted"}))
                    .await;
            }
        }
        self.begin().await;
    }

    /// The cell wants a line.
    async fn ask_client(&mut self) {
        let refused = match self.cells.running_mut() {
            Some(cell) if cell.asked.allow_stdin => {
                cell.is_asking = true;
                let asker = cell.asker.clone();
                return self.outbox.ask(&asker).await;
            }
            Some(_) => "the client takes no questions",
            None => "no cell runs that could be asked",
        };
        if let Some(jvm) = &mut self.jvm {
            let refused = Told::Input {
                value: None,
                refused: Some(refused),
            };
            jvm.tell(&refused);
        }
    }

    /// The JVM has ended: before it was ready that is a failed start, later the end of the kernel.
    async fn died(&mut self, why: Option<String>) -> Result<(), Error> {
        let Some(mut jvm) = self.jvm.take() else {
            return Ok(());
        };
        if let Some(why) = why {
            // Its end is ours then, and our stderr is where its reason is looked for.
            let why = format!("nb: the line to the JVM broke, so it was ended: {why}\n");
            self.wrote("stderr", &why).await;
        }
        let (status, wrote) = jvm.ended().await;
        self.wrote("stderr", &wrote).await;
        let status = status.map_err(|error| Error::nb(format!("the JVM was lost: {error}")))?;
        self.answer_all().await;
        if matches!(self.life, Life::Ready) {
            self.ending = Some(Ending::Jvm(status));
        } else {
            let why = format!(
                "the JVM ended before it took cells ({status}); is JAVA_OPTS right? {}",
                wrote.trim()
            );
            self.failed(&why).await;
        }
        Ok(())
    }
}
