//! Makes a release: an environment from a lock, compiled and tested, which becomes the current one.
//!
//! It is made where it will stay, since environments know their own path. One that fails is gone again, and changes
//! nothing for anybody.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::first_party::{self, Wheel};
use super::manifest::{Manifest, without_paths};
use super::remains::{remove, set_writable};
use super::{RECORD, Release, Releases};
use crate::config::private_folder;
use crate::env::venv::{PYTHONS, Venv};
use crate::env::{Say, Uv, hex, leftovers, lock, tool};
use crate::error::Error;

const PYCX_MANIFEST: &str = include_str!("../locks/pycx.in");
const PYCX_LOCK: &str = include_str!("../locks/pycx.txt");

const SMOKE: &str = include_str!("smoke.py");

/// An import or a cell that takes longer hangs.
const SMOKE_LIMIT: Duration = Duration::from_mins(15);

/// What a release is made from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What has to work.
    manifest: Manifest,
    /// All that is installed, with hashes, as `uv pip compile --generate-hashes` makes it of the manifest; it is made
    /// so where a commit has none.
    lock: Option<String>,
    checkout: Option<Checkout>,
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
    fn content(&self, python: &str) -> String {
        let mut parts = vec![self.lock.as_deref().unwrap_or_default(), python];
        if let Some(checkout) = &self.checkout {
            parts.push(&self.manifest.text);
            for (path, id) in &checkout.ids {
                parts.extend([path.as_str(), id]);
            }
        }
        digest(&parts)
    }

    fn commit(&self) -> Option<&str> {
        Some(&self.checkout.as_ref()?.commit)
    }
}

impl Releases {
    /// Makes a release and promotes it; `false` when there was one of that content. Waits while another process does.
    ///
    /// Dropping the future leaves it unfinished: [`Self::tidy`] removes that, and so does the next one that is made.
    pub async fn build(
        &self,
        recipe: &Recipe,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<(Release, bool), Error> {
        self.make_folder()?;
        let _held = lock::exclusive(&self.lock(), say).await?;
        self.sweep(say).await?;
        let python = uv.find_python(PYTHONS).await?;
        let version = python_version(&python).await?;
        let content = recipe.content(&version);
        let known = self
            .list()
            .into_iter()
            .find(|release| release.content == content);
        if let Some(release) = known {
            self.promote(&release)?;
            return Ok((release, false));
        }
        let created = Timestamp::now();
        let name = name(created, &content, recipe.commit());
        let venv = Venv {
            title: format!("the release {name}"),
            folder: self.folder.join(&name),
        };
        let uv = uv.working_in(&self.folder);
        let made = self.fill(&venv, recipe, &uv, &python, say).await;
        let release = made.and_then(|packages| {
            let release = Release {
                name,
                created,
                python: version,
                packages,
                content,
                commit: recipe.commit().map(str::to_owned),
            };
            finish(&venv.folder, &release).map_err(|error| venv.unusable(&error))?;
            Ok(release)
        });
        let release = match release {
            Ok(release) => release,
            Err(error) => {
                let _stuck = leftovers::end(&self.folder).await;
                let _next_time = remove(&venv.folder);
                return Err(error);
            }
        };
        self.promote(&release)?;
        Ok((release, true))
    }

    fn make_folder(&self) -> Result<(), Error> {
        let all = self.folder.parent().unwrap_or(&self.folder);
        if let Some(data) = all.parent() {
            private_folder(data)?;
        }
        private_folder(all)?;
        private_folder(&self.folder)
    }

    /// The environment, tested; what is in it.
    async fn fill(
        &self,
        venv: &Venv,
        recipe: &Recipe,
        uv: &Uv,
        python: &str,
        say: Say<'_>,
    ) -> Result<BTreeMap<String, String>, Error> {
        say(&format!("makes {}", venv.title));
        venv.create(uv, python, say).await?;
        let wheels = self.install(venv, recipe, uv, say).await?;
        say("tests it");
        let mut smoke = tool::command(venv.python());
        leftovers::mark(&mut smoke, &self.folder);
        smoke.args(["-I", "-c", SMOKE]);
        smoke.args(&recipe.manifest.names);
        smoke.args(wheels.iter().map(|wheel| &wheel.name));
        let tested = tool::run_for(&mut smoke, SMOKE_LIMIT, say).await;
        tested.map_err(|said| {
            Error::user(format!(
                "{} does not work and was not promoted:\n{said}",
                venv.title
            ))
        })?;
        installed(&venv.folder).map_err(|error| venv.unusable(&error))
    }

    /// All that it has in it; the first-party packages of that.
    async fn install(
        &self,
        venv: &Venv,
        recipe: &Recipe,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Vec<Wheel>, Error> {
        let unusable = |error: io::Error| venv.unusable(&error);
        let lock = venv.folder.join("nb-requirements.txt");
        if let Some(text) = &recipe.lock {
            let text = match recipe.checkout {
                Some(_) => without_paths(text),
                None => text.clone(),
            };
            fs::write(&lock, text).map_err(unusable)?;
        }
        let has_lock = recipe.lock.is_some();
        let wheels = match &recipe.checkout {
            Some(Checkout { root, .. }) => {
                let known = has_lock.then_some(&*lock);
                first_party::build(venv, uv, &recipe.manifest, root, known, say).await?
            }
            None => Vec::new(),
        };
        if !has_lock {
            first_party::lock(venv, uv, &recipe.manifest, &wheels, &lock, say).await?;
        }
        let locked = fs::read_to_string(&lock).map_err(unusable)?;
        let is_pin = |line: &str| !line.trim_start().starts_with('#') && !line.trim().is_empty();
        if locked.lines().any(is_pin) {
            // A copy: what is changed in place by somebody who may shall not be so in uv's cache.
            let how = ["--compile-bytecode", "--link-mode", "copy"];
            venv.install(uv, &lock, &how, say).await?;
        }
        first_party::install(venv, uv, &wheels, say).await?;
        Ok(wheels)
    }
}

/// What a release is called; of a commit there is enough to find it.
fn name(created: Timestamp, content: &str, commit: Option<&str>) -> String {
    let date = created.strftime("%Y.%m.%d");
    let name = format!("{date}-{}", &content[..8]);
    match commit {
        Some(commit) => format!("{name}-g{}", &commit[..commit.len().min(10)]),
        None => name,
    }
}

async fn python_version(python: &str) -> Result<String, Error> {
    let mut ask = tool::command(python);
    ask.args([
        "-I",
        "-c",
        "import platform; print(platform.python_version())",
    ]);
    let said = tool::run(&mut ask, &|_| ()).await;
    said.map_err(|said| Error::user(format!("{python} does not run: {said}")))
}

/// What is installed, by name, from the names of the folders that say so.
fn installed(venv: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut packages = BTreeMap::new();
    for python in fs::read_dir(venv.join("lib"))? {
        for entry in fs::read_dir(python?.path().join("site-packages"))? {
            let name = entry?.file_name();
            let about = name
                .to_str()
                .and_then(|name| name.strip_suffix(".dist-info"));
            if let Some((name, version)) = about.and_then(|about| about.rsplit_once('-')) {
                packages.insert(name.replace('_', "-").to_lowercase(), version.to_owned());
            }
        }
    }
    Ok(packages)
}

fn finish(folder: &Path, release: &Release) -> io::Result<()> {
    let part = folder.join("nb-release.part");
    fs::write(&part, serde_json::to_vec(release)?)?;
    fs::rename(part, folder.join(RECORD))?;
    set_writable(folder, false)
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
    fn a_name_says_when_what_and_of_which_commit() {
        let created: Timestamp = "2026-11-28T04:50:00Z".parse().unwrap();
        assert_eq!(name(created, "1a2b3c4d5e", None), "2026.11.28-1a2b3c4d");
        let of_commit = name(created, "1a2b3c4d5e", Some("0123456789abcdef"));
        assert_eq!(of_commit, "2026.11.28-1a2b3c4d-g0123456789");
    }

    #[test]
    fn first_party_packages_are_of_a_commit() {
        let refused = Recipe::of("six\n./libs/foo", "").unwrap_err();
        assert!(refused.message.contains("nb env watch"), "{refused}");
    }
}
