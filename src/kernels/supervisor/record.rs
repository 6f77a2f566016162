//! What is known of this kernel from outside: its REST body, its notebook sessions, `state.json`.
//!
//! Owns the notebook sessions. Everything else it only puts together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::adoption::Found;
use super::broker::Broker;
use super::private_file;
use super::vitals::Vitals;
use crate::compose::timestamp;
use crate::env::pex::Base;
use crate::kernels::contract::{
    API, KERNEL_PROCESS, Kernel, NotebookSession, PART, Part, SUPERVISOR_PROCESS, Start, file,
};
use crate::kernels::kept_pid::KeptPid;
use crate::magics::Facts;

/// Notebook sessions of one kernel; with the longest names they still fit into what is read of `state.json`.
const SESSIONS_MAX: usize = 64;

/// The record of one kernel.
pub(super) struct Record {
    kernel_id: String,
    spec: String,
    owner: String,
    started_by: String,
    /// Of PyCX, if it runs in one.
    release: Option<String>,
    part: Option<Part>,
    started: String,
    folder: PathBuf,
    /// Our own.
    process: Option<KeptPid>,
    /// When each supervisor but the first took over.
    takeovers: Vec<Timestamp>,
    broker: Broker,
    vitals: Rc<Vitals>,
    sessions: RefCell<BTreeMap<String, NotebookSession>>,
    saving: Arc<Mutex<Saving>>,
}

/// What of `state.json` is on its way to the disk.
#[derive(Default)]
struct Saving {
    next: Option<Vec<u8>>,
    is_running: bool,
}

impl Record {
    /// The kernel's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The record of a new kernel, or of one that was found.
    pub(super) fn new(
        start: &Start,
        folder: PathBuf,
        broker: Broker,
        vitals: Rc<Vitals>,
        found: Option<&Found>,
    ) -> Self {
        let sessions = found
            .into_iter()
            .flat_map(|found| found.notebook_sessions.clone());
        let started = found.and_then(|found| found.started.clone());
        Self {
            kernel_id: start.kernel_id.clone(),
            spec: start.spec.clone(),
            owner: start.owner.clone(),
            started_by: start.started_by.clone(),
            release: start
                .environment
                .as_ref()
                .and_then(|environment| environment.release.clone()),
            part: start.part.clone(),
            started: started.unwrap_or_else(|| timestamp(Timestamp::now())),
            folder,
            process: i32::try_from(std::process::id()).ok().and_then(KeptPid::of),
            broker,
            vitals,
            takeovers: found
                .map(|found| found.takeovers.clone())
                .unwrap_or_default(),
            sessions: RefCell::new(
                sessions
                    .map(|session| (session.id.clone(), session))
                    .collect(),
            ),
            saving: Arc::default(),
        }
    }

    /// The kernel's id.
    pub(super) fn kernel_id(&self) -> &str {
        &self.kernel_id
    }

    /// What the kernel was rebased onto.
    pub(super) fn base(&self) -> Option<Base> {
        self.vitals.base.borrow().clone()
    }

    /// When the supervisor started.
    pub(super) fn started(&self) -> &str {
        &self.started
    }

    /// What REST shows.
    pub(super) fn kernel(&self) -> Kernel {
        let snapshot = self.broker.snapshot();
        let mut nb = Map::new();
        let mut put = |key: &str, value: Value| nb.insert(key.to_owned(), value);
        put("started", json!(self.started));
        put("supervisor_pid", json!(std::process::id()));
        let kernel_pid = self.vitals.kernel_pid.get();
        put("kernel_pid", json!(kernel_pid));
        put(KERNEL_PROCESS, json!(kernel_pid.and_then(KeptPid::of)));
        put(SUPERVISOR_PROCESS, json!(self.process));
        if let Some(release) = &self.release {
            put("release", json!(release));
        }
        if let Some(part) = &self.part {
            put(PART, json!(part));
        }
        put("restarts", json!(self.vitals.restarts.get()));
        put("epoch", json!(self.vitals.epoch.get()));
        put("kernel_started", json!(self.vitals.kernel_started.get()));
        put("magics", json!(self.vitals.has_helper.get()));
        put(
            "implementation",
            json!(*self.vitals.implementation.borrow()),
        );
        if !self.takeovers.is_empty() {
            put("takeovers", json!(self.takeovers));
        }
        if let Some(base) = &*self.vitals.base.borrow() {
            put("base", json!(base));
        }
        put("language", json!(*self.vitals.language.borrow()));
        put("away", json!(snapshot.away));
        put("journal_bytes", json!(snapshot.journal_bytes));
        if let Some(fault) = snapshot.journal_fault {
            put("journal_fault", json!(fault));
        }
        put("lost_messages", json!(snapshot.lost.messages));
        put("lost_bytes", json!(snapshot.lost.bytes));
        if let Some(reason) = snapshot.reason {
            put("reason", json!(reason));
        }
        Kernel {
            id: self.kernel_id.clone(),
            name: self.spec.clone(),
            execution_state: snapshot.execution_state.to_owned(),
            last_activity: timestamp(snapshot.last_activity),
            connections: snapshot.connections,
            notebook_sessions: self.sessions.borrow().values().cloned().collect(),
            owner: self.owner.clone(),
            started_by: self.started_by.clone(),
            nb,
        }
    }

    /// What a magic may know of the kernel.
    pub(super) fn facts(&self, journal_bytes_max: u64) -> Facts {
        let snapshot = self.broker.snapshot();
        let pid = self.vitals.kernel_pid.get();
        Facts {
            kernel_id: self.kernel_id.clone(),
            spec: self.spec.clone(),
            language: self.vitals.language.borrow().clone(),
            execution_state: snapshot.execution_state.to_owned(),
            pid: pid.and_then(|pid| u32::try_from(pid).ok()),
            started: self.vitals.kernel_started.get(),
            restarts: self.vitals.restarts.get().into(),
            connected: snapshot.connections,
            away: snapshot.away,
            lost_messages: snapshot.lost.messages,
            lost_bytes: snapshot.lost.bytes,
            journal_bytes: snapshot.journal_bytes as u64,
            journal_bytes_max,
        }
    }

    /// Takes a notebook session in, or its newer version.
    /// False when there is no room for another one.
    pub(super) fn put_session(&self, session: NotebookSession) -> bool {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&session.id) {
            return false;
        }
        sessions.insert(session.id.clone(), session);
        drop(sessions);
        self.save();
        true
    }

    /// Forgets a notebook session; false when it is not known.
    pub(super) fn remove_session(&self, id: &str) -> bool {
        let known = self.sessions.borrow_mut().remove(id).is_some();
        if known {
            self.save();
        }
        known
    }

    /// Writes `state.json` before anything else happens.
    pub(super) fn save_first(&self) {
        write(&self.folder.join(file::STATE), &self.state());
    }

    /// Writes `state.json`, and waits for no disk: the truth is here, the file is for when we are gone.
    pub(super) fn save(&self) {
        let state = self.state();
        let mut saving = lock(&self.saving);
        saving.next = Some(state);
        if std::mem::replace(&mut saving.is_running, true) {
            return;
        }
        let (saving, path) = (Arc::clone(&self.saving), self.folder.join(file::STATE));
        spawn_blocking(move || {
            while let Some(state) = next(&saving) {
                write(&path, &state);
            }
        });
    }

    fn state(&self) -> Vec<u8> {
        let mut state = json!(self.kernel());
        state["format"] = json!(API);
        state.to_string().into_bytes()
    }

    /// Gauges in the text format of Prometheus.
    pub(super) fn metrics(&self) -> String {
        let snapshot = self.broker.snapshot();
        let gauges = [
            ("nb_client_sessions_connected", snapshot.connections as u64),
            ("nb_client_sessions_away", snapshot.away as u64),
            ("nb_journal_bytes", snapshot.journal_bytes as u64),
            ("nb_lost_messages_total", snapshot.lost.messages),
            ("nb_lost_bytes_total", snapshot.lost.bytes),
            ("nb_restarts_total", u64::from(self.vitals.restarts.get())),
        ];
        let mut text = String::new();
        for (name, value) in gauges {
            // Writing to a string does not fail.
            let _infallible = writeln!(text, "{name} {value}");
        }
        text
    }
}

fn lock(saving: &Mutex<Saving>) -> MutexGuard<'_, Saving> {
    saving.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next(saving: &Mutex<Saving>) -> Option<Vec<u8>> {
    let mut saving = lock(saving);
    let next = saving.next.take();
    saving.is_running = next.is_some();
    next
}

/// A failure is logged.
fn write(path: &Path, state: &[u8]) {
    if let Err(error) = private_file::write(path, state) {
        warn!(%error, "state.json could not be written");
    }
}
