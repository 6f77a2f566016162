//! Which of nb's environments a kernel runs in: what its start needs of it, and what can be done to it meanwhile.
//!
//! A value that travels with the kernel's start; all else is on the disk, where other processes change it too. Knows nothing of how a
//! kernel is started or talked to.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::installed::site_packages;
use super::overlay::Overlay;
use super::pip::{self, Changes, Failure, Install, Packages, Typed};
use super::release::Releases;
use super::{Say, Uv, hex, unshare};

/// Whose overlay is the user's own.
const USER: &str = "user";

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

/// Where a kernel that runs finds what was added to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// The folder of packages to come before the others.
    pub packages: PathBuf,
    /// The Python that has it.
    pub python: PathBuf,
}

impl Kind {
    /// By its name in a kernelspec.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "pycx" => Some(Self::Pycx),
            _ => None,
        }
    }
}

impl KernelEnvironment {
    /// What is there for a kernel to start in. A failure to add what was added is a note: it starts without.
    pub async fn prepare(&self, typed: &Typed<'_>, say: Say<'_>) -> Prepared {
        let mut prepared = Prepared::default();
        let Some(overlays) = self.overlays() else {
            return prepared;
        };
        for overlay in overlays.iter().rev() {
            let find_uv = async || Ok(Uv::find(&self.data, say).await?);
            match overlay.prepare(typed, find_uv, say).await {
                Ok(true) => {
                    prepared.path.insert(0, overlay.layer().join("bin"));
                    prepared.python = Some(overlay.layer_python());
                }
                Ok(false) => {}
                Err(failure) => prepared.notes.push(format!(
                    "What was added to PyCX ({}) does not go with the release {} and was left out: {} \
                     `%nb reset` forgets it, `%pip install` tries again.",
                    overlay.asked().join(", "),
                    overlay.release,
                    failure.message,
                )),
            }
        }
        if let Some(bin) = overlays.first().and_then(|overlay| overlay.python.parent()) {
            prepared.path.push(bin.to_owned());
        }
        prepared
    }

    /// What is installed, as a kernel that starts now would see it.
    pub fn packages(&self) -> Packages {
        self.overlays()
            .and_then(|overlays| Some(overlays.first()?.packages()))
            .unwrap_or_default()
    }

    /// What was added on top of what is never changed, as it was asked for.
    pub fn added(&self) -> Vec<String> {
        let overlays = self.overlays().into_iter().flatten();
        overlays.flat_map(|overlay| overlay.asked()).collect()
    }

    /// Where what was added is, if there is something.
    pub fn added_at(&self) -> Option<Added> {
        let mut overlays = self.overlays()?.into_iter();
        overlays.find_map(|overlay| {
            Some(Added {
                packages: overlay.layer_packages()?,
                python: overlay.layer_python(),
            })
        })
    }

    /// `pip install`.
    pub async fn install(
        &self,
        install: &Install,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        let uv = Uv::find(&self.data, say).await?;
        let overlay = self.overlay(install.user)?;
        let changes = overlay.install(install, typed, &uv, say).await?;
        settle(&overlay);
        Ok(changes)
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
        let has_all = |overlay: &Overlay| names.iter().all(|name| overlay.asks_for(name));
        let of_user = self.overlay(true)?;
        let overlay = match has_all(&of_user) {
            true => of_user,
            false => self.overlay(false)?,
        };
        overlay.uninstall(&names, typed, &uv, say).await
    }

    /// What pip itself does, without changing the environment.
    pub async fn by_pip(
        &self,
        words: &[String],
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<(), Failure> {
        let uv = Uv::find(&self.data, say).await?;
        let python = self.added_at().map(|added| added.python);
        let python =
            python.map_or_else(|| self.overlay(false).map(|overlay| overlay.python), Ok)?;
        pip::by_pip(&uv, &python, words, typed, say).await
    }

    /// What it is called to people.
    pub fn title(&self) -> String {
        match (self.kind, &self.release) {
            (Kind::Pycx, Some(release)) => format!("PyCX {release}"),
            (Kind::Pycx, None) => "PyCX".to_owned(),
        }
    }

    /// Takes away all that this notebook has added; what that was.
    pub async fn reset(&self, user: bool, say: Say<'_>) -> Result<Vec<String>, Failure> {
        self.overlay(user)?.reset(say).await
    }

    fn overlay(&self, user: bool) -> Result<Overlay, Failure> {
        let overlays = self.overlays().into_iter().flatten();
        let found = if user {
            overlays.last()
        } else {
            overlays.take(1).last()
        };
        found.ok_or_else(|| {
            let release = self.release.as_deref().unwrap_or("none");
            Failure::new(format!(
                "The release {release} of PyCX is gone; restart the kernel in another one."
            ))
        })
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
        let notebook = hex(&Sha256::digest(self.whose.as_bytes())[..8]);
        Some([overlay(&notebook, vec![of_user, of_release]), user])
    }
}

/// Does later what nobody has to wait for.
fn settle(overlay: &Overlay) {
    let layer = overlay.layer();
    if !unshare::has_rest(&layer) {
        return;
    }
    let lock = overlay.folder.join("lock");
    tokio::task::spawn_blocking(move || {
        let copied =
            super::lock::blocking(&lock).and_then(|_held| unshare::unshare(&layer, Duration::MAX));
        if let Err(error) = copied {
            tracing::warn!(%error, "files of an environment are still shared with uv's cache");
        }
    });
}
