//! The map of the house. `use` goes one way, from the top of this list to its end; [`account`], [`config`],
//! [`error`], [`notebook_file`], [`plain_file`], [`redact`] and [`table`] are leaves that all may use. So are [`compose`] (messages
//! of our own) and `sockets` (those of a connection file), which know the protocol alone, and `ends` (what ends a process from outside):
//!
//! - [`cli`]: the command line, one thin file per subcommand
//! - [`create`]: notebook servers, a gateway and a JupyterLab each
//! - [`gateway`]: the HTTP front that clients see
//! - [`jobs`]: notebooks and cells that run without a page
//! - [`front`]: the ZeroMQ front of clients that know no gateway
//! - [`kernels`]: a kernel's life: which there are to start, their start and their supervision
//! - [`magics`]: what our own cells do
//! - [`workers`]: what runs in a process of its own: beside a supervisor, or as a kernel
//! - [`mod@env`]: what a kernel runs in
//! - [`protocol`]: the Jupyter messaging protocol as pure bytes: no I/O, no clock, no randomness.

pub mod account;
pub mod cli;
pub mod compose;
pub mod config;
pub mod create;
mod ends;
pub mod env;
pub mod error;
pub mod front;
pub mod gateway;
pub mod jobs;
pub mod kernels;
pub mod magics;
pub mod notebook_file;
pub mod plain_file;
pub mod protocol;
pub mod redact;
mod sockets;
pub mod table;
pub mod workers;
