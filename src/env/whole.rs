//! A file that is replaced whole or not at all: whoever reads it meanwhile sees the old one or the new one.
//!
//! Knows nothing of what is in it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Gives a file this content, for its owner alone; one that has it is not touched.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_for(0o600, path, content)
}

/// The same for whom these permissions let in. What has the old file by another name keeps it.
pub fn replace_for(mode: u32, path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let part = path.with_extension(format!("{}.part", std::process::id()));
    // Left by a process that had our number.
    let _none = fs::remove_file(&part);
    let mut options = fs::File::options();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&part)?;
    file.write_all(content)?;
    fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn another_content_is_another_file_and_the_same_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let inode = |content: &[u8]| {
            replace(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            let about = fs::metadata(&path).unwrap();
            assert_eq!(about.mode() & 0o777, 0o600);
            about.ino()
        };
        let first = inode(b"1");
        assert_eq!(inode(b"1"), first);
        assert_ne!(inode(b"2"), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
