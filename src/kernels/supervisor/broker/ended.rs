//! Requests that are answered and whose client may not have the answer: a supervisor that takes over has to know of
//! them, since an answer that was in no file is lost.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::State;
use super::requests::{Pending, noted};
use super::state::error_content;
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route, Seq};
use crate::kernels::supervisor::ledger::{Asked, End, Note, Over};
use crate::protocol::message::Channel;

/// More are forgotten, oldest first.
const ENDED_MAX: usize = 1024;

/// A request with a longer header is forgotten at once.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Those that are answered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Answered, and not idle yet: for whoever takes over they are not over.
    half: VecDeque<(RequestKey, Asked, End)>,
    whole: VecDeque<Asked>,
}

/// What a reply says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Outcome {
    status: String,
    execution_count: Option<u64>,
}

impl Outcome {
    /// That of a cell's reply; of others nothing is of use.
    pub(super) fn of(pending: &Pending, content: &[u8]) -> Self {
        match pending.msg_type.as_str() {
            "execute_request" => serde_json::from_slice(content).unwrap_or_default(),
            _ => Self::default(),
        }
    }
}

impl Ended {
    pub(super) fn all(&self) -> impl Iterator<Item = &Asked> {
        self.whole
            .iter()
            .chain(self.half.iter().map(|(_, asked, _)| asked))
    }
}

impl State {
    /// The reply to this request, which says this of itself, is the newest entry.
    pub(super) fn is_answered(&mut self, key: &RequestKey, pending: &Pending, outcome: Outcome) {
        let end = End {
            seq: self.journal.last(),
            status: outcome.status,
            execution_count: outcome.execution_count,
        };
        let asked = noted(key, pending);
        if pending.idle_seen {
            return self.is_over(asked, end);
        }
        if asked.header.len() > HEADER_BYTES_MAX {
            return self.ledger.write(&Note::Done(asked.request));
        }
        // Its output may follow, and its idle will.
        let half = (RequestKey::clone(key), asked, end);
        self.ended.half.push_back(half);
        if self.ended.half.len() > ENDED_MAX {
            self.ended.half.pop_front();
        }
    }

    /// The idle of this request is the newest entry.
    pub(super) fn is_idle(&mut self, key: &RequestKey) {
        let half = &mut self.ended.half;
        let at = half.iter().position(|(request, ..)| request == key);
        if let Some((_, asked, mut end)) = at.and_then(|at| half.remove(at)) {
            end.seq = self.journal.last();
            self.is_over(asked, end);
        }
    }

    /// What was answered on this channel and is not idle.
    pub(super) fn without_idle(&self, channel: Channel) -> impl Iterator<Item = RequestKey> {
        let half = self.ended.half.iter();
        let of_it = half.filter(move |(_, asked, _)| asked.channel == channel.name());
        of_it.map(|(key, ..)| RequestKey::clone(key))
    }

    /// The kernel has answered this request and done with it: its idle, when nobody has heard it, is ours to say.
    pub(super) fn idle_was_lost(&mut self, key: &RequestKey) {
        let half = &mut self.ended.half;
        let at = half.iter().position(|(request, ..)| request == key);
        if let Some((key, asked, mut end)) = at.and_then(|at| half.remove(at)) {
            info!(request = &*key, "its idle was lost with the supervisor");
            let header = Bytes::from(asked.header.clone());
            self.activity.idle(&key, Timestamp::now());
            self.say_idle(&header, Route::Everyone, Mark::Idle(key));
            end.seq = self.journal.last();
            self.is_over(asked, end);
        }
    }

    /// The kernel is gone: the idle of what it has answered is ours to say.
    pub(super) fn end_halves(&mut self) {
        for (key, asked, mut end) in std::mem::take(&mut self.ended.half) {
            let header = Bytes::from(asked.header.clone());
            self.say_idle(&header, Route::Everyone, Mark::Idle(key));
            end.seq = self.journal.last();
            self.is_over(asked, end);
        }
    }

    /// It is answered by us, and the newest entry is its idle.
    pub(super) fn has_answered(&mut self, asked: Asked, status: &str) {
        let end = End {
            seq: self.journal.last(),
            status: status.to_owned(),
            execution_count: None,
        };
        // Of what is answered at once, nothing was written down.
        self.ledger.write(&Note::Asked(asked.clone()));
        self.is_over(asked, end);
    }

    fn is_over(&mut self, asked: Asked, end: End) {
        if asked.header.len() > HEADER_BYTES_MAX {
            return self.ledger.write(&Note::Done(asked.request));
        }
        self.ledger.write(&Note::Over(Over {
            request: asked.request.clone(),
            end: end.clone(),
        }));
        let end = Some(end);
        self.ended.whole.push_back(Asked { end, ..asked });
        if self.ended.whole.len() > ENDED_MAX
            && let Some(oldest) = self.ended.whole.pop_front()
        {
            self.ledger.write(&Note::Done(oldest.request));
        }
    }

    /// What clients have acknowledged since, and what nobody waits for, need not be known.
    pub(super) fn forget_ended(&mut self) {
        let sessions = &self.sessions;
        let lacks = |asked: &Asked, end: &End| {
            let cursor = sessions.cursor(&asked.session);
            cursor.is_some_and(|cursor| cursor < end.seq)
        };
        let is_missed = |asked: &Asked| asked.end.as_ref().is_some_and(|end| lacks(asked, end));
        self.ended.whole.retain(is_missed);
    }

    /// A request that an earlier supervisor saw answered. What of it is in no file, after the entry `saved`, is lost.
    pub(super) fn end_again(&mut self, asked: &Asked, end: &End, saved: Seq) {
        let is_cell = asked.msg_type == "execute_request";
        if is_cell {
            let key = asked.request.as_str().into();
            self.kept.taken_over(&key);
            self.kept.done(&key);
        }
        if end.seq <= saved {
            self.ended.whole.push_back(asked.clone());
            return;
        }
        info!(
            request = asked.request,
            "its end was lost with the supervisor"
        );
        let Some(channel) = Channel::from_name(asked.channel.as_bytes()) else {
            return;
        };
        let session: Rc<str> = asked.session.as_str().into();
        let header = Bytes::from(asked.header.clone());
        if is_cell {
            let text = "[nb] the supervisor of this kernel died and another one took over; the end of what this \
                        cell said may be lost\n";
            let content = json!({"name": "stderr", "text": text});
            let note = self.composer.message("stream", header.clone(), &content);
            let route = Route::Session(Rc::clone(&session));
            self.append(Channel::Iopub, note, route, Mark::Plain);
        }
        let content = match end.status.as_str() {
            "ok" if is_cell => json!({
                "status": "ok", "execution_count": end.execution_count, "payload": [],
                "user_expressions": {},
            }),
            "aborted" if is_cell => json!({"status": "aborted"}),
            _ => error_content(
                "SupervisorDied",
                "the reply was lost with the supervisor of this kernel",
            ),
        };
        self.answer(&session, channel, &asked.msg_type, &header, &content);
    }
}
