//! What another kernel was asked and has not answered, for the day on which the line to it breaks or its supervisor dies: which
//! of it never came there and is sent again, and which gets no answer any more. Pure.
//!
//! What its supervisor has ever heard of is never sent again: no cell runs twice. Bounded in bytes and numbers.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::kernels::contract::RequestPhase;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// What is held to be sent again, in bytes; of more only the headers are known.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// So many are known; of more the oldest are waited for as long as their kernel lives.
const REQUESTS_MAX: usize = 1024;

/// One with a longer id, in bytes, is not known.
const ID_BYTES_MAX: usize = 512;

/// Those that are without an answer, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    requests: VecDeque<Request>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Request {
    id: String,
    asks: Asks,
    /// To be sent again, while nothing has come of it.
    message: Option<Message>,
    has_begun: bool,
    is_idle: bool,
    /// Its supervisor has written its end by this entry of its journal.
    written_by: Option<u64>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) channel: Channel,
    pub(super) msg_type: String,
    pub(super) header: Bytes,
    /// Only its idle is missing.
    pub(super) has_reply: bool,
}

/// What is to be done for one of which the kernel's supervisor knows nothing, or all.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// It never came.
    Again(Channel, Message),
    /// It never came either, and we do not have it.
    NeverCame(Asks),
    /// It came, and no end of it does.
    WithoutEnd(Asks),
}

impl Unanswered {
    /// A request is about to be sent; false for what has no answer, or is too much to be known.
    pub(super) fn sends(&mut self, channel: Channel, message: &Message) -> bool {
        let bytes = message.bytes();
        let room = HELD_BYTES_MAX.saturating_sub(self.held_bytes);
        let held = (bytes <= room).then(|| message.clone());
        let is_held = held.is_some();
        let is_known = self.add(channel, message.header.clone(), held);
        if is_known && is_held {
            self.held_bytes += bytes;
        }
        is_known
    }

    /// An earlier supervisor of this kernel may have sent the cell with this header.
    pub(super) fn recalls(&mut self, header: Bytes) {
        self.add(Channel::Shell, header, None);
    }

    fn add(&mut self, channel: Channel, header: Bytes, message: Option<Message>) -> bool {
        let Some(peek) = HeaderPeek::read(&header) else {
            return false;
        };
        let is_request = matches!(channel, Channel::Shell | Channel::Control)
            && peek.msg_type.ends_with("_request");
        if !is_request || peek.msg_id.is_empty() || peek.msg_id.len() > ID_BYTES_MAX {
            return false;
        }
        let id = peek.msg_id.into_owned();
        let msg_type = peek.msg_type.into_owned();
        if self.requests.len() >= REQUESTS_MAX {
            self.remove(0);
        }
        self.requests.push_back(Request {
            id,
            asks: Asks {
                channel,
                msg_type,
                header,
                has_reply: false,
            },
            message,
            has_begun: false,
            is_idle: false,
            written_by: None,
        });
        true
    }

    fn remove(&mut self, at: usize) -> Option<Request> {
        let mut request = self.requests.remove(at)?;
        self.let_go(&mut request);
        Some(request)
    }

    fn let_go(&mut self, request: &mut Request) {
        let held = request.message.take();
        self.held_bytes -= held.map_or(0, |message| message.bytes());
    }

    /// The kernel has said something. A request is answered by its reply and its idle.
    pub(super) fn heard(&mut self, channel: Channel, message: &Message) {
        if self.requests.is_empty() {
            return;
        }
        let Some(parent) = HeaderPeek::read(&message.parent_header) else {
            return;
        };
        let is_it = |request: &Request| request.id == *parent.msg_id;
        let Some(at) = self.requests.iter().position(is_it) else {
            return;
        };
        let Some(mut request) = self.remove(at) else {
            return;
        };
        request.has_begun = true;
        request.asks.has_reply |= channel == request.asks.channel;
        request.is_idle |= channel == Channel::Iopub && is_idle(message);
        if !(request.asks.has_reply && request.is_idle) {
            self.requests.insert(at, request);
        }
    }

    /// The ids of all.
    pub(super) fn ids(&self) -> Vec<String> {
        let ids = self.requests.iter().map(|request| request.id.clone());
        ids.collect()
    }

    /// What the kernel's supervisor knows of these, once nothing more comes to it by an earlier line: what is to be done, in the
    /// order in which they were sent. Its newest entry is `last`.
    pub(super) fn are_known(
        &mut self,
        ids: &[String],
        phases: &[RequestPhase],
        last: u64,
    ) -> Vec<Missed> {
        let mut missed = Vec::new();
        for (id, phase) in ids.iter().zip(phases) {
            let is_it = |request: &Request| request.id == *id;
            let Some(at) = self.requests.iter().position(is_it) else {
                continue;
            };
            let Some(request) = self.requests.get_mut(at) else {
                continue;
            };
            match phase {
                RequestPhase::Waiting | RequestPhase::Running => {}
                RequestPhase::Over => request.written_by = Some(last),
                RequestPhase::Unknown if !request.has_begun && request.message.is_some() => {
                    let message = request.message.clone();
                    missed.extend(message.map(|it| Missed::Again(request.asks.channel, it)));
                }
                RequestPhase::Unknown => {
                    let never_came = !request.has_begun;
                    missed.extend(self.remove(at).map(|request| match never_came {
                        true => Missed::NeverCame(request.asks),
                        false => Missed::WithoutEnd(request.asks),
                    }));
                }
            }
        }
        missed
    }

    /// The kernel's supervisor has written its journal up to this entry: what was over by then and did not come is lost.
    pub(super) fn are_written(&mut self, up_to: u64) -> Vec<Missed> {
        let is_lost = |request: &Request| request.written_by.is_some_and(|by| by <= up_to);
        let mut lost = Vec::new();
        while let Some(at) = self.requests.iter().position(is_lost) {
            let request = self.remove(at);
            lost.extend(request.map(|request| Missed::WithoutEnd(request.asks)));
        }
        lost
    }
}

fn is_idle(message: &Message) -> bool {
    let is_status = HeaderPeek::read(&message.header).is_some_and(|peek| peek.msg_type == "status");
    is_status
        && serde_json::from_slice::<serde_json::Value>(&message.content)
            .is_ok_and(|content| content["execution_state"] == "idle")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(id: &str, bytes: usize) -> Message {
        let header = json!({"msg_id": id, "msg_type": "execute_request", "session": "s"});
        Message {
            header: header.to_string().into(),
            content: vec![b' '; bytes].into(),
            ..Message::empty()
        }
    }

    fn said(id: &str, msg_type: &str, state: &str) -> Message {
        let header = json!({"msg_id": "k", "msg_type": msg_type, "session": "k"});
        Message {
            header: header.to_string().into(),
            parent_header: request(id, 0).header,
            content: json!({"execution_state": state}).to_string().into(),
            ..Message::empty()
        }
    }

    fn all_known(unanswered: &mut Unanswered, phase: RequestPhase, last: u64) -> Vec<Missed> {
        let ids = unanswered.ids();
        let phases = vec![phase; ids.len()];
        unanswered.are_known(&ids, &phases, last)
    }

    /// The requests without an answer, when these have these phases; what is to be done is told by its first word.
    fn told(missed: &[Missed]) -> Vec<String> {
        let tell = |missed: &Missed| {
            let (what, header) = match missed {
                Missed::Again(_, message) => ("again", &message.header),
                Missed::NeverCame(asks) => ("never came", &asks.header),
                Missed::WithoutEnd(asks) if asks.has_reply => ("not idle", &asks.header),
                Missed::WithoutEnd(asks) => ("without end", &asks.header),
            };
            format!("{} {what}", HeaderPeek::read(header).unwrap().msg_id)
        };
        missed.iter().map(tell).collect()
    }

    #[test]
    fn only_what_never_came_is_sent_again() {
        let mut unanswered = Unanswered::default();
        for id in ["1", "2", "3", "4"] {
            assert!(unanswered.sends(Channel::Shell, &request(id, 9)));
        }
        unanswered.recalls(request("0", 0).header);
        unanswered.heard(Channel::Iopub, &said("1", "status", "busy"));
        unanswered.heard(Channel::Shell, &said("2", "execute_reply", ""));
        unanswered.heard(Channel::Shell, &said("3", "execute_reply", ""));
        unanswered.heard(Channel::Iopub, &said("3", "status", "idle"));
        for phase in [RequestPhase::Waiting, RequestPhase::Running] {
            assert_eq!(all_known(&mut unanswered, phase, 7), []);
        }
        let missed = all_known(&mut unanswered, RequestPhase::Unknown, 7);
        let expected = ["1 without end", "2 not idle", "4 again", "0 never came"];
        assert_eq!(told(&missed), expected);
        // It may get lost once more.
        let missed = all_known(&mut unanswered, RequestPhase::Unknown, 7);
        assert_eq!(told(&missed), ["4 again"]);
        unanswered.heard(Channel::Iopub, &said("4", "status", "idle"));
        unanswered.heard(Channel::Shell, &said("4", "execute_reply", ""));
        assert_eq!((unanswered.ids().len(), unanswered.held_bytes), (0, 0));
    }

    #[test]
    fn what_is_over_is_waited_for_until_all_of_then_was_written() {
        let mut unanswered = Unanswered::default();
        unanswered.sends(Channel::Shell, &request("1", 9));
        assert_eq!(unanswered.are_written(99), []);
        assert_eq!(all_known(&mut unanswered, RequestPhase::Over, 100), []);
        assert_eq!(unanswered.are_written(99), []);
        assert_eq!(told(&unanswered.are_written(100)), ["1 without end"]);
        assert!(unanswered.ids().is_empty());
    }

    #[test]
    fn what_has_no_answer_is_not_known_and_what_is_large_is_not_held() {
        let mut unanswered = Unanswered::default();
        let comm = said("1", "comm_msg", "");
        assert!(!unanswered.sends(Channel::Shell, &comm));
        assert!(!unanswered.sends(Channel::Stdin, &request("1", 0)));
        assert!(!unanswered.sends(Channel::Shell, &request(&"x".repeat(600), 0)));
        unanswered.sends(Channel::Shell, &request("1", HELD_BYTES_MAX));
        let missed = all_known(&mut unanswered, RequestPhase::Unknown, 7);
        assert_eq!(told(&missed), ["1 never came"]);
        for id in 0..2 * REQUESTS_MAX {
            unanswered.sends(Channel::Shell, &request(&id.to_string(), 9));
        }
        assert_eq!(unanswered.ids().len(), REQUESTS_MAX);
        assert!(unanswered.held_bytes < REQUESTS_MAX * 200);
    }
}
