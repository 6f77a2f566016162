//! `GET /v1/journal?after=&msg_id=&limit=`: what the journal holds, by number and by request.
//!
//! A message may be as large as all the memory that a kernel's journal has, so a few large answers are held at a time.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::respond::{Response, error, held, json};
use super::{Api, parameter};
use crate::kernels::contract::{JournalEntry, JournalPage, RequestPhase};
use crate::kernels::supervisor::journal::{Entry, Read, Route, Seq};
use crate::protocol::legacy::{self, Payload};
use crate::protocol::message::HeaderPeek;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// About how much is read and answered at once.
const BYTES_MAX: usize = 1024 * 1024;

/// Answers to more than [`BYTES_MAX`] have so much together.
const LARGE_KIB_MAX: u32 = 64 * 1024;

/// An answer costs so many times what it is about, while it is made.
const COSTS: usize = 2;

/// How long the journal may take, and how long others may take to fetch their answers.
const WITHIN: Duration = Duration::from_secs(10);

/// Room for large answers, in KiB.
#[derive(Debug)]
pub(in crate::kernels::supervisor) struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_KIB_MAX as usize)))
    }
}

pub(super) async fn answer(api: &Api, query: &str) -> Response {
    let number = |name| parameter(query, name).map(str::parse::<u64>).transpose();
    let (Ok(after), Ok(limit)) = (number("after"), number("limit")) else {
        let message = "after and limit are whole numbers";
        return error(StatusCode::BAD_REQUEST, "BadQuery", message);
    };
    let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX));
    let limit = limit.clamp(1, LIMIT_MAX);
    let msg_id = parameter(query, "msg_id");
    // Before the journal is read: what is over has said all that is then read.
    let request = msg_id.map(|msg_id| api.broker.request_state(msg_id));
    let begin = match &request {
        Some(request) if request.state == RequestPhase::Waiting => Some(api.broker.last()),
        request => request.as_ref().and_then(|request| request.after),
    };
    let mut page = JournalPage {
        after: after.or(begin).unwrap_or(0),
        request,
        ..JournalPage::default()
    };
    let read = async {
        loop {
            match api.broker.read(page.after, BYTES_MAX) {
                Read::Ready(batch) => break batch,
                Read::Loading(loading) => loading.await,
            }
        }
    };
    let Ok(batch) = timeout(WITHIN, read).await else {
        let message = "what the journal has cannot be read now: the disk does not answer, or many read large messages";
        return error(StatusCode::SERVICE_UNAVAILABLE, "JournalSlow", message);
    };
    let bytes: usize = batch.iter().map(|(_, entry)| entry.bytes()).sum();
    let room = match bytes > 2 * BYTES_MAX {
        false => None,
        true => {
            let kib = u32::try_from(bytes.saturating_mul(COSTS) / 1024).unwrap_or(u32::MAX);
            let room = Arc::clone(&api.answers.0).acquire_many_owned(kib.min(LARGE_KIB_MAX));
            let Ok(Ok(room)) = timeout(WITHIN, room).await else {
                let message = "many read large messages of this journal and have not fetched their answers yet";
                return error(StatusCode::SERVICE_UNAVAILABLE, "JournalBusy", message);
            };
            Some(room)
        }
    };
    page.last = api.broker.last();
    if batch.is_empty() && page.after < page.last {
        // What there was is gone.
        page.after = page.last;
        if let Some(request) = &mut page.request {
            request.whole = false;
        }
    }
    for (seq, entry) in batch {
        if page.entries.len() == limit {
            break;
        }
        if let Some(request) = &mut page.request {
            // Numbers that are passed over are entries that are gone.
            request.whole &= seq == page.after + 1;
        }
        page.after = seq;
        page.entries.extend(shown(seq, &entry, msg_id));
    }
    match room {
        None => json(StatusCode::OK, &page),
        Some(room) => held(StatusCode::OK, &page, room),
    }
}

fn shown(seq: Seq, entry: &Entry, msg_id: Option<&str>) -> Option<JournalEntry> {
    let (channel, mut message) = entry.message();
    let parent = HeaderPeek::read(&message.parent_header);
    if msg_id.is_some_and(|id| parent.is_none_or(|parent| parent.msg_id != id)) {
        return None;
    }
    message.buffers.clear();
    let (Payload::Text(text) | Payload::Binary(text)) = legacy::encode(channel, &message).ok()?;
    let session_id = match &entry.route {
        Route::Everyone => None,
        Route::Session(session) => Some(session.to_string()),
    };
    Some(JournalEntry {
        seq,
        session_id,
        message: RawValue::from_string(String::from_utf8(text.into()).ok()?).ok()?,
    })
}
