//! A fake supervisor: the API over a Unix socket, without a kernel.

use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::fs::FlockOperation;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::kernels::contract::{ATTACH_READY, Kernel, NotebookSession, file};
use crate::kernels::registry::Registry;

/// How long it takes to say what its kernel is.
const ANSWER_TIME: Duration = Duration::from_millis(20);

type Shared = Arc<Inner>;

struct Inner {
    kernel: Mutex<Kernel>,
    registry: Registry,
    id: Uuid,
    attached: mpsc::UnboundedSender<UnixStream>,
    pulls: AtomicUsize,
}

/// A kernel that is there as far as a gateway can see.
pub(super) struct FakeSupervisor {
    inner: Shared,
    /// The streams that follow an attach.
    pub(super) attached: mpsc::UnboundedReceiver<UnixStream>,
    _lock: File,
}

impl FakeSupervisor {
    /// One that answers, of a kernel that is new.
    pub(super) fn start(registry: &Registry, id: Uuid) -> Self {
        registry.create(id).unwrap();
        Self::adopt(registry, id)
    }

    /// One that answers, of a kernel that has a folder.
    pub(super) fn adopt(registry: &Registry, id: Uuid) -> Self {
        let (fake, listener) = Self::adopt_silent(registry, id);
        let router = Router::new()
            .route("/v1/kernel", get(kernel))
            .route("/v1/interrupt", post(|| async { StatusCode::NO_CONTENT }))
            .route("/v1/restart", post(kernel))
            .route("/v1/shutdown", post(shutdown))
            .route("/v1/attach", post(attach))
            .route(
                "/v1/notebook-sessions/{id}",
                put(put_session).delete(delete_session),
            )
            .with_state(Arc::clone(&fake.inner));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let io = TokioIo::new(stream);
                let connection = http1::Builder::new().serve_connection(io, service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        fake
    }

    /// How often it was asked for its kernel.
    pub(super) fn pulls(&self) -> usize {
        self.inner.pulls.load(Ordering::SeqCst)
    }

    /// One that holds its new kernel and takes connections, as a stopped process does, and nothing
    /// more.
    pub(super) fn start_silent(registry: &Registry, id: Uuid) -> (Self, UnixListener) {
        registry.create(id).unwrap();
        Self::adopt_silent(registry, id)
    }

    fn adopt_silent(registry: &Registry, id: Uuid) -> (Self, UnixListener) {
        let folder = registry.folder(id);
        let lock = File::open(&folder).unwrap();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let listener = UnixListener::bind(registry.socket(id)).unwrap();
        let kernel = json!({
            "id": id.to_string(), "name": "echo", "execution_state": "idle", "connections": 1,
            "last_activity": "2026-01-01T00:00:00.000000Z",
        });
        fs::write(folder.join(file::STATE), kernel.to_string()).unwrap();
        let (sender, attached) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            kernel: Mutex::new(serde_json::from_value(kernel).unwrap()),
            registry: registry.clone(),
            id,
            attached: sender,
            pulls: AtomicUsize::new(0),
        });
        let fake = Self {
            inner,
            attached,
            _lock: lock,
        };
        (fake, listener)
    }
}

async fn kernel(State(fake): State<Shared>) -> Json<Kernel> {
    fake.pulls.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(ANSWER_TIME).await;
    Json(fake.kernel.lock().unwrap().clone())
}

async fn shutdown(State(fake): State<Shared>) -> StatusCode {
    fs::remove_dir_all(fake.registry.folder(fake.id)).unwrap();
    StatusCode::NO_CONTENT
}

async fn put_session(
    State(fake): State<Shared>,
    Json(session): Json<NotebookSession>,
) -> StatusCode {
    let mut kernel = fake.kernel.lock().unwrap();
    kernel
        .notebook_sessions
        .retain(|other| other.id != session.id);
    kernel.notebook_sessions.push(session);
    StatusCode::NO_CONTENT
}

async fn delete_session(State(fake): State<Shared>, Path(id): Path<String>) -> StatusCode {
    let mut kernel = fake.kernel.lock().unwrap();
    kernel.notebook_sessions.retain(|other| other.id != id);
    StatusCode::NO_CONTENT
}

async fn attach(State(fake): State<Shared>, mut request: Request) -> Response {
    assert_eq!(request.headers()["upgrade"], "nb-attach");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let parts = upgrade.await.unwrap().downcast::<TokioIo<UnixStream>>();
        let parts = parts.ok().unwrap();
        assert!(parts.read_buf.is_empty());
        let mut stream = parts.io.into_inner();
        stream.write_u8(ATTACH_READY).await.unwrap();
        // Whoever does not look at it has dropped the other end.
        drop(fake.attached.send(stream));
    });
    let headers = [("Connection", "Upgrade"), ("Upgrade", "nb-attach")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
