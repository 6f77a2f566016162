//! Notebooks and cells that run without a page: a client of a kernel, as any other.

pub mod session;
