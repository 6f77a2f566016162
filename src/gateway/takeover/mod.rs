//! How a gateway gets the listening sockets of the one that runs: the sockets themselves, so that nobody
//! who connects meanwhile is refused.
//!
//! Each gateway has a door, a Unix socket (0600) in `<runtime>/gateways/`, at which only its own user gets an
//! answer. `door` gives, `taker` takes, `choice` says from whom. What they say, which two versions of
//! nb may do to each other:
//!
//! 1. The door says a [`Hello`], a line of JSON. Who only wanted to know closes, as commands do that look for a gateway.
//! 2. The taker says [`TAKE`].
//! 3. The door says [`GIVEN`] with the descriptors of `listens`, in its order. Both accept from now on.
//! 4. The taker, when it could serve, says [`SERVING`]. One that ends before has taken nothing.
//!
//! What is done with the sockets is not known here.

mod choice;
mod door;
mod taker;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::listen::At;

pub use door::Door;
pub use taker::{Taken, Takeover, running, take_over};

/// The version of what is said.
const FORMAT: u32 = 1;

const TAKE: u8 = b't';
const GIVEN: u8 = b'g';
const SERVING: u8 = b's';

/// How long the other side may take for a step.
const STEP_DEADLINE: Duration = Duration::from_secs(5);

/// More sockets are not given at once.
const SOCKETS_MAX: usize = 16;

/// What a gateway says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    format: u32,
    /// The version of nb.
    nb: String,
    listens: Vec<At>,
}

/// The folder of all doors.
fn folder(runtime: &Path) -> PathBuf {
    runtime.join("gateways")
}

/// All doors, also those of gateways that were killed.
fn doors(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut doors: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect();
    doors.sort_unstable();
    doors
}
