//! What runs in a process of its own: foreign native code beside a supervisor, which may crash, hang or be killed there, and kernels of nb's own.

pub mod scala;
pub mod sql;
