//! The Scala kernel: a front that is there at once, and a JVM behind it that runs the cells.
//!
//! ```text
//! client <── five sockets ──> kernel (the protocol, the order of cells) <── a socket of our own ──> jvm/ (Ammonite)
//! ```
//!
//! kernel_info and heartbeat are answered before there is a JVM. What the JVM needs is got and made once (`env::scala`); cells wait for it
//! and say so. The JVM is the kernel: when it dies, this process ends as it did, and whoever started it knows what to do.

pub mod content;
pub mod history;
pub mod said;

mod cells;
mod hints;
mod jvm;
mod kernel;
mod outbox;
mod steps;

use std::path::PathBuf;

use tokio::signal::unix::SignalKind;

use crate::ends::{self, Ends};
use crate::env::scala::{Image, Source, prepare};
use crate::error::Error;
use crate::sockets;

pub use self::kernel::Ending;

macro_rules! source {
    ($name:literal) => {
        Source {
            name: $name,
            text: include_str!(concat!("jvm/", $name)),
        }
    };
}

/// What runs in the JVM.
const SOURCES: [Source; 15] = [
    source!("Arrow.scala"),
    source!("Bound.scala"),
    source!("Channel.scala"),
    source!("Defined.scala"),
    source!("Display.scala"),
    source!("Downloads.scala"),
    source!("Errors.scala"),
    source!("Flat.scala"),
    source!("Frame.scala"),
    source!("Hints.scala"),
    source!("Interrupts.scala"),
    source!("Kinds.scala"),
    source!("Session.scala"),
    source!("Streams.scala"),
    source!("Worker.scala"),
];

/// What a Scala kernel is made of.
#[derive(Debug)]
pub struct Settings {
    pub connection_file: PathBuf,
    /// nb's data folder.
    pub data: PathBuf,
    /// The pid of the client that started it, as `JPY_PARENT_PID` says it.
    pub client: Option<String>,
}

/// Gets and makes all that a start needs, so that the next one needs no network.
pub async fn ready(data: &std::path::Path, say: &dyn Fn(&str)) -> Result<Image, Error> {
    prepare(data, &SOURCES, |name| std::env::var_os(name), say).await
}

/// Serves until a client ends the kernel, or the JVM ends.
pub async fn run(settings: Settings) -> Result<Ending, Error> {
    let connection = sockets::read(&settings.connection_file)?;
    let ends = Ends::listen(settings.client.as_deref())?;
    let interrupts = ends::listen(SignalKind::interrupt())?;
    let sockets = sockets::bind(&connection).await?;
    kernel::serve(sockets, settings.data, ends, interrupts).await
}
