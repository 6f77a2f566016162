//! Files of ours that nobody else reads. A leaf: knows nothing of what is in them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file, 0600, whole: nobody sees half of it.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    options.open(&fresh)?.write_all(content)?;
    fs::rename(fresh, path)
}
