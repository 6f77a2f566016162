//! Where nb keeps its things.
//!
//! A leaf. Makes folders 0700 and refuses those that others could have prepared.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::settings::Journal;
use crate::account::Account;
use crate::error::{Error, reason};

/// The folders of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Sockets and the registry of kernels; short, for `sun_path`.
    pub runtime: PathBuf,
    /// Journals, the generated token.
    pub state: PathBuf,
    /// Tools and environments.
    pub data: PathBuf,
}

impl Places {
    /// The folders that this process's environment leads to.
    pub fn from_env() -> Result<Self, Error> {
        let uid = rustix::process::getuid().as_raw();
        Self::from_lookup(uid, |name| {
            std::env::var_os(name).filter(|value| !value.is_empty())
        })
    }

    /// The same for any user and environment.
    ///
    /// `XDG_RUNTIME_DIR` is not used: it goes with the login, and kernels are to outlive it.
    pub fn from_lookup(uid: u32, var: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let path = |name: &str| var(name).map(PathBuf::from);
        let home = || {
            path("HOME").ok_or_else(|| {
                Error::user("HOME is not set; set it, or NB_STATE_DIR and NB_DATA_DIR")
            })
        };
        let place = |own: &str, xdg: &str, default: &str| match (path(own), path(xdg)) {
            (Some(own), _) => Ok(own),
            (None, Some(xdg)) => Ok(xdg.join("nb")),
            (None, None) => Ok(home()?.join(default).join("nb")),
        };
        let state = place("NB_STATE_DIR", "XDG_STATE_HOME", ".local/state")?;
        let data = place("NB_DATA_DIR", "XDG_DATA_HOME", ".local/share")?;
        let runtime = path("NB_RUNTIME_DIR").unwrap_or_else(|| match uid {
            0 => PathBuf::from("/run/nb/0"),
            _ => state.join("run"),
        });
        Ok(Self {
            runtime,
            state,
            data,
        })
    }
}

impl Places {
    /// The folder of the journals of all kernels, which is made if it is not there.
    pub fn journals(&self, settings: &Journal) -> Result<PathBuf, Error> {
        let own = || self.state.join("journals");
        let folder = settings.dir.clone().unwrap_or_else(own);
        private_folder(&folder)?;
        std::path::absolute(&folder)
            .map_err(|error| Error::user(format!("{}: {error}", folder.display())))
    }
}

/// The operating system's name for our user, else its number.
pub fn user_name() -> String {
    let uid = || rustix::process::geteuid().as_raw().to_string();
    Account::own().map_or_else(uid, |account| account.name)
}

/// Makes `folder` with 0700 if there is none; refuses one that is a link, another user's or writable
/// by others.
pub fn private_folder(folder: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::user(format!(
            "the folder {} cannot be used: {}",
            folder.display(),
            reason(&error)
        ))
    };
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let metadata = fs::symlink_metadata(folder).map_err(failed)?;
    let uid = rustix::process::getuid().as_raw();
    let fault = if !metadata.is_dir() {
        "is a link"
    } else if metadata.uid() != uid {
        "belongs to another user"
    } else if metadata.mode() & 0o022 != 0 {
        "can be written to by others (chmod 700 it)"
    } else {
        return Ok(());
    };
    Err(Error::user(format!(
        "the folder {} {fault}",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn own_variables_win_over_xdg_and_home() {
        let places = Places::from_lookup(7, |name| match name {
            "HOME" => Some("/h".into()),
            "XDG_STATE_HOME" => Some("/s".into()),
            "NB_DATA_DIR" => Some("/d".into()),
            _ => None,
        });
        let expected = Places {
            runtime: "/s/nb/run".into(),
            state: "/s/nb".into(),
            data: "/d".into(),
        };
        assert_eq!(places.unwrap(), expected);
        assert!(Places::from_lookup(7, |_| None).is_err());
    }

    #[test]
    fn a_folder_that_others_could_have_prepared_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let fresh = root.path().join("a/b");
        private_folder(&fresh).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().mode() & 0o777, 0o700);
        let link = root.path().join("link");
        symlink(&fresh, &link).unwrap();
        assert!(private_folder(&link).unwrap_err().message.contains("link"));
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(
            private_folder(&fresh)
                .unwrap_err()
                .message
                .contains("others")
        );
    }
}
