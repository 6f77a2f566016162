//! Makes a release: an environment from a lock, compiled and tested, which becomes the current one.
//!
//! It is made where it will stay, since environments know their own path. One that fails is gone again, and changes
//! nothing for anybody.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::first_party::{self, Wheel};
use super::manifest::without_paths;
use super::recipe::{Checkout, Recipe};
use super::remains::{remove, set_writable};
use super::{RECORD, Release, Releases};
use crate::config::private_folder;
use crate::env::installed::{installed, site_packages};
use crate::env::venv::{PYTHONS, Venv};
use crate::env::whole::replace;
use crate::env::{Say, Uv, leftovers, lock, tool};
use crate::error::Error;

const SMOKE: &str = include_str!("smoke.py");

/// An import or a cell that takes longer hangs.
const SMOKE_LIMIT: Duration = Duration::from_mins(15);

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
        Ok(packages(&venv.folder))
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

/// What is installed, by name.
fn packages(venv: &Path) -> BTreeMap<String, String> {
    let all = installed(site_packages(venv).as_slice()).into_iter();
    all.map(|(name, one)| (name, one.version)).collect()
}

fn finish(folder: &Path, release: &Release) -> io::Result<()> {
    replace(&folder.join(RECORD), &serde_json::to_vec(release)?)?;
    set_writable(folder, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_what_and_of_which_commit() {
        let created: Timestamp = "2026-11-28T04:50:00Z".parse().unwrap();
        assert_eq!(name(created, "1a2b3c4d5e", None), "2026.11.28-1a2b3c4d");
        let of_commit = name(created, "1a2b3c4d5e", Some("0123456789abcdef"));
        assert_eq!(of_commit, "2026.11.28-1a2b3c4d-g0123456789");
    }
}
