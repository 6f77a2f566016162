//! Completion, inspection and whether code is complete, asked of the JVM and answered in time: whether that answers or not. Pure: the
//! clock comes as a value.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::content::{self, About};
use super::outbox::Asker;
use super::said::Hint;

/// How long the JVM may take, its start included; a page that waits longer has moved on.
const WITHIN: Duration = Duration::from_secs(8);

/// So many may hang in the JVM before it is asked for no more.
const HANGING_MAX: usize = 8;

/// Of more text nothing is asked.
const CODE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Complete { cursor: usize },
    Inspect,
    IsComplete,
}

impl Kind {
    /// The reply's type and content.
    pub(super) fn answer(self, hint: &Hint) -> (&'static str, Value) {
        match self {
            Self::Complete { cursor } => ("complete_reply", content::completed(cursor, hint)),
            Self::Inspect => ("inspect_reply", content::inspected(hint)),
            Self::IsComplete => ("is_complete_reply", content::is_complete(hint)),
        }
    }
}

#[derive(Debug)]
struct Asked {
    id: u64,
    kind: Kind,
    deadline: Instant,
    /// Until the JVM is asked.
    about: Option<About>,
    /// None once it was answered without the JVM.
    asker: Option<Asker>,
}

/// What was asked and not answered.
#[derive(Debug, Default)]
pub(super) struct Hints {
    asked: Vec<Asked>,
    last: u64,
}

impl Hints {
    /// One to be asked of the JVM; given back when that has enough to think about, or would have too much.
    pub(super) fn ask(
        &mut self,
        kind: Kind,
        asker: Asker,
        about: About,
        now: Instant,
    ) -> Result<(), Asker> {
        if self.asked.len() >= HANGING_MAX || about.code.len() > CODE_BYTES_MAX {
            return Err(asker);
        }
        self.last += 1;
        self.asked.push(Asked {
            id: self.last,
            kind,
            deadline: now + WITHIN,
            about: Some(about),
            asker: Some(asker),
        });
        Ok(())
    }

    /// One that the JVM is to be asked now, by this id.
    pub(super) fn next(&mut self) -> Option<(u64, Kind, About)> {
        let waiting = |asked: &&mut Asked| asked.about.is_some() && asked.asker.is_some();
        let next = self.asked.iter_mut().find(waiting)?;
        Some((next.id, next.kind, next.about.take()?))
    }

    /// The JVM has answered; nothing if it was too late.
    pub(super) fn answered(&mut self, id: u64) -> Option<(Kind, Asker)> {
        let at = self.asked.iter().position(|asked| asked.id == id)?;
        let asked = self.asked.remove(at);
        Some((asked.kind, asked.asker?))
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let open = self.asked.iter().filter(|asked| asked.asker.is_some());
        open.map(|asked| asked.deadline).min()
    }

    /// One whose time is over. Where the JVM was asked it still is.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(Kind, Asker)> {
        let is_late = |asked: &Asked| asked.asker.is_some() && asked.deadline <= now;
        let at = self.asked.iter().position(is_late)?;
        let (kind, asker) = (self.asked[at].kind, self.asked[at].asker.take()?);
        if self.asked[at].about.is_some() {
            self.asked.remove(at);
        }
        Some((kind, asker))
    }

    /// The JVM is gone: those that nobody answers.
    pub(super) fn drain(&mut self) -> Vec<(Kind, Asker)> {
        let all = std::mem::take(&mut self.asked);
        all.into_iter()
            .filter_map(|asked| Some((asked.kind, asked.asker?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::{Channel, Message};
    use crate::sockets::Request;

    fn asker() -> Asker {
        Asker::of(&Request {
            channel: Channel::Shell,
            identity: Vec::new(),
            message: Message::empty(),
        })
    }

    fn ask(hints: &mut Hints, kind: Kind, now: Instant) -> bool {
        hints.ask(kind, asker(), About::default(), now).is_ok()
    }

    #[tokio::test]
    async fn each_is_answered_once_in_time_or_without_the_jvm() {
        let (mut hints, now) = (Hints::default(), Instant::now());
        assert!(ask(&mut hints, Kind::Inspect, now) && ask(&mut hints, Kind::IsComplete, now));
        let [one, two] = [(); 2].map(|()| hints.next().unwrap().0);
        assert!(hints.next().is_none());
        assert_eq!(hints.answered(one).unwrap().0, Kind::Inspect);
        assert!(hints.answered(one).is_none() && hints.overdue(now).is_none());
        let later = hints.deadline().unwrap();
        assert_eq!(hints.overdue(later).unwrap().0, Kind::IsComplete);
        assert!(hints.overdue(later).is_none() && hints.deadline().is_none());
        assert!(hints.answered(two).is_none());
    }

    #[tokio::test]
    async fn a_jvm_in_which_many_hang_is_asked_for_no_more() {
        let (mut hints, now) = (Hints::default(), Instant::now());
        while ask(&mut hints, Kind::Inspect, now) {}
        let ids: Vec<_> = (1..HANGING_MAX).filter_map(|_| hints.next()).collect();
        assert_eq!(ids.len(), HANGING_MAX - 1);
        // Those that it was not asked are forgotten.
        while hints.overdue(now + WITHIN).is_some() {}
        assert!(ask(&mut hints, Kind::Inspect, now) && !ask(&mut hints, Kind::Inspect, now));
        hints.answered(ids[0].0);
        assert!(ask(&mut hints, Kind::Inspect, now));
        assert_eq!(hints.drain().len(), 2);
        let about = About {
            code: " ".repeat(CODE_BYTES_MAX + 1),
            cursor_pos: None,
        };
        assert!(hints.ask(Kind::Inspect, asker(), about, now).is_err());
    }
}
