//! What a kernel runs in: Python environments and the tools that make them.

use std::path::{Path, PathBuf};

/// The Python of the default environment under nb's data folder; it may not exist yet.
pub fn default_python(data: &Path) -> PathBuf {
    data.join("envs/default/bin/python")
}
