//! Bodies in and out: JSON with caps and deadlines, errors in one shape.

use std::convert::Infallible;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use crate::kernels::contract::ErrorBody;
use crate::kernels::supervisor::bounded;

/// A larger body is refused.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A cell of ours is a body too: a script of statements is longer than what is asked otherwise.
pub(super) const CELL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A large answer of which nothing is fetched for so long is given up.
const FETCHED_WITHIN: Duration = Duration::from_secs(30);

/// A large answer goes in pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// An answer.
pub(super) type Response = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Our own bodies have string keys only, so they are always JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    with_body(status, body, "application/json")
}

/// A large answer: the room is taken for as long as it is held, which ends when nobody fetches it.
pub(super) fn held(
    status: StatusCode,
    body: &impl Serialize,
    room: OwnedSemaphorePermit,
) -> Response {
    let content = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
    let bytes = content.len();
    let held = Arc::new(Mutex::new(Some(Held {
        content,
        is_fetched: true,
        _room: room,
    })));
    // Not for longer than the connection does.
    let watched = Arc::downgrade(&held);
    tokio::spawn(async move {
        loop {
            sleep(FETCHED_WITHIN).await;
            let Some(watched) = watched.upgrade() else {
                return;
            };
            let mut held = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let is_fetched = |held: &mut Held| mem::take(&mut held.is_fetched);
            if !held.as_mut().is_some_and(is_fetched) {
                // A body that ends early ends its connection.
                *held = None;
                return;
            }
        }
    });
    let pieces = stream::unfold(held, |held| async {
        let piece = {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let of = held.as_mut()?;
            of.is_fetched = true;
            let length = of.content.len().min(PIECE_BYTES);
            // A part of it would hold all of it.
            let piece = Bytes::copy_from_slice(&of.content.split_to(length));
            if of.content.is_empty() {
                *held = None;
            }
            piece
        };
        Some((Ok(Frame::data(piece)), held))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, bytes.into());
    response
}

struct Held {
    content: Bytes,
    /// Some of it, since this was last asked.
    is_fetched: bool,
    _room: OwnedSemaphorePermit,
}

pub(super) fn text(body: String) -> Response {
    with_body(
        StatusCode::OK,
        body.into_bytes(),
        "text/plain; version=0.0.4",
    )
}

/// Lines of JSON as they come.
pub(super) fn lines(lines: bounded::Receiver<Bytes>) -> Response {
    let frames = stream::unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((Ok(Frame::data(line)), lines))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(super) fn error(status: StatusCode, reason: &str, message: &str) -> Response {
    let fault = match status.as_u16() {
        502 | 504 => "kernel",
        500 | 503 => "nb",
        _ => "user",
    };
    let body = ErrorBody {
        reason: reason.to_owned(),
        message: message.to_owned(),
        fault: fault.to_owned(),
        retry: matches!(status.as_u16(), 503 | 504),
    };
    json(status, &body)
}

fn with_body(status: StatusCode, body: Vec<u8>, content_type: &'static str) -> Response {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The body as JSON, or the answer that says what is wrong with it.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: Request<Incoming>,
    bytes_max: usize,
) -> Result<T, Response> {
    let refused = |message: String| error(StatusCode::BAD_REQUEST, "BadBody", &message);
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let body = timeout(BODY_WITHIN, body)
        .await
        .map_err(|_| refused("the body did not come in time".to_owned()))?
        .map_err(|problem| match problem.is::<LengthLimitError>() {
            true => {
                let mib = bytes_max / (1024 * 1024);
                let why = format!("This is more than the {mib} MiB that are taken at once.");
                error(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", &why)
            }
            false => refused(problem.to_string()),
        })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_holds_its_room_until_it_is_fetched_or_given_up() {
        let text = "x".repeat(5 * PIECE_BYTES);
        let room = Arc::new(Semaphore::new(1));
        let take = || Arc::clone(&room).try_acquire_owned();
        let mut response = held(StatusCode::OK, &text, take().unwrap());
        let length = response.headers()[CONTENT_LENGTH]
            .to_str()
            .unwrap()
            .to_owned();
        let first = response.body_mut().frame().await.unwrap().unwrap();
        assert!(take().is_err());
        let rest = response.into_body().collect().await.unwrap().to_bytes();
        let whole = [first.into_data().unwrap(), rest].concat();
        assert_eq!(whole, serde_json::to_vec(&text).unwrap());
        assert_eq!(length, whole.len().to_string());
        let mut slow = held(StatusCode::OK, &text, take().unwrap());
        for _ in 0..4 {
            slow.body_mut().frame().await.unwrap().unwrap();
            advance(FETCHED_WITHIN * 2 / 3).await;
            assert!(take().is_err());
        }
        sleep(FETCHED_WITHIN * 3).await;
        assert!(take().is_ok());
        assert!(slow.body_mut().frame().await.is_none());
        let left = held(StatusCode::OK, &text, take().unwrap());
        assert!(take().is_err());
        drop(left);
        assert!(take().is_ok());
    }
}
