//! What the life of the kernel process lets others know of it. Written by `lifecycle` and `bring_up`
//! alone.

use std::cell::{Cell, RefCell};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::env::pex::Base;

/// What others may know of the kernel process.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// Rung when a kernel process has come or gone.
    pub changed: Notify,
    pub kernel_pid: Cell<Option<i32>>,
    /// The number of that process, from 1.
    pub epoch: Cell<u32>,
    /// When that process was ready; nothing while it starts.
    pub kernel_started: Cell<Option<Timestamp>>,
    pub restarts: Cell<u32>,
    /// Whether our magics are registered in the kernel.
    pub has_helper: Cell<bool>,
    /// As the kernel itself calls them in its `kernel_info_reply`.
    pub language: RefCell<String>,
    pub implementation: RefCell<String>,
    /// What that process was rebased onto.
    pub base: RefCell<Option<Base>>,
}
