//! Where the content of pexes is: each distribution unpacked once, and for each pex a folder of links to them.
//!
//! ```text
//! <data>/pex/
//!   store/<hash>/                 a distribution, or somebody's code; its files are read-only
//!   mounts/<hash>/site-packages/  hard links to the files of what a pex has; one entry of a path
//!   mounts/<hash>/nb-pex.json     what is in it
//!   lock                          who makes something holds it
//! ```
//!
//! All of it is made in a folder that ends with `.part` and appears by its rename. Python's own caches go into the
//! folders of mounts, beside the links.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::{At, Leaf};
use super::path::module;
use super::unpack::{Unless, Unpacker};
use crate::env::hex;

const RECORD: &str = "nb-pex.json";

/// More is not unpacked: no program has it, and the disk is for others too.
pub(super) const BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Threads that unpack.
const THREADS_MAX: usize = 4;

/// A distribution, or the code of a pex.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Nothing for the code.
    pub(super) project: Option<(String, String)>,
    /// The hash that the pex has for it.
    pub(super) hash: String,
    pub(super) leaves: Vec<Leaf>,
}

/// What is in a mount, as its record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub distributions: Vec<Distribution>,
    /// The modules of the pex's own code.
    pub modules: Vec<String>,
    /// Paths that two of them have with different content; the first has its way.
    pub collisions: Vec<String>,
}

/// A distribution in a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    pub project: String,
    pub version: String,
    /// What it has for Python to import, by the first part of the name.
    pub modules: Vec<String>,
}

/// A pex where Python can import from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub hash: String,
    /// The entry for `sys.path`.
    pub folder: PathBuf,
    pub content: Content,
}

/// `<data>/pex`, and whether somebody has lost interest.
pub(super) struct Store<'a> {
    pub(super) folder: &'a Path,
    pub(super) cancelled: &'a AtomicBool,
}

impl Piece {
    /// A name for this content: of what it says to be and of what is there, so that a wrong hash in one pex changes
    /// nothing for another.
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let (project, version) = match &self.project {
            Some((project, version)) => (project.as_str(), version.as_str()),
            None => ("", ""),
        };
        for text in [project, version, &self.hash] {
            add(text.as_bytes());
        }
        for leaf in &self.leaves {
            add(leaf.path.as_bytes());
            add(&leaf.size.to_le_bytes());
            add(&leaf.crc.to_le_bytes());
            add(&[u8::from(leaf.is_program)]);
        }
        hex(&hash.finalize())
    }

    fn modules(&self) -> Vec<String> {
        let names = self.leaves.iter().filter_map(|leaf| module(&leaf.path));
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Store<'_> {
    /// The mount of these pieces, if it is there; else its hash.
    pub(super) fn find(&self, pieces: &[Piece]) -> Result<Mount, String> {
        let mut hash = Sha256::new();
        for piece in pieces {
            hash.update(piece.key());
        }
        let hash = hex(&hash.finalize());
        self.mounted(&hash).ok_or(hash)
    }

    /// The mount of this hash, if it is there.
    pub(super) fn mounted(&self, hash: &str) -> Option<Mount> {
        let place = self.folder.join("mounts").join(hash);
        let record = fs::read(place.join(RECORD)).ok()?;
        Some(Mount {
            hash: hash.to_owned(),
            folder: place.join("site-packages"),
            content: serde_json::from_slice(&record).ok()?,
        })
    }

    /// The folder in which a mount is made: whoever calls holds the lock.
    pub(super) fn start(&self, hash: &str) -> Result<PathBuf, String> {
        let mounts = self.folder.join("mounts");
        fs::create_dir_all(&mounts).map_err(reason)?;
        remove_parts(&mounts).map_err(reason)?;
        let folder = mounts.join(format!("{hash}.part/site-packages"));
        fs::create_dir_all(&folder).map_err(reason)?;
        Ok(folder)
    }

    /// Lets a mount appear that was made in such a folder.
    pub(super) fn finish(&self, hash: &str, content: Content) -> Result<Mount, String> {
        let mounts = self.folder.join("mounts");
        let part = mounts.join(format!("{hash}.part"));
        let place = mounts.join(hash);
        let record = serde_json::to_vec(&content).map_err(|error| error.to_string())?;
        fs::write(part.join(RECORD), record).map_err(reason)?;
        // One without its record is no mount.
        remove(&place).map_err(reason)?;
        fs::rename(&part, &place).map_err(reason)?;
        Ok(Mount {
            hash: hash.to_owned(),
            folder: place.join("site-packages"),
            content,
        })
    }

    /// Makes the mount. Whoever calls holds the lock.
    pub(super) fn make(&self, pieces: &[Piece], hash: &str) -> Result<Mount, String> {
        let store = self.folder.join("store");
        fs::create_dir_all(&store).map_err(reason)?;
        remove_parts(&store).map_err(reason)?;
        let sizes = pieces.iter().flat_map(|piece| &piece.leaves);
        let bytes = sizes.fold(0u64, |sum, leaf| sum.saturating_add(leaf.size));
        if bytes > BYTES_MAX {
            return Err(too_large());
        }
        self.unpack_all(&store, pieces)?;
        let folder = self.start(hash)?;
        let content = self.link(&store, pieces, &folder)?;
        self.finish(hash, content)
    }

    fn unpack_all(&self, store: &Path, pieces: &[Piece]) -> Result<(), String> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut unpacker = Unpacker::new();
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(why) = self.unpack(store, piece, &mut unpacker) {
                    next.store(pieces.len(), Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(|poison| poison.into_inner());
                    failure.get_or_insert(why);
                    return;
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(THREADS_MAX).min(pieces.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let failure = failure
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        failure.map_or(Ok(()), Err)
    }

    fn unpack(&self, store: &Path, piece: &Piece, unpacker: &mut Unpacker) -> Result<(), String> {
        let key = piece.key();
        let place = store.join(&key);
        if is_whole(&place, piece) {
            return Ok(());
        }
        remove(&place).map_err(reason)?;
        let part = store.join(format!("{key}.part"));
        fs::create_dir(&part).map_err(reason)?;
        for leaf in &piece.leaves {
            let path = part.join(&leaf.path);
            let write = |unpacker: &mut Unpacker| -> Result<(), String> {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder).map_err(reason)?;
                }
                let mut options = File::options();
                let mode = if leaf.is_program { 0o555 } else { 0o444 };
                let file = options.write(true).create_new(true).mode(mode).open(&path);
                let file = BufWriter::new(file.map_err(reason)?);
                let mut file = Unless::new(file, self.cancelled);
                content(leaf, unpacker, &mut file)?;
                file.flush().map_err(reason)
            };
            write(unpacker).map_err(|why| format!("{}: {why}", leaf.path))?;
        }
        fs::rename(&part, &place).map_err(reason)
    }

    /// Links what the pieces have into one folder: the first of two with the same path has its way.
    fn link(&self, store: &Path, pieces: &[Piece], folder: &Path) -> Result<Content, String> {
        let mut seen: HashMap<&str, (u32, u64)> = HashMap::new();
        let mut collisions = Vec::new();
        for piece in pieces {
            let from = store.join(piece.key());
            for leaf in &piece.leaves {
                let content = (leaf.crc, leaf.size);
                if let Some(before) = seen.insert(&leaf.path, content) {
                    if before != content {
                        collisions.push(leaf.path.clone());
                    }
                    seen.insert(&leaf.path, before);
                    continue;
                }
                let (from, to) = (from.join(&leaf.path), folder.join(&leaf.path));
                let made = to.parent().map_or(Ok(()), fs::create_dir_all);
                // A file where another distribution has a folder.
                let Ok(()) = made else {
                    collisions.push(leaf.path.clone());
                    continue;
                };
                let linked = fs::hard_link(&from, &to);
                match linked.or_else(|_| fs::copy(&from, &to).map(|_| ())) {
                    Err(_) if to.is_dir() => collisions.push(leaf.path.clone()),
                    linked => {
                        linked.map_err(|error| format!("{}: {}", leaf.path, reason(error)))?
                    }
                }
            }
        }
        let mut content = Content {
            distributions: Vec::new(),
            modules: Vec::new(),
            collisions,
        };
        for piece in pieces {
            match &piece.project {
                Some((project, version)) => content.distributions.push(Distribution {
                    project: project.clone(),
                    version: version.clone(),
                    modules: piece.modules(),
                }),
                None => content.modules = piece.modules(),
            }
        }
        Ok(content)
    }
}

/// Whether all of its files are there with their sizes: after a loss of power they may not be.
fn is_whole(place: &Path, piece: &Piece) -> bool {
    let mut leaves = piece.leaves.iter();
    place.is_dir()
        && leaves.all(|leaf| {
            let about = fs::symlink_metadata(place.join(&leaf.path));
            about.is_ok_and(|about| about.is_file() && about.len() == leaf.size)
        })
}

fn content(leaf: &Leaf, unpacker: &mut Unpacker, to: &mut impl Write) -> Result<(), String> {
    match &leaf.at {
        At::Packed(archive, entry) => unpacker.unpack(archive, entry, to),
        At::Plain(path) => {
            let changed = || "it has changed meanwhile".to_owned();
            let mut from = File::open(path).map_err(reason)?.take(leaf.size + 1);
            let mut hash = crc32fast::Hasher::new();
            let mut buffer = vec![0; 64 * 1024];
            let mut size = 0;
            loop {
                let read = from.read(&mut buffer).map_err(reason)?;
                if read == 0 {
                    break;
                }
                size += read as u64;
                hash.update(&buffer[..read]);
                to.write_all(&buffer[..read]).map_err(reason)?;
            }
            match size == leaf.size && hash.finalize() == leaf.crc {
                true => Ok(()),
                false => Err(changed()),
            }
        }
    }
}

/// Those that nobody finished: whoever looks holds the lock.
fn remove_parts(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "part") {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A file of that name.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        removed => removed,
    }
}

pub(super) fn too_large() -> String {
    "it is larger than 64 GiB unpacked".to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn reason(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "your quota of the disk is used up".to_owned(),
        _ => error.to_string(),
    }
}
