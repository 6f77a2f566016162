//! A notebook's file: read whole, and replaced whole, once or again and again, unless somebody else has changed it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Error, reason};
use crate::plain_file;

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
        let text = plain_file::text(&real, BYTES_MAX).map_err(failed)?;
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
        let part = part_of(&self.path);
        let replaced = write(&part, &self.path, text)
            .map_err(failed)
            .and_then(|()| {
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
}

/// A file that is written again and again while a notebook runs. Each time it is there whole, the old or the new.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    /// As we left it, or found it at first.
    known: Option<Known>,
}

/// What tells a file from what somebody else has put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Output {
    /// The file at this path, whether there is one or not. Links are followed: what they lead to is replaced, if it is a file. A device
    /// or a pipe would be replaced too.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let failed = |error: io::Error| Error::user(format!("{shown}: {}", reason(&error)));
        let refused = |why: &str| Err(Error::user(format!("{shown} {why}")));
        match fs::metadata(path) {
            Ok(about) if about.is_file() => {}
            Ok(about) if about.is_dir() => return refused("is a folder, and no place for a file"),
            Ok(_) => {
                return refused(
                    "is no plain file: a notebook is written whole, again and again, and cannot be put there",
                );
            }
            // Also a pipe of somebody's that has a name in /dev.
            Err(_) if path.is_symlink() => return refused("is a link that leads to no file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = std::path::absolute(path).map_err(failed)?;
                if !folder.parent().is_some_and(Path::is_dir) {
                    return refused("is in no folder that there is");
                }
            }
            Err(error) => return Err(failed(error)),
        }
        let path = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::path::absolute(path).map_err(failed)?
            }
            real => real.map_err(failed)?,
        };
        let known = Known::of(&path);
        Ok(Self { path, known })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on beside the file, which somebody else has changed: theirs stays.
    pub fn turn_aside(&mut self) {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}-{}.ipynb", std::process::id());
        self.path.set_file_name(name);
        self.known = Known::of(&self.path);
    }

    /// Whether nobody else has changed it since.
    pub fn is_as_known(&self) -> bool {
        Known::of(&self.path) == self.known
    }

    /// Puts this text there, with the mode and owner of the file that it replaces.
    pub fn put(&mut self, text: &str) -> Result<(), Error> {
        let failed = |error: io::Error| {
            let path = self.path.display();
            Error::user(format!("{path} cannot be written: {}", reason(&error)))
        };
        let part = part_of(&self.path);
        let put = write(&part, &self.path, text).and_then(|()| fs::rename(&part, &self.path));
        if put.is_err()
            && let Err(error) = fs::remove_file(&part)
        {
            tracing::debug!(%error, "what was begun stays");
        }
        put.map_err(failed)?;
        self.known = Known::of(&self.path);
        Ok(())
    }
}

impl Known {
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self {
            device: about.dev(),
            inode: about.ino(),
            length: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
        })
    }
}

/// Where a file is written until it is whole.
fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// Writes a new file with mode and owner of an old one; where that is not, as new files are.
fn write(part: &Path, old: &Path, text: &str) -> io::Result<()> {
    let old = match fs::metadata(old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        old => Some(old?),
    };
    // Nobody reads what is to be less open.
    let mode = if old.is_some() { 0o600 } else { 0o666 };
    let mut options = OpenOptions::new();
    let mut file: File = options.write(true).create_new(true).mode(mode).open(part)?;
    file.write_all(text.as_bytes())?;
    if let Some(old) = old {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::clone(&old.permissions()))?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
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
    #[test]
    fn an_output_is_whole_each_time_and_what_somebody_else_puts_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.ipynb");
        let mut output = Output::at(&path).unwrap();
        output.put("1").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        output.put("2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(output.is_as_known());
        fs::write(&path, "theirs").unwrap();
        assert!(!output.is_as_known());
        output.turn_aside();
        output.put("3").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(output.path()).unwrap(), "3");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let mut output = Output { path, known: None };
        let refused = output.put("x").unwrap_err();
        assert!(refused.message.contains("cannot be written"), "{refused}");
    }

    #[test]
    fn what_is_no_plain_file_is_not_replaced_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, to_pipe, nowhere] =
            ["pipe", "to-pipe", "nowhere"].map(|name| folder.path().join(name));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink(&pipe, &to_pipe).unwrap();
        symlink("gone", &nowhere).unwrap();
        for (path, why) in [
            (&*pipe, "no plain file"),
            (&*to_pipe, "no plain file"),
            (Path::new("/dev/full"), "no plain file"),
            (&*nowhere, "leads to no file"),
            (folder.path(), "a folder"),
            (&*folder.path().join("none/out.ipynb"), "no folder"),
        ] {
            let refused = Output::at(path).unwrap_err();
            assert!(refused.message.contains(why), "{refused}");
        }
    }
}
