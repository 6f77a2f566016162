//! What runs beside a supervisor in a process of its own: foreign native code, which may crash, hang or be killed there.
//!
//! Knows neither cells nor kernels.

pub mod sql;
