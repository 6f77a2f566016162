//! A kernel's life: which kernels there are to start, their start and their supervision.

pub mod adopter;
pub mod catalog;
pub mod client;
pub mod contract;
pub mod environment;
pub mod journals;
pub mod kept_pid;
pub mod kernelspecs;
pub mod launch;
pub mod part;
pub mod plan;
pub mod registry;
pub mod shared_memory;
pub mod supervisor;
pub mod upstream;
