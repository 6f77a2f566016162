//! How far the kernel is: it is asked something, and when it has answered that, it has done all that it had been asked
//! before on that channel. What is still without a reply then has lost it.
//!
//! That happens when nobody listened, as a supervisor had died, and when a signal interrupts ipykernel between a
//! cell's end and its reply: it logs "KeyboardInterrupt caught in kernel", says idle, and never replies.
//!
//! After a takeover an idle may be lost as well, that of the probe too: a kernel does not tell when it has taken our subscription.
//! So one that is answered by half is asked again.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tracing::info;

use super::requests::Pending;
use super::state::error_content;
use super::{Broker, State, now};
use crate::kernels::supervisor::journal::RequestKey;
use crate::kernels::supervisor::ledger::Note;
use crate::protocol::message::{Channel, HeaderPeek};

/// No more are open after interrupts.
const OPEN_MAX: usize = 16;

/// A probe after a takeover of which only the reply or only the idle was heard is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// So many times at most, while nothing is published: then the kernel publishes nothing.
const AGAIN_MAX: u32 = 20;

#[derive(Default)]
pub(super) struct Probes {
    /// The requests of an earlier supervisor, by the channel on which the kernel does them one after the other.
    recalled: Vec<(Channel, RequestKey)>,
    open: Vec<Probe>,
    /// The kernel had said that it was idle after these, and had not replied, before the last interrupt.
    idle_before: HashSet<RequestKey>,
    /// The kernel has published something: it knows of our subscription.
    is_heard: bool,
    /// How often probes were asked again.
    again: u32,
}

impl Probes {
    pub(super) fn recall(&mut self, request: Option<(Channel, RequestKey)>) {
        self.recalled.extend(request);
    }

    /// Whether a kernel is being taken over that had been asked something.
    pub(super) fn has_recalled(&self) -> bool {
        !self.recalled.is_empty()
    }

    /// The kernel has published something.
    pub(super) fn heard_output(&mut self) {
        self.is_heard = true;
    }

    /// The newest probe after a takeover on this channel, when it is answered by half and the rest may be lost.
    fn half_answered(&self, channel: Channel) -> Option<&Probe> {
        let is_it =
            |probe: &&Probe| probe.channel == channel && probe.cause == Cause::WithSupervisor;
        let newest = self.open.iter().rfind(is_it);
        newest.filter(|probe| probe.replied != probe.idle && !probe.is_heard)
    }
}

/// Those on which probes are asked.
const CHANNELS: [Channel; 2] = [Channel::Shell, Channel::Control];

struct Probe {
    id: String,
    channel: Channel,
    asked: Instant,
    /// Its idle is not lost.
    is_heard: bool,
    replied: bool,
    idle: bool,
    /// What it had been asked before.
    requests: Vec<RequestKey>,
    cause: Cause,
}

/// How replies get lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    WithSupervisor,
    ByInterrupt,
}

impl Cause {
    /// Whether the reply to this request, which the kernel has not given, can be.
    fn concerns(self, pending: &Pending) -> bool {
        match self {
            // Its idle may be lost as well.
            Self::WithSupervisor => true,
            // Some cells let the kernel do other requests while they run.
            Self::ByInterrupt => pending.idle_seen,
        }
    }
}

impl Broker {
    /// The kernel is about to be interrupted. What is idle already and has no reply does not lose it by that: some cells
    /// let the kernel do other requests, which then says idle in their name, while they run.
    pub fn interrupts(&self) {
        let mut state = self.state.borrow_mut();
        let idle = state
            .pending
            .iter()
            .filter(|(_, pending)| pending.idle_seen);
        let idle = idle.map(|(key, _)| RequestKey::clone(key)).collect();
        state.probes.idle_before = idle;
    }

    /// When a probe is to be asked again, if nothing comes by then.
    pub fn probe_due(&self) -> Option<Instant> {
        let state = self.state.borrow();
        let half = CHANNELS.map(|channel| state.probes.half_answered(channel));
        half.into_iter()
            .flatten()
            .map(|probe| probe.asked + ASK_AGAIN)
            .min()
    }

    /// Asks those again that are due.
    pub fn probe_again(&self) {
        let mut state = self.state.borrow_mut();
        for channel in CHANNELS {
            state.probe_again(channel);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Asks an interrupted kernel for something, which wakes its event loop.
    pub fn wake(&self) {
        let mut state = self.state.borrow_mut();
        // The kernel has them, and does them before what it is asked now.
        let is_done_in_turn = |key: &&RequestKey| {
            let pending = state.pending.get(*key);
            let pending = pending.filter(|_| !state.probes.idle_before.contains(*key));
            pending.is_some_and(|pending| {
                let subshell = HeaderPeek::read(&pending.header).map(|peek| peek.subshell_id);
                pending.channel == Channel::Shell && !pending.held && subshell == Some(None)
            })
        };
        let requests = match state.probes.open.len() < OPEN_MAX {
            true => state
                .pending_order
                .iter()
                .filter(is_done_in_turn)
                .cloned()
                .collect(),
            false => Vec::new(),
        };
        state.probe(Channel::Shell, requests, Cause::ByInterrupt);
    }
}

impl State {
    /// Asks on each channel what is done after what an earlier supervisor had asked there.
    pub(super) fn probe_recalled(&mut self) {
        let recalled = std::mem::take(&mut self.probes.recalled);
        for channel in CHANNELS {
            let of_it = recalled.iter().filter(|(of, _)| *of == channel);
            let requests: Vec<_> = of_it.map(|(_, key)| RequestKey::clone(key)).collect();
            if requests.is_empty() && channel == Channel::Control {
                continue;
            }
            self.probe(channel, requests, Cause::WithSupervisor);
        }
    }

    fn probe(&mut self, channel: Channel, requests: Vec<RequestKey>, cause: Cause) {
        let request = self.composer.orphan("kernel_info_request", &json!({}));
        let id = HeaderPeek::read(&request.header).map(|peek| peek.msg_id.into_owned());
        let is_heard = self.probes.is_heard;
        let is_awaited = cause == Cause::WithSupervisor || !requests.is_empty();
        self.probes
            .open
            .extend(id.filter(|_| is_awaited).map(|id| Probe {
                id,
                channel,
                asked: now(),
                is_heard,
                replied: false,
                idle: false,
                requests,
                cause,
            }));
        self.send(channel, request);
    }

    /// Asks anew what is answered by half, for what it was to find out and for what was answered so meanwhile.
    fn probe_again(&mut self, channel: Channel) {
        let Some(half) = self.probes.half_answered(channel) else {
            return;
        };
        if now().duration_since(half.asked) < ASK_AGAIN {
            return;
        }
        let mut requests = half.requests.clone();
        if self.probes.again >= AGAIN_MAX {
            info!("the kernel publishes nothing");
            let id = half.id.clone();
            self.probe_said(&id, true);
            return self.probe_said(&id, false);
        }
        self.probes.again += 1;
        requests.extend(self.without_idle(channel));
        self.probe(channel, requests, Cause::WithSupervisor);
    }

    /// An answer to a message of our own, which may be a probe.
    pub(super) fn probe_said(&mut self, id: &str, is_reply: bool) {
        let said = |probe: &mut Probe| {
            let is_it = probe.id == id;
            probe.replied |= is_it && is_reply;
            probe.idle |= is_it && !is_reply;
            probe.replied && probe.idle
        };
        let Some(last) = self.probes.open.iter_mut().position(said) else {
            return;
        };
        // What it had been asked before on this channel is over too: answers to that may be lost as well.
        let channel = self.probes.open.get(last).map(|probe| probe.channel);
        let is_over = |probe: &mut Probe| Some(probe.channel) == channel;
        let answered: Vec<_> = self.probes.open.extract_if(..=last, is_over).collect();
        for probe in &answered {
            for key in &probe.requests {
                self.make_good(key, probe.cause);
            }
        }
    }

    /// The reply to this request was lost, if it has none yet.
    fn make_good(&mut self, key: &RequestKey, cause: Cause) {
        let Some(pending) = self.pending.get(key) else {
            if cause == Cause::WithSupervisor {
                self.idle_was_lost(key);
            }
            return;
        };
        if !cause.concerns(pending) {
            return;
        }
        let (session, channel) = (Rc::clone(&pending.session), pending.channel);
        let (msg_type, header) = (pending.msg_type.clone(), pending.header.clone());
        let content = match (cause, msg_type.as_str()) {
            (Cause::ByInterrupt, _) => {
                info!(request = &**key, "its reply was lost by an interrupt");
                let reason = "the interrupt came when the kernel was done and had not replied";
                error_content("KeyboardInterrupt", reason)
            }
            (Cause::WithSupervisor, "execute_request") => {
                info!(request = &**key, "its reply was lost with the supervisor");
                json!({
                    "status": "ok", "execution_count": null, "payload": [], "user_expressions": {},
                })
            }
            (Cause::WithSupervisor, _) => error_content(
                "SupervisorDied",
                "the reply was lost with the supervisor of this kernel",
            ),
        };
        self.take_out(key);
        self.activity.idle(key, Timestamp::now());
        if self.questions.over(key) {
            self.ledger.write(&Note::Answered);
        }
        self.answer(&session, channel, &msg_type, &header, &content);
        let subshell = None;
        let queue = self.queues.get_mut(&subshell);
        let actions = queue.map(|queue| queue.finished(key, false));
        self.act(actions.unwrap_or_default());
        self.forget_queue(&subshell);
    }
}
