//! What is known of one schedule, in its shapes. `notes` writes it, `judge` reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use tokio::time::Instant;

use crate::kernels::supervisor::journal::{Mark, Needs, RequestKey, Route, Seq};
use crate::kernels::supervisor::ledger;
use crate::protocol::message::Channel;

/// Names a line: one connection of one client.
pub(super) type LineId = usize;

/// Names a supervisor: one follows the other.
pub(super) type Life = usize;

/// An entry of a journal.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) life: Life,
    pub(super) seq: Seq,
    pub(super) msg_type: String,
    pub(super) channel: Channel,
    pub(super) route: Route,
    pub(super) mark: Mark,
    /// The request that it answers.
    pub(super) parent: Option<RequestKey>,
    /// Said in the kernel's place.
    pub(super) is_ours: bool,
    pub(super) is_dropped: bool,
    pub(super) at: Instant,
}

/// What a client has read.
#[derive(Debug)]
pub(super) enum Heard {
    /// An entry, by its index.
    Entry(usize),
    /// So many messages are lost.
    Loss(u64),
    /// A ping with this number.
    Ping(Seq),
    State,
    /// What it shows of this request is taken from it, to be given whole.
    Clears(Option<RequestKey>),
    Unknown(String),
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) session: Rc<str>,
    pub(super) life: Life,
    /// The newest entry when it joined, once it has.
    pub(super) begun: Option<Seq>,
    pub(super) ended: Option<Instant>,
    /// What its session had acknowledged then.
    pub(super) from: Seq,
    /// It is a stock jupyter_server's.
    pub(super) is_text_only: bool,
    /// It looks for the cell that an earlier session was watching.
    pub(super) resumes: bool,
    pub(super) heard: Vec<Heard>,
    /// What the client has acknowledged, in its order.
    pub(super) answers: Vec<Answer>,
    /// When the supervisor has taken them, as far as it has.
    pub(super) taken: Vec<Instant>,
}

/// A ping, and what it is an answer to it to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Its number: what was written up to this entry.
    pub(super) number: Seq,
    /// So much had been heard before it.
    pub(super) heard: usize,
}

impl Line {
    /// What is acknowledged.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().take(self.taken.len())
    }

    /// What was acknowledged by then.
    pub(super) fn acknowledged_by(&self, then: Instant) -> impl Iterator<Item = &Answer> {
        let taken = self.taken.iter().zip(&self.answers);
        taken
            .filter(move |(taken, _)| **taken <= then)
            .map(|(_, answer)| answer)
    }
}

/// A client session as one supervisor knows it.
#[derive(Debug)]
pub(super) struct Member {
    /// What is said after this entry is for it.
    pub(super) since: Seq,
    pub(super) catches_up: Option<CatchesUp>,
    /// Which request that is, and from where, is for the product to choose.
    pub(super) is_open: bool,
    /// An earlier supervisor had it.
    pub(super) is_restored: bool,
}

/// A request of which a session gets what was said before it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatchesUp {
    pub(super) request: RequestKey,
    /// After this entry.
    pub(super) after: Seq,
    /// With what only its asker gets.
    pub(super) with_reply: bool,
}

impl From<ledger::CatchesUp> for CatchesUp {
    fn from(on: ledger::CatchesUp) -> Self {
        Self {
            request: on.request.into(),
            after: on.after,
            with_reply: on.with_reply,
        }
    }
}

/// A request that the supervisor has taken.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) session: Rc<str>,
    pub(super) msg_type: String,
    pub(super) is_shown: bool,
}

/// Where the entries of a life begin.
#[derive(Debug)]
pub(super) struct Begin {
    /// Their first index.
    pub(super) index: usize,
    /// The number of the newest entry that its journal had from before.
    pub(super) last: Seq,
    pub(super) at: Instant,
    /// When its supervisor was killed, if it was.
    pub(super) ended: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) life: Life,
    /// Its journals outlive their supervisors.
    pub(super) survives: bool,
    pub(super) said: Vec<Said>,
    /// Where each life begins.
    pub(super) begins: Vec<Begin>,
    pub(super) by_id: HashMap<String, Vec<usize>>,
    pub(super) lines: Vec<Line>,
    pub(super) identities: HashMap<Rc<str>, Rc<str>>,
    /// The line that each session has now.
    pub(super) current: HashMap<Rc<str>, LineId>,
    pub(super) members: BTreeMap<(Life, Rc<str>), Member>,
    /// In the order in which they were taken.
    pub(super) requests: Vec<(RequestKey, Request)>,
    /// Requests that the kernel works on, by what was said of them.
    pub(super) running: Vec<RequestKey>,
    /// What the journal was told last.
    pub(super) needs: Option<Needs>,
    /// What is wrong already.
    pub(super) faults: Vec<String>,
}

impl Record {
    /// The newest entry.
    pub(super) fn last(&self) -> Seq {
        let begin = &self.begins[self.life];
        begin.last + (self.said.len() - begin.index) as Seq
    }

    /// What was said and heard, in its order, without what differs each time: names of messages, time.
    pub(super) fn story(&self) -> Vec<String> {
        let said = self.said.iter().map(|said| {
            let (life, seq, channel) = (said.life, said.seq, said.channel.name());
            format!("{life}: {seq} {channel} {}", said.msg_type)
        });
        let lines = self.lines.iter().map(|line| {
            let (life, from, begun) = (line.life, line.from, line.begun);
            format!("{} {life} {from} {begun:?}: {:?}", line.session, line.heard)
        });
        said.chain(lines).collect()
    }

    pub(super) fn request(&self, key: &RequestKey) -> Option<&Request> {
        let mut requests = self.requests.iter();
        let (_, request) = requests.find(|(known, _)| known == key)?;
        Some(request)
    }

    /// Requests without a reply.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &(RequestKey, Request)> {
        let answered: BTreeSet<_> = self
            .replies()
            .filter_map(|said| said.parent.as_ref())
            .collect();
        let requests = self.requests.iter();
        requests.filter(move |(key, request)| {
            request.msg_type.ends_with("_request") && !answered.contains(key)
        })
    }

    pub(super) fn replies(&self) -> impl Iterator<Item = &Said> {
        let is_reply = |said: &&Said| matches!(said.channel, Channel::Shell | Channel::Control);
        self.said.iter().filter(is_reply)
    }

    /// What was said in a life.
    pub(super) fn said_in(&self, life: Life) -> Range<usize> {
        let end = self.begins.get(life + 1).map(|begin| begin.index);
        self.begins[life].index..end.unwrap_or(self.said.len())
    }

    /// The entry with this number in the journal of a life, which may have it from an earlier one.
    pub(super) fn numbered(&self, mut life: Life, seq: Seq) -> usize {
        while seq <= self.begins[life].last {
            life -= 1;
        }
        let begin = &self.begins[life];
        begin.index + usize::try_from(seq - begin.last).unwrap() - 1
    }

    /// Whether the journal of a life may have the entry.
    pub(super) fn may_have(&self, life: Life, entry: usize) -> bool {
        let said = &self.said[entry];
        let later = (said.life + 1)..=life;
        said.life <= life
            && later
                .into_iter()
                .all(|life| said.seq <= self.begins[life].last)
    }

    /// The entry of this id that is for the line, and that it has not heard if there are several: one that is asked
    /// again has.
    pub(super) fn known(&self, line: &Line, id: &str) -> Option<usize> {
        let entries = self.by_id.get(id)?.iter().copied();
        let entries = entries.filter(|entry| self.may_have(line.life, *entry));
        let heard = line.heard.iter().filter_map(|heard| match heard {
            Heard::Entry(known) => Some(*known),
            _ => None,
        });
        let heard: Vec<_> = heard.collect();
        let last = heard.iter().map(|entry| self.said[*entry].seq).max();
        let last = last.unwrap_or(0).max(line.from);
        let is_mine = |entry: usize| match &self.said[entry].route {
            Route::Everyone => true,
            Route::Session(session) => *session == line.session,
        };
        let is_over = |entry: usize| self.said[entry].seq <= last;
        let unlikely = |entry: &usize| {
            let is_heard = heard.contains(entry);
            (!is_mine(*entry), is_heard, is_over(*entry), *entry)
        };
        entries.min_by_key(unlikely)
    }
}
