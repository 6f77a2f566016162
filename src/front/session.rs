//! One client session at the kernel, over as many lines as it takes: relays both ways.
//!
//! Shutdowns and interrupts are not relayed but done: the kernel's process is its supervisor's, which would
//! start one again that ended by itself.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Kernel;
use super::relay::Routes;
use crate::compose::Composer;
use crate::kernels::upstream::{FromKernel, Over, Said, ToKernel, Window};
use crate::protocol::message::{Channel, HeaderPeek, Message};
use crate::sockets::{Identity, Iopub, Replies, Request, Requests};

/// Interrupts that wait to be sent.
pub(super) const INTERRUPTS_MAX: usize = 16;

/// How long a lost line is tried to be mended.
pub(super) const MENDED_WITHIN: Duration = Duration::from_secs(300);

/// The first pause between two attempts, which doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An interrupt that a client asked for on the control channel, to be answered.
pub(super) type Asked = Option<(Identity, Bytes)>;

/// Why the session is over.
#[derive(Debug)]
pub(super) enum End {
    /// A client asked for it and was answered.
    Answered { restart: bool },
    /// The client is gone, by what.
    Client(&'static str),
    /// The kernel is dead or was ended elsewhere.
    KernelGone,
    /// The kernel cannot be reached.
    Lost(String),
}

/// Why one line is over.
enum Stop {
    Over(Over),
    End(End),
}

pub(super) struct Session<'a> {
    id: String,
    topic: Bytes,
    kernel: &'a Kernel,
    interrupts: mpsc::Sender<Asked>,
    routes: RefCell<Routes<Identity>>,
    window: RefCell<Window>,
    /// A request that may not have left whole.
    unsent: RefCell<Option<(Channel, Message)>>,
    /// The answer to the last ping.
    pong: Cell<Option<Bytes>>,
    pong_due: Notify,
    /// A client has asked for the end.
    ending: Cell<bool>,
}

impl<'a> Session<'a> {
    pub(super) fn new(id: Uuid, kernel: &'a Kernel, interrupts: mpsc::Sender<Asked>) -> Self {
        Self {
            id: format!("front-{}", Uuid::new_v4().simple()),
            topic: format!("kernel.{id}").into(),
            kernel,
            interrupts,
            routes: RefCell::default(),
            window: RefCell::default(),
            unsent: RefCell::new(None),
            pong: Cell::new(None),
            pong_due: Notify::new(),
            ending: Cell::new(false),
        }
    }

    /// Relays until the end, over a new line whenever one is lost.
    pub(super) async fn run(
        &mut self,
        mut requests: Requests,
        mut replies: Replies,
        mut iopub: Iopub,
    ) -> End {
        loop {
            let line = tokio::select! {
                line = self.attach() => line,
                () = iopub.watch() => continue,
            };
            let (mut from, mut to) = match line {
                Ok(line) => line,
                Err(end) => return end,
            };
            self.window.borrow_mut().reattached();
            self.pong.set(None);
            let mut answering = replies.clone();
            let stop = tokio::select! {
                over = self.down(&mut from, &mut answering, &mut iopub) => Stop::Over(over),
                stop = self.up(&mut requests, &mut replies, &mut to) => stop,
            };
            match stop {
                Stop::End(End::Answered { restart }) => {
                    self.say_last(&mut iopub, restart).await;
                    return End::Answered { restart };
                }
                Stop::End(end) => return end,
                Stop::Over(Over::Gone) => return End::KernelGone,
                Stop::Over(Over::Hopeless(why)) => return End::Lost(why),
                Stop::Over(Over::Cut(why)) => tracing::warn!(why, "attaches again"),
            }
        }
    }

    async fn attach(&self) -> Result<super::Line, End> {
        let deadline = Instant::now() + MENDED_WITHIN;
        let mut pause = PAUSE;
        loop {
            match self.kernel.attach(&self.id).await {
                Ok(line) => return Ok(line),
                Err(Over::Gone) => return Err(End::KernelGone),
                Err(Over::Cut(why)) if Instant::now() < deadline => {
                    tracing::debug!(why, "the kernel is not reached");
                }
                Err(Over::Cut(why) | Over::Hopeless(why)) => return Err(End::Lost(why)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// From the kernel to its clients, until the line is over.
    async fn down(&self, from: &mut FromKernel, replies: &mut Replies, iopub: &mut Iopub) -> Over {
        loop {
            let said = tokio::select! {
                // Who has subscribed before something was said gets it.
                biased;
                () = iopub.watch() => continue,
                said = from.next() => said,
            };
            match said {
                Ok(Said::Message(channel, message)) => {
                    if !self.window.borrow_mut().is_new(channel, &message.header) {
                        tracing::debug!("left out what a new line repeated");
                    } else if channel == Channel::Iopub {
                        iopub.publish(&self.topic, &message).await;
                    } else {
                        self.reply(replies, channel, &message).await;
                    }
                }
                Ok(Said::Ping(payload)) => {
                    self.window.borrow_mut().pinged();
                    self.pong.set(Some(payload));
                    self.pong_due.notify_one();
                }
                // That the line ends is then no news.
                Err(_) if self.ending.get() => return std::future::pending().await,
                Err(over) => return over,
            }
        }
    }

    async fn reply(&self, replies: &mut Replies, channel: Channel, message: &Message) {
        let asker = self.routes.borrow().asker(&message.parent_header).cloned();
        match asker {
            Some(asker) => replies.send(channel, &asker, message).await,
            None => tracing::debug!(channel = channel.name(), "nobody asked for a reply"),
        }
    }

    /// From the clients to the kernel.
    async fn up(&self, requests: &mut Requests, replies: &mut Replies, to: &mut ToKernel) -> Stop {
        let unsent = self.unsent.borrow_mut().take();
        if let Some((channel, message)) = unsent
            && let Err(over) = self.forward(to, channel, message).await
        {
            return Stop::Over(over);
        }
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = self.pong_due.notified() => {
                    if let Some(pong) = self.pong.take()
                        && let Err(error) = to.pong(&pong).await
                    {
                        return Stop::Over(Over::Cut(error.to_string()));
                    }
                    continue;
                }
            };
            let Request {
                channel,
                identity,
                message,
            } = match request {
                Ok(request) => request,
                Err(error) => return Stop::End(End::Lost(error.message)),
            };
            let peek = HeaderPeek::read(&message.header);
            match peek.as_ref().map_or("", |peek| &*peek.msg_type) {
                "shutdown_request" => {
                    let asked = self.shut_down(replies, channel, &identity, &message);
                    let restart = asked.await;
                    return Stop::End(End::Answered { restart });
                }
                "interrupt_request" if channel == Channel::Control => {
                    // Beyond so many, one more changes nothing.
                    let _full = self.interrupts.try_send(Some((identity, message.header)));
                }
                _ => {
                    if channel != Channel::Stdin {
                        self.routes.borrow_mut().asked(&message.header, identity);
                    }
                    if let Err(over) = self.forward(to, channel, message).await {
                        return Stop::Over(over);
                    }
                }
            }
        }
    }

    /// What was not written whole was not understood either, and goes over the next line.
    async fn forward(
        &self,
        to: &mut ToKernel,
        channel: Channel,
        message: Message,
    ) -> Result<(), Over> {
        *self.unsent.borrow_mut() = Some((channel, message.clone()));
        let sent = to.send(channel, &message).await;
        sent.map_err(|error| Over::Cut(error.to_string()))?;
        self.unsent.borrow_mut().take();
        Ok(())
    }

    /// A restart ends the front and keeps the kernel: whoever restarts a kernel waits for the end of its
    /// process and starts that again, which then finds the kernel and restarts it.
    async fn shut_down(
        &self,
        replies: &mut Replies,
        channel: Channel,
        identity: &Identity,
        message: &Message,
    ) -> bool {
        #[derive(Default, Deserialize)]
        struct Content {
            #[serde(default)]
            restart: bool,
        }
        let Content { restart } = serde_json::from_slice(&message.content).unwrap_or_default();
        self.ending.set(true);
        if !restart {
            self.kernel.end().await;
        }
        let content = json!({"status": "ok", "restart": restart});
        let header = message.header.clone();
        let reply = Composer::new().message("shutdown_reply", header, &content);
        replies.send(channel, identity, &reply).await;
        replies.flushed().await;
        restart
    }

    /// Clients that did not ask know by this.
    async fn say_last(&self, iopub: &mut Iopub, restart: bool) {
        let content = json!({"status": "ok", "restart": restart});
        let last = Composer::new().orphan("shutdown_reply", &content);
        iopub.publish(&self.topic, &last).await;
    }
}

/// Interrupts the kernel whenever it is asked for, and answers.
pub(super) async fn interrupt(
    kernel: &Kernel,
    mut asked: mpsc::Receiver<Asked>,
    mut replies: Replies,
) {
    while let Some(asked) = asked.recv().await {
        let outcome = kernel.interrupt().await;
        let content = match &outcome {
            Ok(()) => json!({"status": "ok"}),
            Err(error) => {
                tracing::warn!(error, "the kernel was not interrupted");
                json!({"status": "error", "ename": "NotInterrupted", "evalue": error, "traceback": []})
            }
        };
        if let Some((identity, header)) = asked {
            let reply = Composer::new().message("interrupt_reply", header, &content);
            replies.send(Channel::Control, &identity, &reply).await;
        }
    }
}
