//! Notebook servers: a gateway and a JupyterLab on it, from nothing to an address.
//!
//! ```text
//! server   one, in this process: what `nb up` is, and what runs behind one with a name
//! servers  its two programs while they run    gateway, lab  each of them, and its start
//! child    a program   http  what it is asked   slot  its folders   token  who is let in
//! local    those with names on this machine, and the processes behind them    log  what one says while it starts
//! ```
//!
//! Knows nothing of command lines and of terminals: callers pass what [`Shows`] how far it is.

mod child;
mod gateway;
mod http;
mod lab;
mod local;
mod log;
mod server;
mod servers;
mod slot;
mod token;

pub use child::become_program;
pub use local::{Local, Record, State};
pub use server::{Asked, Ready, Server};
pub use slot::Slot;

/// Shows people how far a set-up is.
pub trait Shows {
    /// A step begins.
    fn begin(&self, what: &str);

    /// A tool printed a line in this step.
    fn detail(&self, what: &str, line: &str);

    /// A step is done.
    fn end(&self, what: &str);

    /// A sentence.
    fn line(&self, text: &str);
}
