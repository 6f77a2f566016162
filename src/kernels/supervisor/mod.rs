//! The data plane of one kernel: the process that owns the kernel's sockets and, to come, its
//! journal, client sessions and cell queue.

pub mod link;
