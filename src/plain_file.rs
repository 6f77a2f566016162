//! Files of somebody's, read as far as they are what they should be: files, and not too large. A leaf. A pipe, which would be waited
//! for, and what never ends are an error.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// All of a file, which has at most so many bytes.
pub fn bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    // Opening a pipe would wait for whoever writes.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(nonblocking).open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !about.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!(
            "it has more than {bytes_max} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// The same as text.
pub fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let bytes = bytes(path, bytes_max)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;

    #[test]
    fn what_would_be_waited_for_or_never_ends_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        fs::write(&file, "four").unwrap();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(text(&file, 4).unwrap(), "four");
        for (path, bytes_max, why) in [
            (&*file, 3, "more than 3 bytes"),
            (&*pipe, 3, "no plain file"),
            (Path::new("/dev/zero"), 3, "no plain file"),
            (folder.path(), 3, "directory"),
        ] {
            let said = text(path, bytes_max).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        let none = text(&folder.path().join("none"), 3).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
