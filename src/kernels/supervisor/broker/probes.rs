//! How far the kernel is: it is asked something, and when it has answered that, it has done all that it had been asked
//! before on that channel. What is still without a reply then has lost it.
//!
//! That happens when nobody listened, as a supervisor had died, and when a signal interrupts ipykernel between a
//! cell's end and its reply: it logs "KeyboardInterrupt caught in kernel", says idle, and never replies.

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
    loss: Loss,
}

/// How replies get lost.
#[derive(Clone, Copy)]
enum Loss {
    WithSupervisor,
    ByInterrupt,
}

impl Loss {
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
    /// Asks an interrupted kernel for something, which wakes its event loop.
    pub fn wake(&self) {
        let mut state = self.state.borrow_mut();
        let is_done_in_turn = |key: &&RequestKey| {
            let pending = state.pending.get(*key);
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
        state.probe(Channel::Shell, requests, Loss::ByInterrupt);
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
            self.probe(channel, requests, Loss::WithSupervisor);
        }
    }

    fn probe(&mut self, channel: Channel, requests: Vec<RequestKey>, loss: Loss) {
        let request = self.composer.orphan("kernel_info_request", &json!({}));
        let id = HeaderPeek::read(&request.header).map(|peek| peek.msg_id.into_owned());
        self.probes
            .open
            .extend(id.filter(|_| !requests.is_empty()).map(|id| Probe {
                id,
                replied: false,
                idle: false,
                requests,
                loss,
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
        let answered: Vec<_> = self.probes.open.extract_if(.., said).collect();
        for probe in &answered {
            for key in &probe.requests {
                self.make_good(key, probe.loss);
            }
        }
    }

    /// The reply to this request was lost, if it has none yet.
    fn make_good(&mut self, key: &RequestKey, loss: Loss) {
        let pending = self.pending.get(key);
        let Some(pending) = pending.filter(|pending| loss.concerns(pending)) else {
            return;
        };
        let (session, channel) = (Rc::clone(&pending.session), pending.channel);
        let (msg_type, header) = (pending.msg_type.clone(), pending.header.clone());
        let content = match (loss, msg_type.as_str()) {
            (Loss::ByInterrupt, _) => {
                info!(request = &**key, "its reply was lost by an interrupt");
                let reason = "the interrupt came when the kernel was done and had not replied";
                error_content("KeyboardInterrupt", reason)
            }
            (Loss::WithSupervisor, "execute_request") => {
                info!(request = &**key, "its reply was lost with the supervisor");
                json!({
                    "status": "ok", "execution_count": null, "payload": [], "user_expressions": {},
                })
            }
            (Loss::WithSupervisor, _) => error_content(
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
