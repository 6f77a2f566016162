//! The WebSocket handshake (RFC 6455, section 4.2) and the choice of framing. Pure.

use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

use super::error::ApiError;
use crate::kernels::contract::{Acknowledges, Framing};

/// The subprotocol whose messages are binary.
pub(crate) const V1: &str = "v1.kernel.websocket.jupyter.org";

/// The header by which a client promises to acknowledge for whom it forwards to, and is told that it is heard.
pub(crate) const NB_ACK: HeaderName = HeaderName::from_static("nb-ack");

/// Its one value.
pub(crate) const ACK_CLIENT: &str = "client";

/// What the key is joined with, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The value of `Sec-WebSocket-Accept`.
    pub(crate) accept: String,
    /// What was chosen of the offered subprotocols; nothing is answered for the legacy one.
    pub(crate) framing: Framing,
    /// Only with the v1 framing, in which TEXT frames are free.
    pub(crate) acknowledges: Acknowledges,
}

impl Handshake {
    /// Reads the handshake of a client.
    pub(crate) fn read(version: Version, headers: &HeaderMap) -> Result<Self, ApiError> {
        let upgrades = has_token(headers, &UPGRADE, "websocket");
        if version != Version::HTTP_11 || !upgrades || !has_token(headers, &CONNECTION, "upgrade") {
            let message = "this is a WebSocket: it wants an HTTP/1.1 upgrade";
            return Err(ApiError::upgrade_required(UPGRADE, "websocket", message));
        }
        if headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_none_or(|value| value != "13")
        {
            let message = "the only version of WebSocket here is 13";
            return Err(ApiError::upgrade_required(
                SEC_WEBSOCKET_VERSION,
                "13",
                message,
            ));
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| {
            BASE64_STANDARD
                .decode(key)
                .is_ok_and(|bytes| bytes.len() == 16)
        });
        let key = key
            .ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key is not 16 bytes in base64"))?;
        let framing = match has_token(headers, &SEC_WEBSOCKET_PROTOCOL, V1) {
            true => Framing::V1,
            false => Framing::Legacy,
        };
        let promises = framing == Framing::V1 && has_token(headers, &NB_ACK, ACK_CLIENT);
        let acknowledges = match promises {
            true => Acknowledges::Client,
            false => Acknowledges::Pong,
        };
        Ok(Self {
            accept: accept(key.as_bytes()),
            framing,
            acknowledges,
        })
    }
}

fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    BASE64_STANDARD.encode(digest)
}

/// Whether a header's lists hold a token, in whatever case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, StatusCode};

    fn headers(without: &str, more: &[(HeaderName, &'static str)]) -> HeaderMap {
        let usual = [
            (UPGRADE, "WebSocket"),
            (CONNECTION, "keep-alive, Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in usual.into_iter().filter(|(name, _)| name != without) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in more {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_example_of_the_standard_is_answered() {
        let handshake = Handshake::read(Version::HTTP_11, &headers("", &[])).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.framing, Framing::Legacy);
    }

    #[test]
    fn v1_is_chosen_where_it_is_offered() {
        for (offer, framing) in [
            (V1, Framing::V1),
            ("x, v1.kernel.websocket.jupyter.org", Framing::V1),
            ("x", Framing::Legacy),
        ] {
            let headers = headers("", &[(SEC_WEBSOCKET_PROTOCOL, offer)]);
            let handshake = Handshake::read(Version::HTTP_11, &headers).unwrap();
            assert_eq!(handshake.framing, framing, "{offer}");
        }
    }

    #[test]
    fn whoever_acknowledges_for_another_has_to_speak_v1() {
        let (v1, ack) = ((SEC_WEBSOCKET_PROTOCOL, V1), (NB_ACK, "Client"));
        for (more, acknowledges) in [
            (vec![v1.clone()], Acknowledges::Pong),
            (vec![ack.clone()], Acknowledges::Pong),
            (vec![v1.clone(), (NB_ACK, "all")], Acknowledges::Pong),
            (vec![v1, ack], Acknowledges::Client),
        ] {
            let handshake = Handshake::read(Version::HTTP_11, &headers("", &more)).unwrap();
            assert_eq!(handshake.acknowledges, acknowledges, "{more:?}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let status =
            |version, headers: &HeaderMap| Handshake::read(version, headers).unwrap_err().status();
        for (without, expected) in [
            ("upgrade", StatusCode::UPGRADE_REQUIRED),
            ("connection", StatusCode::UPGRADE_REQUIRED),
            ("sec-websocket-version", StatusCode::UPGRADE_REQUIRED),
            ("sec-websocket-key", StatusCode::BAD_REQUEST),
        ] {
            let headers = headers(without, &[]);
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{without}");
        }
        let short = headers("sec-websocket-key", &[(SEC_WEBSOCKET_KEY, "c2hvcnQ=")]);
        assert_eq!(status(Version::HTTP_11, &short), StatusCode::BAD_REQUEST);
        let old = headers("", &[]);
        assert_eq!(status(Version::HTTP_10, &old), StatusCode::UPGRADE_REQUIRED);
    }
}
