//! What a gateway still has of a cell, as the cell's outputs.
//!
//! Asks page by page. Does not know the file, nor how any of it is shown.

use bytes::Bytes;

use crate::error::Error;
use crate::front::Gateway;
use crate::kernels::contract::{RequestPhase, RequestState};
use crate::protocol::json::Json;
use crate::protocol::legacy;
use crate::protocol::message::{Channel, HeaderPeek, Message};
use crate::protocol::notebook::Mark;
use crate::protocol::outputs::CellOutputs;

/// Said in the place of what is not held any more.
const LOST: &str = "[nb] what the cell said here is not kept any more\n";

/// What there was of a cell.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) state: RequestPhase,
    pub(super) outputs: CellOutputs,
    /// Nothing is missing.
    pub(super) whole: bool,
    pub(super) messages: usize,
}

impl Replay {
    /// Of a request of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            state: RequestPhase::Unknown,
            outputs: CellOutputs::default(),
            whole: false,
            messages: 0,
        }
    }
}

/// Asks for all that the cell has said until now; nothing when there is no such kernel.
pub(super) async fn replay(
    gateway: &Gateway,
    kernel: &str,
    mark: &Mark,
    saved: &[Json],
) -> Result<Option<Replay>, Error> {
    let mut said: Vec<(Channel, Message)> = Vec::new();
    let (mut after, mut until) = (None, None);
    let mut request: Option<RequestState> = None;
    loop {
        let Some(page) = gateway.journal(kernel, &mark.msg_id, after).await? else {
            return Ok(None);
        };
        let is_whole = page.request.as_ref().is_some_and(|now| now.whole);
        // What is over at the first page has said all that is up to its newest number.
        let until = *until.get_or_insert(page.last);
        let request = request.get_or_insert(page.request.unwrap_or(RequestState {
            // Older supervisors do not say.
            state: RequestPhase::Running,
            whole: false,
            after: None,
        }));
        request.whole &= is_whole;
        let entries = page.entries.iter();
        said.extend(entries.filter_map(|entry| {
            let text = Bytes::copy_from_slice(entry.message.get().as_bytes());
            legacy::decode(&text).ok()
        }));
        if page.after >= until || after == Some(page.after) {
            break;
        }
        after = Some(page.after);
    }
    let request = request.unwrap_or(RequestState {
        state: RequestPhase::Unknown,
        whole: false,
        after: None,
    });
    Ok(Some(made(&request, mark, saved, &said)))
}

/// Rebuilds the cell from its begin, else goes on from what the notebook has.
fn made(
    request: &RequestState,
    mark: &Mark,
    saved: &[Json],
    said: &[(Channel, Message)],
) -> Replay {
    if request.state == RequestPhase::Unknown && said.is_empty() {
        return Replay::unknown();
    }
    let is_last = |(_, message): &(Channel, Message)| {
        let peek = HeaderPeek::read(&message.header);
        peek.is_some_and(|peek| mark.last.as_deref() == Some(&*peek.msg_id))
    };
    let (mut outputs, rest, whole) = match (request.whole, said.iter().position(is_last)) {
        (true, _) => (CellOutputs::default(), said, true),
        (false, Some(last)) => (CellOutputs::after(saved), &said[last + 1..], true),
        (false, None) => {
            let saved = if mark.last.is_some() { saved } else { &[] };
            (CellOutputs::after(saved), said, false)
        }
    };
    if !whole {
        outputs.stream("stderr".to_owned(), LOST);
    }
    for (channel, message) in rest {
        outputs.take(*channel, message);
    }
    Replay {
        state: match request.state {
            _ if outputs.is_over() => RequestPhase::Over,
            RequestPhase::Unknown if is_idle(said) => RequestPhase::Over,
            RequestPhase::Unknown => RequestPhase::Running,
            state => state,
        },
        outputs,
        whole,
        messages: rest.len(),
    }
}

/// What a supervisor has forgotten may run on; its idle ends it, also when its reply is not held.
fn is_idle(said: &[(Channel, Message)]) -> bool {
    let mut all = CellOutputs::default();
    for (channel, message) in said {
        all.take(*channel, message);
    }
    all.is_idle()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(n: usize) -> (Channel, Message) {
        let header = json!({"msg_id": format!("m{n}"), "msg_type": "stream"}).to_string();
        let content = json!({"name": "stdout", "text": format!("{n} ")}).to_string();
        let message = Message {
            header: header.into(),
            content: content.into(),
            ..Message::empty()
        };
        (Channel::Iopub, message)
    }

    fn status(n: usize, state: &str) -> (Channel, Message) {
        let header = json!({"msg_id": format!("m{n}"), "msg_type": "status"}).to_string();
        let message = Message {
            header: header.into(),
            content: json!({"execution_state": state}).to_string().into(),
            ..Message::empty()
        };
        (Channel::Iopub, message)
    }

    #[test]
    fn what_a_forgotten_request_has_said_counts() {
        let request = RequestState {
            state: RequestPhase::Unknown,
            whole: false,
            after: None,
        };
        let state = |said: &[_], last: Option<&str>| {
            let mark = Mark {
                msg_id: "r".to_owned(),
                kernel_id: None,
                started: None,
                last: last.map(str::to_owned),
            };
            let made = made(&request, &mark, &[], said);
            let mut out = String::new();
            made.outputs.outputs().write(&mut out, 0, 0);
            (made.state, out.contains("\"2 \""), out.contains("not kept"))
        };
        let busy = [status(1, "busy"), text(2)];
        let idle = [status(1, "busy"), text(2), status(3, "idle")];
        assert_eq!(state(&[], None), (RequestPhase::Unknown, false, false));
        assert_eq!(state(&busy, None), (RequestPhase::Running, true, true));
        assert_eq!(
            state(&busy, Some("m1")),
            (RequestPhase::Running, true, false)
        );
        assert_eq!(state(&idle, Some("m1")), (RequestPhase::Over, true, false));
        // The file has all of it.
        assert_eq!(state(&idle, Some("m3")), (RequestPhase::Over, false, false));
    }

    fn shown(whole: bool, last: Option<&str>) -> (String, bool) {
        let saved = r#"{"output_type": "stream", "name": "stdout", "text": "saved "}"#;
        let mark = Mark {
            msg_id: "r".to_owned(),
            kernel_id: None,
            started: None,
            last: last.map(str::to_owned),
        };
        let request = RequestState {
            state: RequestPhase::Running,
            whole,
            after: Some(0),
        };
        let said = [text(1), text(2), text(3)];
        let made = made(&request, &mark, &[Json::parse(saved).unwrap()], &said);
        let mut out = String::new();
        made.outputs.outputs().write(&mut out, 0, 0);
        (out.replace('\n', ""), made.whole)
    }

    #[test]
    fn it_is_made_anew_or_gone_on_with_and_what_is_lost_is_told() {
        let (all, whole) = shown(true, Some("m1"));
        assert!(
            whole && all.contains("\"1 2 3 \"") && !all.contains("saved"),
            "{all}"
        );
        let (rest, whole) = shown(false, Some("m2"));
        assert!(whole && rest.contains("\"saved 3 \""), "{rest}");
        let (gap, whole) = shown(false, Some("gone"));
        let order = ["saved", "not kept", "1 2 3 "].map(|part| gap.find(part).unwrap());
        assert!(!whole && order.is_sorted(), "{gap}");
        let (beginning, whole) = shown(false, None);
        assert!(!whole && !beginning.contains("saved") && beginning.contains("not kept"));
    }
}
