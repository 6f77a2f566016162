//! The ZeroMQ front (`nb launch`): a connection file's five sockets before a kernel of nb.
//!
//! ```text
//! client <── sockets ──> relay (who asked what) <── upstream (v1 WebSocket) ──> the kernel's supervisor
//!                                                    local | remote
//! ```
//!
//! Owns the life of this process: bring-up, one line after the other, the end. The kernel is not its own:
//! it outlives a front that is killed. Messages are signed anew and otherwise relayed as they are.

mod client;
mod kernel;
mod local;
mod remote;
mod session;

pub mod relay;

use std::path::{Path, PathBuf};
use std::pin::pin;

use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::session::{End, Session};
use crate::ends::{self, Ends};
use crate::error::Error;
use crate::kernels::registry::derived_id;
use crate::protocol::connection_file::ConnectionFile;
use crate::sockets;

pub use self::client::{Answer, Gateway, GatewayUrl};
pub use self::kernel::{Kernel, Place};
pub use self::local::Machine;
pub use crate::kernels::upstream::{FromKernel, Line, Over, Said, ToKernel, Window};

/// What a front is made of.
#[derive(Debug)]
pub struct Settings {
    pub connection_file: PathBuf,
    pub place: Place,
    /// The pid of the client, as `JPY_PARENT_PID` says it.
    pub client: Option<String>,
    /// The kernel ends with the client, even if that did not ask for it.
    pub die_with_client: bool,
}

/// Serves until the kernel is ended or dead, or the client is gone.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let connection = sockets::read(&settings.connection_file)?;
    let id = kernel_id(&connection, &settings.connection_file);
    let mut ends = Ends::listen(settings.client.as_deref())?;
    let mut interrupt = ends::listen(SignalKind::interrupt())?;
    let sockets = sockets::bind(&connection).await?;
    let mut heartbeat = pin!(sockets.heartbeat.beat());
    // Before there is a kernel an interrupt has nothing to end.
    let started = tokio::select! {
        started = Kernel::start(&settings.place, id) => started,
        () = &mut heartbeat => return Ok(()),
        why = ends.next() => {
            tracing::info!(why, "ends before its kernel was ready");
            settings.place.settled().await;
            return Ok(());
        }
    };
    let kernel = started?;
    tracing::info!(kernel = %id, "ready");
    let (interrupts, asked) = mpsc::channel(session::INTERRUPTS_MAX);
    let mut session = Session::new(id, &kernel, interrupts.clone());
    let signals = async {
        loop {
            interrupt.recv().await;
            // Beyond so many, one more changes nothing.
            let _full = interrupts.try_send(None);
        }
    };
    let interrupting = session::interrupt(&kernel, asked, sockets.replies.clone());
    let end = tokio::select! {
        end = session.run(sockets.requests, sockets.replies.clone(), sockets.iopub) => end,
        () = heartbeat => End::Client("broken sockets"),
        why = ends.next() => End::Client(why),
        () = signals => End::Client("SIGINT"),
        () = interrupting => End::Client("SIGINT"),
    };
    let outcome = finish(end, &kernel, settings.die_with_client).await;
    sockets.replies.flushed().await;
    outcome
}

/// What is left to do for the kernel.
async fn finish(end: End, kernel: &Kernel, die_with_client: bool) -> Result<(), Error> {
    match end {
        // Whoever restarts a kernel by starting its process again comes back to the connection file.
        End::Answered { .. } => Ok(()),
        End::Client(why) => {
            tracing::info!(why, "ends; its kernel lives on: {}", !die_with_client);
            if die_with_client {
                kernel.end().await;
            }
            Ok(())
        }
        End::KernelGone => match kernel.death().await {
            Some(reason) => {
                kernel.end().await;
                Err(Error::kernel(reason))
            }
            None => Err(Error::kernel("the kernel was ended by somebody else")),
        },
        End::Lost(why) => Err(Error::nb(why)),
    }
}

/// The same for the same connection file. The key is in it, so that nobody can tell who has not read it.
fn kernel_id(connection: &ConnectionFile, path: &Path) -> Uuid {
    if connection.key.is_empty() {
        return Uuid::new_v4();
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    derived_id(&[
        connection.key.as_bytes(),
        path.as_os_str().as_encoded_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_file_has_one_kernel() {
        let file = |key: &str| ConnectionFile::ipc("/x".to_owned(), key.to_owned(), String::new());
        let id = |key, path: &str| kernel_id(&file(key), Path::new(path));
        assert_eq!(id("k", "/a"), id("k", "/a"));
        assert_ne!(id("k", "/a"), id("k", "/b"));
        assert_ne!(id("k", "/a"), id("l", "/a"));
        assert_ne!(id("", "/a"), id("", "/a"));
    }
}
