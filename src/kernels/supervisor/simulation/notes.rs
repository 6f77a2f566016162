//! Takes down what happens in a schedule: what was said, who joined when, what each line carried.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use serde_json::Value;
use tokio::time::Instant;

use super::record::{
    Answer, Begin, CatchesUp, Heard, Life, Line, LineId, Member, Record, Request, Said,
};
use crate::kernels::supervisor::connection::Client;
use crate::kernels::supervisor::journal::{Entry, Needs, RequestKey, Seq, request_key};
use crate::kernels::supervisor::ledger::{Asked, Left};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// A handle to the record.
#[derive(Clone, Debug)]
pub(super) struct Notes(Rc<RefCell<Record>>);

impl Notes {
    /// Nothing yet, of journals that survive their supervisors or not.
    pub(super) fn new(survives: bool) -> Self {
        let record = Record {
            survives,
            ..Record::default()
        };
        Self(Rc::new(RefCell::new(record)))
    }

    pub(super) fn record(&self) -> Ref<'_, Record> {
        self.0.borrow()
    }

    pub(super) fn fault(&self, what: String) {
        self.0.borrow_mut().faults.push(what);
    }

    /// Another supervisor begins, with a journal whose newest entry is `last`.
    pub(super) fn life_begins(&self, last: Seq) -> Life {
        let mut record = self.0.borrow_mut();
        let begin = Begin {
            index: record.said.len(),
            last,
            at: Instant::now(),
            ended: None,
        };
        record.begins.push(begin);
        record.life = record.begins.len() - 1;
        record.current.clear();
        record.running.clear();
        record.needs = None;
        record.life
    }

    /// The supervisor is killed.
    pub(super) fn life_ends(&self) {
        let mut record = self.0.borrow_mut();
        let life = record.life;
        record.begins[life].ended = Some(Instant::now());
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
        let seq = record.last() + 1;
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
            at: Instant::now(),
        });
        seq
    }

    /// The journal has dropped an entry.
    pub(super) fn dropped(&self, life: Life, seq: Seq) {
        let mut record = self.0.borrow_mut();
        let entry = record.numbered(life, seq);
        record.said[entry].is_dropped = true;
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
            ended: None,
            from: 0,
            is_text_only: client.text_only,
            resumes: client.resumes,
            heard: Vec::new(),
            answers: Vec::new(),
            taken: Vec::new(),
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
            let several = self.running_cells().len() > 1;
            let catches_up = catches_up();
            let mut record = self.0.borrow_mut();
            // One that resumes a cell takes its asker's place for others, too.
            let resumed = record.lines.iter().any(|line| line.resumes);
            let member = Member {
                since: last,
                catches_up,
                is_open: several || resumed,
                is_restored: false,
            };
            record.members.insert((life, session), member);
        }
    }

    /// This is what the product lets the session of the line catch up on. Where there is a choice, it is taken as it is.
    pub(super) fn catches_up(&self, line: LineId, on: Option<CatchesUp>) {
        let mut record = self.0.borrow_mut();
        let Record {
            members,
            lines,
            life,
            faults,
            ..
        } = &mut *record;
        let session = &lines[line].session;
        let Some(member) = members.get_mut(&(*life, Rc::clone(session))) else {
            return;
        };
        if member.is_open {
            member.is_open = false;
            member.catches_up = on;
        } else if !member.is_restored && member.catches_up != on {
            let expected = &member.catches_up;
            faults.push(format!(
                "{session} catches up on {on:?}, not on {expected:?}"
            ));
        }
    }

    /// The line is no more.
    pub(super) fn leaves(&self, line: LineId) {
        let mut record = self.0.borrow_mut();
        record.current.retain(|_, current| *current != line);
        record.lines[line].ended = Some(Instant::now());
    }

    /// A supervisor knows again what this has left: all that it says is for these sessions, and the first of these
    /// requests is what the kernel works on, as far as is known; of a cell is not known whether it is shown.
    pub(super) fn recalled(&self, left: &Left) {
        let mut record = self.0.borrow_mut();
        for joined in &left.joined {
            let member = Member {
                since: record.last(),
                catches_up: None,
                is_open: false,
                is_restored: true,
            };
            let key = (record.life, joined.session.as_str().into());
            record.members.insert(key, member);
        }
        let is_open = |asked: &&Asked| asked.end.is_none() && !asked.held;
        let asked = left.asked.iter().filter(is_open);
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
            record.lines[line].taken.push(Instant::now());
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
