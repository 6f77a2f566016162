//! Client sessions and their connections: who is there, what each is told first, what each has.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::timeout;

use super::keeping::caught_up;
use super::line::{Line, Ticket};
use super::state::plain;
use super::{Broker, Phase, State, now};
use crate::kernels::contract::{RequestPhase, RequestState};
use crate::kernels::supervisor::journal::{Entry, Read, Seq};
use crate::kernels::supervisor::kept::is_request;
use crate::kernels::supervisor::ledger::{self, Note};
use crate::kernels::supervisor::sessions::{
    Access, ClientSession, ConnectionId, Holder, Joined, Loss,
};

/// What a client is told of what it missed.
fn loss_text(loss: Loss, damage: Option<String>) -> String {
    let Loss {
        messages,
        bytes,
        damaged,
        more,
    } = loss;
    let why = "the files of this kernel's journal do not have";
    let damage = damage.map_or_else(String::new, |damage| format!(" ({damage})"));
    let messages_told = match (messages, more) {
        (0, _) => {
            "what was said before this kernel's supervisor was replaced may be lost".to_owned()
        }
        (_, true) => {
            format!("{messages} messages ({bytes} bytes) were dropped, and more may be lost")
        }
        (_, false) => format!("{messages} messages ({bytes} bytes) were dropped"),
    };
    let what = format!("[nb] {messages_told}:");
    match damaged {
        0 if messages == 0 => format!("{what} {why} all of it{damage}\n"),
        0 if more => format!("{what} the journal was full, and {why} all{damage}\n"),
        0 => format!("{what} the journal of this kernel was full\n"),
        _ if damaged == messages => format!("{what} {why} them{damage}\n"),
        _ => format!("{what} {why} {damaged} of them{damage}, and it was full\n"),
    }
}

impl Broker {
    /// A connection for a client session. Replaces the one that the session had, whatever the kernel
    /// is doing.
    pub fn join(&self, session: &Rc<str>, holder: &Holder) -> Ticket {
        self.enter(session, holder, false)
    }

    /// As [`Broker::join`], for a client that has not all of what is acknowledged for it: what it saw of the cell
    /// that runs, or whose end is not acknowledged, is taken from it and given whole.
    pub fn join_whole(&self, session: &Rc<str>, holder: &Holder) -> Ticket {
        let mut ticket = self.enter(session, holder, false);
        let mut state = self.state.borrow_mut();
        if let Some((share, after)) = state.sessions.make_whole(session) {
            ticket.first = state.true_state(share.catch_up());
            let header = share.catch_up().map(|cell| cell.header.clone());
            ticket.clears = header.map(|header| {
                // With the next output, so that nothing is taken that is not given again.
                let content = json!({"wait": true});
                plain(state.composer.message("clear_output", header, &content))
            });
            (ticket.share, ticket.after) = (share, after);
        }
        ticket
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
            manner,
        } = state
            .sessions
            .join(session, holder, id, last, catch_up, now());
        let lost = state.sessions.untold(session);
        state.ledger.write(&Note::Joined(ledger::Joined {
            session: session.to_string(),
            lost,
            identity: holder.identity.to_string(),
            credential: holder.credential.to_string(),
            cursor: after,
            catches_up: caught_up(&share),
        }));
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
            clears: None,
            manner,
        }
    }

    /// The connection is gone; its session stays for whoever comes back.
    pub fn leave(&self, session: &str, connection: ConnectionId) {
        let mut state = self.state.borrow_mut();
        state.lines.remove(&connection);
        self.crowd.notify_waiters();
        state.sessions.leave(session, connection, now());
        if state.keeps_nothing {
            state.forget_session(session);
        }
        state.release();
        state.unkept.notify_one();
    }

    /// Nobody comes back for this session.
    pub fn forget(&self, session: &str) {
        let mut state = self.state.borrow_mut();
        state.forget_session(session);
        state.release();
    }

    /// The client ends the connection because it cannot take what it was sent.
    pub fn refused(&self, session: &str, connection: ConnectionId) {
        let mut state = self.state.borrow_mut();
        state.sessions.refused(session, connection);
    }

    /// The client was sent everything up to `seq`.
    pub fn wrote(&self, session: &str, connection: ConnectionId, seq: Seq) {
        let mut state = self.state.borrow_mut();
        if let Some(unread) = state.journal.unread() {
            state.sessions.passes(session, connection, unread, seq);
        }
        state.sessions.wrote(session, connection, seq);
    }

    /// The client has everything up to `seq`.
    pub fn acknowledge(&self, session: &str, connection: ConnectionId, seq: Seq) {
        let mut state = self.state.borrow_mut();
        state.sessions.acknowledge(session, connection, seq);
        state.release();
        state.unkept.notify_one();
    }

    /// Up to `seq` there is nothing more for the client.
    pub fn pass(&self, session: &str, connection: ConnectionId, seq: Seq) {
        let mut state = self.state.borrow_mut();
        state.sessions.pass(session, connection, seq);
        state.release();
    }

    /// What is known of the request with this msg_id.
    pub fn request_state(&self, msg_id: &str) -> RequestState {
        let state = self.state.borrow();
        let is_pending = state.pending.keys().any(|key| is_request(key, msg_id));
        let Some(known) = state.kept.find(msg_id) else {
            let is_ended = || {
                let mut ended = state.ended.all();
                ended.any(|asked| is_request(&asked.request, msg_id))
            };
            return RequestState {
                state: match is_pending {
                    true => RequestPhase::Running,
                    false if is_ended() => RequestPhase::Over,
                    false => RequestPhase::Unknown,
                },
                whole: false,
                after: None,
            };
        };
        RequestState {
            state: match (is_pending, known.idle) {
                (true, _) if known.after.is_none() => RequestPhase::Waiting,
                (false, true) => RequestPhase::Over,
                _ => RequestPhase::Running,
            },
            whole: !known.is_taken_over,
            after: known.after,
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.state.borrow().lines.len()
    }

    /// The number of the newest entry of the journal.
    pub fn last(&self) -> Seq {
        self.state.borrow().journal.last()
    }

    /// What follows `after` in the journal, for all sessions.
    pub fn read(&self, after: Seq, bytes_max: usize) -> Read {
        self.state.borrow_mut().journal.read(after, bytes_max)
    }

    /// How many entries of the journal follow `after`.
    pub fn count(&self, after: Seq) -> u64 {
        self.state.borrow().journal.count(after)
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

    /// A note for a session that missed something for good, if it has; written after the entry `after`.
    pub fn loss_note(
        &self,
        session: &str,
        connection: ConnectionId,
        after: Seq,
    ) -> Option<Rc<Entry>> {
        let mut state = self.state.borrow_mut();
        let loss = state.sessions.tell_loss(session, connection, after)?;
        let text = loss_text(loss, state.journal.damage());
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

    /// What a session catches up on.
    #[cfg(test)]
    pub(crate) fn caught_up(&self, session: &str) -> Option<ledger::CatchesUp> {
        caught_up(self.state.borrow().sessions.share(session)?)
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
        state.note_parted();
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_its_reason() {
        let loss = |messages, damaged, more| Loss {
            messages,
            bytes: 9,
            damaged,
            more,
        };
        let told = |loss, damage: Option<&str>| loss_text(loss, damage.map(str::to_owned));
        let full = told(loss(2, 0, false), Some("EIO"));
        assert!(
            full.ends_with(
                "2 messages (9 bytes) were dropped: the journal of this kernel was full\n"
            )
        );
        let damaged = told(loss(2, 2, false), Some("EIO"));
        assert!(damaged.ends_with("do not have them (EIO)\n"), "{damaged}");
        let both = told(loss(3, 2, false), None);
        assert!(
            both.ends_with("do not have 2 of them, and it was full\n"),
            "{both}"
        );
        let more = told(loss(0, 0, true), Some("EIO"));
        assert!(more.contains("may be lost") && more.ends_with("do not have all of it (EIO)\n"));
        let all = told(loss(3, 0, true), None);
        assert!(
            all.contains("and more may be lost: the journal was full"),
            "{all}"
        );
    }
}
