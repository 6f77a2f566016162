//! The end of sessions: by time, by number, by access, or because nobody comes back.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Sessions;
use super::session::{Access, ConnectionId, Session};

/// A session without a connection is forgotten after this time.
pub(super) const EXPIRES_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Sessions without a connection beyond this number go, oldest first.
pub(super) const AWAY_MAX: usize = 256;

impl Sessions {
    /// Nobody comes back for the session `id`, unless somebody is there.
    pub fn forget(&mut self, id: &str) {
        let is_away = |session: &Session| session.connection.is_none();
        if self.sessions.get(id).is_some_and(is_away)
            && let Some((id, _)) = self.sessions.remove_entry(id)
        {
            self.parted.push(id);
        }
    }

    /// The sessions that were forgotten since this was last asked.
    pub fn take_parted(&mut self) -> Vec<Rc<str>> {
        let mut parted = std::mem::take(&mut self.parted);
        parted.retain(|id| !self.sessions.contains_key(id));
        parted
    }

    /// Forgets sessions that have been away too long or are too many; when to look again.
    pub fn expire(&mut self, now: Instant) -> Option<Instant> {
        let expires = |session: &Session| {
            let is_away = session.connection.is_none();
            is_away.then(|| session.since + EXPIRES_AFTER)
        };
        let mut away: Vec<_> = (self.sessions.iter())
            .filter_map(|(id, session)| Some((expires(session)?, Rc::clone(id))))
            .collect();
        away.sort_unstable();
        let many = away.len().saturating_sub(AWAY_MAX);
        let old = away.partition_point(|(expires, _)| *expires <= now);
        for (_, id) in away.drain(..many.max(old)) {
            self.sessions.remove(&id);
            self.parted.push(id);
        }
        away.first().map(|(expires, _)| *expires)
    }

    /// Forgets sessions whose access has ended and returns the connections that they had.
    pub fn end_access(&mut self, access: Access<'_>) -> Vec<ConnectionId> {
        let (mut connections, mut parted) = (Vec::new(), Vec::new());
        self.sessions.retain(|id, session| {
            let ends = access.is_of(&session.holder);
            connections.extend(session.connection.filter(|_| ends));
            parted.extend(ends.then(|| Rc::clone(id)));
            !ends
        });
        self.parted.append(&mut parted);
        connections
    }
}
