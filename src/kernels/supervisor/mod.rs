//! The data plane of one kernel: the process that owns the kernel's sockets, its journal, client
//! sessions and cell queue.
//!
//! ```text
//! attach -> connection -> broker -> link -> kernel        http -> lifecycle -> process
//!           connection <- journal <- broker <- link
//! ```
//!
//! One thread, no locks: state is shared through `Rc` and never borrowed across an await.

mod adoption;
mod attach;
mod bounded;
mod bring_up;
mod cells;
mod clock;
mod connection;
mod culling;
mod endpoints;
mod environment;
mod http;
mod lifecycle;
mod oom;
mod orphans;
mod others;
mod private_file;
mod rebase;
mod record;
mod rejoin;
mod restarts;
mod run;
#[cfg(test)]
mod simulation;
mod storage;
mod vitals;
mod wakes;

pub mod activity;
pub mod broker;
pub mod catch_up;
pub mod journal;
pub mod kept;
pub mod ledger;
pub mod link;
pub mod process;
pub mod queue;

pub mod sessions;

pub use rebase::rebased_onto;
pub use run::run;
