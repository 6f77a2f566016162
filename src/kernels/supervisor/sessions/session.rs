//! One client session: whose it is, how far it is, the cells that it has sent.

use std::collections::VecDeque;
use std::mem;
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use crate::kernels::supervisor::catch_up::{CatchUp, Share};
use crate::kernels::supervisor::journal::{RequestKey, Seq};

/// So many notes of losses that no acknowledgement covers are told apart.
const TOLD_MAX: usize = 16;

/// Names one connection; a session has at most one, the newest.
pub type ConnectionId = u64;

/// What a session missed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub messages: u64,
    pub bytes: u64,
}

impl AddAssign for Loss {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
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
    pub(super) connection: Option<ConnectionId>,
    /// When the last connection went; while there is one, when it came.
    pub(super) since: Instant,
    /// Not yet told to the client.
    pub(super) loss: Loss,
    /// Told on this connection after these entries, and not known to have arrived.
    pub(super) told: Vec<(Seq, Loss)>,
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
        if loss.messages == 0 {
            return None;
        }
        let is_full = self.told.len() >= TOLD_MAX;
        match self.told.last_mut() {
            Some((last, told)) if *last == after || is_full => {
                *last = after;
                *told += loss;
            }
            _ => self.told.push((after, loss)),
        }
        Some(loss)
    }

    /// The client has what was written up to `seq`, and with it what was told there.
    pub(super) fn heard(&mut self, seq: Seq) {
        self.told.retain(|(after, _)| *after > seq);
    }

    /// The client may not have heard what was told: it is to be told again.
    pub(super) fn untell(&mut self) {
        for (_, loss) in mem::take(&mut self.told) {
            self.loss += loss;
        }
    }

    pub(super) fn acknowledge(&mut self, seq: Seq) {
        self.cursor = self.cursor.max(seq);
        let is_over = |cell: &Cell| cell.idle.is_some_and(|idle| idle <= self.cursor);
        while self.cells.front().is_some_and(is_over) {
            self.cells.pop_front();
        }
    }
}
