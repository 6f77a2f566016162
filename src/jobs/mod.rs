//! Notebooks and cells that run without a page: a client of a kernel, as any other.

pub mod document;
pub mod keeper;
pub mod parameters;
pub mod run;
pub mod session;
