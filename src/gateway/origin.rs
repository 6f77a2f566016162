//! Pages of other origins: which of them may read our answers (CORS) and open our WebSockets.
//!
//! Browsers ask CORS for a page's requests and nobody for its WebSockets, so those are checked here. A
//! request without an `Origin` comes from no page. Knows nothing of tokens, which are needed besides.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Gateway;
use super::error::ApiError;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From<'a> {
    /// No page, or one of ours.
    Here,
    /// A page of this origin, which may.
    Allowed(&'a HeaderValue),
    Forbidden,
}

/// `allowed` holds origins as browsers write them, or `*`.
fn from<'a>(headers: &'a HeaderMap, allowed: &[String]) -> From<'a> {
    let Some(origin) = headers.get(ORIGIN) else {
        return From::Here;
    };
    let text = origin.to_str().unwrap_or_default();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let theirs = text.split_once("://").map(|(_, authority)| authority);
    let is_ours = theirs
        .zip(host)
        .is_some_and(|(theirs, host)| theirs.eq_ignore_ascii_case(host));
    let may = |one: &String| one == "*" || one.trim_end_matches('/').eq_ignore_ascii_case(text);
    if is_ours {
        From::Here
    } else if allowed.iter().any(may) {
        From::Allowed(origin)
    } else {
        From::Forbidden
    }
}

/// Answers preflights, which have no token, and says to browsers who may read an answer.
pub(crate) async fn share(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let origin = match from(request.headers(), &gateway.config.server.origins) {
        From::Allowed(origin) => origin.clone(),
        From::Here | From::Forbidden => return next.run(request).await,
    };
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match is_preflight {
        true => preflight(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Location, Retry-After"),
    );
    headers.append(VARY, HeaderValue::from_static("Origin"));
    response
}

fn preflight() -> Response {
    let headers = [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, PATCH, DELETE",
        ),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, X-XSRFToken",
        ),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Whether a WebSocket may be opened.
pub(crate) fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    match from(headers, allowed) {
        From::Here | From::Allowed(_) => Ok(()),
        From::Forbidden => Err(ApiError::forbidden(
            "a page of another origin may not connect here; its origin is to be in server.origins",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(origin: &'static str, host: &'static str, allowed: &[&str]) -> &'static str {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        if !origin.is_empty() {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<String> = allowed.iter().map(|&one| one.to_owned()).collect();
        match from(&headers, &allowed) {
            From::Here => "here",
            From::Allowed(_) => "allowed",
            From::Forbidden => "forbidden",
        }
    }

    #[test]
    fn own_pages_and_named_origins_may_and_others_may_not() {
        for (origin, host, allowed, expected) in [
            ("", "nb:1", &[][..], "here"),
            ("http://nb:1", "nb:1", &[], "here"),
            ("https://NB:1", "nb:1", &[], "here"),
            ("http://nb:2", "nb:1", &[], "forbidden"),
            ("null", "nb:1", &[], "forbidden"),
            ("http://evil/nb:1", "nb:1", &[], "forbidden"),
            (
                "https://lab.example",
                "nb:1",
                &["https://lab.example/"],
                "allowed",
            ),
            (
                "http://lab.example",
                "nb:1",
                &["https://lab.example"],
                "forbidden",
            ),
            (
                "https://lab.example.evil",
                "nb:1",
                &["https://lab.example"],
                "forbidden",
            ),
            ("https://any", "nb:1", &["*"], "allowed"),
        ] {
            assert_eq!(
                judged(origin, host, allowed),
                expected,
                "{origin} {allowed:?}"
            );
        }
    }
}
