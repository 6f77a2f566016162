//! A kernel behind a gateway: started by REST, reached by a WebSocket. Plain HTTP alone.
//!
//! Also the client of that REST for commands. Knows no route but those that it is asked for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::upstream::{self, Line, Over};
use crate::error::Error;
use crate::protocol::v1;

/// An answer over this many bytes is refused.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// For what is answered at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// For starts and restarts, which wait for the kernel.
const START_WITHIN: Duration = Duration::from_secs(630);

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    /// Host and port.
    authority: String,
    /// Without a slash at its end.
    path: String,
}

impl GatewayUrl {
    /// Reads `http://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.starts_with("https://") {
            return Err(Error::user(
                "nb speaks no TLS yet; use the gateway's http:// address or a tunnel to it",
            ));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let sound = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '"' | '\\');
        if authority.is_empty() || !authority.chars().all(sound) || !path.chars().all(sound) {
            return Err(Error::user(format!(
                "{text:?} is no address of a gateway; one looks like http://127.0.0.1:8888"
            )));
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = match has_port {
            true => authority.to_owned(),
            false => format!("{authority}:80"),
        };
        let path = match path.trim_end_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        };
        Ok(Self { authority, path })
    }
}

/// A gateway and what lets us in.
#[derive(Clone)]
pub struct Gateway {
    url: GatewayUrl,
    /// `token …`
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.url.fmt(f)
    }
}

/// What a gateway answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// `null` when it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a good answer, else what the gateway says is wrong.
    pub fn good(self) -> Result<Value, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let message = self.body.get("message").and_then(Value::as_str);
        let message = match (self.status, message) {
            (401, _) => "the gateway wants another token: set NB_TOKEN or --token-file".to_owned(),
            (_, Some(message)) => message.to_owned(),
            (status, None) => format!("the gateway answered {status} without a reason"),
        };
        let fault = self.body.get("fault").and_then(Value::as_str);
        Err(match fault {
            Some("nb") => Error::nb(message),
            Some("kernel") => Error::kernel(message),
            _ => Error::user(message),
        })
    }
}

impl Gateway {
    /// The gateway at `url`, with its token if it wants one.
    pub fn new(url: GatewayUrl, token: Option<&str>) -> Result<Self, Error> {
        let header = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("token {token}"))
                .map_err(|_| Error::user("the token cannot be in a header"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let authorization = token.map(header).transpose()?;
        Ok(Self { url, authorization })
    }

    /// Asks and waits no longer than is usual.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Answer, Error> {
        self.ask_within(ANSWER_WITHIN, method, path, body).await
    }

    /// Asks for what may take as long as a kernel's start.
    pub async fn ask_long(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Error> {
        self.ask_within(START_WITHIN, method, path, body).await
    }

    async fn ask_within(
        &self,
        deadline: Duration,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Error> {
        let authority = &self.url.authority;
        let asked = timeout(deadline, self.ask_now(method, path, body)).await;
        asked
            .unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
            .map_err(|error| Error::user(format!("the gateway at {authority}: {error}")))
    }

    async fn ask_now(&self, method: Method, path: &str, body: &Value) -> Result<Answer, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let body = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let request = self.request(method, path)?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| text(&error))?;
        let (_connection, response) = self.send(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|error| text(&error))?.to_bytes();
        Ok(Answer {
            status,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    fn request(&self, method: Method, path: &str) -> Result<hyper::http::request::Builder, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.path))
            .header(HOST, &self.url.authority);
        if let (Some(authorization), Some(headers)) = (&self.authorization, request.headers_mut()) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(AbortOnDropHandle<()>, Response<hyper::body::Incoming>), String> {
        let stream = TcpStream::connect(&self.url.authority).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let nodelay = stream.set_nodelay(true);
        nodelay.map_err(|error| error.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let ended = connection.with_upgrades().await;
            tracing::debug!(?ended, "a connection to the gateway");
        }));
        let response = sender.send_request(request).await;
        Ok((connection, response.map_err(|error| error.to_string())?))
    }

    /// Opens the WebSocket of a kernel.
    async fn open(&self, kernel: &str, session: &str) -> Result<Line, Over> {
        timeout(ANSWER_WITHIN, self.open_now(kernel, session))
            .await
            .unwrap_or_else(|_| Err(Over::Cut("the gateway does not answer".to_owned())))
    }

    async fn open_now(&self, kernel: &str, session: &str) -> Result<Line, Over> {
        let path = format!("/api/kernels/{kernel}/channels?session_id={session}");
        let request = self.request(Method::GET, &path).map_err(Over::Cut)?;
        let request = request
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, BASE64.encode(Uuid::new_v4().as_bytes()))
            .header(SEC_WEBSOCKET_PROTOCOL, v1::SUBPROTOCOL)
            .body(Full::new(Bytes::new()))
            .map_err(|error| Over::Hopeless(error.to_string()))?;
        let (_connection, response) = self.send(request).await.map_err(Over::Cut)?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {}
            StatusCode::NOT_FOUND => return Err(Over::Gone),
            status if status.is_client_error() => {
                let why = format!("the gateway refuses the connection: {status}");
                return Err(Over::Hopeless(why));
            }
            status => return Err(Over::Cut(format!("the gateway answered {status}"))),
        }
        let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        if chosen.is_none_or(|chosen| chosen != v1::SUBPROTOCOL) {
            let why = format!("the gateway does not speak {}", v1::SUBPROTOCOL);
            return Err(Over::Hopeless(why));
        }
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|error| Over::Cut(error.to_string()))?;
        let parts = upgraded
            .downcast::<TokioIo<TcpStream>>()
            .map_err(|_| Over::Hopeless("the stream is of a foreign type".to_owned()))?;
        let (reader, writer) = parts.io.into_inner().into_split();
        Ok(upstream::line(reader, writer, &parts.read_buf))
    }
}

/// A kernel there.
#[derive(Debug)]
pub(super) struct Remote {
    gateway: Gateway,
    id: String,
}

impl Remote {
    /// Starts the kernel `id`, or restarts the one that has this id.
    pub(super) async fn start(gateway: &Gateway, spec: &str, id: Uuid) -> Result<Self, Error> {
        let remote = Self {
            gateway: gateway.clone(),
            id: id.to_string(),
        };
        let mut env: serde_json::Map<String, Value> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("KERNEL_"))
            .map(|(name, value)| (name, value.into()))
            .collect();
        env.insert("KERNEL_ID".to_owned(), remote.id.clone().into());
        let body = json!({"name": spec, "env": env});
        let answer = gateway
            .ask_long(Method::POST, "/api/kernels", &body)
            .await?;
        if answer.status == StatusCode::CONFLICT {
            let path = remote.path("/restart");
            let restarted = gateway.ask_long(Method::POST, &path, &Value::Null).await?;
            restarted.good()?;
        } else {
            answer.good()?;
        }
        Ok(remote)
    }

    fn path(&self, more: &str) -> String {
        format!("/api/kernels/{}{more}", self.id)
    }

    pub(super) async fn attach(&self, session: &str) -> Result<Line, Over> {
        self.gateway.open(&self.id, session).await
    }

    pub(super) async fn interrupt(&self) -> Result<(), String> {
        let path = self.path("/interrupt");
        let answer = self.gateway.ask(Method::POST, &path, &Value::Null).await;
        let good = answer.and_then(Answer::good);
        good.map(drop).map_err(|error| error.message)
    }

    pub(super) async fn end(&self) {
        let path = self.path("");
        match self.gateway.ask(Method::DELETE, &path, &Value::Null).await {
            Ok(answer) => tracing::debug!(answer.status, "the kernel was ended"),
            Err(error) => tracing::warn!(%error, "the kernel was not ended"),
        }
    }

    /// Why it is dead; nothing when it is not there any more.
    pub(super) async fn death(&self) -> Option<String> {
        let path = self.path("");
        let answer = self.gateway.ask(Method::GET, &path, &Value::Null);
        let body = answer.await.ok()?.good().ok()?;
        let reason = body.pointer("/nb/reason").or_else(|| body.get("reason"))?;
        Some(reason.as_str()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_what_is_none_is_refused() {
        let parse = |text| GatewayUrl::parse(text).map(|url| (url.authority, url.path));
        let url = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(parse("http://h:1/a/b/?token=x"), url("h:1", "/a/b"));
        assert_eq!(parse("h:8888"), url("h:8888", ""));
        assert_eq!(parse("http://[::1]:9/"), url("[::1]:9", ""));
        assert_eq!(parse("http://h"), url("h:80", ""));
        for (text, told) in [
            ("https://h:1", "no TLS"),
            ("", "no address"),
            ("http://u:p@h", "no address"),
            ("http://h:1/a b", "no address"),
        ] {
            assert!(parse(text).unwrap_err().message.contains(told), "{text}");
        }
    }
}
