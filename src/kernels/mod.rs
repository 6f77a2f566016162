//! A kernel's life: which kernels there are to start, their start and their supervision.

pub mod contract;
pub mod kernelspecs;
pub mod supervisor;
