//! The client of one supervisor's API: HTTP/1.1 over its Unix socket, a connection per call.
//!
//! Every call has a deadline and every answer a byte limit. Knows the paths of the API and nothing
//! of what its caller answers to whom.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::contract::{
    ATTACH_BYTES_MAX, ATTACH_PROTOCOL, ATTACH_READY, About, Attach, ErrorBody, Kernel, LogPiece,
    NotebookSession, RequestsAsked, RequestsKnown,
};

/// An answer over this many bytes is refused.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// For calls that change a record.
const RECORD_DEADLINE: Duration = Duration::from_secs(5);
const INTERRUPT_DEADLINE: Duration = Duration::from_secs(10);
/// One that comes while the kernel is being restarted waits for two ends.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
/// A restart waits for the kernel to answer, for which it may have up to ten minutes.
const RESTART_DEADLINE: Duration = Duration::from_secs(630);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens on the socket, or there is none.
    #[error("the kernel's supervisor is gone")]
    Gone,
    #[error("the kernel's supervisor did not answer within {0:?}")]
    Deadline(Duration),
    /// The machine did not let us connect.
    #[error("the kernel's supervisor could not be reached: {0}")]
    Unreachable(String),
    /// It went away, or closed the connection, without an answer.
    #[error("the kernel's supervisor broke the connection off: {0}")]
    Lost(String),
    /// It answered with an error of its own.
    #[error("{}", body.message)]
    Refused { status: u16, body: ErrorBody },
    #[error("the answer of the kernel's supervisor was not understood: {0}")]
    NotUnderstood(String),
}

/// A supervisor, by its socket.
#[derive(Clone, Debug)]
pub struct Supervisor {
    socket: PathBuf,
}

/// The stream that follows an accepted attach.
#[derive(Debug)]
pub struct Attachment {
    pub stream: UnixStream,
    /// What the supervisor has sent on it already.
    pub early: Bytes,
}

impl Supervisor {
    /// The one that listens on `socket`, if any does.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// What the supervisor itself is.
    pub async fn about(&self, deadline: Duration) -> Result<About, CallError> {
        let answer = self.call(Method::GET, "/v1/about", Bytes::new(), deadline);
        decode(&answer.await?)
    }

    /// What the kernel is and does.
    pub async fn kernel(&self, deadline: Duration) -> Result<Kernel, CallError> {
        let answer = self.call(Method::GET, "/v1/kernel", Bytes::new(), deadline);
        decode(&answer.await?)
    }

    /// What the kernel's process wrote to `stdout` or `stderr`.
    pub async fn log(
        &self,
        stream: &str,
        after: Option<u64>,
        bytes: Option<u64>,
    ) -> Result<LogPiece, CallError> {
        let parameter = |name, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let parameters = [parameter("after", after), parameter("bytes", bytes)];
        let query: Vec<String> = parameters.into_iter().flatten().collect();
        let path = format!("/v1/logs/{stream}?{}", query.join("&"));
        let answer = self.call(Method::GET, &path, Bytes::new(), RECORD_DEADLINE);
        decode(&answer.await?)
    }

    /// A page of what the kernel has said, as JSON in pieces: one output may be large.
    pub async fn journal(
        &self,
        after: Option<u64>,
        msg_id: Option<&str>,
        limit: Option<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, CallError>> + use<>, CallError> {
        let parameters = [
            after.map(|after| format!("after={after}")),
            limit.map(|limit| format!("limit={limit}")),
            msg_id.map(|msg_id| format!("msg_id={msg_id}")),
        ];
        let query: Vec<String> = parameters.into_iter().flatten().collect();
        let path = format!("/v1/journal?{}", query.join("&"));
        let asked = async {
            let (mut sender, connection) = self.connect().await?;
            let connection = AbortOnDropHandle::new(tokio::spawn(connection));
            let request = request(Method::GET, &path, Bytes::new())?;
            let response = sender.send_request(request).await.map_err(lost)?;
            match response.status().is_success() {
                true => Ok((response.into_body(), connection)),
                false => Err(refused(response).await),
            }
        };
        let begun = timeout(RECORD_DEADLINE, asked).await;
        let begun = begun.unwrap_or(Err(CallError::Deadline(RECORD_DEADLINE)))?;
        Ok(stream::unfold(Some(begun), |reading| async move {
            let (mut body, connection) = reading?;
            let piece = match timeout(RECORD_DEADLINE, body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
                Ok(Some(Err(error))) => Err(lost(error)),
                Err(_) => Err(CallError::Deadline(RECORD_DEADLINE)),
            };
            let rest = piece.is_ok().then_some((body, connection));
            Some((piece, rest))
        }))
    }

    /// Interrupts what runs.
    pub async fn interrupt(&self) -> Result<(), CallError> {
        self.post("/v1/interrupt", INTERRUPT_DEADLINE)
            .await
            .map(drop)
    }

    /// Restarts the kernel and waits until it is ready.
    pub async fn restart(&self) -> Result<Kernel, CallError> {
        decode(&self.post("/v1/restart", RESTART_DEADLINE).await?)
    }

    /// Ends the kernel and its supervisor.
    pub async fn shutdown(&self) -> Result<(), CallError> {
        match self.post("/v1/shutdown", SHUTDOWN_DEADLINE).await {
            // It may be gone before its answer is.
            Ok(_) | Err(CallError::Lost(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds a notebook session, or writes it anew.
    pub async fn put_notebook_session(&self, session: &NotebookSession) -> Result<(), CallError> {
        let path = format!("/v1/notebook-sessions/{}", session.id);
        let body = encode(session)?;
        self.call(Method::PUT, &path, body, RECORD_DEADLINE)
            .await
            .map(drop)
    }

    /// What is known of the requests with these msg_ids.
    pub async fn requests(&self, msg_ids: Vec<String>) -> Result<RequestsKnown, CallError> {
        let body = encode(&RequestsAsked { msg_ids })?;
        let answer = self.call(Method::POST, "/v1/requests", body, RECORD_DEADLINE);
        decode(&answer.await?)
    }

    /// Removes a notebook session; one that is not there counts as removed.
    pub async fn delete_notebook_session(&self, id: &str) -> Result<(), CallError> {
        let path = format!("/v1/notebook-sessions/{id}");
        match self
            .call(Method::DELETE, &path, Bytes::new(), RECORD_DEADLINE)
            .await
        {
            Ok(_) | Err(CallError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the connections that came with a credential; how many there were.
    pub async fn end_connections(&self, credential: &str) -> Result<usize, CallError> {
        #[derive(Deserialize)]
        struct Ended {
            ended: usize,
        }
        let path = format!("/v1/connections?credential={credential}");
        let answer = self.call(Method::DELETE, &path, Bytes::new(), RECORD_DEADLINE);
        decode::<Ended>(&answer.await?).map(|ended| ended.ended)
    }

    /// Opens the stream on which a client is handed over: returns once the supervisor has agreed.
    pub async fn attach(&self, deadline: Duration) -> Result<Attachment, CallError> {
        timeout(deadline, self.attach_now())
            .await
            .unwrap_or(Err(CallError::Deadline(deadline)))
    }

    async fn attach_now(&self) -> Result<Attachment, CallError> {
        let (mut sender, connection) = self.connect().await?;
        // It ends by itself once the stream is ours.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let request = Request::post("/v1/attach")
            .header(HOST, "supervisor")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, ATTACH_PROTOCOL)
            .body(Full::new(Bytes::new()))
            .map_err(|error| CallError::NotUnderstood(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            read(response).await?;
            return Err(CallError::NotUnderstood(format!("{status} to an attach")));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(lost)?;
        let parts = upgraded
            .downcast::<TokioIo<UnixStream>>()
            .map_err(|_| CallError::NotUnderstood("the stream is of a foreign type".to_owned()))?;
        let (mut stream, mut early) = (parts.io.into_inner(), parts.read_buf);
        let ready = if early.is_empty() {
            stream
                .read_u8()
                .await
                .map_err(|error| CallError::Lost(error.to_string()))?
        } else {
            early.get_u8()
        };
        if ready != ATTACH_READY {
            return Err(CallError::NotUnderstood(
                "it is not ready for a client".to_owned(),
            ));
        }
        Ok(Attachment { stream, early })
    }

    async fn post(&self, path: &str, deadline: Duration) -> Result<Bytes, CallError> {
        self.call(Method::POST, path, Bytes::new(), deadline).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        timeout(deadline, self.call_now(method, path, body))
            .await
            .unwrap_or(Err(CallError::Deadline(deadline)))
    }

    async fn call_now(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let (mut sender, connection) = self.connect().await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = request(method, path, body)?;
        read(sender.send_request(request).await.map_err(lost)?).await
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, Connection), CallError> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|error| match error.kind() {
                    ConnectionRefused | NotFound => CallError::Gone,
                    _ => CallError::Unreachable(error.to_string()),
                })?;
        let peer = stream
            .peer_cred()
            .map_err(|error| CallError::Unreachable(error.to_string()))?;
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return Err(CallError::NotUnderstood(
                "another user listens on its socket".to_owned(),
            ));
        }
        http1::handshake(TokioIo::new(stream)).await.map_err(lost)
    }
}

/// An [`Attach`] as it is sent: four bytes of length, big-endian, and JSON.
pub fn record(attach: &Attach) -> io::Result<BytesMut> {
    let json = serde_json::to_vec(attach)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    if json.len() > ATTACH_BYTES_MAX {
        return Err(io::Error::other("the record of the handover is too large"));
    }
    let mut record = BytesMut::with_capacity(4 + json.len());
    record.put_u32(length);
    record.put_slice(&json);
    Ok(record)
}

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
fn lost(error: hyper::Error) -> CallError {
    CallError::Lost(error.to_string())
}

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, CallError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "supervisor")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| CallError::NotUnderstood(error.to_string()))
}

/// The body of a good answer, or the error that a bad one tells of.
async fn read(response: Response<Incoming>) -> Result<Bytes, CallError> {
    match response.status().is_success() {
        true => body(response).await,
        false => Err(refused(response).await),
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes, CallError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await;
    Ok(body
        .map_err(|error| CallError::Lost(error.to_string()))?
        .to_bytes())
}

/// The error that a bad answer tells of.
async fn refused(response: Response<Incoming>) -> CallError {
    let status = response.status();
    match body(response).await {
        Err(error) => error,
        Ok(body) => match serde_json::from_slice(&body) {
            Ok(body) => CallError::Refused {
                status: status.as_u16(),
                body,
            },
            Err(_) => CallError::NotUnderstood(format!("{status} without a reason")),
        },
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::NotUnderstood(error.to_string()))
}

fn encode(value: &impl Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| CallError::NotUnderstood(error.to_string()))
}
