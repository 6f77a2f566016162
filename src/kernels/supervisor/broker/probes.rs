//! How far the kernel is: it is asked something, and when it has answered that, it has done all that it had been asked
//! before on that channel. What is still without a reply then has lost it.
//!
//! That happens when nobody listened, as a supervisor had died, and when a signal interrupts ipykernel between a
//! cell's end and its reply: it logs "KeyboardInterrupt caught in kernel", says idle, and never replies.

use std::collections::HashSet;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::json;
use tracing::info;

use super::requests::Pending;
use super::state::error_content;
use super::{Broker, State};
use crate::kernels::supervisor::journal::RequestKey;
use crate::kernels::supervisor::ledger::Note;
use crate::protocol::message::{Channel, HeaderPeek};

/// No more are open after interrupts.
const OPEN_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Probes {
    /// The requests of an earlier supervisor, by the channel on which the kernel does them one after the other.
    recalled: Vec<(Channel, RequestKey)>,
    open: Vec<Probe>,
    /// The kernel had said that it was idle after these, and had not replied, before the last interrupt.
    idle_before: HashSet<RequestKey>,
}

impl Probes {
    pub(super) fn recall(&mut self, request: Option<(Channel, RequestKey)>) {
        self.recalled.extend(request);
    }
}

struct Probe {
    id: String,
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
        for channel in [Channel::Shell, Channel::Control] {
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
        self.probes
            .open
            .extend(id.filter(|_| !requests.is_empty()).map(|id| Probe {
                id,
                replied: false,
                idle: false,
                requests,
                cause,
            }));
        self.send(channel, request);
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
        // What an interrupted kernel had been asked before is over too: answers to that may be lost as well.
        let mut at = 0;
        let is_over = |probe: &mut Probe| {
            at += 1;
            at == last + 1 || probe.cause == Cause::ByInterrupt
        };
        let answered: Vec<_> = self.probes.open.extract_if(..=last, is_over).collect();
        for probe in &answered {
            for key in &probe.requests {
                self.make_good(key, probe.cause);
            }
        }
    }

    /// The reply to this request was lost, if it has none yet.
    fn make_good(&mut self, key: &RequestKey, cause: Cause) {
        let pending = self.pending.get(key);
        let Some(pending) = pending.filter(|pending| cause.concerns(pending)) else {
            return;
        };
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
