//! What clients ask of the kernel, and how each is answered: at once, by the JVM, or in its turn.

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::super::cells::WAITING_BYTES_MAX;
use super::super::content::{self, About, Execute};
use super::super::hints::Kind;
use super::super::outbox::Asker;
use super::super::said::{Fault, Hint, Told};
use super::{Cell, Ending, Kernel, Life};
use crate::protocol::message::{Channel, HeaderPeek};
use crate::sockets::Request;

impl Kernel {
    pub(super) async fn handle(&mut self, request: Request) {
        let header = request.message.header.clone();
        let peek = HeaderPeek::read(&header).unwrap_or_default();
        if request.channel == Channel::Stdin {
            if peek.msg_type == "input_reply" {
                self.answered(&request).await;
            }
            return;
        }
        let asker = Asker::of(&request);
        let content = &request.message.content;
        match &*peek.msg_type {
            "execute_request" => {
                let asked: Execute = serde_json::from_slice(content).unwrap_or_default();
                let bytes = content.len() + header.len();
                let cell = Cell {
                    asker,
                    asked,
                    count: 0,
                    is_sent: false,
                    is_asking: false,
                };
                match self.cells.submit(cell, bytes) {
                    Ok(()) => self.begin().await,
                    Err(cell) => self.refuse(&cell).await,
                }
            }
            "complete_request" => {
                let about: About = serde_json::from_slice(content).unwrap_or_default();
                let cursor = about.cursor();
                self.ask(Kind::Complete { cursor }, asker, about).await;
            }
            "inspect_request" => {
                let about: About = serde_json::from_slice(content).unwrap_or_default();
                self.ask(Kind::Inspect, asker, about).await;
            }
            "is_complete_request" => {
                let about: About = serde_json::from_slice(content).unwrap_or_default();
                self.ask(Kind::IsComplete, asker, about).await;
            }
            "kernel_info_request" => {
                self.answer_at_once(&asker, "kernel_info_reply", &content::kernel_info())
                    .await;
            }
            "history_request" => {
                let found = self.history.answer(content);
                self.answer_at_once(&asker, "history_reply", &found).await;
            }
            "comm_info_request" => {
                let none = json!({"status": "ok", "comms": {}});
                self.answer_at_once(&asker, "comm_info_reply", &none).await;
            }
            "interrupt_request" => {
                self.interrupt().await;
                self.answer_at_once(&asker, "interrupt_reply", &json!({"status": "ok"}))
                    .await;
            }
            "shutdown_request" => self.shut_down(&asker, content).await,
            other => info!(other, "not understood"),
        }
    }

    /// Too much waits for one more.
    async fn refuse(&mut self, cell: &Cell) {
        let why = format!(
            "More than {} MiB of cells would wait: this one was not run. Run it again when those are done, or make it smaller.",
            WAITING_BYTES_MAX / (1024 * 1024)
        );
        let fault = Fault::new("TooMuchWaits", why);
        let header = &cell.asker.header;
        self.outbox.state(header, "busy").await;
        if !cell.asked.silent {
            self.outbox
                .publish("error", header, &content::error(&fault))
                .await;
        }
        let reply = content::executed(self.count, Some(&fault));
        self.outbox
            .reply(&cell.asker, "execute_reply", &reply)
            .await;
        self.idle(header).await;
    }

    pub(super) async fn answer_at_once(
        &mut self,
        asker: &Asker,
        msg_type: &str,
        content: &serde_json::Value,
    ) {
        self.outbox.state(&asker.header, "busy").await;
        self.outbox.reply(asker, msg_type, content).await;
        self.idle(&asker.header).await;
    }

    /// Idle again, for this request; a client that looks at no parent is told that a cell still runs.
    async fn idle(&mut self, header: &Bytes) {
        self.outbox.state(header, "idle").await;
        if self.cells.running().is_some() {
            self.outbox.state(&self.parent.clone(), "busy").await;
        }
    }

    async fn shut_down(&mut self, asker: &Asker, content: &[u8]) {
        #[derive(Default, serde::Deserialize)]
        struct Content {
            #[serde(default)]
            restart: bool,
        }
        let Content { restart } = serde_json::from_slice(content).unwrap_or_default();
        let content = json!({"status": "ok", "restart": restart});
        self.outbox.state(&asker.header, "busy").await;
        self.outbox.reply(asker, "shutdown_reply", &content).await;
        self.outbox
            .publish("shutdown_reply", &asker.header, &content)
            .await;
        self.outbox.state(&asker.header, "idle").await;
        self.ending = Some(Ending::Asked);
    }

    /// A client has answered; an answer to no question is passed over.
    async fn answered(&mut self, request: &Request) {
        #[derive(Default, serde::Deserialize)]
        struct Content {
            #[serde(default)]
            value: String,
        }
        let Content { value } =
            serde_json::from_slice(&request.message.content).unwrap_or_default();
        let Some(cell) = self.cells.running_mut().filter(|cell| cell.is_asking) else {
            return;
        };
        cell.is_asking = false;
        if let Some(jvm) = &mut self.jvm {
            let answer = Told::Input {
                value: Some(&value),
                refused: None,
            };
            jvm.tell(&answer);
        }
    }

    pub(super) async fn interrupt(&mut self) {
        let Some(cell) = self.cells.running() else {
            return;
        };
        match &mut self.jvm {
            Some(jvm) if cell.is_sent => jvm.tell(&Told::Interrupt),
            _ => {
                let why = "The cell was interrupted while it waited for Scala, which is still being started.";
                self.done(Err(Fault::new("Interrupted", why))).await;
            }
        }
    }

    /// Asks the JVM about code, once it is there; where it cannot be asked, nothing is known.
    async fn ask(&mut self, kind: Kind, asker: Asker, about: About) {
        self.outbox.state(&asker.header, "busy").await;
        let refused = match self.life {
            Life::Failed => Some(asker),
            _ => self.hints.ask(kind, asker, about, Instant::now()).err(),
        };
        match refused {
            Some(asker) => self.answer(kind, &asker, &Hint::default()).await,
            None => self.ask_on(),
        }
    }

    /// Asks what waits for the JVM.
    pub(super) fn ask_on(&mut self) {
        let (Life::Ready, Some(jvm)) = (&self.life, &mut self.jvm) else {
            return;
        };
        while let Some((id, kind, about)) = self.hints.next() {
            let (code, cursor) = (&*about.code, about.cursor());
            let told = match kind {
                Kind::Complete { .. } => Told::Complete { id, code, cursor },
                Kind::Inspect => Told::Inspect { id, code, cursor },
                Kind::IsComplete => Told::IsComplete { id, code },
            };
            jvm.tell(&told);
        }
    }

    /// Nobody is left to ask.
    pub(super) async fn answer_all(&mut self) {
        for (kind, asker) in self.hints.drain() {
            self.answer(kind, &asker, &Hint::default()).await;
        }
    }

    pub(super) async fn answer(&mut self, kind: Kind, asker: &Asker, hint: &Hint) {
        let (msg_type, content) = kind.answer(hint);
        self.outbox.reply(asker, msg_type, &content).await;
        self.idle(&asker.header).await;
    }
}
