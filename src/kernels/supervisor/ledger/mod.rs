//! What the kernel has been asked and has not done, and which clients there are, in a file: whoever takes over from
//! a supervisor that died has to know.
//!
//! Each note is one line, in the file before what it tells of is done. Ids, types and headers, and what the kernel
//! asked; never what a client said. Survives the death of this process, not that of the machine.

mod file;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::sessions::Loss;
use crate::kernels::shared_memory::Shared;
use crate::magics::OtherKernel;
use file::Writer;

/// No more than this is read.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A longer note is not written.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    Asked(Asked),
    /// A request waits here for a cell of ours.
    Held(String),
    /// It went to the kernel after all.
    Sent(String),
    /// It runs in another kernel of the notebook.
    Elsewhere {
        request: String,
        #[serde(flatten)]
        runs: RunsElsewhere,
    },
    /// It is done with, and nobody waits for more.
    Done(String),
    /// It is answered, which its client has yet to acknowledge.
    Over(Over),
    Question(Question),
    /// The question is answered, or over.
    Answered,
    Joined(Joined),
    Acknowledged(Acknowledged),
    /// Nobody comes back for this session.
    Parted(String),
    /// What was said up to this entry.
    Said(u64),
}

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its key.
    pub request: String,
    pub session: String,
    /// The name of its channel.
    pub channel: String,
    pub msg_type: String,
    /// As it came.
    pub header: String,
    pub stop_on_error: bool,
    /// The kernel does not have it.
    #[serde(default)]
    pub held: bool,
    /// Another kernel of the notebook has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<RunsElsewhere>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// Where a cell runs that is not the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsElsewhere {
    pub kernel: OtherKernel,
    /// As the notebook's history counts it.
    #[serde(default)]
    pub count: Option<i64>,
    /// Something is to follow when it has run there.
    #[serde(default)]
    pub goes_on: bool,
}

/// A request that is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// Its key.
    pub request: String,
    #[serde(flatten)]
    pub end: End,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its last entry.
    pub seq: u64,
    /// The reply's.
    pub status: String,
    #[serde(default)]
    pub execution_count: Option<u64>,
}

/// What the kernel asked on stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub request: String,
    /// The message in the legacy framing.
    pub message: String,
}

/// A client session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub session: String,
    pub identity: String,
    pub credential: String,
    /// It has acknowledged up to here.
    #[serde(default)]
    pub cursor: u64,
    /// What it missed for good and may not have been told.
    #[serde(default)]
    pub lost: Loss,
    /// What it gets of before it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catches_up: Option<CatchesUp>,
}

/// A request of which a session gets what was said before the session came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchesUp {
    /// Its key.
    pub request: String,
    pub header: String,
    pub after: u64,
    pub until: u64,
    pub with_reply: bool,
}

/// How far a client session is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    pub session: String,
    pub cursor: u64,
    #[serde(default)]
    pub lost: Loss,
}

/// What is left of all notes: the requests in their order, the question, the sessions, what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub asked: Vec<Asked>,
    pub question: Option<Question>,
    pub joined: Vec<Joined>,
    /// The newest entry, or one shortly before.
    pub said: u64,
}

impl Left {
    /// What these lines leave. A line that is none, such as the last one of a writer that died, says nothing.
    pub fn of(lines: &[u8]) -> Self {
        let mut asked: BTreeMap<u64, Asked> = BTreeMap::new();
        let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
        let mut joined: BTreeMap<String, Joined> = BTreeMap::new();
        let (mut question, mut said) = (None, 0);
        for (number, line) in (0..).zip(lines.split(|byte| *byte == b'\n')) {
            let Ok(note) = serde_json::from_slice(line) else {
                continue;
            };
            match note {
                Note::Asked(request) => {
                    if let Some(twice) = numbers.insert(request.request.clone(), number) {
                        asked.remove(&twice);
                    }
                    asked.insert(number, request);
                }
                Note::Held(key) => {
                    let request = numbers.get(&key).and_then(|number| asked.get_mut(number));
                    request.into_iter().for_each(|request| request.held = true);
                }
                Note::Sent(key) => {
                    let request = numbers.get(&key).and_then(|number| asked.get_mut(number));
                    request.into_iter().for_each(|request| request.held = false);
                }
                Note::Elsewhere { request, runs } => {
                    let request = numbers.get(&request);
                    let request = request.and_then(|number| asked.get_mut(number));
                    if let Some(request) = request {
                        request.elsewhere = Some(runs);
                    }
                }
                Note::Done(key) => {
                    if let Some(number) = numbers.remove(&key) {
                        asked.remove(&number);
                    }
                }
                Note::Over(Over { request, end }) => {
                    said = said.max(end.seq);
                    let number = numbers.get(&request);
                    let request = number.and_then(|number| asked.get_mut(number));
                    if let Some(request) = request {
                        request.end = Some(end);
                    }
                }
                Note::Said(seq) => said = said.max(seq),
                Note::Question(asks) => question = Some(asks),
                Note::Answered => question = None,
                Note::Joined(session) => {
                    joined.insert(session.session.clone(), session);
                }
                Note::Acknowledged(Acknowledged {
                    session,
                    cursor,
                    lost,
                }) => {
                    if let Some(session) = joined.get_mut(&session) {
                        session.cursor = cursor;
                        session.lost = lost;
                    }
                }
                Note::Parted(session) => drop(joined.remove(&session)),
            }
        }
        let is_missed = |asked: &Asked| {
            let lacks = |end: &End| {
                let session = joined.get(&asked.session);
                session.is_some_and(|session| session.cursor < end.seq)
            };
            asked.end.as_ref().is_none_or(lacks)
        };
        asked.retain(|_, asked| is_missed(asked));
        Self {
            asked: asked.into_values().collect(),
            question,
            joined: joined.into_values().collect(),
            said,
        }
    }

    /// The notes that leave the same.
    pub fn notes(self) -> impl Iterator<Item = Note> {
        let joined = self.joined.into_iter().map(Note::Joined);
        let asked = self.asked.into_iter().map(Note::Asked);
        let said = (self.said > 0).then_some(Note::Said(self.said));
        joined
            .chain(asked)
            .chain(self.question.map(Note::Question))
            .chain(said)
    }
}

/// Where notes go; by default nowhere.
#[derive(Debug, Default)]
pub struct Ledger {
    file: Option<Writer>,
}

impl Ledger {
    /// The one to which `path` leads, in the folder `memory`, and what an earlier writer left in it.
    pub fn open(path: &Path, memory: &Path) -> (Self, Left) {
        let place = Shared::new(path, memory);
        let read = place.read(READ_BYTES_MAX);
        let lines = read.inspect_err(|error| warn!(%error, "what was written down is not read"));
        let left = Left::of(&lines.unwrap_or_default());
        let mut ledger = Self {
            file: Some(Writer::new(place)),
        };
        ledger.compact(left.clone());
        (ledger, left)
    }

    /// Writes a note down.
    pub fn write(&mut self, note: &Note) {
        if let Some(file) = &mut self.file {
            file.write(&line(note));
        }
    }

    /// Whether it is time for [`Ledger::compact`]: much is over, or what was to be written was not.
    pub fn is_long(&self) -> bool {
        self.file.as_ref().is_some_and(Writer::is_long)
    }

    /// Whether what was to be written was not.
    pub fn has_failed(&self) -> bool {
        self.file.as_ref().is_some_and(Writer::has_failed)
    }

    /// Writes the file anew, with what is left.
    pub fn compact(&mut self, left: Left) {
        if let Some(file) = &mut self.file {
            let lines: Vec<_> = left.notes().map(|note| line(&note)).collect();
            file.write_anew(&lines.concat());
        }
    }
}

/// One that is too long says nothing.
fn line(note: &Note) -> Vec<u8> {
    let mut line = serde_json::to_vec(note).unwrap_or_default();
    line.push(b'\n');
    if line.len() > NOTE_BYTES_MAX {
        line.clear();
    }
    line
}

#[cfg(test)]
mod tests;
