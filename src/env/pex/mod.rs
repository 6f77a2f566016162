//! Pexes: Python programs in one file or folder, with what they need. Read and unpacked here, and never run.
//!
//! ```text
//! Pex::open  what it says of itself, what is in it       (layout, zip, info)
//! Pex::fit   whether it is for an interpreter            (fit)
//! Pex::mount a folder that Python can import from        (store)
//! Base       an environment that a kernel is started in  (base)
//! ```
//!
//! [`Requirements`] become such a folder too.
//!
//! Whatever a pex says is checked: a hostile or damaged one is an error, never a panic, a file elsewhere, or a full
//! disk. Knows nothing of kernels.

mod base;
mod bytes;
mod fit;
mod info;
mod layout;
mod path;
mod requirements;
mod store;
mod unpack;
mod zip;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::spawn_blocking;

use super::interpreters::About;
use super::{Say, lock};
use crate::config::private_folder;
use crate::error::Error;

pub use base::{Base, Made, collect_bases};
pub use fit::Misfit;
pub use info::PexInfo;
pub use requirements::Requirements;
pub use store::{Content, Distribution, Mount};

use layout::{Leaf, Shape};
use store::{BYTES_MAX, Piece, Store, too_large};

/// A pex that can be read.
#[derive(Clone, Debug)]
pub struct Pex {
    path: PathBuf,
    shape: Shape,
}

/// What of a pex is for one interpreter.
#[derive(Clone, Debug)]
pub struct Fit {
    chosen: fit::Chosen,
}

impl Fit {
    /// Projects that the pex has for other platforms only.
    pub fn left_out(&self) -> &[String] {
        &self.chosen.left_out
    }
}

impl Pex {
    /// Opens one, whatever its layout.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        let opened = spawn_blocking(move || match Shape::open(&path) {
            Ok(shape) => Ok(Self { path, shape }),
            Err(why) => Err(unreadable(&path, &why)),
        });
        opened.await.unwrap_or_else(|_| Err(broken()))
    }

    /// What it says of itself.
    pub fn info(&self) -> &PexInfo {
        &self.shape.info
    }

    /// What of it is for this interpreter.
    pub fn fit(&self, about: &About) -> Result<Fit, Misfit> {
        fit::choose(&self.shape.info, about).map(|chosen| Fit { chosen })
    }

    /// The folder that Python can import it from, made if it is not there. Who drops the future stops the making.
    pub async fn mount(&self, fit: &Fit, data: &Path, say: Say<'_>) -> Result<Mount, Error> {
        let folder = data.join("pex");
        private_folder(data)?;
        private_folder(&folder)?;
        let interest = Interest::default();
        let (pex, fit) = (self.clone(), fit.clone());
        let (at, cancelled) = (folder.clone(), Arc::clone(&interest.lost));
        let found = spawn_blocking(move || -> Result<_, String> {
            let pieces = pex.pieces(&fit, &at, &cancelled)?;
            let store = Store {
                folder: &at,
                cancelled: &cancelled,
            };
            let mount = store.find(&pieces);
            Ok((mount, pieces))
        });
        let found = found.await.map_err(|_| broken())?;
        let (hash, pieces) = match found.map_err(|why| unreadable(&self.path, &why))? {
            (Ok(mount), _) => return Ok(mount),
            (Err(hash), pieces) => (hash, pieces),
        };
        let held = lock::exclusive(&folder.join("lock"), say).await?;
        say("unpacks what is new of it");
        let cancelled = Arc::clone(&interest.lost);
        let made = spawn_blocking(move || {
            // Held for as long as this thread makes something, whoever has lost interest.
            let _held = held;
            let store = Store {
                folder: &folder,
                cancelled: &cancelled,
            };
            match store.find(&pieces) {
                Ok(mount) => Ok(mount),
                Err(_) => store.make(&pieces, &hash),
            }
        });
        let made = made.await.map_err(|_| broken())?;
        made.map_err(|why| {
            let path = self.path.display();
            Error::user(format!("{path} cannot be unpacked: {why}."))
        })
    }

    /// The code first: it has its way where a distribution has the same path.
    fn pieces(&self, fit: &Fit, scratch: &Path, lost: &AtomicBool) -> Result<Vec<Piece>, String> {
        let info = &self.shape.info;
        let piece = |project, hash: &str, mut leaves: Vec<Leaf>| {
            leaves.sort_by(|one, other| one.path.cmp(&other.path));
            Piece {
                project,
                hash: hash.to_owned(),
                leaves,
            }
        };
        let deps = fit.chosen.wheels.iter();
        let nested = deps.filter_map(|(name, _)| self.shape.deps.get(name));
        let nested = nested.fold(0u64, |sum, dep| sum.saturating_add(dep.nested_bytes()));
        if nested > BYTES_MAX {
            return Err(too_large());
        }
        let mut pieces = vec![piece(None, &info.code_hash, self.shape.code.clone())];
        for (name, wheel) in &fit.chosen.wheels {
            let dep = self.shape.deps.get(name).cloned();
            let dep = dep.ok_or_else(|| format!("{name} is not in it"))?;
            let leaves = dep.leaves(scratch, lost);
            let leaves = leaves.map_err(|why| format!("of {name} it is said: {why}"))?;
            let hash = info.distributions.get(name).map_or("", String::as_str);
            let project = (wheel.project.clone(), wheel.version.clone());
            pieces.push(piece(Some(project), hash, leaves));
        }
        for piece in &pieces {
            let mut two = piece.leaves.windows(2);
            if let Some(same) = two.find(|two| two[0].path == two[1].path) {
                return Err(format!("it has {} twice", same[0].path));
            }
        }
        Ok(pieces)
    }
}

/// Tells a thread when nobody waits for it any more.
#[derive(Default)]
struct Interest {
    lost: Arc<AtomicBool>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

/// Reads all of a pex that is in memory and keeps none of it: what the fuzzer plays with.
pub fn read_through(bytes: &[u8], about: &About) -> Result<u64, String> {
    let shape = Shape::of_zip(bytes::Bytes::of_memory(bytes))?;
    let pex = Pex {
        path: PathBuf::new(),
        shape,
    };
    let fit = pex.fit(about).map_err(|misfit| format!("{misfit:?}"))?;
    let mut unpacker = unpack::Unpacker::new();
    let mut read = 0;
    for leaf in pex
        .pieces(&fit, Path::new("/no/such/folder"), &AtomicBool::new(false))?
        .iter()
        .flat_map(|piece| &piece.leaves)
    {
        if let layout::At::Packed(archive, entry) = &leaf.at {
            unpacker.unpack(archive, entry, &mut std::io::sink())?;
            read += entry.size;
        }
    }
    Ok(read)
}

fn unreadable(path: &Path, why: &str) -> Error {
    Error::user(format!(
        "{} cannot be read as a pex: {why}.",
        path.display()
    ))
}

fn broken() -> Error {
    Error::nb("nb could not go on reading the pex; its log says why.")
}
