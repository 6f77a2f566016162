//! The Jupyter messaging protocol as pure bytes: no I/O, no clock, no randomness.
//!
//! - [`message`]: one message as opaque parts, and the few ids that may be peeked at
//! - [`signature`]: the HMAC that kernels and their clients put on every message
//! - [`multipart`]: a message as the frames of a ZeroMQ multipart message
//! - [`v1`]: a message as one `v1.kernel.websocket.jupyter.org` WebSocket payload
//! - [`legacy`]: a message as one payload of the default WebSocket framing
//! - [`websocket`]: the frames that carry those payloads
//! - [`connection_file`]: how a kernel is told where to bind and how to sign
//! - [`kernelspec`]: how a kernel is started and shown
//! - [`notebook`]: a notebook file, and which of its cells run
//! - [`outputs`]: what a cell's messages leave in it
//! - [`json`]: JSON that keeps the order of its keys
//!
//! Everything here accepts any bytes from outside: errors, never panics.

pub mod connection_file;
pub mod json;
pub mod kernelspec;
pub mod legacy;
pub mod message;
pub mod multipart;
pub mod notebook;
pub mod outputs;
pub mod signature;
pub mod v1;
pub mod websocket;
