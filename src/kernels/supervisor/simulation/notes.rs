//! All that is known of one schedule: what was said, who joined when, what each line carried. Judged by `judge`.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::Value;

use crate::kernels::supervisor::connection::Client;
use crate::kernels::supervisor::journal::{
    Entry, Mark, Needs, RequestKey, Route, Seq, request_key,
};
use crate::kernels::supervisor::ledger::Left;
use crate::protocol::message::{Channel, HeaderPeek, Message};

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
    /// What its session had acknowledged then.
    pub(super) from: Seq,
    /// It is a stock jupyter_server's.
    pub(super) is_text_only: bool,
    /// It looks for the cell that an earlier session was watching.
    pub(super) resumes: bool,
    pub(super) heard: Vec<Heard>,
    /// What the client has acknowledged, in its order.
    answers: Vec<Answer>,
    /// So many of them the supervisor has taken.
    taken: usize,
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
    pub(super) fn acknowledged(&self) -> &[Answer] {
        &self.answers[..self.taken]
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
}

/// A request of which a session gets what was said before it came.
#[derive(Clone, Debug)]
pub(super) struct CatchesUp {
    pub(super) request: RequestKey,
    /// After this entry.
    pub(super) after: Seq,
    /// With what only its asker gets.
    pub(super) with_reply: bool,
}

/// A request that the supervisor has taken.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) session: Rc<str>,
    pub(super) msg_type: String,
    pub(super) is_shown: bool,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) life: Life,
    pub(super) said: Vec<Said>,
    /// Where each life begins.
    begins: Vec<usize>,
    by_id: HashMap<String, Vec<usize>>,
    pub(super) lines: Vec<Line>,
    pub(super) identities: HashMap<Rc<str>, Rc<str>>,
    /// The line that each session has now.
    current: HashMap<Rc<str>, LineId>,
    pub(super) members: BTreeMap<(Life, Rc<str>), Member>,
    /// In the order in which they were taken.
    pub(super) requests: Vec<(RequestKey, Request)>,
    /// Requests that the kernel works on, by what was said of them.
    running: Vec<RequestKey>,
    /// What the journal was told last.
    pub(super) needs: Option<Needs>,
    /// What is wrong already.
    pub(super) faults: Vec<String>,
}

/// A handle to the record.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Rc<RefCell<Record>>);

impl Notes {
    pub(super) fn record(&self) -> Ref<'_, Record> {
        self.0.borrow()
    }

    pub(super) fn fault(&self, what: String) {
        self.0.borrow_mut().faults.push(what);
    }

    /// Another supervisor begins, with a journal of its own.
    pub(super) fn life_begins(&self) -> Life {
        let mut record = self.0.borrow_mut();
        let begin = record.said.len();
        record.begins.push(begin);
        record.life = record.begins.len() - 1;
        record.current.clear();
        record.running.clear();
        record.needs = None;
        record.life
    }

    /// An entry goes into the journal: the number that it gets.
    pub(super) fn said(&self, life: Life, entry: &Entry) -> Seq {
        let (channel, message) = entry.message();
        let peek = HeaderPeek::read(&message.header).unwrap();
        let parent = parent(&message);
        let mut record = self.0.borrow_mut();
        if let Some(parent) = parent.as_ref().filter(|_| peek.msg_type == "status") {
            let content: Value = serde_json::from_slice(&message.content).unwrap();
            match content["execution_state"].as_str().unwrap() {
                "busy" => record.running.push(RequestKey::clone(parent)),
                _ => record.running.retain(|running| running != parent),
            }
        }
        assert_eq!(life, record.life, "a dead supervisor says something");
        let index = record.said.len();
        let seq = (index - record.begins[life] + 1) as Seq;
        let id = peek.msg_id.into_owned();
        let is_ours = peek.session != "kernel";
        record.by_id.entry(id).or_default().push(index);
        record.said.push(Said {
            life,
            seq,
            msg_type: peek.msg_type.into_owned(),
            channel,
            route: entry.route.clone(),
            mark: entry.mark.clone(),
            parent,
            is_ours,
            is_dropped: false,
        });
        seq
    }

    /// The journal has dropped an entry.
    pub(super) fn dropped(&self, life: Life, seq: Seq) {
        let mut record = self.0.borrow_mut();
        let index = record.begins[life] + usize::try_from(seq).unwrap() - 1;
        record.said[index].is_dropped = true;
    }

    /// This much the journal was told to be needed.
    pub(super) fn needs(&self, life: Life, needs: Needs) {
        let mut record = self.0.borrow_mut();
        if life == record.life {
            record.needs = Some(needs);
        }
    }

    /// The kernel is another one.
    pub(super) fn kernel_is_new(&self) {
        self.0.borrow_mut().running.clear();
    }

    /// The shown cells that run, and who has asked for them; of several the first may be about to end.
    pub(super) fn running_cells(&self) -> Vec<(RequestKey, Rc<str>)> {
        let record = self.0.borrow();
        let cells = record.running.iter().filter_map(|key| {
            let request = record.request(key)?;
            let is_cell = request.msg_type == "execute_request" && request.is_shown;
            is_cell.then(|| (RequestKey::clone(key), Rc::clone(&request.session)))
        });
        let mut cells: Vec<_> = cells.collect();
        cells.dedup();
        cells
    }

    pub(super) fn connects(&self, client: &Client) -> LineId {
        let mut record = self.0.borrow_mut();
        let life = record.life;
        let identity = Rc::clone(&client.holder.identity);
        (record.identities).insert(Rc::clone(&client.session), identity);
        record.lines.push(Line {
            session: Rc::clone(&client.session),
            life,
            begun: None,
            from: 0,
            is_text_only: client.text_only,
            resumes: client.resumes,
            heard: Vec::new(),
            answers: Vec::new(),
            taken: 0,
        });
        record.lines.len() - 1
    }

    /// The line joins now; `catches_up` is what a session that is new gets of before.
    pub(super) fn joins(
        &self,
        line: LineId,
        cursor: impl FnOnce(&str) -> Option<Seq>,
        catches_up: impl FnOnce() -> Option<CatchesUp>,
    ) {
        let mut record = self.0.borrow_mut();
        let (life, last) = (record.life, record.last());
        let session = Rc::clone(&record.lines[line].session);
        record.lines[line].begun = Some(last);
        record.lines[line].from = cursor(&session).unwrap_or(0);
        record.current.insert(Rc::clone(&session), line);
        let is_new = !record.members.contains_key(&(life, Rc::clone(&session)));
        drop(record);
        if is_new {
            let is_open = self.running_cells().len() > 1;
            let catches_up = catches_up();
            let mut record = self.0.borrow_mut();
            let member = Member {
                since: last,
                catches_up,
                is_open: is_open || record.lines[line].resumes,
            };
            record.members.insert((life, session), member);
        }
    }

    /// The line is no more.
    pub(super) fn leaves(&self, line: LineId) {
        let mut record = self.0.borrow_mut();
        record.current.retain(|_, current| *current != line);
    }

    /// A supervisor knows again what this has left: all that it says is for these sessions, and the first of these
    /// requests is what the kernel works on, as far as is known; of a cell is not known whether it is shown.
    pub(super) fn recalled(&self, left: &Left) {
        let mut record = self.0.borrow_mut();
        for joined in &left.joined {
            let member = Member {
                since: 0,
                catches_up: None,
                is_open: false,
            };
            let key = (record.life, joined.session.as_str().into());
            record.members.insert(key, member);
        }
        let asked = left.asked.iter().filter(|asked| !asked.held);
        for asked in asked.filter(|asked| asked.channel == Channel::Shell.name()) {
            let is_cell = asked.msg_type == "execute_request";
            if record.running.is_empty() && asked.msg_type != "kernel_info_request" {
                record.running.push(asked.request.as_str().into());
            }
            let mut requests = record.requests.iter_mut();
            if let Some((_, known)) = requests.find(|(key, _)| **key == *asked.request) {
                known.is_shown |= is_cell;
            }
        }
    }

    /// The supervisor has taken a request of the client.
    pub(super) fn requested(&self, line: LineId, channel: Channel, message: &Message) {
        let peek = HeaderPeek::read(&message.header).unwrap();
        if !matches!(channel, Channel::Shell | Channel::Control) {
            return;
        }
        let content: Value = serde_json::from_slice(&message.content).unwrap();
        let mut record = self.0.borrow_mut();
        let request = Request {
            session: Rc::clone(&record.lines[line].session),
            msg_type: peek.msg_type.to_string(),
            is_shown: content["silent"] != true,
        };
        record.requests.push((request_key(&peek), request));
    }

    /// The supervisor has taken an acknowledgement; of a line that was replaced none counts.
    pub(super) fn acknowledged(&self, line: LineId) {
        let mut record = self.0.borrow_mut();
        let session = Rc::clone(&record.lines[line].session);
        if record.current.get(&session) == Some(&line) {
            record.lines[line].taken += 1;
        }
    }

    /// The client has read a ping: what answers it.
    pub(super) fn pinged(&self, line: LineId, number: Seq) -> Answer {
        let line = &mut self.0.borrow_mut().lines[line];
        let heard = line.heard.len();
        line.heard.push(Heard::Ping(number));
        Answer { number, heard }
    }

    /// The client answers a ping.
    pub(super) fn answers(&self, line: LineId, answer: Answer) {
        self.0.borrow_mut().lines[line].answers.push(answer);
    }

    /// The client has read a message.
    pub(super) fn heard(&self, line: LineId, message: &Message) {
        let peek = HeaderPeek::read(&message.header).unwrap();
        let mut record = self.0.borrow_mut();
        let heard = record.known(&record.lines[line], &peek.msg_id);
        let heard = heard.map_or_else(|| other(&peek, message), Heard::Entry);
        record.lines[line].heard.push(heard);
    }
}

impl Record {
    /// The newest entry of this life.
    pub(super) fn last(&self) -> Seq {
        (self.said.len() - self.begins[self.life]) as Seq
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
        self.said
            .iter()
            .filter(|said| matches!(said.channel, Channel::Shell | Channel::Control))
    }

    /// What was said in a life.
    pub(super) fn said_in(&self, life: Life) -> std::ops::Range<usize> {
        let end = self.begins.get(life + 1);
        self.begins[life]..end.copied().unwrap_or(self.said.len())
    }

    /// The entry of this id that is for the line: one that is asked again has several.
    fn known(&self, line: &Line, id: &str) -> Option<usize> {
        let entries = self.by_id.get(id)?.iter();
        let mut entries = entries.filter(|index| self.said[**index].life == line.life);
        let first = entries.clone().next().copied();
        let is_mine = |index: &&usize| match &self.said[**index].route {
            Route::Everyone => true,
            Route::Session(session) => *session == line.session,
        };
        entries.find(is_mine).copied().or(first)
    }
}

/// The request that a message answers.
fn parent(message: &Message) -> Option<RequestKey> {
    let parent = HeaderPeek::read(&message.parent_header)?;
    (!parent.msg_id.is_empty()).then(|| request_key(&parent))
}

/// What is in no journal.
fn other(peek: &HeaderPeek<'_>, message: &Message) -> Heard {
    let content: Value = serde_json::from_slice(&message.content).unwrap();
    let text = content["text"].as_str().unwrap_or_default();
    let lost = text.strip_prefix("[nb] ").and_then(|text| {
        let (count, rest) = text.split_once(" messages (")?;
        rest.contains(") were dropped: ").then_some(count)
    });
    match &*peek.msg_type {
        "status" => Heard::State,
        "clear_output" => Heard::Clears(parent(message)),
        _ => match lost {
            Some(count) => Heard::Loss(count.parse().unwrap()),
            None => Heard::Unknown(format!("{} {content}", peek.msg_type)),
        },
    }
}
