//! What the kernel has asked on stdin: who is to answer, and who else when that one is gone.
//!
//! The kernel waits for an answer, so a question whose asker has been away for a while goes to the other
//! clients of the same user; the first answer counts. Knows nothing of questions of our own cells.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{Broker, State, now};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route};
use crate::kernels::supervisor::ledger;
use crate::protocol::legacy::{self, Payload};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// How long a client may be away before its question goes to others.
const AWAY_FOR: Duration = Duration::from_secs(5);

/// So many questions are open at most; a kernel waits for one.
const OPEN_MAX: usize = 64;

/// What the kernel process has asked and got no answer to.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// The newest last.
    open: VecDeque<Open>,
    last: Option<Question>,
}

/// A question that an answer can be for.
#[derive(Debug)]
struct Open {
    request: RequestKey,
    id: String,
}

#[derive(Debug)]
struct Question {
    request: RequestKey,
    message: Message,
    asker: Rc<str>,
    /// The sessions that were asked instead.
    asked: Vec<Rc<str>>,
}

impl Questions {
    /// The kernel asks for a request of the session `asker`.
    pub(super) fn ask(&mut self, request: &RequestKey, message: &Message, asker: &Rc<str>) {
        self.ask_nobody(request, message);
        self.last = Some(Question {
            request: RequestKey::clone(request),
            message: message.clone(),
            asker: Rc::clone(asker),
            asked: Vec::new(),
        });
    }

    /// The kernel asks for a request that nobody knows.
    pub(super) fn ask_nobody(&mut self, request: &RequestKey, message: &Message) {
        let id = HeaderPeek::read(&message.header).map(|peek| peek.msg_id.into_owned());
        self.open.push_back(Open {
            request: RequestKey::clone(request),
            id: id.unwrap_or_default(),
        });
        if self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
    }

    /// This answer is to go to the kernel, for that request; nothing when it has not asked, or has its answer. Not every
    /// client says what it answers.
    pub(super) fn answer(&mut self, answer: &Message) -> Option<RequestKey> {
        let parent = HeaderPeek::read(&answer.parent_header);
        let named = parent.filter(|parent| parent.msg_type == "input_request");
        let at = match &named {
            Some(question) => self.open.iter().position(|open| open.id == question.msg_id),
            None => self.open.len().checked_sub(1),
        };
        let answered = at.and_then(|at| self.open.remove(at));
        self.last.take_if(|last| {
            answered
                .as_ref()
                .is_some_and(|open| open.request == last.request)
        });
        answered.map(|open| open.request)
    }

    /// Whether the newest question is open.
    pub(super) fn is_asking(&self) -> bool {
        self.last.is_some()
    }

    /// The kernel has done with the request: it waits for no answer to what it asked for it. Whether it had asked.
    pub(super) fn over(&mut self, request: &RequestKey) -> bool {
        self.open.retain(|open| open.request != *request);
        let asked = self.last.take_if(|last| last.request == *request);
        asked.is_some()
    }

    /// The question as it is written down.
    pub(super) fn noted(&self) -> Option<ledger::Question> {
        let last = self.last.as_ref()?;
        let (Payload::Text(message) | Payload::Binary(message)) =
            legacy::encode(Channel::Stdin, &last.message).ok()?;
        Some(ledger::Question {
            request: last.request.to_string(),
            message: String::from_utf8(message.to_vec()).ok()?,
        })
    }

    /// The kernel is another one.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl State {
    /// Asks the other clients of the user when it is time; how long that is from now.
    fn pass_question_on(&mut self, now: Instant) -> Option<Duration> {
        let question = self.questions.last.as_mut()?;
        let (identity, since) = self.sessions.away(&question.asker)?;
        let away_for = now.saturating_duration_since(since);
        if away_for < AWAY_FOR {
            return Some(AWAY_FOR - away_for);
        }
        let others = self.sessions.connected_of(&identity);
        let others = others.into_iter().filter(|id| !question.asked.contains(id));
        let others: Vec<_> = others.collect();
        question.asked.extend(others.iter().cloned());
        let message = question.message.clone();
        for other in others {
            let route = Route::Session(other);
            self.append(Channel::Stdin, message.clone(), route, Mark::Plain);
        }
        None
    }
}

impl Broker {
    /// Passes questions on for as long as it is polled.
    pub async fn pass_questions_on(&self) {
        loop {
            let crowd = self.crowd.notified();
            let wait = self.state.borrow_mut().pass_question_on(now());
            match wait {
                Some(wait) => drop(timeout(wait, crowd).await),
                None => crowd.await,
            }
        }
    }
}
