//! What a kernel runs in: Python environments and the tools that make them.
//!
//! Must not know of kernels, of HTTP, nor of where progress is shown: callers pass a [`Say`].

pub mod build;
mod companion;
mod environment;
pub mod interpreters;
mod lock;
pub mod pex;
pub mod release;
mod tool;
mod uv;
mod venv;
pub mod version;

use std::path::{Path, PathBuf};

pub use companion::{COMPANION, COMPANION_CLASS, CompanionState, companion_in, install_companion};
pub use environment::Environment;
pub use uv::Uv;

/// Takes each line that a tool prints while it works, to be shown as progress.
pub type Say<'a> = &'a dyn Fn(&str);

/// The Python of the default environment under nb's data folder; it may not exist yet.
pub fn default_python(data: &Path) -> PathBuf {
    Environment::default_kernel(data).python()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
