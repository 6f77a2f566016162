//! Makes a release: an environment from a lock, compiled and tested, which becomes the current one.
//!
//! It is made where it will stay, since environments know their own path. One that fails is gone again, and changes
//! nothing for anybody.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{RECORD, Release, Releases, remove, set_writable};
use crate::config::private_folder;
use crate::env::venv::{PYTHONS, Venv};
use crate::env::{Say, Uv, hex, lock, tool};
use crate::error::Error;

const PYCX_MANIFEST: &str = include_str!("../locks/pycx.in");
const PYCX_LOCK: &str = include_str!("../locks/pycx.txt");

const SMOKE: &str = include_str!("smoke.py");

/// What a release is made from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Requirements, a line each: what has to work.
    manifest: String,
    /// All that is installed, with hashes, as `uv pip compile --generate-hashes` makes it of the manifest.
    lock: String,
}

impl Recipe {
    /// nb's own.
    pub fn pycx() -> Self {
        Self {
            manifest: PYCX_MANIFEST.to_owned(),
            lock: PYCX_LOCK.to_owned(),
        }
    }

    /// Of somebody who makes releases of their own: two files.
    pub fn read(manifest: &Path, lock: &Path) -> Result<Self, Error> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|error| Error::user(format!("{} cannot be read: {error}", path.display())))
        };
        Ok(Self {
            manifest: read(manifest)?,
            lock: read(lock)?,
        })
    }

    #[cfg(test)]
    pub(super) fn of(manifest: &str, lock: &str) -> Self {
        Self {
            manifest: manifest.to_owned(),
            lock: lock.to_owned(),
        }
    }

    /// The distributions that the manifest names.
    fn names(&self) -> impl Iterator<Item = &str> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let names = self.manifest.lines().map(move |line| {
            let line = line.trim_start();
            &line[..line.find(|c| !is_name(c)).unwrap_or(line.len())]
        });
        names.filter(|name| !name.is_empty())
    }
}

impl Releases {
    /// Makes a release and promotes it; `false` when there was one of that content. Waits while another process does.
    pub async fn build(
        &self,
        recipe: &Recipe,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<(Release, bool), Error> {
        if recipe.names().next().is_none() {
            return Err(Error::user("the manifest names no package"));
        }
        self.make_folder()?;
        let _held = lock::exclusive(&self.lock(), say).await?;
        let python = uv.find_python(PYTHONS).await?;
        let version = python_version(&python).await?;
        let content = digest(&[&recipe.lock, &version]);
        let known = self
            .list()
            .into_iter()
            .find(|release| release.content == content);
        if let Some(release) = known {
            self.promote(&release)?;
            return Ok((release, false));
        }
        let created = Timestamp::now();
        let date = created.strftime("%Y.%m.%d");
        let name = format!("{date}-{}", &content[..8]);
        let venv = Venv {
            title: format!("the release {name}"),
            folder: self.folder.join(&name),
        };
        let made = self.fill(&venv, recipe, uv, &python, say).await;
        let release = made.and_then(|packages| {
            let release = Release {
                name,
                created,
                python: version,
                packages,
                content,
            };
            finish(&venv.folder, &release).map_err(|error| venv.unusable(&error))?;
            Ok(release)
        });
        let release = match release {
            Ok(release) => release,
            Err(error) => {
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
        // Left by one that was killed.
        match remove(&venv.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(venv.unusable(&error));
            }
            _ => {}
        }
        say(&format!("makes {}", venv.title));
        venv.create(uv, python, say).await?;
        let lock = venv.folder.join("nb-requirements.txt");
        fs::write(&lock, &recipe.lock).map_err(|error| venv.unusable(&error))?;
        // A copy: what is changed in place by somebody who may shall not be so in uv's cache.
        let how = ["--compile-bytecode", "--link-mode", "copy"];
        venv.install(uv, &lock, &how, say).await?;
        say("tests it");
        let mut smoke = tool::command(venv.python());
        smoke.args(["-I", "-c", SMOKE]).args(recipe.names());
        tool::run(&mut smoke, say).await.map_err(|said| {
            Error::user(format!(
                "{} does not work and was not promoted:\n{said}",
                venv.title
            ))
        })?;
        installed(&venv.folder).map_err(|error| venv.unusable(&error))
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
        let recipe = Recipe::pycx();
        assert!(!recipe.lock.contains("://") && !recipe.lock.contains("--index"));
        for name in recipe.names() {
            assert!(
                recipe.lock.contains(&format!("\n{name}==")) || recipe.lock.starts_with(name),
                "{name}"
            );
        }
        assert!(recipe.names().count() > 20);
    }

    #[test]
    fn a_manifest_names_distributions() {
        let recipe = Recipe::of(
            "# all\nnumpy>=2 # why\n\n  scikit-learn[x]; python_version>'3'\nsix\n",
            "",
        );
        assert_eq!(
            recipe.names().collect::<Vec<_>>(),
            ["numpy", "scikit-learn", "six"]
        );
    }
}
