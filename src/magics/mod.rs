//! What our own cells do, whatever language the kernel speaks.
//!
//! A cell comes by one of two doors and meets the same code behind them:
//!
//! ```text
//! IPython: %nb … -> helper (in the kernel) -> POST /v1/cells --+
//!                                                              +--> Registry::run --> Magic::run
//! any other kernel: the cell queue, Registry::claim -----------+         with a Cell to speak by
//! ```
//!
//! Knows the supervisor only as a [`Cell`]: no socket, no queue, no message of the kernel.

pub mod call;
pub mod cell;
pub mod failure;
pub mod helper;
pub mod languages;
pub mod magic;
pub mod other;
pub mod registry;
pub mod sql;
pub mod wire;

mod exchange;
mod machine;
mod others;
mod pex;
mod pip;
mod progress;
mod reset;
mod restart;
mod script;
mod status;
#[cfg(test)]
mod test_cell;

pub use call::{At, Call};
pub use cell::{
    Answer, Bundle, Cell, Facts, Frame, Given, Named, Output, Place, Question, StreamName,
};
pub use failure::Failure;
pub use languages::Language;
pub use magic::{Magic, Runs};
pub use other::{OtherKernel, Others, Running};
pub use registry::{Body, Claim, Completion, Front, Registry, Setting};
