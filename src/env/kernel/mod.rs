//! Which of nb's environments a kernel runs in: what its start needs of it, and what can be done to it meanwhile.
//!
//! A value that travels with the kernel's start; all else is on the disk, where other processes change it too. Knows nothing of how a
//! kernel is started or talked to.

mod beside;
mod command;
mod locked;
mod prepare;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::changes::CHANGES;
use super::installed::{python_version, site_packages};
use super::named::Named;
use super::overlay::Overlay;
use super::pip::{self, Changes, Failure, Install, Packages, Typed};
use super::release::Releases;
use super::version::Version;
use super::{Say, Uv, hex};

/// The variable by which what a kernel starts knows its environment, as JSON.
pub const ENVIRONMENT: &str = "NB_ENVIRONMENT";

/// The variable by which it knows that its kernel was rebased, with what that is called.
pub const BASE: &str = "NB_BASE";

/// The variable with the program that is pip there.
pub const PIP: &str = "NB_PIP";

/// Whose overlay is the user's own.
const USER: &str = "user";

/// Where packages go.
enum Home {
    Overlays([Overlay; 2]),
    Named(Named),
}

/// An environment of nb's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelEnvironment {
    pub kind: Kind,
    /// nb's data folder.
    pub data: PathBuf,
    /// The release, where the environment is one.
    #[serde(default)]
    pub release: Option<String>,
    /// The notebook's full path, or what else tells this kernel from others: whose additions it has.
    pub whose: String,
}

/// What sort of environment, as a kernelspec's `metadata.nb.environment` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A release of PyCX, and what was added on top.
    Pycx,
    /// A virtual environment of the notebook's own.
    Pip,
    /// A virtual environment with a name.
    Named,
}

/// What a kernel is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Instead of the kernelspec's program.
    pub python: Option<PathBuf>,
    /// Folders of programs that come first, the first one first.
    pub path: Vec<PathBuf>,
    /// What its user should know.
    pub notes: Vec<String>,
}

impl Kind {
    /// By its name in a kernelspec.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "pycx" => Some(Self::Pycx),
            "pip" => Some(Self::Pip),
            "named" => Some(Self::Named),
            _ => None,
        }
    }
}

impl KernelEnvironment {
    /// The one whose Python this is, if it is a virtual environment of nb's.
    pub fn of_python(data: &Path, python: &Path) -> Option<Self> {
        let environment = python.ancestors().nth(2)?;
        let all = std::fs::read_dir(data.join("venvs")).ok()?;
        let mut named = all.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            (Named::new(data, &name).environment() == environment).then_some(name)
        });
        Some(Self {
            kind: Kind::Named,
            data: data.to_owned(),
            release: None,
            whose: named.next()?,
        })
    }

    /// Makes sure that no file is shared with uv's cache.
    pub async fn settle_files(&self) {
        match self.home() {
            Ok(Home::Overlays(overlays)) => {
                for overlay in &overlays {
                    overlay.settle().await;
                }
            }
            Ok(Home::Named(named)) => named.settle_files().await,
            Err(_) => {}
        }
    }

    /// Does what nobody has to wait for, as long as it is polled: no file is shared with uv's cache, all is compiled, and
    /// there is a spare for the next notebook.
    pub async fn settle(&self, typed: &Typed<'_>) {
        self.settle_files().await;
        if let Ok(Home::Named(named)) = self.home() {
            let find_uv = async || Ok(Uv::find(&self.data, &|_| ()).await?);
            named.settle(typed, find_uv).await;
        }
    }

    /// Takes back what a process that was killed has left half done.
    pub async fn tidy(&self) -> Result<(), Failure> {
        match self.home()? {
            Home::Overlays(overlays) => {
                for overlay in &overlays {
                    overlay.tidy().await?;
                }
                Ok(())
            }
            Home::Named(named) => named.tidy().await,
        }
    }

    /// What is installed, as a kernel that starts now would see it.
    pub fn packages(&self) -> Packages {
        match self.home() {
            Ok(Home::Overlays([notebook, _])) => notebook.packages(),
            Ok(Home::Named(named)) => named.packages(),
            Err(_) => Packages::new(),
        }
    }

    /// The Python that a kernel would start with now.
    pub fn python(&self) -> Option<PathBuf> {
        Some(match self.home().ok()? {
            Home::Overlays(overlays) => {
                let layer = overlays.iter().find_map(Overlay::added);
                layer.map_or_else(|| overlays[0].python.clone(), |layer| layer.python)
            }
            Home::Named(named) => named.python(),
        })
    }

    /// The version of that Python; nothing where nobody wrote it down.
    pub fn python_version(&self) -> Option<Version> {
        python_version(self.python()?.ancestors().nth(2)?)
    }

    /// What was added on top of what is never changed, as it was asked for.
    pub fn added(&self) -> Vec<String> {
        match self.home() {
            Ok(Home::Overlays(overlays)) => overlays.iter().flat_map(Overlay::asked).collect(),
            Ok(Home::Named(_)) | Err(_) => Vec::new(),
        }
    }

    /// The files in which changes are told to kernels that run.
    pub fn changes(&self) -> Vec<PathBuf> {
        match self.home() {
            Ok(Home::Overlays(overlays)) => overlays
                .map(|overlay| overlay.folder.join(CHANGES))
                .to_vec(),
            Ok(Home::Named(named)) => vec![named.folder.join(CHANGES)],
            Err(_) => Vec::new(),
        }
    }

    /// `pip install`.
    pub async fn install(
        &self,
        install: &Install,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        let uv = Uv::find(&self.data, say).await?;
        match self.home()? {
            Home::Overlays([notebook, user]) => {
                let overlay = if install.user { user } else { notebook };
                overlay.install(install, typed, &uv, say).await
            }
            Home::Named(named) => named.install(install, typed, &uv, say).await,
        }
    }

    /// `pip uninstall`.
    pub async fn uninstall(
        &self,
        names: &[String],
        files: &[String],
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        let names = typed.names(names, files)?;
        let uv = Uv::find(&self.data, say).await?;
        match self.home()? {
            Home::Overlays([notebook, user]) => {
                let of_user = names.iter().all(|name| user.asks_for(name));
                let overlay = if of_user { user } else { notebook };
                overlay.uninstall(&names, typed, &uv, say).await
            }
            Home::Named(named) => named.uninstall(&names, typed, &uv, say).await,
        }
    }

    /// What pip itself does, without changing the environment.
    pub async fn by_pip(
        &self,
        words: &[String],
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<(), Failure> {
        let uv = Uv::find(&self.data, say).await?;
        let python = self
            .python()
            .ok_or_else(|| Failure::new("The environment is gone."))?;
        pip::by_pip(&uv, &python, words, typed, say).await
    }

    /// What it is called to people.
    pub fn title(&self) -> String {
        match (self.kind, &self.release) {
            (Kind::Pycx, Some(release)) => format!("PyCX {release}"),
            (Kind::Pycx, None) => "PyCX".to_owned(),
            (Kind::Pip, _) => "pip".to_owned(),
            (Kind::Named, _) => self.whose.clone(),
        }
    }

    /// Takes away all that was added for this notebook; what that was.
    pub async fn reset(
        &self,
        user: bool,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Vec<String>, Failure> {
        match self.home()? {
            Home::Overlays([notebook, of_user]) => {
                let overlay = if user { of_user } else { notebook };
                overlay.reset(typed, say).await
            }
            Home::Named(named) => {
                let uv = Uv::find(&self.data, say).await?;
                let changes = named.reset(typed, &uv, say).await?;
                let gone = changes.replaced.values();
                Ok(gone
                    .map(|one| format!("{} {}", one.name, one.version))
                    .collect())
            }
        }
    }

    fn home(&self) -> Result<Home, Failure> {
        match self.kind {
            Kind::Pycx => self.overlays().map(Home::Overlays).ok_or_else(|| {
                let release = self.release.as_deref().unwrap_or("none");
                Failure::new(format!(
                    "The release {release} of PyCX is gone; start the kernel again to have another one."
                ))
            }),
            Kind::Named => Ok(Home::Named(Named::new(&self.data, &self.whose))),
            Kind::Pip => Ok(Home::Named(Named::new(&self.data, &of_notebook(&self.whose)))),
        }
    }

    /// The notebook's, which lies on the user's; nothing when the release is gone.
    fn overlays(&self) -> Option<[Overlay; 2]> {
        let releases = Releases::pycx(&self.data);
        let release = releases.find(self.release.as_deref()?)?;
        let python = releases.python(&release);
        let of_release = site_packages(python.ancestors().nth(2)?)?;
        let all = self.data.join("overlays");
        let overlay = |folder: &str, below: Vec<PathBuf>| Overlay {
            folder: all.join(folder),
            release: release.name.clone(),
            python: python.clone(),
            below,
        };
        let user = overlay(USER, vec![of_release.clone()]);
        // The same place in it as in the release.
        let packages = of_release.strip_prefix(python.ancestors().nth(2)?).ok()?;
        let of_user = user.layer().join(packages);
        Some([
            overlay(&of_notebook(&self.whose), vec![of_user, of_release]),
            user,
        ])
    }
}

/// The name of what belongs to a notebook.
fn of_notebook(whose: &str) -> String {
    hex(&Sha256::digest(whose.as_bytes())[..8])
}
