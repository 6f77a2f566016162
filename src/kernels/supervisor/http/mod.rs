//! The supervisor's HTTP API, version 1, on its Unix socket.
//!
//! Takes requests in and gives answers out; what they do is done by the lifecycle, the broker and the
//! record of notebook sessions. Only our own user (and root) gets past the accept.

pub(super) mod journal;
mod logs;
mod respond;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::respond::{
    BODY_BYTES_MAX, CELL_BYTES_MAX, Response, empty, error, json, lines, read_json, text,
};
use super::attach;
use super::broker::Broker;
use super::cells::{Cells, helper_door};
use super::connection::Common;
use super::lifecycle::Command;
use super::record::Record;
use super::sessions::Access;
use crate::kernels::contract::{
    API, ATTACH_PROTOCOL, About, NotebookSession, RequestsAsked, RequestsKnown, StartFailureKind,
};

/// Requests beyond this many at once wait; attached clients do not count.
const CONNECTIONS_MAX: usize = 128;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The longest `wait_ms`.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How long an interrupt may take to be sent.
const INTERRUPT_WITHIN: Duration = Duration::from_secs(5);

/// Everything that a request may need.
pub(super) struct Api {
    pub broker: Broker,
    pub common: Rc<Common>,
    pub record: Rc<Record>,
    pub cells: Rc<Cells>,
    pub commands: mpsc::Sender<Command>,
    pub clients: TaskTracker,
    pub answers: journal::Answers,
}

/// Accepts connections for as long as it is polled.
pub(super) async fn serve(listener: UnixListener, api: Rc<Api>, tasks: TaskTracker) {
    let places = Rc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_ours(&stream) {
            warn!("refused a connection of another user");
            continue;
        }
        let (api, places) = (Rc::clone(&api), Rc::clone(&places));
        tasks.spawn_local(async move {
            let _place = places.acquire().await;
            let service = service_fn(move |request| answer(Rc::clone(&api), request));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
            if let Err(error) = served {
                debug!(%error, "a connection ended early");
            }
        });
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::getuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(api: Rc<Api>, request: Request<Incoming>) -> Result<Response, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let response = match (request.method(), parts.as_slice()) {
        (&Method::GET, ["v1", "about"]) => json(StatusCode::OK, &about(&api)),
        (&Method::GET, ["v1", "kernel"]) => {
            if let Some(wait) = parameter(&query, "wait_ms").and_then(|wait| wait.parse().ok()) {
                let wait = Duration::from_millis(wait).min(WAIT_MAX);
                let _late = timeout(wait, api.broker.settled()).await;
            }
            json(StatusCode::OK, &api.record.kernel())
        }
        (&Method::POST, ["v1", "interrupt"]) => interrupt(&api).await,
        (&Method::POST, ["v1", "restart"]) => restart(&api).await,
        (&Method::POST, ["v1", "shutdown"]) => shutdown(&api).await,
        (&Method::POST, ["v1", "attach"]) => attach(&api, request),
        (&Method::PUT, ["v1", "notebook-sessions", id]) => {
            let id = (*id).to_owned();
            put_session(&api, &id, request).await
        }
        (&Method::DELETE, ["v1", "notebook-sessions", id]) => {
            if api.record.remove_session(id) {
                empty(StatusCode::NO_CONTENT)
            } else {
                not_found("there is no such notebook session here")
            }
        }
        (&Method::GET, ["v1", "connections"]) => {
            json(StatusCode::OK, &api.broker.client_sessions())
        }
        (&Method::DELETE, ["v1", "connections"]) => {
            let identity = parameter(&query, "identity").map(Access::Identity);
            let credential = parameter(&query, "credential").map(Access::Credential);
            match identity.or(credential) {
                Some(access) => {
                    let ended = api.broker.end_access(access);
                    json(StatusCode::OK, &serde_json::json!({"ended": ended}))
                }
                None => error(
                    StatusCode::BAD_REQUEST,
                    "MissingIdentity",
                    "say whose: ?identity= or ?credential=",
                ),
            }
        }
        (&Method::POST, ["v1", "cells"]) => match read_json(request, CELL_BYTES_MAX).await {
            Ok(cell) => lines(helper_door::open(Rc::clone(&api.cells), cell, &api.clients)),
            Err(response) => response,
        },
        (&Method::POST, ["v1", "cells", id, "answer"]) => {
            let id = (*id).to_owned();
            match read_json(request, BODY_BYTES_MAX).await {
                Err(response) => response,
                Ok(reply) => match api.cells.answer(&id, reply) {
                    true => empty(StatusCode::NO_CONTENT),
                    false => not_found("nothing waits for this answer"),
                },
            }
        }
        (&Method::POST, ["v1", "requests"]) => match read_json(request, BODY_BYTES_MAX).await {
            Ok(asked) => json(StatusCode::OK, &requests(&api, &asked)),
            Err(response) => response,
        },
        (&Method::GET, ["v1", "journal"]) => journal::answer(&api, &query).await,
        (&Method::GET, ["v1", "logs", stream]) => logs::answer(&api, stream, &query).await,
        (&Method::GET, ["v1", "metrics"]) => text(api.record.metrics()),
        _ => not_found("the supervisor has no such route"),
    };
    Ok(response)
}

fn not_found(message: &str) -> Response {
    error(StatusCode::NOT_FOUND, "NotFound", message)
}

/// A parameter of a query; ours carry nothing that needs percent-decoding.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn about(api: &Api) -> About {
    About {
        api: API,
        nb: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_id: api.record.kernel_id().to_owned(),
        pid: std::process::id(),
        started: api.record.started().to_owned(),
    }
}

fn requests(api: &Api, asked: &RequestsAsked) -> RequestsKnown {
    let phase = |msg_id: &String| api.broker.request_state(msg_id).state;
    RequestsKnown {
        phases: asked.msg_ids.iter().map(phase).collect(),
        last: api.broker.last(),
    }
}

async fn interrupt(api: &Api) -> Response {
    let (asker, done) = oneshot::channel();
    let sent = async {
        api.commands.send(Command::Interrupt(asker)).await.ok()?;
        done.await.ok()
    };
    match timeout(INTERRUPT_WITHIN, sent).await {
        Ok(Some(())) => empty(StatusCode::NO_CONTENT),
        _ => ending(),
    }
}

async fn restart(api: &Api) -> Response {
    let (asker, done) = oneshot::channel();
    if api.commands.send(Command::Restart(asker)).await.is_err() {
        return ending();
    }
    // Bounded by the lifecycle's own deadlines for stop and start.
    match done.await {
        Ok(Ok(())) => json(StatusCode::OK, &api.record.kernel()),
        Ok(Err(failure)) => {
            let status = match failure.kind {
                StartFailureKind::Deadline => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            let message = match failure.stderr_tail.as_str() {
                "" => failure.message,
                tail => format!("{}\n{tail}", failure.message),
            };
            error(status, "KernelStartFailed", &message)
        }
        Err(_) => ending(),
    }
}

async fn shutdown(api: &Api) -> Response {
    let (asker, done) = oneshot::channel();
    if api.commands.send(Command::Shutdown(asker)).await.is_ok() {
        // Bounded by the lifecycle's own deadlines; a lifecycle that is gone is shut down too.
        let _gone = done.await;
    }
    empty(StatusCode::NO_CONTENT)
}

fn ending() -> Response {
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        "ShuttingDown",
        "the kernel is being shut down",
    )
}

async fn put_session(api: &Api, id: &str, request: Request<Incoming>) -> Response {
    match read_json::<NotebookSession>(request, BODY_BYTES_MAX).await {
        Ok(session) if session.id == id => match api.record.put_session(session) {
            true => empty(StatusCode::NO_CONTENT),
            false => error(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManySessions",
                "this kernel has as many notebook sessions as it can",
            ),
        },
        Ok(_) => error(
            StatusCode::BAD_REQUEST,
            "BadId",
            "the ids in path and body differ",
        ),
        Err(response) => response,
    }
}

fn attach(api: &Rc<Api>, mut request: Request<Incoming>) -> Response {
    let asked = request.headers().get(UPGRADE);
    if asked.is_none_or(|value| value != ATTACH_PROTOCOL) {
        return error(
            StatusCode::UPGRADE_REQUIRED,
            "UpgradeRequired",
            "this route needs Upgrade: nb-attach",
        );
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let (broker, common) = (api.broker.clone(), Rc::clone(&api.common));
    api.clients.spawn_local(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return warn!(%error, "a gateway went before it handed over"),
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else {
            return warn!("a stream of another kind");
        };
        if let Err(error) = attach::serve(parts.io.into_inner(), broker, &common).await {
            warn!(%error, "a client could not be taken over");
        }
    });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(
        CONNECTION,
        hyper::header::HeaderValue::from_static("upgrade"),
    );
    headers.insert(
        UPGRADE,
        hyper::header::HeaderValue::from_static(ATTACH_PROTOCOL),
    );
    response
}
