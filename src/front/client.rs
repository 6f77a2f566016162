//! The client of a gateway: its REST, and the WebSocket of a kernel. Plain HTTP alone, over TCP or a Unix
//! socket.
//!
//! Knows no route but those that it is asked for, and those of a kernel's channels and journal.

use std::fmt;
use std::io;
use std::path::PathBuf;
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
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::error::Error;
use crate::kernels::contract::JournalPage;
use crate::kernels::upstream::{self, Line, Over};
use crate::protocol::v1;

/// An answer over this many bytes is refused.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The same of a page of a journal, in which one output may be large.
const PAGE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// For what is answered at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// For a page of a journal.
const PAGE_WITHIN: Duration = Duration::from_secs(120);

/// For starts and restarts, which wait for the kernel.
const START_WITHIN: Duration = Duration::from_secs(630);

/// What leads to a gateway.
type Stream = Either<TcpStream, UnixStream>;

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    /// Host and port, as in the header.
    authority: String,
    /// Without a slash at its end.
    path: String,
    /// Instead of host and port.
    sock: Option<PathBuf>,
}

impl GatewayUrl {
    /// The gateway that listens on this Unix socket.
    pub fn of_sock(sock: PathBuf) -> Self {
        Self {
            authority: "localhost".to_owned(),
            path: String::new(),
            sock: Some(sock),
        }
    }

    /// Reads `http://host[:port][/path]` and `unix:PATH`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Some(sock) = text.strip_prefix("unix:").filter(|sock| !sock.is_empty()) {
            return Ok(Self::of_sock(
                sock.strip_prefix("//").unwrap_or(sock).into(),
            ));
        }
        if text.starts_with("https://") {
            return Err(Error::user(
                "nb speaks no TLS yet; use the gateway's http:// address or a tunnel to it",
            ));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let sound = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '"' | '\\');
        if authority.is_empty()
            || authority == "unix:"
            || !authority.chars().all(sound)
            || !path.chars().all(sound)
        {
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
        Ok(Self {
            authority,
            path,
            sock: None,
        })
    }

    async fn connect(&self) -> io::Result<Stream> {
        if let Some(sock) = &self.sock {
            return UnixStream::connect(sock).await.map(Either::Right);
        }
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        Ok(Either::Left(stream))
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sock {
            Some(sock) => sock.display().fmt(f),
            None => f.write_str(&self.authority),
        }
    }
}

/// A gateway and what lets us in.
#[derive(Clone)]
pub struct Gateway {
    url: GatewayUrl,
    /// `token …`
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        let (status, body) = self
            .fetch(deadline, ANSWER_BYTES_MAX, method, path, body)
            .await?;
        Ok(Answer {
            status,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    /// A page of what the kernel has said in answer to a request; nothing when there is no such kernel.
    pub async fn journal(
        &self,
        kernel: &str,
        msg_id: &str,
        after: Option<u64>,
    ) -> Result<Option<JournalPage>, Error> {
        let after = after.map_or(String::new(), |after| format!("&after={after}"));
        let path = format!("/api/kernels/{kernel}/journal?limit=1000&msg_id={msg_id}{after}");
        let page = self.fetch(
            PAGE_WITHIN,
            PAGE_BYTES_MAX,
            Method::GET,
            &path,
            &Value::Null,
        );
        let (status, body) = page.await?;
        if status == StatusCode::OK {
            let page = serde_json::from_slice(&body);
            return page.map(Some).map_err(|error| {
                Error::user(format!("the gateway at {}: no journal: {error}", self.url))
            });
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            404 if body["fault"].is_string() => Ok(None),
            404 => Err(Error::user(format!(
                "what answers at {} has no journals of kernels: name a gateway of nb with --gateway",
                self.url
            ))),
            _ => Err(match (Answer { status, body }).good() {
                Ok(_) => Error::user(format!("the gateway answered {status} for a journal")),
                Err(error) => error,
            }),
        }
    }

    async fn fetch(
        &self,
        deadline: Duration,
        bytes_max: usize,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Bytes), Error> {
        let asked = timeout(deadline, self.fetch_now(bytes_max, method, path, body)).await;
        asked
            .unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
            .map_err(|error| Error::user(format!("the gateway at {}: {error}", self.url)))
    }

    async fn fetch_now(
        &self,
        bytes_max: usize,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Bytes), String> {
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
        let body = Limited::new(response.into_body(), bytes_max).collect();
        let body = body.await.map_err(|error| text(&error))?.to_bytes();
        Ok((status, body))
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
        let stream = self.url.connect().await;
        let stream = stream.map_err(|error| error.to_string())?;
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
    pub async fn open(&self, kernel: &str, session: &str) -> Result<Line, Over> {
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
            .downcast::<TokioIo<Stream>>()
            .map_err(|_| Over::Hopeless("the stream is of a foreign type".to_owned()))?;
        let (reader, writer) = tokio::io::split(parts.io.into_inner());
        Ok(upstream::line(reader, writer, &parts.read_buf))
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
        for text in ["unix:/a/b.sock", "unix:///a/b.sock"] {
            let url = GatewayUrl::parse(text).unwrap();
            assert_eq!(url.sock.as_deref(), Some(std::path::Path::new("/a/b.sock")));
        }
        for (text, told) in [
            ("https://h:1", "no TLS"),
            ("", "no address"),
            ("unix:", "no address"),
            ("http://u:p@h", "no address"),
            ("http://h:1/a b", "no address"),
        ] {
            assert!(parse(text).unwrap_err().message.contains(told), "{text}");
        }
    }
}
