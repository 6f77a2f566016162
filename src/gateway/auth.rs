//! Who a client is: its token, and the middleware that asks for it.
//!
//! The identity comes from the credential and never from what a client says of itself.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::{Gateway, query};

/// The secret that lets clients in.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token as it was configured or generated; nothing when it is blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The secret itself, to be shown to the one who starts the gateway.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn is(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
}

/// Lets a request with the token through and puts its [`Identity`] into its extensions.
pub(crate) async fn require(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !is_allowed(&gateway.token, request.headers(), request.uri().query()) {
        return Err(ApiError::unauthorized());
    }
    request.extensions_mut().insert(Identity {
        name: Arc::clone(&gateway.user),
    });
    Ok(next.run(request).await)
}

/// Whether any credential is the right one: clients send an empty header beside a good query.
fn is_allowed(token: &Token, headers: &HeaderMap, query: Option<&str>) -> bool {
    let by_header = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(|value| presented(value.to_str().ok()?))
        .any(|presented| token.is(presented));
    by_header || query::value(query, "token").is_some_and(|presented| token.is(&presented))
}

/// The token in an `Authorization` header of a scheme that we know.
fn presented(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim_start().split_once(' ')?;
    let known = ["token", "bearer"];
    known
        .iter()
        .any(|name| scheme.eq_ignore_ascii_case(name))
        .then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn allows(header: Option<&str>, query: Option<&str>) -> bool {
        let token = Token::new(" s3cret\n").unwrap();
        let headers = header
            .map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap()))
            .into_iter()
            .collect();
        is_allowed(&token, &headers, query)
    }

    #[test]
    fn every_form_that_clients_use_is_accepted() {
        for header in [
            "token s3cret",
            "Token s3cret",
            "Bearer s3cret",
            "bEARER   s3cret ",
        ] {
            assert!(allows(Some(header), None), "{header}");
        }
        assert!(allows(None, Some("17&token=s3cret")));
        assert!(allows(Some("token "), Some("token=s3cret")));
    }

    #[test]
    fn everything_else_is_refused() {
        for header in [
            "token",
            "token ",
            "token s3cre",
            "token s3cret2",
            "Basic s3cret",
            "s3cret",
            "",
        ] {
            assert!(!allows(Some(header), None), "{header}");
        }
        assert!(!allows(None, None));
        assert!(!allows(None, Some("token=")));
        assert!(!allows(None, Some("xtoken=s3cret")));
    }

    #[test]
    fn a_token_is_neither_blank_nor_shown_by_accident() {
        assert!(Token::new(" \n").is_none());
        assert_eq!(format!("{:?}", Token::new("s3cret").unwrap()), "Token");
    }
}
