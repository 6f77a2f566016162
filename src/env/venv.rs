//! What uv does for a virtual environment: make it, and put into it what a lock names.
//!
//! Knows nothing of which environments there are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Bundle, Say, Uv};
use crate::error::Error;

/// The Pythons that every package of the locks has wheels for.
pub(super) const PYTHONS: &str = ">=3.11,<3.15";

/// After what needs it.
const NO_PYTHON: &str = "needs Python 3.11 or newer (on Debian: apt install python3), and uv could not make one with it. \
                         uv said:";

/// A virtual environment, which may not exist yet.
#[derive(Clone, Debug)]
pub(super) struct Venv {
    /// What it is called to people.
    pub(super) title: String,
    pub(super) folder: PathBuf,
}

impl Venv {
    pub(super) fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Makes it afresh, with nothing in it, of a Python as uv takes it.
    pub(super) async fn create(&self, uv: &Uv, python: &str, say: Say<'_>) -> Result<(), Error> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.unusable(&error));
            }
            _ => {}
        }
        let folder = self.folder.to_string_lossy();
        let arguments = ["venv", "--no-project", "--python", python, &folder];
        uv.run(&arguments, say)
            .await
            .map_err(|said| Error::user(format!("{} {NO_PYTHON}\n{said}", self.title)))
    }

    /// Installs what the lock at this path names, with its hashes; `how` are more arguments of uv's.
    pub(super) async fn install(
        &self,
        uv: &Uv,
        lock: &Path,
        how: &[&str],
        say: Say<'_>,
    ) -> Result<(), Error> {
        let (python, lock) = (self.python(), lock.to_string_lossy());
        let python = python.to_string_lossy();
        // The lock names every package, so nothing is to be worked out.
        let mut arguments = vec![
            "pip",
            "install",
            "--require-hashes",
            "--no-build",
            "--no-deps",
        ];
        arguments.extend(how);
        arguments.extend(["--python", &python, "--requirement", &lock]);
        if Bundle::of_this_program().is_some() {
            // Its wheels are found wherever packages come from. What is not among them has to be fetched after all.
            let offline = [&arguments[..], &["--offline"]].concat();
            if uv.run(&offline, say).await.is_ok() {
                return Ok(());
            }
        }
        uv.run(&arguments, say).await.map_err(|said| {
            Error::user(format!(
                "{} could not be made; once the cause is removed, the same command goes on. \
                 uv said:\n{said}",
                self.title
            ))
        })
    }

    pub(super) fn unusable(&self, error: &io::Error) -> Error {
        let folder = self.folder.display();
        Error::user(format!("the folder {folder} cannot be used: {error}"))
    }
}
