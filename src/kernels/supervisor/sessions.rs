//! Client sessions: who has acknowledged what of the journal. Pure: time comes as a value.
//!
//! A client session is named by the `session_id` of its WebSocket and outlives it: whoever comes back
//! with the same id goes on at the cursor. Not to be confused with notebook sessions, Jupyter's REST
//! objects.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::journal::{Entry, RequestKey, Seq};

/// A session without a connection is forgotten after this time.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Sessions without a connection beyond this number go, oldest first.
pub const AWAY_MAX: usize = 256;

/// Names one connection; a session has at most one, the newest.
pub type ConnectionId = u64;

/// What a session missed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub messages: u64,
    pub bytes: u64,
}

/// What a new session is to get of what was said before it came: the answers to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    pub request: RequestKey,
    pub after: Seq,
}

/// Which entries a session gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    session: Rc<str>,
    /// Up to this entry, only what answers this request.
    catch_up: Option<(Seq, RequestKey)>,
}

impl Share {
    /// Whether this entry is one of them.
    pub fn has(&self, seq: Seq, entry: &Entry) -> bool {
        match &self.catch_up {
            Some((until, request)) if seq <= *until => entry.answers(request),
            _ => entry.is_for(&self.session),
        }
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
    fn is_of(self, holder: &Holder) -> bool {
        match self {
            Self::Identity(name) => *holder.identity == *name,
            Self::Credential(name) => *holder.credential == *name,
        }
    }
}

#[derive(Debug)]
struct Session {
    holder: Holder,
    share: Share,
    /// Acknowledged up to here; moved by acknowledgement alone.
    cursor: Seq,
    /// Written to it up to here, acknowledged or not.
    written: Seq,
    connection: Option<ConnectionId>,
    /// When the last connection went; while there is one, when it came.
    since: Instant,
    /// Not yet told to the client.
    loss: Loss,
}

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
}

/// All client sessions of one kernel.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<Rc<str>, Session>,
    /// All that sessions missed for good, for `%nb status`.
    lost: Loss,
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
        let known = self.sessions.remove(id);
        let replaces = known.as_ref().and_then(|session| session.connection);
        let known = known.filter(|session| session.holder.identity == holder.identity);
        let session = known.unwrap_or_else(|| Session {
            holder: holder.clone(),
            cursor: catch_up.as_ref().map_or(last, |catch_up| catch_up.after),
            share: Share {
                session: Rc::clone(id),
                catch_up: catch_up.map(|catch_up| (last, catch_up.request)),
            },
            written: 0,
            connection: None,
            since: now,
            loss: Loss::default(),
        });
        let joined = Joined {
            share: session.share.clone(),
            after: session.cursor,
            written: session.written.max(session.cursor),
            replaces,
        };
        let session = Session {
            holder: holder.clone(),
            connection: Some(connection),
            since: now,
            ..session
        };
        self.sessions.insert(Rc::clone(id), session);
        joined
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
        self.expire(now);
    }

    /// The client was sent everything up to `seq`.
    pub fn wrote(&mut self, id: &str, connection: ConnectionId, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.written = session.written.max(seq);
        }
    }

    /// The client has everything up to `seq`.
    pub fn acknowledge(&mut self, id: &str, connection: ConnectionId, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.connection == Some(connection)
        {
            session.cursor = session.cursor.max(seq);
        }
    }

    /// An entry had to go: counted for every session that had not acknowledged it.
    pub fn dropped(&mut self, seq: Seq, entry: &Entry) {
        for session in self.sessions.values_mut() {
            if session.cursor < seq && session.share.has(seq, entry) {
                let bytes = entry.bytes() as u64;
                for loss in [&mut session.loss, &mut self.lost] {
                    loss.messages += 1;
                    loss.bytes += bytes;
                }
            }
            session.cursor = session.cursor.max(seq);
        }
    }

    /// What the session missed since this was last asked.
    pub fn take_loss(&mut self, id: &str) -> Option<Loss> {
        let session = self.sessions.get_mut(id)?;
        let loss = std::mem::take(&mut session.loss);
        (loss.messages > 0).then_some(loss)
    }

    /// Forgets sessions that have been away too long or are too many.
    pub fn expire(&mut self, now: Instant) {
        self.sessions.retain(|_, session| {
            session.connection.is_some()
                || now.saturating_duration_since(session.since) < EXPIRES_AFTER
        });
        let away = |session: &Session| session.connection.is_none();
        while self.sessions.values().filter(|s| away(s)).count() > AWAY_MAX {
            let oldest = self.sessions.iter().filter(|(_, s)| away(s));
            let Some(oldest) = oldest
                .min_by_key(|(_, s)| s.since)
                .map(|(id, _)| Rc::clone(id))
            else {
                return;
            };
            self.sessions.remove(&oldest);
        }
    }

    /// Every session has acknowledged the entries up to this one; `None` when there is no session.
    pub fn acknowledged_by_all(&self) -> Option<Seq> {
        self.sessions.values().map(|session| session.cursor).min()
    }

    /// How far the session `id` has acknowledged.
    pub fn cursor(&self, id: &str) -> Option<Seq> {
        Some(self.sessions.get(id)?.cursor)
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
        };
        self.sessions.iter().map(shown).collect()
    }

    /// Forgets sessions whose access has ended and returns the connections that they had.
    pub fn end_access(&mut self, access: Access<'_>) -> Vec<ConnectionId> {
        let mut connections = Vec::new();
        self.sessions.retain(|_, session| {
            let ends = access.is_of(&session.holder);
            connections.extend(session.connection.filter(|_| ends));
            !ends
        });
        connections
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
mod tests {
    use super::super::journal::{Mark, Route};
    use super::*;
    use crate::protocol::message::{Channel, Message};

    fn holder(identity: &str, credential: &str) -> Holder {
        Holder {
            identity: identity.into(),
            credential: credential.into(),
        }
    }

    fn entry(route: Route) -> Entry {
        Entry::new(Channel::Iopub, Message::empty(), route, Mark::Plain)
    }

    #[test]
    fn whoever_comes_back_goes_on_after_what_was_acknowledged() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let (a, me) = (Rc::from("a"), holder("me", "1"));
        assert_eq!(sessions.join(&a, &me, 1, 7, None, now).after, 7);
        sessions.wrote("a", 1, 12);
        sessions.acknowledge("a", 1, 9);
        sessions.acknowledge("a", 1, 8);
        sessions.leave("a", 1, now);
        let again = sessions.join(&a, &me, 2, 20, None, now);
        assert_eq!((again.after, again.written, again.replaces), (9, 12, None));
        let twice = sessions.join(&a, &me, 3, 20, None, now);
        assert_eq!(twice.replaces, Some(2));
        // What the replaced connection still says counts no more.
        sessions.acknowledge("a", 2, 15);
        sessions.leave("a", 2, now);
        assert_eq!((sessions.cursor("a"), sessions.counts()), (Some(9), (1, 0)));
    }

    #[test]
    fn another_identity_never_gets_a_sessions_messages() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let a = Rc::from("a");
        sessions.join(&a, &holder("alice", "1"), 1, 0, None, now);
        let joined = sessions.join(&a, &holder("bob", "2"), 2, 5, None, now);
        assert_eq!(
            (joined.after, joined.written, joined.replaces),
            (5, 5, Some(1))
        );
    }

    #[test]
    fn a_new_session_catches_up_on_one_request_however_often_its_line_breaks() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let (a, me) = (Rc::from("a"), holder("me", "1"));
        let parent = |id: &str| Message {
            parent_header: format!(r#"{{"session":"s","msg_id":"{id}"}}"#).into(),
            ..Message::empty()
        };
        let iopub = |message| Entry::new(Channel::Iopub, message, Route::Everyone, Mark::Plain);
        let (of_it, other) = (iopub(parent("1")), iopub(parent("2")));
        let catch_up = CatchUp {
            request: "s\n1".into(),
            after: 4,
        };
        sessions.join(&a, &me, 1, 9, Some(catch_up.clone()), now);
        sessions.acknowledge("a", 1, 6);
        let again = sessions.join(&a, &me, 2, 20, Some(catch_up), now);
        assert_eq!(again.after, 6);
        let has = |seq, entry| again.share.has(seq, entry);
        assert_eq!([has(9, &of_it), has(9, &other)], [true, false]);
        assert_eq!([has(10, &of_it), has(10, &other)], [true, true]);
        sessions.dropped(8, &other);
        assert_eq!(sessions.take_loss("a"), None);
        sessions.dropped(9, &of_it);
        assert_eq!(sessions.take_loss("a").unwrap().messages, 1);
    }

    #[test]
    fn a_loss_is_told_once_and_only_to_whom_it_concerns() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let me = holder("me", "1");
        for (connection, id) in ["a", "b", "c"].into_iter().enumerate() {
            sessions.join(&Rc::from(id), &me, connection as u64, 0, None, now);
        }
        sessions.acknowledge("c", 2, 2);
        sessions.dropped(1, &entry(Route::Everyone));
        sessions.dropped(2, &entry(Route::Session(Rc::from("b"))));
        let messages = |loss: Option<Loss>| loss.map_or(0, |loss| loss.messages);
        let lost = ["a", "b", "c"].map(|id| messages(sessions.take_loss(id)));
        assert_eq!(lost, [1, 2, 0]);
        assert_eq!(sessions.take_loss("a"), None);
        assert_eq!(sessions.lost().messages, 3);
    }

    #[test]
    fn sessions_that_stay_away_are_forgotten() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let me = holder("me", "1");
        for id in 0..AWAY_MAX as u64 + 10 {
            let at = now + Duration::from_millis(id);
            let name: Rc<str> = id.to_string().into();
            sessions.join(&name, &me, id, 0, None, at);
            sessions.leave(&name, id, at);
        }
        assert_eq!(sessions.counts(), (0, AWAY_MAX));
        assert!(sessions.get("9").is_none() && sessions.get("10").is_some());
        sessions.expire(now + EXPIRES_AFTER * 2);
        assert_eq!(sessions.counts(), (0, 0));
        assert_eq!(sessions.acknowledged_by_all(), None);
    }

    #[test]
    fn access_ends_by_identity_or_by_the_credential_that_a_session_last_came_with() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let (a, b): (Rc<str>, Rc<str>) = ("a".into(), "b".into());
        sessions.join(&a, &holder("ada", "1"), 1, 0, None, now);
        sessions.join(&b, &holder("ada", "2"), 2, 0, None, now);
        sessions.join(&a, &holder("ada", "3"), 3, 0, None, now);
        assert!(sessions.end_access(Access::Credential("1")).is_empty());
        assert_eq!(sessions.end_access(Access::Credential("3")), [3]);
        assert_eq!(sessions.end_access(Access::Identity("ada")), [2]);
        assert_eq!(sessions.counts(), (0, 0));
    }
}
