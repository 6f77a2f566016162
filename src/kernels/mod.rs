//! A kernel's life: which kernels there are to start, and (to come) their start and supervision.

pub mod kernelspecs;
pub mod supervisor;
