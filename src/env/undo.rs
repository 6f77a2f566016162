//! A change to a folder that can be taken back, also by another process when the one that made it was killed.
//!
//! ```text
//! <folder>.undo/files/<n>   a hard link to each file that was there
//! <folder>.undo/index       which path each has; while it is there, the change is not over
//! ```
//!
//! Files have to be replaced and not written to, as installers do. What Python compiled is not kept: it makes it again.
//! Whoever changes the folder holds its lock. Blocks on the file system.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// How an index ends that is whole.
const END: &[u8] = b"end\0";

/// What Python makes by itself.
const COMPILED: &str = "__pycache__";

/// A change that is not over; dropped, it is left to [`Undo::recover`].
#[must_use]
#[derive(Debug)]
pub(super) struct Undo {
    folder: PathBuf,
    store: PathBuf,
}

/// What there was at a path.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    /// The number of the link that keeps it.
    File(usize),
    Link(PathBuf),
}

impl Undo {
    /// Keeps what is in the folder, which exists.
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        let undo = Self::of(folder);
        remove(&undo.store)?;
        let files = undo.store.join("files");
        fs::create_dir_all(&files)?;
        let mut index = Vec::new();
        let mut count = 0;
        walk(folder, Path::new(""), &mut |path, kind| {
            let (tag, more) = match kind {
                Kind::Folder => (b'd', Vec::new()),
                Kind::File => {
                    let (from, to) = (folder.join(path), files.join(count.to_string()));
                    if fs::hard_link(&from, &to).is_err() {
                        fs::copy(&from, &to)?;
                    }
                    count += 1;
                    (b'f', (count - 1).to_string().into_bytes())
                }
                Kind::Link => {
                    let target = fs::read_link(folder.join(path))?;
                    (b'l', target.into_os_string().as_bytes().to_vec())
                }
            };
            for part in [&[tag], path.as_os_str().as_bytes(), &more] {
                index.extend_from_slice(part);
                index.push(0);
            }
            Ok(())
        })?;
        index.extend_from_slice(END);
        let part = undo.store.join("index.part");
        fs::write(&part, index)?;
        // One that a power cut has cut short would say that there was nothing.
        fs::File::open(&part)?.sync_all()?;
        fs::rename(part, undo.index())?;
        Ok(undo)
    }

    /// The change stays.
    pub(super) fn commit(self) -> io::Result<()> {
        fs::remove_file(self.index())?;
        remove(&self.store)
    }

    /// The folder is as it was.
    pub(super) fn roll_back(self) -> io::Result<()> {
        let index = fs::read(self.index())?;
        let Some(entries) = parse(&index) else {
            tracing::warn!(folder = %self.folder.display(), "what was there before a change is not known, it stays as it is");
            return self.commit();
        };
        let known: BTreeSet<&Path> = entries.iter().map(|(path, _)| path.as_path()).collect();
        let mut strange = Vec::new();
        walk(&self.folder, Path::new(""), &mut |path, _| {
            if !known.contains(path) {
                strange.push(path.to_owned());
            }
            Ok(())
        })?;
        for path in strange {
            remove(&self.folder.join(path))?;
        }
        for (path, entry) in &entries {
            self.put_back(path, entry)?;
        }
        self.commit()
    }

    /// Whether somebody changes this folder, or was killed while he did.
    pub(super) fn is_open(folder: &Path) -> bool {
        Self::of(folder).index().exists()
    }

    /// Takes back a change to this folder that nobody ended; whether there was one.
    pub(super) fn recover(folder: &Path) -> io::Result<bool> {
        let undo = Self::of(folder);
        let was_changing = undo.index().exists();
        if was_changing {
            undo.roll_back()?;
        } else {
            remove(&undo.store)?;
        }
        Ok(was_changing)
    }

    fn put_back(&self, path: &Path, entry: &Entry) -> io::Result<()> {
        let to = self.folder.join(path);
        let now = fs::symlink_metadata(&to).ok();
        match entry {
            Entry::Folder if now.as_ref().is_some_and(fs::Metadata::is_dir) => Ok(()),
            Entry::Folder => {
                remove(&to)?;
                fs::create_dir(&to)
            }
            Entry::Link(target) if fs::read_link(&to).is_ok_and(|now| now == *target) => Ok(()),
            Entry::Link(target) => {
                remove(&to)?;
                symlink(target, &to)
            }
            Entry::File(number) => {
                let kept = self.store.join("files").join(number.to_string());
                let of_kept = match fs::metadata(&kept) {
                    // Put back by one that was killed then.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && now.is_some() => {
                        return Ok(());
                    }
                    of_kept => of_kept?,
                };
                let is_same =
                    |now: &fs::Metadata| (now.dev(), now.ino()) == (of_kept.dev(), of_kept.ino());
                if now.as_ref().is_some_and(is_same) {
                    return Ok(());
                }
                remove(&to)?;
                fs::rename(kept, &to)
            }
        }
    }

    fn of(folder: &Path) -> Self {
        let mut store = folder.to_owned().into_os_string();
        store.push(".undo");
        Self {
            folder: folder.to_owned(),
            store: store.into(),
        }
    }

    fn index(&self) -> PathBuf {
        self.store.join("index")
    }
}

enum Kind {
    Folder,
    File,
    Link,
}

/// Every entry below a folder, folders before what is in them.
fn walk(
    root: &Path,
    below: &Path,
    each: &mut dyn FnMut(&Path, Kind) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let (path, kind) = (below.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() && entry.file_name() == COMPILED {
            continue;
        }
        if kind.is_dir() {
            each(&path, Kind::Folder)?;
            walk(root, &path, each)?;
        } else if kind.is_symlink() {
            each(&path, Kind::Link)?;
        } else if kind.is_file() {
            each(&path, Kind::File)?;
        }
    }
    Ok(())
}

/// Nothing for one that is not whole.
fn parse(index: &[u8]) -> Option<Vec<(PathBuf, Entry)>> {
    let index = index.strip_suffix(END)?;
    let mut parts = index.split(|byte| *byte == 0);
    let path = |part: &[u8]| PathBuf::from(OsStr::from_bytes(part));
    let mut entries = Vec::new();
    while let (Some(tag), Some(name), Some(more)) = (parts.next(), parts.next(), parts.next()) {
        let number = || std::str::from_utf8(more).ok()?.parse().ok();
        let entry = match tag {
            b"d" => Some(Entry::Folder),
            b"l" => Some(Entry::Link(path(more))),
            b"f" => number().map(Entry::File),
            _ => None,
        };
        entries.extend(entry.map(|entry| (path(name), entry)));
    }
    Some(entries)
}

/// Whatever it is; what is not there is removed already.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn content(folder: &Path) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        walk(folder, Path::new(""), &mut |path, kind| {
            let text = match kind {
                Kind::Folder => "folder".to_owned(),
                Kind::Link => format!("-> {}", fs::read_link(folder.join(path))?.display()),
                Kind::File => fs::read_to_string(folder.join(path))?,
            };
            all.insert(path.to_owned(), text);
            Ok(())
        })
        .unwrap();
        all
    }

    fn replace(path: &Path, text: &str) {
        let part = path.with_extension("part");
        fs::write(&part, text).unwrap();
        fs::rename(part, path).unwrap();
    }

    /// A folder, and what is done to it.
    fn changed() -> (tempfile::TempDir, PathBuf, BTreeMap<PathBuf, String>, Undo) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("env");
        fs::create_dir_all(folder.join("lib/a/__pycache__")).unwrap();
        fs::create_dir(folder.join("lib/gone")).unwrap();
        for file in [
            "lib/a/one.py",
            "lib/a/two.py",
            "lib/gone/three.py",
            "lib/turns",
        ] {
            fs::write(folder.join(file), file).unwrap();
        }
        symlink("lib", folder.join("lib64")).unwrap();
        let before = content(&folder);
        let undo = Undo::begin(&folder).unwrap();
        replace(&folder.join("lib/a/one.py"), "new");
        fs::remove_file(folder.join("lib/a/two.py")).unwrap();
        fs::remove_dir_all(folder.join("lib/gone")).unwrap();
        fs::create_dir_all(folder.join("lib/new/__pycache__")).unwrap();
        fs::write(folder.join("lib/new/four.py"), "").unwrap();
        fs::remove_file(folder.join("lib/turns")).unwrap();
        fs::create_dir(folder.join("lib/turns")).unwrap();
        fs::remove_file(folder.join("lib64")).unwrap();
        symlink("elsewhere", folder.join("lib64")).unwrap();
        (root, folder, before, undo)
    }

    #[test]
    fn what_is_rolled_back_is_as_it_was() {
        let (_root, folder, before, undo) = changed();
        undo.roll_back().unwrap();
        assert_eq!(content(&folder), before);
        assert!(!folder.with_extension("undo").exists());
        assert!(!Undo::recover(&folder).unwrap());
    }

    #[test]
    fn what_nobody_ended_is_rolled_back_by_the_next_also_when_that_was_cut_short() {
        let (_root, folder, before, undo) = changed();
        drop(undo);
        // Half of it is back already.
        let again = Undo::of(&folder);
        let entries = parse(&fs::read(again.index()).unwrap()).unwrap();
        for (path, entry) in &entries[..entries.len() / 2] {
            let _folder_missing = again.put_back(path, entry);
        }
        let moved = |entry: &Entry| matches!(entry, Entry::File(n) if !again.store.join(format!("files/{n}")).exists());
        assert!(entries.iter().any(|(_, entry)| moved(entry)));
        assert!(Undo::recover(&folder).unwrap());
        assert_eq!(content(&folder), before);
    }

    #[test]
    fn what_is_committed_stays() {
        let (_root, folder, before, undo) = changed();
        undo.commit().unwrap();
        assert!(!Undo::recover(&folder).unwrap());
        assert_ne!(content(&folder), before);
    }

    #[test]
    fn an_index_that_is_cut_short_removes_nothing() {
        let (_root, folder, _, undo) = changed();
        let now = content(&folder);
        let index = fs::read(undo.index()).unwrap();
        for length in [0, 1, index.len() - 1] {
            fs::create_dir_all(&undo.store).unwrap();
            fs::write(undo.index(), &index[..length]).unwrap();
            assert!(Undo::recover(&folder).unwrap());
            assert_eq!(content(&folder), now, "{length}");
        }
    }

    #[test]
    fn what_had_not_begun_changes_nothing() {
        let (_root, folder, _, undo) = changed();
        fs::rename(undo.index(), undo.store.join("index.part")).unwrap();
        let now = content(&folder);
        assert!(!Undo::recover(&folder).unwrap());
        assert_eq!(content(&folder), now);
    }
}
