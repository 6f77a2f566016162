//! What a supervisor that died has left of its kernel: the process, how it is spoken to, what was known of it.
//!
//! Reads the kernel's folder and looks whether the process still is; does nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tracing::warn;

use super::vitals::Vitals;
use crate::kernels::contract::{KERNEL_PROCESS, Kernel, NotebookSession, file};
use crate::kernels::kept_pid::KeptPid;
use crate::protocol::connection_file::ConnectionFile;

/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// So many takeovers within [`WITHIN`] are too many: the kernel may be what kills its supervisors.
const TAKEOVERS_MAX: usize = 3;

const WITHIN: Duration = Duration::from_secs(60);

/// The kernel of a supervisor that died.
#[derive(Debug)]
pub(super) struct Found {
    /// The process, if it still is and was ready.
    pub process: Option<Ready>,
    /// The process otherwise, if it still is.
    pub unready: Option<KeptPid>,
    pub epoch: u32,
    pub restarts: u32,
    pub started: Option<String>,
    pub notebook_sessions: Vec<NotebookSession>,
    /// This one included.
    pub takeovers: Vec<Timestamp>,
}

/// A kernel process that was ready.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub process: KeptPid,
    pub connection: ConnectionFile,
    pub started: Timestamp,
    pub language: String,
    pub implementation: String,
    pub has_helper: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    epoch: u32,
    restarts: u32,
    started: Option<String>,
    kernel_started: Option<Timestamp>,
    magics: Option<bool>,
    language: String,
    implementation: String,
    takeovers: Vec<Timestamp>,
}

/// What is there, when a supervisor has been.
pub(super) fn look(folder: &Path) -> Option<Found> {
    let kernel: Kernel = serde_json::from_slice(&read(&folder.join(file::STATE))?)
        .inspect_err(|error| warn!(%error, "state.json is not understood"))
        .ok()?;
    let process = kernel.nb.get(KERNEL_PROCESS).cloned();
    let process = process.and_then(|process| serde_json::from_value::<KeptPid>(process).ok());
    let process = process.filter(|process| process.is_alive());
    let known = serde_json::Value::Object(kernel.nb);
    let known: Known = serde_json::from_value(known).unwrap_or_default();
    let now = Timestamp::now();
    let mut takeovers = known.takeovers;
    takeovers.push(now);
    // Releases before the key wrote the state when the kernel was ready.
    let was_ready = matches!(kernel.execution_state.as_str(), "idle" | "busy");
    let started = known.kernel_started.or(was_ready.then_some(now));
    let ready = process.zip(started).and_then(|(process, started)| {
        let connection = read(&folder.join(file::CONNECTION))?;
        Some(Ready {
            process,
            connection: ConnectionFile::decode(&connection).ok()?,
            started,
            has_helper: known.magics.unwrap_or(known.language == "python"),
            language: known.language,
            implementation: known.implementation,
        })
    });
    Some(Found {
        unready: process.filter(|_| ready.is_none()),
        process: ready,
        epoch: known.epoch.max(1),
        restarts: known.restarts,
        started: known.started,
        notebook_sessions: kernel.notebook_sessions,
        takeovers,
    })
}

impl Found {
    /// What was known of the kernel is known again.
    pub(super) fn recall(&self, vitals: &Vitals) {
        vitals.epoch.set(self.epoch);
        vitals.restarts.set(self.restarts);
        if let Some(ready) = &self.process {
            vitals.kernel_pid.set(Some(ready.process.pid));
            vitals.kernel_started.set(Some(ready.started));
            vitals.has_helper.set(ready.has_helper);
            vitals.language.replace(ready.language.clone());
            vitals.implementation.replace(ready.implementation.clone());
        }
    }

    /// Whether its supervisors die too often.
    pub(super) fn is_too_often(&self) -> bool {
        let now = Timestamp::now();
        let recent = |time: &&Timestamp| now.duration_since(**time).unsigned_abs() < WITHIN;
        self.takeovers.iter().filter(recent).count() > TAKEOVERS_MAX
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut content));
    read.inspect_err(|error| {
        // A new kernel has none yet.
        if error.kind() != io::ErrorKind::NotFound {
            warn!(path = %path.display(), %error, "it is not read");
        }
    })
    .ok()?;
    Some(content)
}
