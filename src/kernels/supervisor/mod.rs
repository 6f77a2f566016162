//! The data plane of one kernel: the process that owns the kernel's sockets, its journal, client
//! sessions and cell queue.

pub mod activity;
pub mod broker;
pub mod compose;
pub mod journal;
pub mod link;
pub mod process;
pub mod queue;
pub mod sessions;
