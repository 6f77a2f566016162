//! Virtual environments made from locks: made once, recognised at once, made again when broken.
//!
//! The locks are `locks/*.txt`, compiled from the `.in` file beside each with `uv pip compile
//! --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header`.
//! Where packages come from is the user's setting of uv. Knows nothing of what runs in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::venv::{PYTHONS, Venv};
use super::whole::replace;
use super::{Say, Uv, hex, lock};
use crate::config::private_folder;
use crate::error::Error;

const LAB_LOCK: &str = include_str!("locks/lab.txt");

const SQL_LOCK: &str = include_str!("locks/sql.txt");

/// All of them, with what they are for.
pub(super) const LOCKS: [(&str, &str); 2] = [("JupyterLab", LAB_LOCK), ("%%sql", SQL_LOCK)];

/// Written last, so an environment without it is an unfinished one.
const MARKER: &str = "nb-lock.sha256";

/// A virtual environment and what is to be in it.
#[derive(Clone, Debug)]
pub struct Environment {
    venv: Venv,
    lock: &'static str,
}

impl Environment {
    /// Where JupyterLab runs. One folder per lock: a running Lab is never changed under its feet.
    pub fn lab(data: &Path) -> Self {
        let name = format!("envs/lab-{}", &digest(LAB_LOCK)[..8]);
        Self::new("JupyterLab's environment", data.join(name), LAB_LOCK)
    }

    /// Where databases are asked: their drivers and DuckDB.
    pub fn sql(data: &Path) -> Self {
        let name = format!("envs/sql-{}", &digest(SQL_LOCK)[..8]);
        Self::new("the environment of %%sql", data.join(name), SQL_LOCK)
    }

    fn new(title: &str, folder: PathBuf, lock: &'static str) -> Self {
        let title = title.to_owned();
        Self {
            venv: Venv { title, folder },
            lock,
        }
    }

    /// What it is called to people.
    pub fn title(&self) -> &str {
        &self.venv.title
    }

    /// Its Python, which may not exist yet.
    pub fn python(&self) -> PathBuf {
        self.venv.python()
    }

    /// Whether it was made to the end from this very lock and its Python is still there.
    pub fn is_ready(&self) -> bool {
        self.python().exists() && self.marker().is_some_and(|made| made == digest(self.lock))
    }

    /// Makes it if it is not ready; waits while another process does.
    ///
    /// One that was finished from another lock is brought to this one and keeps what people added;
    /// an unfinished one, or one whose Python is gone, is made afresh.
    pub async fn make(&self, uv: &Uv, say: Say<'_>) -> Result<(), Error> {
        let envs = self.venv.folder.parent().unwrap_or(&self.venv.folder);
        if let Some(data) = envs.parent() {
            private_folder(data)?;
        }
        private_folder(envs)?;
        let _held = lock::exclusive(&self.beside(".lock"), say).await?;
        if self.is_ready() {
            return Ok(());
        }
        if self.marker().is_none() || !self.python().exists() {
            self.venv.create(uv, PYTHONS, say).await?;
        }
        self.install(uv, say).await?;
        self.finish().map_err(|error| self.venv.unusable(&error))
    }

    async fn install(&self, uv: &Uv, say: Say<'_>) -> Result<(), Error> {
        let requirements = self.venv.folder.join("nb-requirements.txt");
        fs::write(&requirements, self.lock).map_err(|error| self.venv.unusable(&error))?;
        self.venv.install(uv, &requirements, &[], say).await
    }

    fn finish(&self) -> io::Result<()> {
        replace(&self.venv.folder.join(MARKER), digest(self.lock).as_bytes())
    }

    fn marker(&self) -> Option<String> {
        fs::read_to_string(self.venv.folder.join(MARKER)).ok()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.venv.folder.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}

fn digest(lock: &str) -> String {
    hex(&Sha256::digest(lock.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = "six==1.17.0 \\\n    \
        --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n";

    const OTHER: &str = "six==1.16.0 \\\n    \
        --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n";

    const FORGED: &str = "six==1.15.0 \\\n    \
        --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n";

    fn tiny(folder: &Path, lock: &'static str) -> Environment {
        Environment::new("a tiny environment", folder.join("envs/tiny"), lock)
    }

    #[test]
    fn the_lock_pins_by_hash_and_names_no_host() {
        for (lock, packages) in [
            (LAB_LOCK, &["jupyterlab==4.", "jupyterlab-widgets=="][..]),
            (
                SQL_LOCK,
                &["adbc-driver-manager==1.", "duckdb==", "pyarrow=="],
            ),
        ] {
            for package in packages {
                let is_there = lock.lines().any(|line| line.starts_with(package));
                assert!(is_there, "{package}");
            }
            assert!(!lock.contains("://") && !lock.contains("--index"));
            let mut pins = lock.lines().filter(|line| !line.starts_with(' '));
            assert!(pins.all(|pin| pin.contains("==") && pin.ends_with('\\')));
            assert!(lock.contains("--hash=sha256:"));
        }
    }

    #[tokio::test]
    async fn an_environment_is_made_recognised_and_repaired() {
        let data = tempfile::tempdir().unwrap();
        let uv = Uv::find(data.path(), &|_| ()).await.unwrap();
        let environment = tiny(data.path(), TINY);
        // What an interrupted start leaves behind.
        fs::create_dir_all(environment.venv.folder.join("bin")).unwrap();
        fs::write(environment.python(), "half").unwrap();
        assert!(!environment.is_ready());

        let (first, second) = tokio::join!(
            environment.make(&uv, &|_| ()),
            environment.make(&uv, &|_| ()),
        );
        first.unwrap();
        second.unwrap();
        assert!(environment.is_ready());
        let mut python = tool_command(&environment);
        assert!(
            python
                .args(["-c", "import six"])
                .status()
                .await
                .unwrap()
                .success()
        );

        // Another lock is installed on top of what people added.
        let added = environment.venv.folder.join("added");
        fs::write(&added, "").unwrap();
        let other = tiny(data.path(), OTHER);
        assert!(!other.is_ready());
        other.make(&uv, &|_| ()).await.unwrap();
        assert!(other.is_ready() && added.exists());
        let refused = tiny(data.path(), FORGED).make(&uv, &|_| ()).await;
        let refused = refused.unwrap_err();
        assert!(refused.message.contains("ash"), "{refused}");
        assert!(added.exists() && other.is_ready());

        // A Python that went away with an upgrade of the system.
        fs::remove_file(environment.python()).unwrap();
        assert!(!environment.is_ready());
        environment.make(&uv, &|_| ()).await.unwrap();
        assert!(environment.is_ready() && !added.exists());
    }

    fn tool_command(environment: &Environment) -> tokio::process::Command {
        super::super::tool::command(environment.python())
    }
}
