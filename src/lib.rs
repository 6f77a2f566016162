//! The map of the house. `use` goes one way, from the top of this list to its end:
//!
//! - [`kernels`]: a kernel's life: which kernels there are to start
//! - [`protocol`]: the Jupyter messaging protocol as pure bytes: no I/O, no clock, no randomness.

pub mod kernels;
pub mod protocol;
