//! Client sessions: who has acknowledged what of the journal. Pure: time comes as a value.
//!
//! A client session is named by the `session_id` of its WebSocket and outlives it: whoever comes back
//! with the same id goes on at the cursor. Not to be confused with notebook sessions, Jupyter's REST
//! objects.

mod care;
mod forgotten;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::catch_up::{CatchUp, Share};
use super::journal::{Cause, Dropped, Needs, RequestKey, Seq};
use care::Care;
pub use care::Manner;
pub use session::{Access, ConnectionId, Holder, Loss};
use session::{Cell, Doubts, Session};

/// So many cells of a session are remembered until it has all of what they said.
const CELLS_MAX: usize = 64;

/// How a connection starts.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    pub share: Share,
    /// The entries after this one have to be sent.
    pub after: Seq,
    /// The entries up to this one have been sent before.
    pub written: Seq,
    /// The connection that is replaced.
    pub replaces: Option<ConnectionId>,
    pub manner: Manner,
}

/// A client session as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientSession {
    pub session_id: String,
    pub identity: String,
    pub credential: String,
    pub connected: bool,
    /// Acknowledged up to here.
    pub cursor: Seq,
    /// What it missed for good and may not have been told.
    pub lost: Loss,
}

/// All client sessions of one kernel.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<Rc<str>, Session>,
    /// All that sessions missed for good, for `%nb status`.
    lost: Loss,
    /// Forgotten, until somebody has taken note.
    parted: Vec<Rc<str>>,
}

impl Sessions {
    /// A connection for the session `id` is there; a new session starts after `last`, but for what it
    /// catches up on.
    ///
    /// The id alone is not a credential: a session of another identity is ended and begun anew.
    pub fn join(
        &mut self,
        id: &Rc<str>,
        holder: &Holder,
        connection: ConnectionId,
        last: Seq,
        catch_up: Option<CatchUp>,
        now: Instant,
    ) -> Joined {
        let mut known = self.sessions.remove(id);
        if let Some(session) = &mut known {
            self.lost += session.line_ends();
        }
        let replaces = known.as_ref().and_then(|session| session.connection);
        let known = known.filter(|session| session.holder.identity == holder.identity);
        let session = known.unwrap_or_else(|| Session {
            holder: holder.clone(),
            cursor: catch_up.as_ref().map_or(last, |catch_up| catch_up.after),
            cells: catch_up.iter().filter_map(Cell::taken_over).collect(),
            share: Share::new(id, last, catch_up),
            written: 0,
            noted: (0, Loss::default()),
            connection: None,
            since: now,
            loss: Loss::default(),
            care: Care::default(),
            sent: 0,
            told: Doubts::default(),
            gone: Doubts::default(),
            is_lossy: false,
        });
        let mut session = Session {
            holder: holder.clone(),
            connection: Some(connection),
            since: now,
            ..session
        };
        session.sent = session.cursor;
        let joined = Joined {
            share: session.share.clone(),
            after: session.cursor,
            written: session.written.max(session.cursor),
            replaces,
            manner: session.care.begin(session.cursor),
        };
        self.sessions.insert(Rc::clone(id), session);
        joined
    }

    /// A session that an earlier supervisor had: it is away, and has nothing of its share that follows the entry
    /// `cursor`, nor has been told what it `lost`. One that has come back already is what it is.
    pub fn restore(
        &mut self,
        id: &Rc<str>,
        holder: &Holder,
        share: Share,
        cursor: Seq,
        lost: Loss,
        now: Instant,
    ) {
        let away = || Session {
            holder: holder.clone(),
            share,
            cursor,
            written: cursor,
            noted: (cursor, lost),
            connection: None,
            since: now,
            loss: lost,
            care: Care::default(),
            sent: 0,
            told: Doubts::default(),
            gone: Doubts::default(),
            cells: VecDeque::new(),
            is_lossy: false,
        };
        self.sessions.entry(Rc::clone(id)).or_insert_with(away);
    }

    /// The connection is gone; its session stays for whoever comes back, for a while.
    pub fn leave(&mut self, id: &str, connection: ConnectionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.connection != Some(connection) {
            return;
        }
        session.connection = None;
        session.since = now;
        session.care.end(session.cursor);
        self.lost += session.line_ends();
        self.expire(now);
    }

    /// The sessions that have come further, or missed something, since this was last asked: how far, and what they
    /// may not have been told.
    pub fn take_moved(&mut self) -> Vec<(Rc<str>, Seq, Loss)> {
        let moved = self.sessions.iter_mut().filter_map(|(id, session)| {
            let (cursor, lost) = (session.cursor, session.untold());
            let has_moved = session.noted != (cursor, lost);
            session.noted = (cursor, lost);
            has_moved.then(|| (Rc::clone(id), cursor, lost))
        });
        moved.collect()
    }

    /// The client is sent what goes up to `seq`; of what goes up to `unread` not all was there.
    pub fn passes(&mut self, id: &str, connection: ConnectionId, unread: Seq, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.loss.more |= session.sent < unread && unread < seq;
        }
    }

    /// The client was sent everything up to `seq`.
    pub fn wrote(&mut self, id: &str, connection: ConnectionId, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.written = session.written.max(seq);
            session.sent = session.sent.max(seq);
            session.care.sent();
        }
    }

    /// The client ends the connection because it cannot take what it was sent.
    pub fn refused(&mut self, id: &str, connection: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.care.refused();
        }
    }

    /// The client has everything up to `seq`.
    pub fn acknowledge(&mut self, id: &str, connection: ConnectionId, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.acknowledge(seq);
            session.heard(seq);
        }
    }

    /// Up to `seq` there is nothing more for the client, which has said nothing of it.
    pub fn pass(&mut self, id: &str, connection: ConnectionId, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.acknowledge(seq);
        }
    }

    /// What this session acknowledges may be lost behind whoever does it. From now on its cell that runs, or whose
    /// end it has not acknowledged, stays whole; what of it was acknowledged already, as a share and what that
    /// follows.
    pub fn make_whole(&mut self, id: &str) -> Option<(Share, Seq)> {
        let session = self.sessions.get_mut(id)?;
        session.is_lossy = true;
        let cell = session.cells.front()?;
        let after = cell.after.filter(|after| *after < session.cursor)?;
        let on = CatchUp {
            after,
            shown_only: true,
            with_reply: true,
            ..session.catch_up(cell, &session.holder, false)
        };
        Some((session.share.with_again(session.cursor, on), after))
    }

    /// The session has sent a cell; what comes of it follows the entry `after`.
    pub fn asked(&mut self, id: &str, request: &RequestKey, header: &Bytes, after: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.cells.len() < CELLS_MAX
        {
            session.cells.push_back(Cell {
                request: RequestKey::clone(request),
                header: header.clone(),
                after: Some(after),
                idle: None,
            });
        }
    }

    /// The kernel has done with a request, as the entry `seq` says.
    pub fn done(&mut self, request: &RequestKey, seq: Seq) {
        let cells = self.sessions.values_mut().flat_map(|s| &mut s.cells);
        for cell in cells.filter(|cell| cell.request == *request) {
            cell.idle = Some(seq);
        }
    }

    /// The kernel is another one: what it was asked is over.
    pub fn forget_cells(&mut self) {
        for session in self.sessions.values_mut() {
            session.cells.clear();
        }
    }

    /// What a new session of `holder` catches up on: the cell that runs. One that `resumes` gets, when
    /// none runs, the cell whose end the session of the same user that was here last has not seen.
    pub fn catch_up(
        &self,
        holder: &Holder,
        resumes: bool,
        runs: impl Fn(&RequestKey) -> bool,
    ) -> Option<CatchUp> {
        let running = self.sessions.values().filter_map(|session| {
            let cell = session.cells.iter().find(|cell| runs(&cell.request))?;
            Some(session.catch_up(cell, holder, resumes))
        });
        // Of the asker and whoever took its place, the one that has most.
        let running = running.max_by_key(|catch_up| catch_up.after);
        if running.is_some() || !resumes {
            return running;
        }
        let is_mine = |session: &&Session| session.holder.identity == holder.identity;
        let away = self.sessions.values().filter(|s| s.connection.is_none());
        let last = away.filter(is_mine).max_by_key(|session| session.since)?;
        let cell = last.cells.front().filter(|cell| cell.idle.is_some())?;
        Some(last.catch_up(cell, holder, resumes))
    }

    /// An entry had to go: counted for every session that had not acknowledged it. One that was sent to a client
    /// that is still there is on its way, and lost only if the line breaks before it is acknowledged.
    pub fn dropped(&mut self, dropped: &Dropped) {
        let Dropped {
            seq,
            label,
            is_oldest,
            cause,
        } = dropped;
        for session in self.sessions.values_mut() {
            if session.cursor < *seq && session.share.has_labelled(*seq, label) {
                let loss = Loss {
                    messages: 1,
                    bytes: label.bytes as u64,
                    damaged: u64::from(*cause == Cause::Damage),
                    more: false,
                };
                if session.connection.is_some() && *seq <= session.sent {
                    session.gone.add(*seq, loss);
                } else {
                    session.loss += loss;
                    self.lost += loss;
                }
            }
            if *is_oldest {
                session.acknowledge(*seq);
            }
            for cell in &mut session.cells {
                cell.after = cell.after.filter(|after| after >= seq);
            }
        }
    }

    /// What the session missed and is now told, after the entry `after`. Until the client has acknowledged that much
    /// it may not have heard of it: its next connection is told again.
    pub fn tell_loss(&mut self, id: &str, connection: ConnectionId, after: Seq) -> Option<Loss> {
        let session = self.sessions.get_mut(id)?;
        if session.connection != Some(connection) {
            return None;
        }
        session.tell(after)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What the sessions need of a journal whose newest entry is `last`.
    pub fn needs(&self, last: Seq) -> Needs {
        let mut needs = Needs::nothing_up_to(last);
        for session in self.sessions.values() {
            let after = session.needs_after();
            needs.after = needs.after.min(after);
            if session.connection.is_none() {
                needs.away_after = Some(needs.away_after.map_or(after, |away| away.min(after)));
            }
            let cell = session.cells.front().and_then(|cell| cell.after);
            needs.cells_after = needs.cells_after.min(cell.unwrap_or(last));
        }
        needs.away_after = needs.away_after.filter(|after| *after < last);
        needs
    }

    /// What of the journal is for the session `id`.
    pub fn share(&self, id: &str) -> Option<&Share> {
        Some(&self.sessions.get(id)?.share)
    }

    /// How far the session `id` has acknowledged.
    pub fn cursor(&self, id: &str) -> Option<Seq> {
        Some(self.sessions.get(id)?.cursor)
    }

    /// What the session `id` missed for good and may not have been told.
    pub fn untold(&self, id: &str) -> Loss {
        self.sessions
            .get(id)
            .map(Session::untold)
            .unwrap_or_default()
    }

    /// Whose the session is and since when it is away, if it is.
    pub fn away(&self, id: &str) -> Option<(Rc<str>, Instant)> {
        let session = self.sessions.get(id).filter(|s| s.connection.is_none())?;
        Some((Rc::clone(&session.holder.identity), session.since))
    }

    /// The sessions of this identity that have a connection.
    pub fn connected_of(&self, identity: &str) -> Vec<Rc<str>> {
        let is_of = |session: &Session| {
            session.connection.is_some() && *session.holder.identity == *identity
        };
        let sessions = self.sessions.iter().filter(|(_, session)| is_of(session));
        sessions.map(|(id, _)| Rc::clone(id)).collect()
    }

    /// Whether the session is known, with a connection or without.
    pub fn get(&self, id: &str) -> Option<Rc<str>> {
        Some(Rc::clone(self.sessions.get_key_value(id)?.0))
    }

    /// All of them.
    pub fn list(&self) -> Vec<ClientSession> {
        let shown = |(id, session): (&Rc<str>, &Session)| ClientSession {
            session_id: id.to_string(),
            identity: session.holder.identity.to_string(),
            credential: session.holder.credential.to_string(),
            connected: session.connection.is_some(),
            cursor: session.cursor,
            lost: session.untold(),
        };
        self.sessions.iter().map(shown).collect()
    }

    /// How many have a connection, and how many are away.
    pub fn counts(&self) -> (usize, usize) {
        let connected = self.sessions.values().filter(|s| s.connection.is_some());
        let connected = connected.count();
        (connected, self.sessions.len() - connected)
    }

    /// All that sessions missed for good.
    pub fn lost(&self) -> Loss {
        self.lost
    }
}

#[cfg(test)]
mod tests;
