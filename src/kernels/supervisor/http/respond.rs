//! Bodies in and out: JSON with caps and deadlines, errors in one shape.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::kernels::contract::ErrorBody;

/// A larger body is refused.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

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

pub(super) fn text(body: String) -> Response {
    with_body(
        StatusCode::OK,
        body.into_bytes(),
        "text/plain; version=0.0.4",
    )
}

/// Lines of JSON as they come.
pub(super) fn lines(lines: mpsc::Receiver<Bytes>) -> Response {
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
) -> Result<T, Response> {
    let refused = |message: String| error(StatusCode::BAD_REQUEST, "BadBody", &message);
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = timeout(BODY_WITHIN, body)
        .await
        .map_err(|_| refused("the body did not come in time".to_owned()))?
        .map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| refused(error.to_string()))
}
