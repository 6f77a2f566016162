//! The one owner of what a kernel's clients share: journal, sessions, queues, pending requests.
//!
//! ```text
//! connection --submit--> queue --> outbox --> link --> kernel
//! connection <--read---- journal <-- kernel_said <-- link
//! ```
//!
//! `requests` has the first of these lines, `kernel` the second, `clients` who they are, `state` what all of
//! them do to the journal; `ours` are the cells that the magics run, `elsewhere` those of them that other kernels run
//! (`progress`: how far), `hints` what they complete and explain,
//! `keeping` sees to it that what is needed for long is safe, `ended` knows the requests whose answer is not, `adoption`
//! is the takeover of a kernel whose supervisor died, `probes` find the replies that were lost, `questions` what was asked on
//! stdin.
//!
//! All methods are synchronous and short, so nothing is ever borrowed across an await. Knows nothing
//! of sockets, processes or framings.

mod adoption;
mod clients;
mod elsewhere;
mod ended;
mod hints;
mod keeping;
mod kernel;
mod line;
mod ours;
mod probes;
mod progress;
mod questions;
mod requests;
mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use super::activity::Activity;
use super::clock::now;
use super::journal::{Journal, RequestKey, Seq};
use super::kept::Kept;
use super::ledger::Ledger;
use super::sessions::{ConnectionId, Loss, Sessions};
use crate::compose::Composer;
use crate::protocol::message::{Channel, Message};
use elsewhere::Elsewhere;
pub use elsewhere::Sent;
use ended::Ended;
pub use hints::{Hint, Wants};
use keeping::Fault;
pub use line::{Closing, Line, Ticket};
use ours::Ours;
pub use ours::{Interrupt, OurCell, Said, Takeover, Work};
use probes::Probes;
pub use progress::Progress;
use questions::Questions;
use requests::{Pending, Queues};
pub use state::error_content;

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

struct State {
    journal: Box<dyn Journal>,
    sessions: Sessions,
    kept: Kept,
    lines: BTreeMap<ConnectionId, Rc<Line>>,
    queues: Queues,
    pending: HashMap<RequestKey, Pending>,
    pending_order: VecDeque<RequestKey>,
    pending_bytes: usize,
    questions: Questions,
    activity: Activity,
    /// A client has asked the kernel process to end, and whether another is to follow.
    farewell: Option<(Farewell, Instant)>,
    phase: Phase,
    /// The kernel process of this epoch; without one requests wait.
    outbox: Option<Outbox>,
    waiting: Vec<(Channel, Message)>,
    composer: Composer,
    /// Where requests, the question and sessions are written down.
    ledger: Ledger,
    /// The newest entry that it knows of.
    noted: Seq,
    /// When all of that was written down anew.
    noted_anew: Option<Instant>,
    ended: Ended,
    /// After a takeover, until it is known what the kernel did meanwhile.
    probes: Probes,
    ours: Ours,
    elsewhere: Elsewhere,
    /// Said with the next cell.
    cell_note: Option<String>,
    /// Who leaves is forgotten.
    keeps_nothing: bool,
    /// Rung when there is something to be kept.
    unkept: Rc<Notify>,
    journal_fault: Fault,
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
    /// Why the journal is not written, if so.
    pub journal_fault: Option<String>,
    pub reason: Option<String>,
}

impl Broker {
    /// A broker for a kernel that is being started.
    pub fn new(journal: Box<dyn Journal>) -> Self {
        let state = State {
            journal,
            sessions: Sessions::default(),
            kept: Kept::default(),
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
            ledger: Ledger::default(),
            noted: 0,
            noted_anew: None,
            ended: Ended::default(),
            probes: Probes::default(),
            ours: Ours::default(),
            elsewhere: Elsewhere::default(),
            cell_note: None,
            keeps_nothing: false,
            unkept: Rc::new(Notify::new()),
            journal_fault: Fault::default(),
            connections_made: 0,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
            changed: Rc::new(Notify::new()),
            crowd: Rc::new(Notify::new()),
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
            journal_fault: state.journal_fault.now(),
            reason: match &state.phase {
                Phase::Dead(reason) => Some(reason.clone()),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
