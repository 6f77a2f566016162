//! What is needed for long goes to where it is safe: entries to the journal's files, cursors to the ledger. When the
//! journal cannot be written, clients are told.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::requests::noted;
use super::{Broker, State, now};
use crate::kernels::supervisor::catch_up::Share;
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route};
use crate::kernels::supervisor::ledger::{Acknowledged, CatchesUp, Joined, Left, Note};
use crate::protocol::message::Channel;

/// So long after something has happened it is safe, with what else has happened by then.
const AFTER: Duration = Duration::from_millis(250);

/// How often it is looked whether the ledger is still there when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a ledger that cannot be written is tried.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// Clients are not told more often than this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Why the journal is not written, and when that was last said.
#[derive(Debug, Default)]
pub(super) struct Fault {
    now: Option<String>,
    told: Option<Instant>,
}

impl Fault {
    pub(super) fn now(&self) -> Option<String> {
        self.now.clone()
    }

    /// What is to be told, if anything.
    fn becomes(&mut self, fault: Option<String>, at: Instant) -> Option<String> {
        if fault.is_some() == self.now.is_some() {
            self.now = fault;
            return None;
        }
        self.now = fault;
        let Some(fault) = &self.now else {
            info!("the journal is written again");
            return None;
        };
        warn!(fault, "the journal is not written");
        let is_recent = |told: Instant| at.duration_since(told) < TELL_EVERY;
        if self.told.is_some_and(is_recent) {
            return None;
        }
        self.told = Some(at);
        Some(format!(
            "[nb] the journal of this kernel cannot be written: {fault}. The kernel goes on; what it says while a \
             client is away is kept in memory as far as there is room"
        ))
    }
}

/// What a session catches up on, as it is written down.
pub(super) fn caught_up(share: &Share) -> Option<CatchesUp> {
    let (until, on) = share.caught_up()?;
    Some(CatchesUp {
        request: on.request.to_string(),
        header: String::from_utf8_lossy(&on.header).into_owned(),
        after: on.after,
        until,
        with_reply: on.with_reply,
    })
}

impl Broker {
    /// Clients that leave are forgotten from now on.
    pub fn keep_nothing(&self) {
        self.state.borrow_mut().keeps_nothing = true;
    }

    /// Keeps what is to be kept for as long as it is polled.
    pub async fn keep_journal(&self) {
        let unkept = self.state.borrow().unkept.clone();
        // What an earlier supervisor left may have to be waited for.
        let mut again = Some(Duration::ZERO);
        loop {
            match again {
                // There is more, and whoever has waited meanwhile has a turn first.
                Some(Duration::ZERO) => yield_now().await,
                Some(again) => {
                    drop(timeout(again, unkept.notified()).await);
                    sleep(AFTER).await;
                }
                None => {
                    // The ledger may have been removed meanwhile.
                    drop(timeout(LOOK_EVERY, unkept.notified()).await);
                    sleep(AFTER).await;
                }
            }
            again = self.state.borrow_mut().keep();
        }
    }
}

impl State {
    fn keep(&mut self) -> Option<Duration> {
        let expires = self.sessions.expire(now());
        self.note_parted();
        self.release();
        let keeping = self.journal.keep();
        self.settle();
        for (session, cursor, lost) in self.sessions.take_moved() {
            self.ledger.write(&Note::Acknowledged(Acknowledged {
                session: session.to_string(),
                cursor,
                lost,
            }));
        }
        self.forget_ended();
        let last = self.journal.last();
        if self.noted != last {
            self.noted = last;
            self.ledger.write(&Note::Said(last));
        }
        let has_failed = self.ledger.has_failed();
        let is_tried = self.noted_anew.is_some_and(|at| now() < at + NOTE_AGAIN);
        if self.ledger.is_long() || has_failed && !is_tried {
            self.note_anew();
        }
        if let Some(text) = self.journal_fault.becomes(keeping.fault, now()) {
            self.tell_cell(text);
        }
        let expires = expires.map(|at| at.saturating_duration_since(now()));
        let retries = has_failed.then_some(NOTE_AGAIN);
        [keeping.again, retries, expires]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes down what there is and nothing of what is over.
    pub(super) fn note_anew(&mut self) {
        let known = |key: &RequestKey| Some(noted(key, self.pending.get(key)?));
        let sessions = self.sessions.list().into_iter().map(|session| Joined {
            identity: session.identity,
            credential: session.credential,
            cursor: session.cursor,
            lost: session.lost,
            catches_up: self.sessions.share(&session.session_id).and_then(caught_up),
            session: session.session_id,
        });
        let pending = self.pending_order.iter().filter_map(known);
        let left = Left {
            asked: self.ended.all().cloned().chain(pending).collect(),
            question: self.questions.noted(),
            joined: sessions.collect(),
            said: self.journal.last(),
        };
        self.noted = left.said;
        self.noted_anew = Some(now());
        self.ledger.compact(left);
    }

    /// A word on stderr of the cell that runs, else of the next one.
    fn tell_cell(&mut self, text: String) {
        let running = self.activity.running().map(|(_, header)| header.clone());
        let Some(header) = running else {
            return self.tell_with_next_cell(&text);
        };
        let content = json!({"name": "stderr", "text": text + "\n"});
        let message = self.composer.message("stream", header, &content);
        self.append(Channel::Iopub, message, Route::Everyone, Mark::Plain);
    }

    pub(super) fn tell_with_next_cell(&mut self, text: &str) {
        let earlier = self.cell_note.take().map(|note| note + "\n");
        self.cell_note = Some(earlier.unwrap_or_default() + text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_when_it_comes_and_not_over_and_over() {
        let mut fault = Fault::default();
        let begun = Instant::now();
        let mut tells = |text: Option<&str>, s| {
            let at = begun + Duration::from_secs(s);
            fault.becomes(text.map(str::to_owned), at).is_some()
        };
        assert!(!tells(None, 0));
        assert!(tells(Some("full"), 1));
        assert!(!tells(Some("full"), 2));
        assert!(!tells(None, 3));
        assert!(!tells(Some("full"), 4));
        assert!(!tells(None, 5));
        assert!(tells(Some("full"), 100));
    }
}
