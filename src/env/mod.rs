//! What a kernel runs in: Python environments and the tools that make them.
//!
//! Must not know of kernels, of HTTP, nor of where progress is shown: callers pass a [`Say`].

pub mod build;
mod bundle;
mod changes;
mod companion;
mod environment;
mod failure;
mod git;
mod held;
mod in_use;
mod index;
mod installed;
pub mod interpreters;
mod kernel;
mod kernelspec;
mod leftovers;
pub(crate) mod lock;
mod named;
pub mod notebook;
mod overlay;
pub mod pex;
pub mod pip;
pub mod release;
pub mod scala;
mod script;
mod spares;
mod tool;
mod undo;
mod unshare;
mod uv;
mod venv;
pub mod venvs;
pub mod version;
pub mod watch;
pub mod whole;
pub mod workspace;

pub use bundle::{About as AboutBundle, Bundle};
pub use changes::Added;
pub use companion::{COMPANION, COMPANION_CLASS, CompanionState, companion_in, install_companion};
pub use environment::Environment;
pub use in_use::{RETURNS_TO, supervised};
pub use index::printed_by;
pub use installed::{Distribution, normal};
pub use kernel::{BASE, ENVIRONMENT, KernelEnvironment, Kind, PIP, Prepared};
pub use kernelspec::install_kernelspecs;
pub use kernelspec::own_kernelspecs;
pub use leftovers::is_within_a_tool;
pub use overlay::collect_layers;
pub use script::{SEVERAL as SEVERAL_SCRIPTS, Script};
pub use tool::{WaitedFor, is_waited_for};
pub use uv::Uv;

/// No list of requirements is larger, in bytes, also where each line has many hashes.
const REQUIREMENTS_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Takes each line that a tool prints while it works, to be shown as progress.
pub type Say<'a> = &'a dyn Fn(&str);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
