//! Pages of other origins, over real sockets.

use axum::http::HeaderMap;

use super::Front;
use crate::config;

const LAB: &str = "https://lab.example";
const OTHER: &str = "https://other.example";

fn shared_with(headers: &HeaderMap) -> Option<&str> {
    headers.get("access-control-allow-origin")?.to_str().ok()
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_ask_and_read() {
    let mut config = config::Settings::default();
    config.server.origins = vec![LAB.to_owned()];
    let front = Front::with_config(config).await;
    for (origin, status, shared) in [(LAB, 204, Some(LAB)), (OTHER, 401, None)] {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        let answer = front
            .ask_with(&headers, "OPTIONS", "/api/kernels", "")
            .await;
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(shared_with(&answer.headers), shared);
        // An error can be read too: a page has to know that its token is none.
        for (token, status) in [("token s3cret", 200), ("token wrong", 401)] {
            let headers = [("Origin", origin), ("Authorization", token)];
            let answer = front.ask_with(&headers, "GET", "/api/kernels", "").await;
            assert_eq!(answer.status, status, "{origin}");
            assert_eq!(shared_with(&answer.headers), shared);
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_opens_no_websocket_even_with_the_token() {
    let mut config = config::Settings::default();
    config.server.origins = vec![LAB.to_owned()];
    let front = Front::with_config(config).await;
    let path = "/api/kernels/00000000-0000-4000-8000-000000000001/channels?token=s3cret";
    // There is no such kernel, which those that may are told.
    for (origin, status) in [(OTHER, 403), ("null", 403), (LAB, 404), ("http://nb", 404)] {
        let headers = [
            ("Origin", origin),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let answer = front.ask_with(&headers, "GET", path, "").await;
        assert_eq!(answer.status, status, "{origin}");
    }
}
