//! What of a commit is followed: the manifest, its lock and the folders that it names, each by the hash of its content.
//!
//! What is not followed is not there when a release is made, so it cannot change what becomes of one.

use std::path::Path;

use super::mirror::{Entry, Kind, Mirror};
use crate::env::release::{Checkout, Manifest, Recipe, in_repository};
use crate::error::Error;

const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const LOCK_BYTES_MAX: u64 = 32 << 20;

/// Where the manifest and its lock are in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) manifest: String,
    lock: String,
    /// Whether somebody said that there is a lock.
    needs_lock: bool,
}

impl Paths {
    /// The lock is by default beside the manifest: `pycx.txt` of `pycx.in`.
    pub(super) fn new(manifest: &str, lock: Option<&str>) -> Result<Self, Error> {
        let path = |path: &str| match in_repository(path) {
            Ok(path) if path.is_empty() => Err(Error::user("the manifest and the lock are files")),
            Ok(path) => Ok(path),
            Err(why) => Err(Error::user(format!("{} {why}", path.escape_debug()))),
        };
        let manifest = path(manifest)?;
        let beside = || Some(format!("{}.txt", manifest.strip_suffix(".in")?));
        let (lock, needs_lock) = match lock {
            Some(lock) => (path(lock)?, true),
            None => (beside().unwrap_or_default(), false),
        };
        Ok(Self {
            manifest,
            lock,
            needs_lock,
        })
    }
}

/// A commit as far as it is followed.
#[derive(Debug)]
pub(super) struct Followed {
    commit: String,
    manifest: Manifest,
    lock: Option<String>,
    /// What is followed, each with the hash of its content, in one order.
    ids: Vec<(String, String)>,
}

impl Followed {
    /// Reads what the commit has.
    pub(super) async fn read(mirror: &Mirror, commit: &str, paths: &Paths) -> Result<Self, Error> {
        let short = &commit[..commit.len().min(10)];
        let missing = |path: &str| Error::user(format!("the commit {short} has no {path}"));
        let manifest = mirror.entry(commit, &paths.manifest).await?;
        let manifest = manifest.ok_or_else(|| missing(&paths.manifest))?;
        let text = file(mirror, &manifest, &paths.manifest, MANIFEST_BYTES_MAX).await?;
        let parsed = Manifest::parse(&text);
        let parsed = parsed.map_err(|why| Error::user(format!("{why} ({})", paths.manifest)))?;
        let mut ids = vec![(paths.manifest.clone(), manifest.id)];

        let mut lock = None;
        if !paths.lock.is_empty() {
            match mirror.entry(commit, &paths.lock).await? {
                Some(entry) => {
                    lock = Some(file(mirror, &entry, &paths.lock, LOCK_BYTES_MAX).await?);
                    ids.push((paths.lock.clone(), entry.id));
                }
                None if paths.needs_lock => return Err(missing(&paths.lock)),
                None => {}
            }
        }
        for folder in &parsed.folders {
            let entry = mirror.entry(commit, folder).await?;
            let entry = entry.ok_or_else(|| missing(&format!("./{folder}")))?;
            if entry.kind != Kind::Folder {
                return Err(Error::user(format!("./{folder} is {}", entry.kind.name())));
            }
            ids.push((folder.clone(), entry.id));
        }
        Ok(Self {
            commit: commit.to_owned(),
            manifest: parsed,
            lock,
            ids,
        })
    }

    /// Two commits with the same one make the same release.
    pub(super) fn source(&self) -> String {
        let ids = self.ids.iter().map(|(path, id)| format!("{id} {path}\n"));
        ids.collect()
    }

    /// Writes its folders below `root`: a recipe that is good as long as they are there.
    pub(super) async fn export(self, mirror: &Mirror, root: &Path) -> Result<Recipe, Error> {
        let is_folder = |(path, _): &&(String, String)| self.manifest.folders.contains(path);
        let folders = self.ids.iter().filter(is_folder);
        let folders: Vec<_> = folders.map(|(path, id)| (&**path, &**id)).collect();
        mirror.export(&outermost(&folders), root).await?;
        let checkout = Checkout {
            commit: self.commit,
            root: root.to_owned(),
            ids: self.ids,
        };
        Ok(Recipe::of_commit(self.manifest, self.lock, checkout))
    }
}

async fn file(mirror: &Mirror, entry: &Entry, path: &str, bytes_max: u64) -> Result<String, Error> {
    let text = match entry.kind {
        Kind::File => mirror.text(&entry.id, bytes_max).await?,
        kind => return Err(Error::user(format!("{path} is {}", kind.name()))),
    };
    text.map_err(|why| Error::user(format!("{path} {why}")))
}

/// Those that are in no other one.
fn outermost<'a>(folders: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let is_in = |inner: &str, outer: &str| inner != outer && Path::new(inner).starts_with(outer);
    let is_outermost =
        |(path, _): &&(&str, &str)| !folders.iter().any(|(other, _)| is_in(path, other));
    folders.iter().filter(is_outermost).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_beside_its_manifest() {
        let lock = |manifest, lock| {
            let paths = Paths::new(manifest, lock).unwrap();
            (paths.manifest, paths.lock, paths.needs_lock)
        };
        let of = |manifest: &str, lock: &str, needs| (manifest.to_owned(), lock.to_owned(), needs);
        assert_eq!(
            lock("./tools/pycx.in", None),
            of("tools/pycx.in", "tools/pycx.txt", false)
        );
        assert_eq!(
            lock("requirements.txt", None),
            of("requirements.txt", "", false)
        );
        assert_eq!(lock("a.in", Some("b.txt")), of("a.in", "b.txt", true));
        for path in [
            "../x",
            "/etc/passwd",
            "a/../../x",
            ".",
            "",
            ".git/config",
            "a\nb",
        ] {
            assert!(Paths::new(path, None).is_err(), "{path}");
            assert!(Paths::new("a.in", Some(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_folder_in_another_one_is_exported_with_it() {
        let all = [
            ("libs/foo", "1"),
            ("libs", "2"),
            ("libs-too", "3"),
            ("tools/x", "4"),
        ];
        let paths: Vec<_> = outermost(&all).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["libs", "libs-too", "tools/x"]);
        let root = [("", "1"), ("libs", "2")];
        assert_eq!(outermost(&root), [("", "1")]);
    }
}
