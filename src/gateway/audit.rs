//! The audit: one JSON line for each start, stop, connect and refusal. Who, from where, which kernel;
//! never what a cell says, never a secret.
//!
//! Lines go to the file of `server.audit_file`, else to the log. A thread of its own writes the file, so a
//! slow disk keeps no request waiting; a line that could not be written is told in the log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::identity::Identity;
use super::listen::Peer;
use crate::compose::timestamp;
use crate::error::Error;

/// Lines that wait for the disk.
const WAITING_MAX: usize = 4096;

/// What was done with a kernel; a handler puts it into its response.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) what: What,
    pub(crate) kernel: String,
}

impl Event {
    /// This was done with this kernel.
    pub(crate) fn new(what: What, kernel: &dyn std::fmt::Display) -> Self {
        let kernel = kernel.to_string();
        Self { what, kernel }
    }
}

/// What can be done with a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Start,
    Stop,
    Connect,
    Refuse,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    event: What,
    /// Absent when nobody is known to have asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    /// Names the token, and is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
    /// What was asked for, for what was refused; without the query, which may hold a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

/// Takes lines.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    /// To the thread that writes the file; without one lines go to the log.
    file: Option<SyncSender<Vec<u8>>>,
}

impl Audit {
    /// Into this file, 0600, which need not exist; into the log without one.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self { file: None });
        };
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path);
        let unusable = |error| {
            Error::user(format!(
                "the audit file {} cannot be used: {error}",
                path.display()
            ))
        };
        let file = file.map_err(unusable)?;
        let (sender, lines) = sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write(file, &lines))
            .map_err(unusable)?;
        Ok(Self { file: Some(sender) })
    }

    /// Notes what became of a request, if it is to be noted.
    pub(crate) fn note(
        &self,
        request: &str,
        peer: Option<Peer>,
        identity: Option<&Identity>,
        response: &Response,
    ) {
        let event = response.extensions().get::<Event>();
        let refused = is_refusal(response.status());
        let what = match event {
            Some(event) => event.what,
            None if refused => What::Refuse,
            None => return,
        };
        let line = Line {
            time: timestamp(Timestamp::now()),
            event: what,
            user: identity.map(|identity| &*identity.name),
            token: identity.map(|identity| &*identity.credential),
            peer: peer.map(|peer| peer.to_string()),
            kernel: event.map(|event| event.kernel.as_str()),
            request: (what == What::Refuse).then(|| request.to_owned()),
            status: (what == What::Refuse).then(|| response.status().as_u16()),
        };
        let Ok(mut json) = serde_json::to_vec(&line) else {
            return;
        };
        match &self.file {
            None => tracing::info!(target: "audit", "{}", String::from_utf8_lossy(&json)),
            Some(file) => {
                json.push(b'\n');
                if file.try_send(json).is_err() {
                    tracing::error!("the audit file is too slow: a line was not written");
                }
            }
        }
    }
}

/// Whether somebody was kept from something: who they are, what they may, how many there are.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    )
}

fn write(mut file: File, lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        if let Err(error) = file.write_all(&line) {
            tracing::error!(%error, "a line of the audit was not written");
        }
    }
}
