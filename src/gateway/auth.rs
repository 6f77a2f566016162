//! Who a client is: the middleware that asks for its token.
//!
//! The identity comes from the credential and never from what a client says of itself.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::identity::Identity;
use super::listen::Peer;
use super::path_token::PathToken;
use super::token::Token;
use super::tokens::Tokens;
use super::{Gateway, query};

/// Lets a request with a token through, its [`Identity`] in its extensions, and notes what came of it.
pub(crate) async fn require(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let identity = identify(&gateway.credentials, &request, now());
    let asked = format!("{} {}", request.method(), request.uri().path());
    let peer = request.extensions().get::<Peer>().copied();
    let response = match &identity {
        None => ApiError::unauthorized().into_response(),
        Some(identity) => {
            request.extensions_mut().insert(identity.clone());
            next.run(request).await
        }
    };
    gateway
        .audit
        .note(&asked, peer, identity.as_ref(), &response);
    response
}

/// What lets clients in.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The gateway's own.
    pub(crate) own: Token,
    /// The user that it stands for.
    pub(crate) user: Arc<str>,
    pub(crate) named: Tokens,
}

impl Credentials {
    fn identify(&self, presented: &str, now: u64) -> Option<Identity> {
        if self.own.is(presented) {
            return Some(Identity::operator(&self.user));
        }
        self.named.find(presented, now).as_ref().map(Identity::of)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// By any credential that is good: clients send an empty header beside a good query.
fn identify<B>(credentials: &Credentials, request: &Request<B>, now: u64) -> Option<Identity> {
    let by_header = request
        .headers()
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(|value| presented(value.to_str().ok()?))
        .find_map(|presented| credentials.identify(presented, now));
    let by_query = || {
        let presented = query::value(request.uri().query(), "token")?;
        credentials.identify(&presented, now)
    };
    let by_path = || {
        let PathToken(presented) = request.extensions().get()?;
        credentials.identify(presented.reveal(), now)
    };
    by_header.or_else(by_query).or_else(by_path)
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
    use crate::gateway::path_token;
    use crate::gateway::tokens::TokenFile;
    use crate::kernels::contract::Kernel;
    use axum::http::HeaderValue;
    use serde_json::json;

    fn credentials(state: &std::path::Path) -> Credentials {
        Credentials {
            own: Token::new(" s3cret\n").unwrap(),
            user: "me".into(),
            named: Tokens::new(TokenFile::new(state)),
        }
    }

    fn request(header: Option<&str>, query: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        let header = header.map(|value| HeaderValue::from_str(value).unwrap());
        request
            .headers_mut()
            .extend(header.map(|value| (AUTHORIZATION, value)));
        let uri = query.map_or("/".to_owned(), |query| format!("/?{query}"));
        *request.uri_mut() = uri.parse().unwrap();
        request
    }

    fn in_path(header: Option<&str>, path: &str) -> bool {
        let state = tempfile::tempdir().unwrap();
        let mut request = request(header, None);
        *request.uri_mut() = path.parse().unwrap();
        path_token::take(&mut request);
        identify(&credentials(state.path()), &request, 1).is_some()
    }

    fn allows(header: Option<&str>, query: Option<&str>) -> bool {
        let state = tempfile::tempdir().unwrap();
        identify(&credentials(state.path()), &request(header, query), 1).is_some()
    }

    fn kernel(owner: &str, started_by: &str) -> Kernel {
        let kernel = json!({
            "id": "", "name": "", "execution_state": "", "last_activity": "", "connections": 0,
            "owner": owner, "started_by": started_by,
        });
        serde_json::from_value(kernel).unwrap()
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
        assert!(in_path(None, "/t/s3cret/api/kernels"));
        assert!(in_path(Some("token "), "/t/s3cret/api/kernels"));
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
        for path in [
            "/t/s3cre/api",
            "/t//api",
            "/t/%20/api",
            "/x/s3cret/api",
            "/s3cret",
        ] {
            assert!(!in_path(None, path), "{path}");
        }
    }

    #[test]
    fn a_caller_is_its_tokens_user_and_sees_what_is_that_users() {
        let state = tempfile::tempdir().unwrap();
        let credentials = credentials(state.path());
        let file = TokenFile::new(state.path());
        let identity = |user: &str, acts_for| {
            let (_, token) = file.add(user, Some(50), acts_for, 1).unwrap();
            let header = format!("Bearer {}", token.reveal());
            identify(&credentials, &request(Some(&header), None), 2).unwrap()
        };
        let (ada, hub) = (identity("ada", false), identity("hub", true));
        let operator = identify(&credentials, &request(None, Some("token=s3cret")), 2).unwrap();
        assert_eq!((&*ada.name, ada.expires), ("ada", Some(50)));
        let sees = |kernel| [&ada, &hub, &operator].map(|identity| identity.sees(&kernel));
        assert_eq!(sees(kernel("ada", "ada")), [true, false, true]);
        assert_eq!(sees(kernel("ada", "hub")), [true, true, true]);
        assert_eq!(sees(kernel("bob", "bob")), [false, false, true]);
        // A gateway of before wrote no names: only the operator's are left.
        assert_eq!(sees(kernel("", "")), [false, false, true]);
    }

    #[test]
    fn only_some_may_start_kernels_for_others() {
        let state = tempfile::tempdir().unwrap();
        let file = TokenFile::new(state.path());
        let of = |acts_for| Identity::of(&file.add("ada", None, acts_for, 1).unwrap().0);
        for own in [None, Some(""), Some("ada")] {
            assert_eq!(of(false).acts_for(own).unwrap(), "ada");
        }
        assert!(of(false).acts_for(Some("bob")).unwrap_err().contains("bob"));
        assert_eq!(of(true).acts_for(Some("bob")).unwrap(), "bob");
        assert_eq!(
            Identity::operator(&"me".into())
                .acts_for(Some("bob"))
                .unwrap(),
            "bob"
        );
    }

    #[test]
    fn a_token_is_neither_blank_nor_shown_by_accident() {
        assert!(Token::new(" \n").is_none());
        assert_eq!(format!("{:?}", Token::new("s3cret").unwrap()), "Token");
    }
}
