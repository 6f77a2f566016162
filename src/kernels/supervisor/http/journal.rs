//! `GET /v1/journal?after=&msg_id=&limit=`: what the journal holds, by number and by request.

use std::rc::Rc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::respond::{Response, error, json};
use super::{Api, parameter};
use crate::kernels::supervisor::journal::{Entry, Read, Route, Seq};
use crate::protocol::legacy::{self, Payload};
use crate::protocol::message::HeaderPeek;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// About how much is read and answered at once.
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Serialize)]
struct Page {
    /// To be asked for next; the last number that was looked at.
    after: Seq,
    entries: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    seq: Seq,
    /// Whose it is alone; everybody's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Rc<str>>,
    /// As in the legacy framing, without buffers.
    message: Box<RawValue>,
}

pub(super) async fn answer(api: &Api, query: &str) -> Response {
    let number = |name| parameter(query, name).map(str::parse::<u64>).transpose();
    let (Ok(after), Ok(limit)) = (number("after"), number("limit")) else {
        let message = "after and limit are whole numbers";
        return error(StatusCode::BAD_REQUEST, "BadQuery", message);
    };
    let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX));
    let limit = limit.min(LIMIT_MAX);
    let msg_id = parameter(query, "msg_id");
    let mut page = Page {
        after: after.unwrap_or(0),
        entries: Vec::new(),
    };
    let batch = loop {
        match api.broker.read(page.after, BYTES_MAX) {
            Read::Ready(batch) => break batch,
            Read::Loading(loading) => loading.await,
        }
    };
    for (seq, entry) in batch {
        if page.entries.len() == limit {
            break;
        }
        page.after = seq;
        page.entries.extend(shown(seq, &entry, msg_id));
    }
    json(StatusCode::OK, &page)
}

fn shown(seq: Seq, entry: &Entry, msg_id: Option<&str>) -> Option<Shown> {
    let (channel, mut message) = entry.message();
    let parent = HeaderPeek::read(&message.parent_header);
    if msg_id.is_some_and(|id| parent.is_none_or(|parent| parent.msg_id != id)) {
        return None;
    }
    message.buffers.clear();
    let (Payload::Text(text) | Payload::Binary(text)) = legacy::encode(channel, &message).ok()?;
    let session_id = match &entry.route {
        Route::Everyone => None,
        Route::Session(session) => Some(Rc::clone(session)),
    };
    Some(Shown {
        seq,
        session_id,
        message: RawValue::from_string(str::from_utf8(&text).ok()?.to_owned()).ok()?,
    })
}
