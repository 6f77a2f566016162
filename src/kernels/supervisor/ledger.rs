//! What the kernel has been asked and has not done, and which clients there are, in a file: whoever takes over from
//! a supervisor that died has to know.
//!
//! Each note is one line, written before what it tells of is done. Ids, types and headers, and what the kernel
//! asked; never what a client said. Survives the death of this process, not that of the machine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::sessions::Loss;

/// A file of more than this is written anew, without what is over.
const COMPACT_BYTES: u64 = 1024 * 1024;

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
    /// The kernel has done with it.
    Done(String),
    Question(Question),
    /// The question is answered, or over.
    Answered,
    Joined(Joined),
    Acknowledged(Acknowledged),
    /// Nobody comes back for this session.
    Parted(String),
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

/// What is left of all notes: the requests in their order, the question, the sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub asked: Vec<Asked>,
    pub question: Option<Question>,
    pub joined: Vec<Joined>,
}

impl Left {
    /// What these lines leave. A line that is none, such as the last one of a writer that died, says nothing.
    pub fn of(lines: &[u8]) -> Self {
        let mut asked: BTreeMap<u64, Asked> = BTreeMap::new();
        let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
        let mut joined: BTreeMap<String, Joined> = BTreeMap::new();
        let mut question = None;
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
                Note::Done(key) => {
                    if let Some(number) = numbers.remove(&key) {
                        asked.remove(&number);
                    }
                }
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
        Self {
            asked: asked.into_values().collect(),
            question,
            joined: joined.into_values().collect(),
        }
    }

    /// The notes that leave the same.
    pub fn notes(self) -> impl Iterator<Item = Note> {
        let joined = self.joined.into_iter().map(Note::Joined);
        let asked = self.asked.into_iter().map(Note::Asked);
        joined.chain(asked).chain(self.question.map(Note::Question))
    }
}

/// The file, or none: then nothing is kept.
#[derive(Debug, Default)]
pub struct Ledger {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Ledger {
    /// The one at `path`, and what an earlier writer left in it.
    pub fn open(path: &Path) -> io::Result<(Self, Left)> {
        let mut lines = Vec::new();
        match File::open(path) {
            Ok(file) => drop(file.take(READ_BYTES_MAX).read_to_end(&mut lines)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let left = Left::of(&lines);
        let mut ledger = Self {
            open: Some(Open::fresh(path, left.clone())?),
        };
        ledger.open.iter_mut().for_each(|open| open.bytes = 0);
        Ok((ledger, left))
    }

    /// Writes a note down. Without a disk that takes it the kernel goes on, and is not taken over whole.
    pub fn write(&mut self, note: &Note) {
        let Some(open) = &mut self.open else {
            return;
        };
        if let Err(error) = open.write(note) {
            warn!(%error, "requests are not written down any more");
            self.open = None;
        }
    }

    /// Whether it is time for [`Ledger::compact`].
    pub fn is_long(&self) -> bool {
        (self.open.as_ref()).is_some_and(|open| open.bytes > COMPACT_BYTES)
    }

    /// Writes the file anew, with what is left.
    pub fn compact(&mut self, left: Left) {
        let Some(open) = &mut self.open else {
            return;
        };
        match Open::fresh(&open.path, left) {
            Ok(mut fresh) => {
                // Much that is left does not make it long at once again.
                fresh.bytes = 0;
                *open = fresh;
            }
            Err(error) => {
                warn!(%error, "requests are not written down any more");
                self.open = None;
            }
        }
    }
}

impl Open {
    fn fresh(path: &Path, left: Left) -> io::Result<Self> {
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut open = Self {
            path: path.to_owned(),
            file: options.open(&new)?,
            bytes: 0,
        };
        for note in left.notes() {
            open.write(&note)?;
        }
        fs::rename(new, path)?;
        Ok(open)
    }

    fn write(&mut self, note: &Note) -> io::Result<()> {
        let mut line = serde_json::to_vec(note)?;
        line.push(b'\n');
        if line.len() > NOTE_BYTES_MAX {
            return Ok(());
        }
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(request: &str) -> Asked {
        Asked {
            request: request.to_owned(),
            session: "a".to_owned(),
            channel: "shell".to_owned(),
            msg_type: "execute_request".to_owned(),
            header: "{\"x\": 1}".to_owned(),
            stop_on_error: true,
            held: false,
        }
    }

    #[test]
    fn what_is_left_is_what_was_asked_and_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests");
        let (mut ledger, left) = Ledger::open(&path).unwrap();
        assert_eq!(left, Left::default());
        let question = Question {
            request: "2".to_owned(),
            message: "{}".to_owned(),
        };
        let joined = Joined {
            session: "a".to_owned(),
            identity: "me".to_owned(),
            credential: "c".to_owned(),
            cursor: 3,
            lost: Loss::default(),
            catches_up: Some(CatchesUp {
                request: "s\n1".to_owned(),
                header: "{}".to_owned(),
                after: 1,
                until: 5,
                with_reply: true,
            }),
        };
        let lost = Loss {
            messages: 2,
            bytes: 9,
            ..Loss::default()
        };
        let gone = Joined {
            session: "b".to_owned(),
            ..joined.clone()
        };
        for note in [
            Note::Joined(joined.clone()),
            Note::Joined(gone),
            Note::Parted("b".to_owned()),
            Note::Acknowledged(Acknowledged {
                session: "a".to_owned(),
                cursor: 7,
                lost,
            }),
            Note::Asked(asked("1")),
            Note::Asked(asked("2")),
            Note::Asked(asked("3")),
            Note::Held("3".to_owned()),
            Note::Done("1".to_owned()),
            Note::Question(question.clone()),
        ] {
            ledger.write(&note);
        }
        let held = Asked {
            held: true,
            ..asked("3")
        };
        let expected = Left {
            asked: vec![asked("2"), held],
            question: Some(question),
            joined: vec![Joined {
                cursor: 7,
                lost,
                ..joined
            }],
        };
        let (mut ledger, left) = Ledger::open(&path).unwrap();
        assert_eq!(left, expected);
        ledger.write(&Note::Sent("3".to_owned()));
        ledger.write(&Note::Answered);
        // Half a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"done\":\"2").unwrap();
        let (mut ledger, left) = Ledger::open(&path).unwrap();
        assert_eq!((left.asked.len(), left.question), (2, None));
        assert!(!left.asked[1].held);
        ledger.compact(Left::default());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    proptest! {
        #[test]
        fn any_lines_are_read(lines in prop::collection::vec(any::<u8>(), 0..400)) {
            let _left = Left::of(&lines);
        }

        /// Writing what is left anew leaves the same.
        #[test]
        fn notes_of_what_is_left_leave_it(steps in prop::collection::vec((0..5u8, 0..6u8), 0..60)) {
            let mut lines = Vec::new();
            for (step, key) in steps {
                let key = key.to_string();
                let note = match step {
                    0 | 1 => Note::Asked(asked(&key)),
                    2 => Note::Held(key),
                    3 => Note::Sent(key),
                    _ => Note::Done(key),
                };
                lines.extend(serde_json::to_vec(&note).unwrap());
                lines.push(b'\n');
            }
            let left = Left::of(&lines);
            let again = left.clone().notes().flat_map(|note| {
                let mut line = serde_json::to_vec(&note).unwrap();
                line.push(b'\n');
                line
            });
            prop_assert_eq!(Left::of(&again.collect::<Vec<_>>()), left);
        }
    }
}
