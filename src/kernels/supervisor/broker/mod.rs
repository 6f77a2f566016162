//! The one owner of what a kernel's clients share: journal, sessions, queues, pending requests.
//!
//! ```text
//! connection --submit--> queue --> outbox --> link --> kernel
//! connection <--read---- journal <-- kernel_said <-- link
//! ```
//!
//! All methods are synchronous and short, so nothing is ever borrowed across an await. Knows nothing
//! of sockets, processes or framings.

mod line;
mod ours;
mod questions;
mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::activity::Activity;
use super::compose::Composer;
use super::journal::{Entry, Journal, Mark, Read, RequestKey, Route, Seq, request_key};
use super::queue::{CellQueue, Kind};
use super::sessions::{Access, ClientSession, ConnectionId, Holder, Joined, Loss, Sessions};
use crate::magics::Claim;
use crate::protocol::message::{Channel, HeaderPeek, Message};
pub use line::{Closing, Line, Ticket};
use ours::Ours;
pub use ours::{Claims, Interrupt, OurCell};
use questions::Questions;
pub(super) use state::error_content;
use state::{field, is_silent, plain, stops_on_error};

/// Requests that wait for a reply; beyond this clients are not read from, but for those that the kernel
/// has done with and never answered, which are forgotten.
const PENDING_MAX: usize = 65_536;

/// Bytes of requests that the kernel has not answered; beyond this clients are not read from.
const PENDING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Messages on their way to the kernel process of one epoch.
pub type Outbox = mpsc::UnboundedSender<(Channel, Message)>;

/// Where the kernel is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Running,
    /// Somebody asked for it, or the kernel died.
    Restarting {
        asked: bool,
    },
    /// For good, with the reason.
    Dead(String),
}

/// What a client's `shutdown_request` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    Restart,
    End,
}

struct Pending {
    session: Rc<str>,
    channel: Channel,
    msg_type: String,
    header: Bytes,
    bytes: usize,
    idle_seen: bool,
    stop_on_error: bool,
    /// A cell whose output is shown to nobody.
    silent: bool,
}

struct Request {
    key: RequestKey,
    channel: Channel,
    subshell: Option<String>,
    /// It is ours, as what.
    claim: Option<Claim>,
    message: Message,
}

type Queues = HashMap<Option<String>, CellQueue<Request>>;

struct State {
    journal: Box<dyn Journal>,
    sessions: Sessions,
    lines: BTreeMap<ConnectionId, Rc<Line>>,
    queues: Queues,
    pending: HashMap<RequestKey, Pending>,
    pending_order: VecDeque<RequestKey>,
    pending_bytes: usize,
    questions: Questions,
    activity: Activity,
    /// A client has asked the kernel process to end, and whether another is to follow.
    farewell: Option<Farewell>,
    phase: Phase,
    /// The kernel process of this epoch; without one requests wait.
    outbox: Option<Outbox>,
    waiting: Vec<(Channel, Message)>,
    composer: Composer,
    ours: Ours,
    /// Said with the next cell.
    cell_note: Option<String>,
    connections_made: ConnectionId,
}

/// A handle to the state that all connections, the link and the HTTP server share.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "its journal has none")]
pub struct Broker {
    state: Rc<RefCell<State>>,
    /// Rung when the kernel has said something or its phase has changed.
    changed: Rc<Notify>,
    /// Rung when a connection comes or goes.
    crowd: Rc<Notify>,
}

/// What REST shows of a kernel.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub execution_state: &'static str,
    pub last_activity: Timestamp,
    pub connections: usize,
    pub away: usize,
    pub lost: Loss,
    pub journal_bytes: usize,
    pub reason: Option<String>,
}

impl Broker {
    /// A broker for a kernel that is being started.
    pub fn new(journal: Box<dyn Journal>) -> Self {
        let state = State {
            journal,
            sessions: Sessions::default(),
            lines: BTreeMap::new(),
            queues: Queues::new(),
            pending: HashMap::new(),
            pending_order: VecDeque::new(),
            pending_bytes: 0,
            questions: Questions::default(),
            activity: Activity::new(Timestamp::now()),
            farewell: None,
            phase: Phase::Starting,
            outbox: None,
            waiting: Vec::new(),
            composer: Composer::new(),
            ours: Ours::default(),
            cell_note: None,
            connections_made: 0,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
            changed: Rc::new(Notify::new()),
            crowd: Rc::new(Notify::new()),
        }
    }

    // --- clients ---

    /// A connection for a client session. Replaces the one that the session had, whatever the kernel
    /// is doing.
    pub fn join(&self, session: &Rc<str>, holder: &Holder) -> Ticket {
        self.enter(session, holder, false)
    }

    /// As [`Broker::join`], for a client that looks for the cell that an earlier session of its user was
    /// watching, also when that has ended since.
    pub fn resume(&self, session: &Rc<str>, holder: &Holder) -> Ticket {
        self.enter(session, holder, true)
    }

    fn enter(&self, session: &Rc<str>, holder: &Holder, resumes: bool) -> Ticket {
        let mut state = self.state.borrow_mut();
        state.connections_made += 1;
        let id = state.connections_made;
        let last = state.journal.last();
        let catch_up = {
            let State {
                sessions, activity, ..
            } = &*state;
            sessions.catch_up(holder, resumes, |request| activity.is_running(request))
        };
        let Joined {
            share,
            after,
            written,
            replaces,
        } = state
            .sessions
            .join(session, holder, id, last, catch_up, now());
        if let Some(line) = replaces.and_then(|old| state.lines.remove(&old)) {
            line.close((4000, "replaced by a newer connection of this session"));
        }
        let line = Rc::new(Line::default());
        state.lines.insert(id, Rc::clone(&line));
        self.crowd.notify_waiters();
        let first = state.true_state(share.catch_up());
        if let Phase::Dead(_) = state.phase {
            line.close((1000, "the kernel is dead"));
        }
        Ticket {
            id,
            line,
            share,
            after,
            written,
            replay_until: last,
            first,
        }
    }

    /// The connection is gone; its session stays for whoever comes back.
    pub fn leave(&self, session: &str, connection: ConnectionId) {
        let mut state = self.state.borrow_mut();
        state.lines.remove(&connection);
        self.crowd.notify_waiters();
        state.sessions.leave(session, connection, now());
        state.release();
    }

    /// Nobody comes back for this session.
    pub fn forget(&self, session: &str) {
        let mut state = self.state.borrow_mut();
        state.sessions.forget(session);
        state.release();
    }

    /// The client was sent everything up to `seq`.
    pub fn wrote(&self, session: &str, connection: ConnectionId, seq: Seq) {
        let mut state = self.state.borrow_mut();
        state.sessions.wrote(session, connection, seq);
    }

    /// The client has everything up to `seq`.
    pub fn acknowledge(&self, session: &str, connection: ConnectionId, seq: Seq) {
        let mut state = self.state.borrow_mut();
        state.sessions.acknowledge(session, connection, seq);
        state.release();
    }

    /// What follows `after` in the journal, for all sessions.
    pub fn read(&self, after: Seq, bytes_max: usize) -> Read {
        self.state.borrow_mut().journal.read(after, bytes_max)
    }

    /// Says of a request that it runs; not part of the journal.
    pub fn busy_with(&self, header: Bytes) -> Rc<Entry> {
        let content = json!({"execution_state": "busy"});
        plain(
            self.state
                .borrow()
                .composer
                .message("status", header, &content),
        )
    }

    /// A note for a session that missed something for good, if it has.
    pub fn take_loss_note(&self, session: &str) -> Option<Rc<Entry>> {
        let mut state = self.state.borrow_mut();
        let loss = state.sessions.take_loss(session)?;
        let text = format!(
            "[nb] {} messages ({} bytes) were dropped: the journal of this kernel was full\n",
            loss.messages, loss.bytes
        );
        let parent = state.activity.running().map(|(_, header)| header.clone());
        let parent = parent.unwrap_or(Bytes::from_static(b"{}"));
        drop(state);
        Some(self.note(parent, &text))
    }

    /// A word on stderr of the cell with this header; not part of the journal.
    pub fn note(&self, parent_header: Bytes, text: &str) -> Rc<Entry> {
        let content = json!({"name": "stderr", "text": text});
        let state = self.state.borrow();
        plain(state.composer.message("stream", parent_header, &content))
    }

    /// Waits while the kernel has too much unanswered.
    pub async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state.borrow().has_room() {
                return;
            }
            changed.await;
        }
    }

    /// A client says something to the kernel. What is no message is logged and ignored.
    pub fn submit(&self, session: &Rc<str>, channel: Channel, message: Message) {
        let mut state = self.state.borrow_mut();
        let Some(peek) = HeaderPeek::read(&message.header) else {
            warn!(%session, "ignored a message without a readable header");
            return;
        };
        let key = request_key(&peek);
        let kind = match &*peek.msg_type {
            "execute_request" => Kind::Execute,
            "comm_open" | "comm_msg" | "comm_close" => Kind::Comm,
            _ => Kind::Passing,
        };
        let subshell = peek.subshell_id.as_deref().map(str::to_owned);
        match channel {
            Channel::Iopub => return,
            Channel::Stdin if state.answered(session, &message) => return,
            Channel::Stdin if state.questions.answer() => return state.send(channel, message),
            Channel::Stdin => return debug!(%session, "dropped an answer to no question"),
            Channel::Shell | Channel::Control => {}
        }
        if let Phase::Dead(reason) = &state.phase {
            let content = error_content("KernelDied", reason);
            let msg_type = peek.msg_type.into_owned();
            return state.answer(session, channel, &msg_type, &message.header, &content);
        }
        if &*peek.msg_type == "shutdown_request" {
            let restart = field(&message.content, "restart") == Some(Value::Bool(true));
            state.farewell = Some(if restart {
                Farewell::Restart
            } else {
                Farewell::End
            });
        }
        let pending = Pending {
            session: Rc::clone(session),
            channel,
            msg_type: peek.msg_type.into_owned(),
            header: Bytes::copy_from_slice(&message.header),
            bytes: message.bytes(),
            idle_seen: false,
            stop_on_error: kind == Kind::Execute && stops_on_error(&message.content),
            // Only the note wants to know.
            silent: state.cell_note.is_some() && is_silent(&message.content),
        };
        if kind == Kind::Execute && channel == Channel::Shell && !is_silent(&message.content) {
            state.sessions.asked(session, &key, &pending.header);
        }
        state.remember(RequestKey::clone(&key), pending);
        if channel == Channel::Control {
            return state.send(channel, message);
        }
        let claim = match kind {
            Kind::Execute => state.claim(&message.content),
            _ => None,
        };
        let kind = if claim.is_some() { Kind::Ours } else { kind };
        let request = Request {
            key: RequestKey::clone(&key),
            subshell: subshell.clone(),
            claim,
            channel,
            message,
        };
        let queue = state.queues.entry(subshell.clone()).or_default();
        let actions = queue.submit(key, kind, request);
        state.act(actions);
        state.forget_queue(&subshell);
    }

    // --- the kernel ---

    /// The kernel said something.
    pub fn kernel_said(&self, channel: Channel, message: Message) {
        let mut state = self.state.borrow_mut();
        match channel {
            Channel::Iopub => state.published(message),
            Channel::Shell | Channel::Control | Channel::Stdin => state.replied(channel, message),
        }
        drop(state);
        if channel == Channel::Stdin {
            // Its asker may be away.
            self.crowd.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    /// A message of our own to the kernel; what comes of it is shown to nobody.
    pub fn compose(&self, msg_type: &str, content: &Value) -> Message {
        self.state.borrow().composer.orphan(msg_type, content)
    }

    /// A kernel process is ready: what waited for it is sent.
    pub fn open_epoch(&self, outbox: Outbox) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Running;
        state.farewell = None;
        state.outbox = Some(outbox);
        state.activity.clear(Timestamp::now());
        state.publish_state("idle");
        for (channel, message) in std::mem::take(&mut state.waiting) {
            state.send(channel, message);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The kernel process is gone. What it has not answered is answered with `reason`.
    pub fn close_epoch(&self, phase: Phase, ename: &str, reason: &str) {
        let mut state = self.state.borrow_mut();
        state.outbox = None;
        state.waiting.clear();
        state.questions.clear();
        state.queues.clear();
        state.ours.end_all();
        state.sessions.forget_cells();
        state.activity.clear(Timestamp::now());
        let content = error_content(ename, reason);
        state.pending_bytes = 0;
        for key in std::mem::take(&mut state.pending_order) {
            let Some(request) = state.pending.remove(&key) else {
                continue;
            };
            let Pending {
                session,
                channel,
                msg_type,
                header,
                ..
            } = request;
            state.answer(&session, channel, &msg_type, &header, &content);
        }
        state.phase = phase;
        match state.phase {
            // Clients take the word for a death, and whoever asked for a restart knows of it.
            Phase::Restarting { asked: true } => {}
            Phase::Dead(_) => state.publish_state("dead"),
            _ => state.publish_state("restarting"),
        }
        if let Phase::Dead(_) = state.phase {
            for line in state.lines.values() {
                line.close((1000, "the kernel is gone"));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A word on stderr to all clients, that belongs to no cell.
    pub fn tell_all(&self, text: &str) {
        let mut state = self.state.borrow_mut();
        let content = json!({"name": "stderr", "text": text});
        let message = state.composer.orphan("stream", &content);
        state.append(Channel::Iopub, message, Route::Everyone, Mark::Plain);
    }

    /// Why the kernel process has ended, when a client had asked it to.
    pub fn farewell(&self) -> Option<Farewell> {
        self.state.borrow().farewell
    }

    /// Says `text` on stderr of the next cell that is shown, once.
    pub fn say_with_next_cell(&self, text: String) {
        self.state.borrow_mut().cell_note = Some(text);
    }

    /// Waits until the kernel is neither starting nor restarting.
    pub async fn settled(&self) {
        loop {
            let changed = self.changed.notified();
            if let Phase::Running | Phase::Dead(_) = self.state.borrow().phase {
                return;
            }
            changed.await;
        }
    }

    /// All client sessions, connected or away.
    pub fn client_sessions(&self) -> Vec<ClientSession> {
        self.state.borrow().sessions.list()
    }

    /// Ends sessions whose access has ended; their connections are closed.
    pub fn end_access(&self, access: Access<'_>) -> usize {
        let mut state = self.state.borrow_mut();
        let connections = state.sessions.end_access(access);
        for connection in &connections {
            if let Some(line) = state.lines.remove(connection) {
                line.close((4401, "access has ended"));
            }
        }
        state.release();
        connections.len()
    }

    /// Whether any client has ever been connected.
    pub fn was_joined(&self) -> bool {
        self.state.borrow().connections_made > 0
    }

    /// Waits until somebody has ever connected.
    pub async fn joined(&self) {
        loop {
            let crowd = self.crowd.notified();
            if self.was_joined() {
                return;
            }
            crowd.await;
        }
    }

    /// Waits until nobody has been connected for this long.
    pub async fn alone_for(&self, limit: Duration) {
        loop {
            let crowd = self.crowd.notified();
            let is_alone = self.state.borrow().lines.is_empty();
            if !is_alone {
                crowd.await;
            } else if limit.is_zero() || timeout(limit, crowd).await.is_err() {
                return;
            }
        }
    }

    /// What REST shows.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        let (connections, away) = state.sessions.counts();
        Snapshot {
            execution_state: state.execution_state(),
            last_activity: state.activity.last(),
            connections,
            away,
            lost: state.sessions.lost(),
            journal_bytes: state.journal.bytes(),
            reason: match &state.phase {
                Phase::Dead(reason) => Some(reason.clone()),
                _ => None,
            },
        }
    }
}

/// By the runtime's clock, which tests can move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
