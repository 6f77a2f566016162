//! A token in the path: `/t/<token>/api/kernels` is `/api/kernels`, asked with the token.
//!
//! For clients that can be told a path and no header, such as jupyter_server's client in a job. It is taken
//! out before anything looks at the path, so routes, logs, audit and errors see the path alone. Whether the
//! token is good is `auth`'s to say. Pure.

use axum::http::Request;
use axum::http::uri::{PathAndQuery, Uri};

use super::query::percent_decoded;
use super::token::Token;

/// What comes before the token.
const PREFIX: &str = "t/";

/// The token that came in a request's path, as an extension of the request.
#[derive(Clone, Debug)]
pub(crate) struct PathToken(pub(crate) Token);

/// Moves a token from the path, if one is there, to the request's extensions. A client that joins its base URL
/// and a path that has the prefix already says it twice: the last one counts, and none is left in the path.
pub(crate) fn take<B>(request: &mut Request<B>) {
    while let Some((token, rest)) = split(request.uri()) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        // What is left of a path and query is one.
        parts.path_and_query = Some(rest.parse().unwrap_or(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        // A blank one is as good as none.
        if let Some(token) = Token::new(&token) {
            request.extensions_mut().insert(PathToken(token));
        }
    }
}

/// The token, and path and query without it.
fn split(uri: &Uri) -> Option<(String, String)> {
    // Clients that join a base URL and a path may write a slash too many.
    let path = uri.path().trim_start_matches('/').strip_prefix(PREFIX)?;
    let (token, rest) = path.split_once('/').unwrap_or((path, ""));
    let query = uri.query().map(|query| format!("?{query}"));
    let rest = format!(
        "/{}{}",
        rest.trim_start_matches('/'),
        query.unwrap_or_default()
    );
    Some((percent_decoded(token), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(uri: &str) -> (Option<String>, String) {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        take(&mut request);
        let token = request.extensions().get::<PathToken>();
        let token = token.map(|PathToken(token)| token.reveal().to_owned());
        (token, request.uri().to_string())
    }

    #[test]
    fn a_token_leaves_the_path_and_everything_else_stays() {
        for (uri, token, left) in [
            ("/t/s3cret/api/kernels", Some("s3cret"), "/api/kernels"),
            ("/t/s3cret/api?x=/t/y/z", Some("s3cret"), "/api?x=/t/y/z"),
            ("//t/s3cret//api", Some("s3cret"), "/api"),
            (
                "http://nb:1/t/s3cret/api",
                Some("s3cret"),
                "http://nb:1/api",
            ),
            ("/t/a%2Fb+c%zz/api", Some("a/b+c%zz"), "/api"),
            ("/t/s3cret", Some("s3cret"), "/"),
            ("/t/s3cret?x", Some("s3cret"), "/?x"),
            ("/t/one/t/two/api", Some("two"), "/api"),
            ("/t/%20/api", None, "/api"),
            ("/t//api", None, "/api"),
            ("/t", None, "/t"),
            ("/api/t/s3cret", None, "/api/t/s3cret"),
            ("/", None, "/"),
        ] {
            let expected = (token.map(str::to_owned), left.to_owned());
            assert_eq!(taken(uri), expected, "{uri}");
        }
    }

    #[test]
    fn it_is_not_shown_by_accident() {
        let mut request = Request::new(());
        *request.uri_mut() = "/t/s3cret/api".parse().unwrap();
        take(&mut request);
        let token = request.extensions().get::<PathToken>();
        assert!(!format!("{request:?} {token:?}").contains("s3cret"));
    }

    proptest! {
        #[test]
        fn any_path_is_taken_without_a_panic(path in "[!-~]{0,40}") {
            if let Ok(uri) = format!("/t/{path}").parse::<Uri>() {
                let mut request = Request::new(());
                *request.uri_mut() = uri;
                take(&mut request);
                prop_assert!(request.uri().path().starts_with('/'));
            }
        }
    }
}
