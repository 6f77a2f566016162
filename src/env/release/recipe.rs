//! What a release is made from, and the hash of all that decides what it has in it.
//!
//! Knows nothing of how one is made of it.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::Manifest;
use crate::env::hex;
use crate::error::Error;

const PYCX_MANIFEST: &str = include_str!("../locks/pycx.in");
/// What nb's own releases have.
pub(in crate::env) const PYCX_LOCK: &str = include_str!("../locks/pycx.txt");

/// What a release is made from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What has to work.
    pub(super) manifest: Manifest,
    /// All that is installed, with hashes, as `uv pip compile --generate-hashes` makes it of the manifest; it is made
    /// so where a commit has none.
    pub(super) lock: Option<String>,
    pub(super) checkout: Option<Checkout>,
}

/// What a commit of a repository has of a release.
#[derive(Clone, Debug)]
pub struct Checkout {
    pub commit: String,
    /// The first-party packages are below it, as in the repository.
    pub root: PathBuf,
    /// What is followed, each with the hash of its content.
    pub ids: Vec<(String, String)>,
}

impl Recipe {
    /// nb's own.
    pub fn pycx() -> Result<Self, Error> {
        Self::of(PYCX_MANIFEST, PYCX_LOCK)
    }

    /// Of somebody who makes releases of their own: two files.
    pub fn read(manifest: &Path, lock: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|error| Error::user(format!("{} cannot be read: {error}", path.display())))
        };
        Self::of(&read(manifest)?, &read(lock)?)
    }

    /// Of a commit.
    pub fn of_commit(manifest: Manifest, lock: Option<String>, checkout: Checkout) -> Self {
        Self {
            manifest,
            lock,
            checkout: Some(checkout),
        }
    }

    pub(super) fn of(manifest: &str, lock: &str) -> Result<Self, Error> {
        let manifest = Manifest::parse(manifest).map_err(Error::user)?;
        if let Some(folder) = manifest.folders.first() {
            return Err(Error::user(format!(
                "the manifest names the first-party package ./{folder}, which is built from a commit of its \
                 repository: nb env watch pycx REPOSITORY --once"
            )));
        }
        Ok(Self {
            manifest,
            lock: Some(lock.to_owned()),
            checkout: None,
        })
    }

    /// The hash of all that decides what a release has in it.
    pub(super) fn content(&self, python: &str) -> String {
        let mut parts = vec![self.lock.as_deref().unwrap_or_default(), python];
        if let Some(checkout) = &self.checkout {
            parts.push(&self.manifest.text);
            for (path, id) in &checkout.ids {
                parts.extend([path.as_str(), id]);
            }
        }
        digest(&parts)
    }

    pub(super) fn commit(&self) -> Option<&str> {
        Some(&self.checkout.as_ref()?.commit)
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nbs_own_recipe_pins_by_hash_what_it_names_and_no_host() {
        let recipe = Recipe::pycx().unwrap();
        let lock = recipe.lock.unwrap();
        assert!(!lock.contains("://") && !lock.contains("--index"));
        for name in &recipe.manifest.names {
            assert!(
                lock.contains(&format!("\n{name}==")) || lock.starts_with(name),
                "{name}"
            );
        }
        assert!(recipe.manifest.names.len() > 20);
    }

    #[test]
    fn a_content_is_all_that_decides_and_not_the_commit() {
        let of = |lock: Option<&str>, manifest: &str, commit: &str, id: &str| {
            let checkout = Checkout {
                commit: commit.to_owned(),
                root: PathBuf::new(),
                ids: vec![("libs/foo".to_owned(), id.to_owned())],
            };
            let manifest = Manifest::parse(manifest).unwrap();
            Recipe::of_commit(manifest, lock.map(str::to_owned), checkout).content("3.12.1")
        };
        let one = of(Some("six==1"), "six", "c1", "t1");
        assert_eq!(of(Some("six==1"), "six", "c2", "t1"), one);
        let others = [
            of(Some("six==2"), "six", "c1", "t1"),
            of(None, "six", "c1", "t1"),
            of(Some("six==1"), "six # why", "c1", "t1"),
            of(Some("six==1"), "six", "c1", "t2"),
            Recipe::of("six", "six==1").unwrap().content("3.12.1"),
        ];
        assert!(!others.contains(&one));
        let plain = Recipe::of("six", "six==1").unwrap();
        assert_ne!(plain.content("3.12.1"), plain.content("3.12.2"));
        // As it always was: what is there is not made again.
        let renamed = Recipe::of("six # why", "six==1").unwrap();
        assert_eq!(plain.content("3"), renamed.content("3"));
        assert_eq!(plain.content("3"), digest(&["six==1", "3"]));
    }

    #[test]
    fn first_party_packages_are_of_a_commit() {
        let refused = Recipe::of("six\n./libs/foo", "").unwrap_err();
        assert!(refused.message.contains("nb env watch"), "{refused}");
    }
}
