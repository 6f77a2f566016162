//! A notebook's file: read whole, and replaced whole unless somebody else has changed it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// More than this is no notebook.
const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A file as it was read.
#[derive(Debug)]
pub struct NotebookFile {
    /// Without symbolic links: the file that they lead to is replaced.
    path: PathBuf,
    pub text: String,
}

impl NotebookFile {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::user(format!("{}: {error}", path.display()));
        let real = path.canonicalize().map_err(failed)?;
        let length = fs::metadata(&real).map_err(failed)?.len();
        if length > BYTES_MAX {
            let message = format!("{} is over {BYTES_MAX} bytes", path.display());
            return Err(Error::user(message));
        }
        let text = fs::read_to_string(&real).map_err(failed)?;
        Ok(Self { path: real, text })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts another text in its place, with the same mode and owner.
    pub fn replace(&self, text: &str) -> Result<(), Error> {
        let failed = |error: io::Error| {
            let path = self.path.display();
            Error::user(format!("{path} cannot be written: {error}"))
        };
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        let part = self.path.with_file_name(name);
        let replaced = self.write(&part, text).map_err(failed).and_then(|()| {
            // As late as can be.
            if fs::read(&self.path).map_err(failed)? != self.text.as_bytes() {
                return Err(Error::user(format!(
                    "{} was changed meanwhile, so nothing was written; run the command again",
                    self.path.display()
                )));
            }
            fs::rename(&part, &self.path).map_err(failed)
        });
        if replaced.is_err()
            && let Err(error) = fs::remove_file(&part)
        {
            tracing::debug!(%error, "what was begun stays");
        }
        replaced
    }

    fn write(&self, part: &Path, text: &str) -> io::Result<()> {
        let old = fs::metadata(&self.path)?;
        let mut options = OpenOptions::new();
        let mut file: File = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(part)?;
        file.write_all(text.as_bytes())?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::clone(&old.permissions()))?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn it_is_replaced_through_a_link_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.ipynb"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        let file = NotebookFile::read(&link).unwrap();
        file.replace("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // It is not what was read any more.
        let refused = file.replace("newer").unwrap_err();
        assert!(refused.message.contains("changed meanwhile"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
