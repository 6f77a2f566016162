//! The companion of a JupyterLab that nb starts: the Python package `extensions/nb-jupyter`, carried in this binary.
//!
//! Written beside the packages of an environment, without pip and without a network. Written there it does
//! nothing: a server has to be told of [`COMPANION_CLASS`]. Knows nothing of what the files say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Environment;
use crate::error::Error;

/// The value of `ServerApp.kernel_websocket_connection_class`.
pub const COMPANION_CLASS: &str = "nb_jupyter.connection.NbWebSocketConnection";

const PACKAGE: &str = "nb_jupyter";

macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../extensions/nb-jupyter/nb_jupyter/", $name)),
        )
    };
}

const FILES: [(&str, &str); 4] = [
    file!("__init__.py"),
    file!("connection.py"),
    file!("framing.py"),
    file!("upstream.py"),
];

/// Brings the companion in this environment to this nb's; what is the same is not touched.
pub fn install_companion(environment: &Environment) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::user(format!(
            "nb's companion cannot be written into {}: {error}",
            environment.title()
        ))
    };
    let packages = packages(environment).map_err(failed)?;
    let package = packages.join(PACKAGE);
    fs::create_dir_all(&package).map_err(failed)?;
    for (name, text) in FILES {
        write(&package.join(name), text).map_err(failed)?;
    }
    Ok(())
}

/// How a jupyter_server is equipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompanionState {
    Missing,
    /// There is one of another nb.
    Other,
    /// There is the one that this nb carries.
    Same,
}

/// What of the companion is in the environment with this folder; nothing where there is no jupyter_server.
pub fn companion_in(prefix: &Path) -> Option<CompanionState> {
    let packages = packages_in(prefix).ok()?;
    if !packages.join("jupyter_server").is_dir() {
        return None;
    }
    let package = packages.join(PACKAGE);
    let is_same = |(name, text): &(&str, &str)| {
        fs::read(package.join(name)).is_ok_and(|found| found == text.as_bytes())
    };
    Some(match package.is_dir() {
        false => CompanionState::Missing,
        true if FILES.iter().all(is_same) => CompanionState::Same,
        true => CompanionState::Other,
    })
}

fn packages(environment: &Environment) -> io::Result<PathBuf> {
    let python = environment.python();
    packages_in(python.ancestors().nth(2).unwrap_or(&python))
}

/// An environment's `lib/python3.X/site-packages`.
fn packages_in(prefix: &Path) -> io::Result<PathBuf> {
    let lib = prefix.join("lib");
    for entry in fs::read_dir(&lib)? {
        let packages = entry?.path().join("site-packages");
        if packages.is_dir() {
            return Ok(packages);
        }
    }
    let missing = format!("{} has no site-packages", lib.display());
    Err(io::Error::new(io::ErrorKind::NotFound, missing))
}

/// Whole or not at all: a server that starts beside us reads the old file or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let part = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&part, text)?;
    fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_older_companion_is_replaced_and_the_same_is_not_touched() {
        let data = tempfile::tempdir().unwrap();
        let environment = Environment::lab(data.path());
        assert!(install_companion(&environment).is_err());
        let root = environment.python().ancestors().nth(2).unwrap().to_owned();
        let packages = root.join("lib/python3.11/site-packages");
        fs::create_dir_all(&packages).unwrap();
        let states = || {
            FILES.map(|(name, text)| {
                let path = packages.join(PACKAGE).join(name);
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                fs::metadata(path).unwrap().ino()
            })
        };
        assert_eq!(companion_in(&root), None);
        fs::create_dir(packages.join("jupyter_server")).unwrap();
        assert_eq!(companion_in(&root), Some(CompanionState::Missing));
        install_companion(&environment).unwrap();
        assert_eq!(companion_in(&root), Some(CompanionState::Same));
        let first = states();
        install_companion(&environment).unwrap();
        assert_eq!(states(), first);
        fs::write(packages.join(PACKAGE).join(FILES[1].0), "older").unwrap();
        assert_eq!(companion_in(&root), Some(CompanionState::Other));
        install_companion(&environment).unwrap();
        states();
        let files = fs::read_dir(packages.join(PACKAGE)).unwrap();
        assert_eq!(files.count(), FILES.len());
    }

    #[test]
    fn the_class_is_where_servers_are_told_that_it_is() {
        let (module, class) = COMPANION_CLASS.rsplit_once('.').unwrap();
        let file = format!("{}.py", module.rsplit_once('.').unwrap().1);
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
        assert!(text.contains(&format!("\nclass {class}(")));
    }
}
