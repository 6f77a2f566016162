//! One other kernel of the notebook: a client session at its supervisor, over as many lines as it takes.
//!
//! What answers a request of our own goes to whoever asked; all else is the broker's. Knows nothing of cells.

mod missed;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::hidden;
use super::unanswered::Unanswered;
use crate::kernels::client::Supervisor;
use crate::kernels::supervisor::bounded;
use crate::kernels::supervisor::broker::Broker;
use crate::kernels::upstream::{FromKernel, Line, Over, Reach, Said, ToKernel, Window};
use crate::magics::{Failure, OtherKernel};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// What waits for whoever asked; then the line is not read and the other kernel's journal has the rest.
const ANSWERS_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// So many cells get what is said later.
const OF_CELLS_MAX: usize = 64;

/// A longer header is none that a client sends.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// How long a lost line is tried to be mended.
const MENDED_WITHIN: Duration = Duration::from_secs(60);

/// The pause between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// One of them.
pub(in crate::kernels::supervisor) struct Other {
    kernel: OtherKernel,
    reach: Reach,
    session: String,
    broker: Broker,
    outbox: mpsc::UnboundedSender<(Channel, Message)>,
    waiting: RefCell<HashMap<String, bounded::Sender<(Channel, Message)>>>,
    /// The last requests of our own that were for a cell, with the header of that: what they say later is the cell's.
    of_cells: RefCell<VecDeque<(String, Bytes)>>,
    window: RefCell<Window>,
    /// What was sent and has no answer yet.
    unanswered: RefCell<Unanswered>,
    /// What has no answer and may not have left whole.
    unsent: RefCell<Option<(Channel, Message)>>,
    /// What has come and may not have got to whoever it is for.
    unheard: RefCell<Option<(Channel, Message)>>,
    /// The answer to the last ping.
    pong: Cell<Option<Bytes>>,
    pong_due: Notify,
    gone: Cell<bool>,
    relay: RefCell<Option<JoinHandle<()>>>,
}

/// What comes of a request of our own.
pub(in crate::kernels::supervisor) struct Answers {
    other: Rc<Other>,
    id: String,
    answers: bounded::Receiver<(Channel, Message)>,
}

impl Answers {
    /// The next message; nothing when the kernel is gone.
    pub(in crate::kernels::supervisor) async fn next(&mut self) -> Option<(Channel, Message)> {
        self.answers.recv().await
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.other.waiting.borrow_mut().remove(&self.id);
    }
}

impl Other {
    /// Joins a kernel that runs, and stays with it until one of both ends.
    pub(super) fn join(
        kernel: OtherKernel,
        reach: Reach,
        session: String,
        broker: Broker,
    ) -> Rc<Self> {
        let (outbox, requests) = mpsc::unbounded_channel();
        broker.other_is_there(&kernel, outbox.clone());
        let other = Rc::new(Self {
            kernel,
            reach,
            session,
            broker,
            outbox,
            waiting: RefCell::default(),
            of_cells: RefCell::default(),
            window: RefCell::default(),
            unanswered: RefCell::default(),
            unsent: RefCell::default(),
            unheard: RefCell::default(),
            pong: Cell::new(None),
            pong_due: Notify::new(),
            gone: Cell::new(false),
            relay: RefCell::default(),
        });
        for header in other.broker.recalled_in(&other.kernel) {
            other.unanswered.borrow_mut().recalls(header);
        }
        let relaying = Rc::clone(&other);
        let relay = spawn_local(async move {
            let why = relaying.relay(requests).await;
            relaying.is_over(&why);
        });
        other.relay.replace(Some(relay));
        other
    }

    pub(super) fn kernel(&self) -> &OtherKernel {
        &self.kernel
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    pub(in crate::kernels::supervisor) fn supervisor(&self) -> &Supervisor {
        self.reach.supervisor()
    }

    pub(in crate::kernels::supervisor) async fn interrupt(&self) {
        if let Err(error) = self.supervisor().interrupt().await {
            warn!(%error, kernel = %self.kernel, "it was not interrupted");
        }
    }

    /// Has nothing to do with it any more.
    pub(super) fn leave(&self, why: &str) {
        if let Some(relay) = self.relay.take() {
            relay.abort();
        }
        self.is_over(why);
    }

    fn is_over(&self, why: &str) {
        if !self.gone.replace(true) {
            // Whoever waits is told by the end of its answers.
            self.waiting.borrow_mut().clear();
            self.broker.other_is_gone(&self.kernel, why);
        }
    }

    /// Sends a request of our own.
    pub(in crate::kernels::supervisor) fn request(
        self: &Rc<Self>,
        channel: Channel,
        message: Message,
    ) -> Answers {
        let (asker, answers) = bounded::channel(ANSWERS_BYTES_MAX);
        let id = HeaderPeek::read(&message.header).map(|peek| peek.msg_id.into_owned());
        let id = id.unwrap_or_default();
        if !self.gone.get() {
            self.waiting.borrow_mut().insert(id.clone(), asker);
            self.send(channel, message);
        }
        Answers {
            other: Rc::clone(self),
            id,
            answers,
        }
    }

    /// Sends a request of our own for the cell with this header.
    pub(in crate::kernels::supervisor) fn request_for(
        self: &Rc<Self>,
        cell: Option<Bytes>,
        message: Message,
    ) -> Answers {
        let answers = self.request(Channel::Shell, message);
        if let Some(cell) = cell.filter(|cell| cell.len() <= HEADER_BYTES_MAX) {
            let mut of_cells = self.of_cells.borrow_mut();
            of_cells.push_back((answers.id.clone(), cell));
            if of_cells.len() > OF_CELLS_MAX {
                of_cells.pop_front();
            }
        }
        answers
    }

    /// Sends what has no answer.
    pub(in crate::kernels::supervisor) fn send(&self, channel: Channel, message: Message) {
        // Its end is noticed by whoever waits for an answer.
        let _gone = self.outbox.send((channel, message));
    }

    /// Asks on the shell channel, and gives the content of the reply.
    pub(super) async fn ask(
        self: &Rc<Self>,
        msg_type: &str,
        content: &Value,
    ) -> Result<Value, Failure> {
        let message = self.broker.compose(msg_type, content);
        let mut answers = self.request(Channel::Shell, message);
        while let Some((channel, message)) = answers.next().await {
            if channel == Channel::Shell {
                return Ok(serde_json::from_slice(&message.content).unwrap_or_default());
            }
        }
        Err(self.lost())
    }

    /// Runs code, unseen, and gives what it printed to stdout.
    pub(super) async fn run_hidden(self: &Rc<Self>, code: &str) -> Result<String, Failure> {
        let content = json!({
            "code": code, "silent": true, "store_history": false, "allow_stdin": false,
            "stop_on_error": false, "user_expressions": {},
        });
        let message = self.broker.compose("execute_request", &content);
        let mut answers = self.request(Channel::Shell, message);
        let printed = hidden::printed(&self.kernel, async || answers.next().await).await?;
        printed.ok_or_else(|| self.lost())
    }

    /// It has ended before it answered.
    pub(in crate::kernels::supervisor) fn lost(&self) -> Failure {
        let kernel = &self.kernel;
        Failure::new(
            "KernelDied",
            format!("The kernel in {kernel} has ended before it answered."),
        )
    }

    /// Relays over one line after the other; why there are no more.
    async fn relay(&self, mut requests: mpsc::UnboundedReceiver<(Channel, Message)>) -> String {
        loop {
            let (mut from, mut to) = match self.attach().await {
                Ok(line) => line,
                Err(why) => return why,
            };
            self.window.borrow_mut().reattached();
            self.pong.set(None);
            let spoken = Notify::new();
            let over = tokio::select! {
                over = self.down(&mut from, &spoken) => over,
                over = self.up(&mut requests, &mut to, &spoken) => over,
            };
            match over {
                Over::Gone => return "it has ended".to_owned(),
                Over::Hopeless(why) => return why,
                Over::Cut(why) => warn!(why, kernel = %self.kernel, "joins it again"),
            }
            sleep(AGAIN).await;
        }
    }

    async fn attach(&self) -> Result<Line, String> {
        let deadline = Instant::now() + MENDED_WITHIN;
        loop {
            match self.reach.attach(&self.session).await {
                Ok(line) => return Ok(line),
                Err(Over::Gone) => return Err("it has ended".to_owned()),
                Err(Over::Cut(why)) if Instant::now() < deadline => {
                    debug!(why, kernel = %self.kernel, "it is not reached");
                }
                Err(Over::Cut(why) | Over::Hopeless(why)) => return Err(why),
            }
            sleep(AGAIN).await;
        }
    }

    async fn down(&self, from: &mut FromKernel, spoken: &Notify) -> Over {
        loop {
            let unheard = self.unheard.borrow().clone();
            if let Some((channel, message)) = unheard {
                self.heard(channel, message).await;
                self.unheard.replace(None);
            }
            match from.next().await {
                Ok(Said::Message(channel, message)) => {
                    spoken.notify_one();
                    if self.window.borrow_mut().is_new(channel, &message.header) {
                        self.unheard.replace(Some((channel, message)));
                    }
                }
                Ok(Said::Ping(payload)) => {
                    self.window.borrow_mut().pinged();
                    let written = str::from_utf8(&payload)
                        .ok()
                        .and_then(|seq| seq.parse().ok());
                    let lost = written.map(|seq| self.unanswered.borrow_mut().are_written(seq));
                    for missed in lost.unwrap_or_default() {
                        self.answer_missed(missed).await;
                    }
                    self.pong.set(Some(payload));
                    self.pong_due.notify_one();
                }
                Err(over) => return over,
            }
        }
    }

    async fn heard(&self, channel: Channel, message: Message) {
        self.unanswered.borrow_mut().heard(channel, &message);
        let parent = HeaderPeek::read(&message.parent_header);
        let asker = parent.and_then(|parent| {
            let waiting = self.waiting.borrow();
            waiting.get(parent.msg_id.as_ref()).cloned()
        });
        match asker {
            Some(asker) => {
                let bytes = message.bytes();
                let _gone = asker.send((channel, message), bytes).await;
            }
            None => {
                let message = self.of_its_cell(channel, message);
                self.broker.other_said(&self.kernel, channel, message);
            }
        }
    }

    /// What is said when nobody waits any more, under the header of the cell that it was asked for.
    fn of_its_cell(&self, channel: Channel, message: Message) -> Message {
        let msg_type = HeaderPeek::read(&message.header).map(|peek| peek.msg_type.into_owned());
        // That cell's life is its own kernel's to tell.
        let tells = matches!(msg_type.as_deref(), Some("status" | "execute_input"));
        if tells || !matches!(channel, Channel::Iopub | Channel::Stdin) {
            return message;
        }
        let parent = HeaderPeek::read(&message.parent_header).map(|peek| peek.msg_id.into_owned());
        let of_cells = self.of_cells.borrow();
        let cell = of_cells.iter().find(|(id, _)| parent.as_ref() == Some(id));
        match cell {
            Some((_, header)) => Message {
                parent_header: header.clone(),
                ..message
            },
            None => message,
        }
    }

    async fn up(
        &self,
        requests: &mut mpsc::UnboundedReceiver<(Channel, Message)>,
        to: &mut ToKernel,
        spoken: &Notify,
    ) -> Over {
        let cut = |error: std::io::Error| Over::Cut(error.to_string());
        if let Err(over) = self.send_missed(to, spoken).await {
            return over;
        }
        loop {
            let unsent = self.unsent.borrow().clone();
            if let Some((channel, message)) = unsent {
                if let Err(error) = to.send(channel, &message).await {
                    return cut(error);
                }
                self.unsent.replace(None);
            }
            tokio::select! {
                Some((channel, message)) = requests.recv() => {
                    if !self.unanswered.borrow_mut().sends(channel, &message) {
                        self.unsent.replace(Some((channel, message)));
                    } else if let Err(error) = to.send(channel, &message).await {
                        return cut(error);
                    }
                }
                () = self.pong_due.notified() => {
                    if let Some(payload) = self.pong.take()
                        && let Err(error) = to.pong(&payload).await
                    {
                        return cut(error);
                    }
                }
            }
        }
    }
}
