//! What the broker and one connection hold of each other.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::kernels::supervisor::catch_up::Share;
use crate::kernels::supervisor::journal::{Entry, Seq};
use crate::kernels::supervisor::sessions::{ConnectionId, Manner};

/// Why a connection is to be closed: a close code and a word to it.
pub type Closing = (u16, &'static str);

/// What the broker holds of a connection.
#[derive(Debug, Default)]
pub struct Line {
    /// Rung when there is something to write or to close.
    pub wake: Notify,
    /// Rung when it is asked to close.
    pub closed: Notify,
    closing: RefCell<Option<Closing>>,
}

impl Line {
    /// Why this connection is to be closed, once everything is written.
    pub fn closing(&self) -> Option<Closing> {
        *self.closing.borrow()
    }

    /// Asks the connection to close; the first reason stays.
    pub fn close(&self, closing: Closing) {
        self.closing.borrow_mut().get_or_insert(closing);
        self.wake.notify_one();
        self.closed.notify_one();
    }
}

/// A connection that has joined.
#[derive(Debug)]
pub struct Ticket {
    pub id: ConnectionId,
    pub line: Rc<Line>,
    /// What of the journal is this client's.
    pub share: Share,
    /// What follows in the journal is read after this.
    pub after: Seq,
    /// Up to here it was sent to this session before.
    pub written: Seq,
    /// The newest entry at this time: up to here it is a replay.
    pub replay_until: Seq,
    /// The kernel's true state, to be written before anything else; not part of the journal.
    pub first: Rc<Entry>,
    /// What takes away what is repeated, to be written after that.
    pub clears: Option<Rc<Entry>>,
    pub manner: Manner,
}
