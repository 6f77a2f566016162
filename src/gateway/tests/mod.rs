//! The front as a whole, over real sockets. The supervisors here are fakes in this process: what
//! the real ones do is tested with the whole program.

mod channels;
mod fake;
mod openapi;
mod origin;
mod rest;

use std::fs;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::{Door, Settings, Token, TokenFile, serve};
use crate::config::{self, Handover};
use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::launch::Launcher;
use crate::kernels::registry::Registry;

/// A gateway that listens, its folders and its token.
struct Front {
    address: SocketAddr,
    registry: Registry,
    folder: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// What was answered, `Null` when it is no JSON.
    body: Value,
}

impl Front {
    /// One that waits for its supervisors, however busy this machine is.
    async fn new(handover: Handover) -> Self {
        Self::with(handover, Duration::from_secs(30)).await
    }

    async fn with(handover: Handover, list_deadline: Duration) -> Self {
        let mut config = config::Settings::default();
        config.server.handover = handover;
        config.server.list_deadline_ms = u64::try_from(list_deadline.as_millis()).unwrap();
        Self::with_config(config).await
    }

    async fn with_config(config: config::Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let spec = path("data/kernels/echo");
        fs::create_dir_all(&spec).unwrap();
        fs::write(
            spec.join("kernel.json"),
            r#"{"argv":["echo"],"language":"x"}"#,
        )
        .unwrap();
        fs::write(spec.join("logo-svg.svg"), "<svg/>").unwrap();
        let registry = Registry::open(&path("run")).unwrap();
        let program = path("supervisor");
        let data = path("data");
        let settings = Settings {
            token: Token::new("s3cret").unwrap(),
            user: "me".to_owned(),
            tokens: TokenFile::new(&path("state")),
            registry: registry.clone(),
            launcher: Launcher::with_program(registry.clone(), program),
            specs: SearchPath::from_lookup(move |name| {
                (name == "JUPYTER_DATA_DIR").then(|| data.clone().into())
            }),
            root: folder.path().to_owned(),
            home: PathBuf::from("/"),
            environment: Vec::new(),
            data: path("data"),
            journals: path("journals"),
            config,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door::open(registry.runtime()).unwrap();
        tokio::spawn(serve(listener, settings, door, pending()));
        Self {
            address,
            registry,
            folder,
        }
    }

    /// Makes every supervisor that is started from now on a shell script.
    fn supervisors_are(&self, script: &str) {
        let program = self.folder.path().join("supervisor");
        // Written by another process: what a test process has open for writing, the children that
        // other tests start may hold for a moment, and then it cannot be run.
        let write =
            r#"printf '#!/bin/sh\n%s\n' "$1" >"$2.new"; chmod 700 "$2.new"; mv "$2.new" "$2""#;
        let written = Command::new("/bin/sh")
            .args(["-c", write, "sh", script])
            .arg(program)
            .status();
        assert!(written.unwrap().success());
    }

    /// Asks with the token.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as("token s3cret", method, path, body).await
    }

    async fn ask_as(&self, who: &str, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/json"), ("Authorization", who)];
        self.ask_with(&headers, method, path, body).await
    }

    async fn ask_with(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: &str,
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "nb");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer {
            status,
            headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }
}
