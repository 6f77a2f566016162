//! What outlives a supervisor: the kernel process, and what is known of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::chance::Chance;
use super::kernel::Process;
use super::notes::Notes;
use crate::kernels::supervisor::ledger::Left;

/// So many supervisors may die within [`WITHIN`] before the kernel is ended.
const TAKEOVERS_MAX: usize = 3;

const WITHIN: Duration = Duration::from_secs(60);

/// So often in a row a kernel that dies is started again; one that lived for so long begins anew.
const RESTARTS_MAX: u32 = 5;
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// What a supervisor that died has left.
pub(super) struct Found {
    /// The process, if it still is and was ready.
    pub(super) process: Option<Rc<Process>>,
    pub(super) is_too_often: bool,
    pub(super) left: Left,
}

/// What outlives a supervisor.
pub(super) struct Machine {
    pub(super) notes: Notes,
    /// A start fails in so many of a hundred cases.
    pub(super) fails: Cell<u64>,
    process: RefCell<Option<Rc<Process>>>,
    /// All that there were.
    pub(super) processes: RefCell<Vec<Rc<Process>>>,
    is_ready: Cell<bool>,
    pub(super) restarts: Cell<u32>,
    epoch: Cell<u32>,
    takeovers: RefCell<Vec<Instant>>,
    /// Deaths in a row, under one supervisor and as nobody asked for.
    deaths: Cell<u32>,
}

impl Machine {
    pub(super) fn new(notes: Notes, fails: u64) -> Rc<Self> {
        Rc::new(Self {
            notes,
            fails: Cell::new(fails),
            process: RefCell::default(),
            processes: RefCell::default(),
            is_ready: Cell::new(false),
            restarts: Cell::new(0),
            epoch: Cell::new(0),
            takeovers: RefCell::default(),
            deaths: Cell::new(0),
        })
    }

    /// The kernel process that is there.
    pub(super) fn process(&self) -> Option<Rc<Process>> {
        self.process.borrow().clone()
    }

    /// Somebody asked for another kernel process, or there is another supervisor, which counts anew.
    pub(super) fn counts_anew(&self) {
        self.deaths.set(0);
    }

    /// The kernel died after it had lived for `lived`, and `again` is what comes of it.
    pub(super) fn died(&self, lived: Duration, again: bool) {
        let before = if lived >= STABLE_AFTER {
            0
        } else {
            self.deaths.get()
        };
        self.deaths.set(before + 1);
        if again != (before < RESTARTS_MAX) {
            let what = format!("after {before} deaths in a row it is started again: {again}");
            self.notes.fault(what);
        }
    }

    pub(super) fn start_process(&self, chance: &mut Chance) -> Rc<Process> {
        self.epoch.set(self.epoch.get() + 1);
        let process = Process::start(self.epoch.get(), chance.fork(), self.notes.clone());
        self.process.replace(Some(Rc::clone(&process)));
        self.processes.borrow_mut().push(Rc::clone(&process));
        self.is_ready.set(false);
        process
    }

    pub(super) fn is_ready(&self, restarts: u32) {
        self.is_ready.set(true);
        self.restarts.set(restarts);
    }

    pub(super) fn has_no_process(&self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.is_ready.set(false);
    }

    /// How often another supervisor has taken over.
    pub(super) fn takeovers(&self) -> usize {
        self.takeovers.borrow().len()
    }

    /// What there is for the next supervisor. A process that was not ready is ended.
    pub(super) fn found(&self, left: Left) -> Found {
        let now = Instant::now();
        let mut takeovers = self.takeovers.borrow_mut();
        takeovers.push(now);
        let recent = takeovers
            .iter()
            .filter(|at| now.duration_since(**at) < WITHIN);
        let is_too_often = recent.count() > TAKEOVERS_MAX;
        let process = self.process.borrow().clone();
        if !self.is_ready.get() {
            process.iter().for_each(|process| process.kill());
        }
        let process = process.filter(|process| !process.has_ended());
        Found {
            process,
            is_too_often,
            left,
        }
    }
}
