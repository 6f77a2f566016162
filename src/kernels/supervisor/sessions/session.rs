//! One client session: whose it is, how far it is, the cells that it has sent.

use std::collections::VecDeque;
use std::mem;
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::care::Care;
use crate::kernels::supervisor::catch_up::{CatchUp, Share};
use crate::kernels::supervisor::journal::{RequestKey, Seq};

/// So many losses in doubt are told apart.
const DOUBTS_MAX: usize = 1024;

/// Names one connection; a session has at most one, the newest.
pub type ConnectionId = u64;

/// What a session missed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub messages: u64,
    pub bytes: u64,
    /// So many of the messages because the journal's files do not have them.
    #[serde(default)]
    pub damaged: u64,
    /// It may have missed more, of which nothing is known.
    #[serde(default)]
    pub more: bool,
}

impl AddAssign for Loss {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.damaged += more.damaged;
        self.more |= more.more;
    }
}

/// Losses that an acknowledgement of what was written up to some entry decides.
#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<(Seq, Loss)>);

impl Doubts {
    pub(super) fn add(&mut self, seq: Seq, loss: Loss) {
        let is_full = self.0.len() >= DOUBTS_MAX;
        match self.0.last_mut() {
            Some((last, sum)) if *last == seq || is_full => {
                *last = seq;
                *sum += loss;
            }
            _ => self.0.push((seq, loss)),
        }
    }

    /// No doubt is left of what was written up to `seq`.
    fn acknowledge(&mut self, seq: Seq) {
        self.0.retain(|(at, _)| *at > seq);
    }

    /// All of them.
    fn sum(&self) -> Loss {
        let mut sum = Loss::default();
        self.0.iter().for_each(|(_, loss)| sum += *loss);
        sum
    }

    fn take(&mut self) -> Loss {
        let sum = self.sum();
        self.0.clear();
        sum
    }
}

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub identity: Rc<str>,
    /// Names the credential that it came with.
    pub credential: Rc<str>,
}

/// Whose access ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    Identity(&'a str),
    Credential(&'a str),
}

impl Access<'_> {
    pub(super) fn is_of(self, holder: &Holder) -> bool {
        match self {
            Self::Identity(name) => *holder.identity == *name,
            Self::Credential(name) => *holder.credential == *name,
        }
    }
}

/// A cell that a session has sent, until it has acknowledged its end.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) request: RequestKey,
    pub(super) header: Bytes,
    /// What it said follows this entry, as long as all of it is there.
    pub(super) after: Option<Seq>,
    /// The entry that says that the kernel has done with it.
    pub(super) idle: Option<Seq>,
}

impl Cell {
    pub(super) fn taken_over(catch_up: &CatchUp) -> Option<Self> {
        catch_up.takes_over.then(|| Self {
            request: RequestKey::clone(&catch_up.request),
            header: catch_up.header.clone(),
            after: None,
            idle: catch_up.idle,
        })
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) holder: Holder,
    pub(super) share: Share,
    /// Acknowledged up to here; moved by acknowledgement alone.
    pub(super) cursor: Seq,
    /// Written to it up to here, acknowledged or not.
    pub(super) written: Seq,
    /// The cursor and what was not told, as they were last written down.
    pub(super) noted: (Seq, Loss),
    pub(super) connection: Option<ConnectionId>,
    /// When the last connection went; while there is one, when it came.
    pub(super) since: Instant,
    /// Not yet told to the client.
    pub(super) loss: Loss,
    /// Told on this connection, and not known to have arrived.
    pub(super) told: Doubts,
    /// Written to this connection up to here.
    pub(super) sent: Seq,
    /// Sent on this connection and not acknowledged, and not there any more.
    pub(super) gone: Doubts,
    pub(super) care: Care,
    pub(super) cells: VecDeque<Cell>,
    /// Whoever acknowledges for the client may lose what it has acknowledged.
    pub(super) is_lossy: bool,
}

impl Session {
    pub(super) fn catch_up(&self, cell: &Cell, holder: &Holder, resumes: bool) -> CatchUp {
        let is_same_user = self.holder.identity == holder.identity;
        CatchUp {
            request: RequestKey::clone(&cell.request),
            header: cell.header.clone(),
            after: self.cursor,
            with_reply: is_same_user,
            takes_over: is_same_user && resumes,
            idle: cell.idle,
            shown_only: false,
        }
    }

    /// The entries after this one may still be needed.
    pub(super) fn needs_after(&self) -> Seq {
        let cell = self.cells.front().filter(|_| self.is_lossy);
        let whole = cell.and_then(|cell| cell.after);
        whole.map_or(self.cursor, |after| after.min(self.cursor))
    }

    /// What is not yet told, which is told now after the entry `after`.
    pub(super) fn tell(&mut self, after: Seq) -> Option<Loss> {
        let loss = mem::take(&mut self.loss);
        if loss == Loss::default() {
            return None;
        }
        self.told.add(after, loss);
        Some(loss)
    }

    /// What the client may not have been told.
    pub(super) fn untold(&self) -> Loss {
        let mut untold = self.loss;
        untold += self.told.sum();
        untold
    }

    /// The client has what was written up to `seq`.
    pub(super) fn heard(&mut self, seq: Seq) {
        self.told.acknowledge(seq);
        self.gone.acknowledge(seq);
    }

    /// What is in doubt is lost, and what was told is to be told again. What is lost thereby.
    pub(super) fn line_ends(&mut self) -> Loss {
        let lost = self.gone.take();
        self.loss += self.told.take();
        self.loss += lost;
        lost
    }

    pub(super) fn acknowledge(&mut self, seq: Seq) {
        self.cursor = self.cursor.max(seq);
        let is_over = |cell: &Cell| cell.idle.is_some_and(|idle| idle <= self.cursor);
        while self.cells.front().is_some_and(is_over) {
            self.cells.pop_front();
        }
    }
}
