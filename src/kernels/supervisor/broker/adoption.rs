//! The takeover of a kernel whose supervisor died: its requests are known again, and what nobody heard meanwhile is
//! made good as far as it can be.
//!
//! Nobody knows what the kernel did while no supervisor listened: it is probed.

use std::rc::Rc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use super::requests::Pending;
use super::state::error_content;
use super::{Broker, Outbox, Phase, State, now};
use crate::kernels::supervisor::catch_up::{CatchUp, Share};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route, Seq};
use crate::kernels::supervisor::ledger::{Asked, Joined, Ledger, Left};
use crate::kernels::supervisor::sessions::Holder;
use crate::protocol::legacy;
use crate::protocol::message::{Channel, HeaderPeek};

impl Broker {
    /// From now on requests, the question and sessions are written down here.
    pub fn keep(&self, ledger: Ledger) {
        self.state.borrow_mut().ledger = ledger;
    }

    /// The sessions that an earlier supervisor had are known again, with nobody connected, and what the kernel had
    /// been asked. To be called before anybody can ask more.
    pub fn recall(&self, left: &Left) {
        let mut state = self.state.borrow_mut();
        let saved = state.journal.recovered().unwrap_or(0);
        for joined in &left.joined {
            let holder = Holder {
                identity: joined.identity.as_str().into(),
                credential: joined.credential.as_str().into(),
            };
            let last = state.journal.last();
            let (session, cursor) = (joined.session.as_str().into(), joined.cursor.min(last));
            let share = share(&session, joined, last);
            state
                .sessions
                .restore(&session, &holder, share, cursor, joined.lost, now());
        }
        for asked in &left.asked {
            match &asked.end {
                Some(end) => state.end_again(asked, end, saved),
                None => {
                    let recalled = state.take_in(asked);
                    state.probes.recall(recalled);
                }
            }
        }
        // A cell that runs tells everybody, one that is over whoever asked for it.
        let tells = |joined: &Joined, asked: &Asked| match &asked.end {
            Some(end) => asked.session == joined.session && end.seq > saved,
            None => true,
        };
        let is_untold = |joined: &Joined| {
            joined.cursor.max(saved) < left.said
                && !left.asked.iter().any(|asked| tells(joined, asked))
        };
        if left.joined.iter().any(is_untold) {
            let text = "[nb] the supervisor of this kernel died and another one took over; what it had not passed on \
                        by then is lost";
            state.tell_with_next_cell(text);
        }
    }

    /// The kernel process of an earlier supervisor is ours, with what it had been asked.
    pub fn adopt(&self, outbox: Outbox, left: &Left) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Running;
        state.outbox = Some(outbox);
        state.ask_again(left);
        state.probe_recalled();
        for (channel, message) in std::mem::take(&mut state.waiting) {
            state.send(channel, message);
        }
        state.note_anew();
        drop(state);
        self.changed.notify_waiters();
        self.crowd.notify_waiters();
    }
}

/// What of a journal whose newest entry is `last` is for a session that an earlier supervisor had.
fn share(session: &Rc<str>, joined: &Joined, last: Seq) -> Share {
    let Some(on) = &joined.catches_up else {
        return Share::new(session, 0, None);
    };
    let catch_up = CatchUp {
        request: on.request.as_str().into(),
        header: Bytes::from(on.header.clone()),
        after: on.after.min(last),
        with_reply: on.with_reply,
        takes_over: false,
        idle: None,
        shown_only: false,
    };
    Share::new(session, on.until.min(last), Some(catch_up))
}

impl State {
    /// Takes a request in; what it is, when the kernel has it and a probe can tell whether it is done.
    fn take_in(&mut self, asked: &Asked) -> Option<(Channel, RequestKey)> {
        let channel = Channel::from_name(asked.channel.as_bytes())?;
        let session: Rc<str> = asked.session.as_str().into();
        let header = Bytes::from(asked.header.clone());
        if asked.held && asked.elsewhere.is_none() {
            let reason = "the supervisor of this kernel died before the kernel had this request";
            let content = error_content("SupervisorDied", reason);
            self.answer(&session, channel, &asked.msg_type, &header, &content);
            return None;
        }
        let key: RequestKey = asked.request.as_str().into();
        let subshell = HeaderPeek::read(&header)?;
        let subshell = subshell.subshell_id.as_deref().map(str::to_owned);
        let runs = channel == Channel::Shell && self.activity.running().is_none();
        if runs {
            self.activity
                .busy(&key, &asked.msg_type, &header, Timestamp::now());
        }
        if channel == Channel::Shell && asked.msg_type == "execute_request" {
            self.queues.entry(subshell.clone()).or_default().adopt(&key);
            let last = self.journal.last();
            self.sessions.asked(&session, &key, &header, last);
            self.kept.taken_over(&key);
            let text = match &asked.elsewhere {
                // What it said meanwhile its own supervisor has.
                Some(runs) => {
                    self.elsewhere.recall(&key, runs);
                    "[nb] the supervisor of this kernel died and another one took over; what the cell said just \
                     before may be lost\n"
                }
                None => {
                    "[nb] the supervisor of this kernel died and another one took over; what the cell said between \
                     is lost\n"
                }
            };
            let content = json!({"name": "stderr", "text": text});
            let note = self.composer.message("stream", header.clone(), &content);
            self.append(Channel::Iopub, note, Route::Everyone, Mark::Plain);
        }
        let pending = Pending {
            session,
            channel,
            msg_type: asked.msg_type.clone(),
            bytes: header.len(),
            header,
            idle_seen: false,
            stop_on_error: asked.stop_on_error,
            silent: false,
            held: asked.held,
            elsewhere: asked.elsewhere.clone(),
        };
        self.remember(RequestKey::clone(&key), pending);
        if asked.elsewhere.is_some() {
            return None;
        }
        // The probe goes to the main shell, and says nothing of the others.
        (channel == Channel::Control || subshell.is_none()).then_some((channel, key))
    }

    /// What the kernel had asked is asked again.
    fn ask_again(&mut self, left: &Left) {
        let Some(question) = &left.question else {
            return;
        };
        let key: RequestKey = question.request.as_str().into();
        let message = legacy::decode(&Bytes::from(question.message.clone()));
        let (Ok((_, message)), Some(pending)) = (message, self.pending.get(&key)) else {
            return;
        };
        let session = Rc::clone(&pending.session);
        self.questions.ask(&key, &message, &session);
        self.append(
            Channel::Stdin,
            message,
            Route::Session(session),
            Mark::Plain,
        );
    }
}
