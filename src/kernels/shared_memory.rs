//! A file of a kernel's folder that is in shared memory: the folder has a link to it. Writing there waits for no disk,
//! and what is written outlives the process, as little as it does the machine.
//!
//! Everybody may put files beside ours, so nothing is taken that is not ours and a file. What no link leads to any more
//! is swept. Knows nothing of what is in it but the first line, which says whose it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where Linux has it.
pub const FOLDER: &str = "/dev/shm";

/// What names there begin with.
const PREFIX: &str = "nb-";

/// What was written to within this time may be about to get its link.
const NEW: Duration = Duration::from_secs(60);

/// No more of a first line is read.
const OWNER_BYTES_MAX: u64 = 16 * 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    /// The link.
    of: PathBuf,
}

/// A file that is replaced as a whole.
#[derive(Debug)]
pub(super) struct Shared {
    link: PathBuf,
    memory: PathBuf,
    /// What the link leads to.
    target: Option<PathBuf>,
    is_told: bool,
}

impl Shared {
    /// The one to which `link` leads, or will: in the folder `memory`.
    pub(super) fn new(link: &Path, memory: &Path) -> Self {
        Self {
            link: link.to_owned(),
            memory: memory.to_owned(),
            target: target(link).unwrap_or(None),
            is_told: false,
        }
    }

    /// What is in it, up to so many bytes; nothing when there is none.
    pub(super) fn read(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let path = self.target.as_ref().unwrap_or(&self.link);
        let mut content = Vec::new();
        if let Some(file) = open_ours(path)? {
            file.take(bytes_max).read_to_end(&mut content)?;
        }
        Ok(content)
    }

    /// A file with this content in place of the one before, for more to be put at its end. It is in the folder itself
    /// where shared memory cannot be had, or is full.
    pub(super) fn replace(&mut self, content: &[u8]) -> io::Result<File> {
        self.replace_in_memory(content).or_else(|error| {
            if !self.is_told {
                tracing::warn!(%error, "shared memory takes nothing: a file on the disk is written to, and waited for");
                self.is_told = true;
            }
            self.replace_in_folder(content)
        })
    }

    /// Touches the disk only when there is no link yet.
    fn replace_in_memory(&mut self, content: &[u8]) -> io::Result<File> {
        let fresh = self.memory.join(format!("{PREFIX}{}", Uuid::new_v4()));
        let put = self.put(&fresh, content);
        match put {
            Ok(_) => drop(self.target.get_or_insert(fresh)),
            Err(_) => drop(fs::remove_file(fresh)),
        }
        put
    }

    fn put(&self, fresh: &Path, content: &[u8]) -> io::Result<File> {
        let owner = Owner {
            of: self.link.clone(),
        };
        let mut begun = serde_json::to_vec(&owner)?;
        begun.push(b'\n');
        begun.extend_from_slice(content);
        let mut file = create(fresh)?;
        file.write_all(&begun)?;
        if let Some(target) = &self.target {
            fs::rename(fresh, target)?;
        } else {
            let link = self.anew();
            symlink(fresh, &link)?;
            fs::rename(link, &self.link)?;
        }
        Ok(file)
    }

    fn replace_in_folder(&mut self, content: &[u8]) -> io::Result<File> {
        let fresh = self.anew();
        let mut file = create(&fresh)?;
        file.write_all(content)?;
        fs::rename(fresh, &self.link)?;
        if let Some(target) = self.target.take() {
            let _none = fs::remove_file(target);
        }
        Ok(file)
    }

    /// A path for what is to be at that of the link; what was there is gone.
    fn anew(&self) -> PathBuf {
        let path = self.link.with_extension("new");
        let _none = fs::remove_file(&path);
        path
    }
}

/// Whether somebody has removed the file, such as a system that clears up after a login.
pub(super) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|about| about.nlink() == 0)
}

/// Removes what this link leads to; the link itself goes with its folder.
pub(super) fn remove(link: &Path) {
    if let Ok(Some(target)) = target(link) {
        let _none = fs::remove_file(target);
    }
}

/// Removes what is ours in shared memory and to which no link leads any more; how many.
pub fn sweep(memory: &Path) -> usize {
    sweep_older(memory, NEW)
}

fn sweep_older(memory: &Path, than: Duration) -> usize {
    let files = fs::read_dir(memory).into_iter().flatten().flatten();
    let is_left = |path: &PathBuf| {
        let file = open_ours(path).ok().flatten();
        // Whoever writes to it holds a lock, even where its link is not to be seen from here.
        let is_free = |file: &File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let file = file.filter(|file| is_older(file, than) && is_free(file));
        let owner = file.and_then(|file| owner(&file));
        owner.is_some_and(|owner| {
            let leads_elsewhere = target(&owner.of).is_ok_and(|to| to.as_ref() != Some(path));
            owner.of.is_absolute() && leads_elsewhere
        })
    };
    let files = files.map(|file| file.path());
    let left = files.filter(|path| has_prefix(path)).filter(is_left);
    left.filter(|path| fs::remove_file(path).is_ok()).count()
}

fn is_older(file: &File, than: Duration) -> bool {
    let written = file.metadata().and_then(|about| about.modified());
    let age = written.ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age >= than)
}

fn owner(file: &File) -> Option<Owner> {
    let mut line = Vec::new();
    let mut start = BufReader::new(file.take(OWNER_BYTES_MAX));
    start.read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// What a link leads to, if there is one, and to something of ours; an error where that cannot be told.
fn target(link: &Path) -> io::Result<Option<PathBuf>> {
    use io::ErrorKind::{InvalidInput, NotFound};
    match fs::read_link(link) {
        Ok(path) => Ok(Some(path).filter(|path| has_prefix(path))),
        // There is nothing, or a file.
        Err(error) if matches!(error.kind(), NotFound | InvalidInput) => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_prefix(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(PREFIX))
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .create_new(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    // For `sweep`; what cannot be locked can be written to.
    let _free = flock(&file, FlockOperation::NonBlockingLockShared);
    Ok(file)
}

/// Nothing where nothing is, or somebody else's: everybody may put files beside ours.
fn open_ours(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = match options.read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    let is_ours = about.is_file() && about.uid() == geteuid().as_raw();
    Ok(is_ours.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_in_memory_and_is_found_by_the_link() {
        let [folder, memory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let link = folder.path().join("notes");
        let files = || fs::read_dir(memory.path()).unwrap().count();
        let mut shared = Shared::new(&link, memory.path());
        assert_eq!(shared.read(100).unwrap(), b"");
        for _ in 0..2 {
            let mut file = shared.replace(b"one\n").unwrap();
            file.write_all(b"two\n").unwrap();
            assert_eq!(files(), 1);
            let again = Shared::new(&link, memory.path()).read(1 << 20).unwrap();
            assert!(again.ends_with(b"}\none\ntwo\n"));
            assert!(!is_removed(&file));
            // It is noticed, and mended at the same place.
            fs::remove_file(shared.target.as_ref().unwrap()).unwrap();
            assert!(is_removed(&file));
            assert_eq!(shared.read(100).unwrap(), b"");
        }
        shared.replace(b"").unwrap();
        assert_eq!(sweep_older(memory.path(), Duration::ZERO), 0);
        remove(&link);
        assert_eq!(files(), 0);
    }

    #[test]
    fn without_memory_it_is_in_the_folder() {
        let [folder, memory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let link = folder.path().join("notes");
        let none = memory.path().join("none");
        let mut shared = Shared::new(&link, &none);
        shared.replace(b"one\n").unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"one\n");
        // Into memory as soon as that is there, and out of it again.
        fs::create_dir(&none).unwrap();
        shared.replace(b"two\n").unwrap();
        assert!(link.is_symlink());
        fs::remove_dir_all(&none).unwrap();
        shared.replace(b"three\n").unwrap();
        assert_eq!(Shared::new(&link, &none).read(100).unwrap(), b"three\n");
    }

    #[test]
    fn what_no_link_leads_to_is_swept_and_nothing_else() {
        let [folder, memory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let kernels = ["lives", "gone"].map(|name| folder.path().join(name));
        let mut held = Vec::new();
        for kernel in &kernels {
            fs::create_dir(kernel).unwrap();
            let mut shared = Shared::new(&kernel.join("notes"), memory.path());
            held.push(shared.replace(b"").unwrap());
        }
        fs::write(memory.path().join("nb-other"), "not ours").unwrap();
        fs::write(memory.path().join("other"), "{\"of\":\"/nowhere\"}\n").unwrap();
        fs::remove_dir_all(&kernels[1]).unwrap();
        assert_eq!(sweep(memory.path()), 0, "they are new");
        assert_eq!(
            sweep_older(memory.path(), Duration::ZERO),
            0,
            "they are written to"
        );
        held.clear();
        assert_eq!(sweep_older(memory.path(), Duration::ZERO), 1);
        assert_eq!(sweep_older(memory.path(), Duration::ZERO), 0);
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 3);
        let lives = Shared::new(&kernels[0].join("notes"), memory.path());
        assert!(!lives.read(100).unwrap().is_empty());
    }

    #[test]
    fn somebody_elses_file_says_nothing() {
        let [folder, memory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let link = folder.path().join("notes");
        let target = memory.path().join("nb-1");
        symlink(&target, &link).unwrap();
        let shared = Shared::new(&link, memory.path());
        // Neither what is no file, nor what leads elsewhere.
        fs::create_dir(&target).unwrap();
        assert_eq!(shared.read(100).unwrap(), b"");
        fs::remove_dir(&target).unwrap();
        symlink("/etc/passwd", &target).unwrap();
        assert!(shared.read(100).is_err());
    }
}
