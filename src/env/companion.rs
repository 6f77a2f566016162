//! The companion of a JupyterLab that nb starts: the Python package `extensions/nb-jupyter`, carried in this binary.
//!
//! Written beside the packages of an environment, without pip and without a network, with its plugin where Lab looks for
//! plugins. Written there it does nothing: a server has to be told of [`COMPANION_CLASS`] and of [`COMPANION`], and
//! the plugin is silent where no server has it. Knows nothing of what the files say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Environment;
use super::installed::site_packages;
use crate::error::Error;

/// The value of `ServerApp.kernel_websocket_connection_class`.
pub const COMPANION_CLASS: &str = "nb_jupyter.connection.NbWebSocketConnection";

/// The companion as a server extension, which serves what the plugin asks for.
pub const COMPANION: &str = "nb_jupyter";

const PACKAGE: &str = COMPANION;

/// Where Lab finds the plugin in an environment.
const PLUGIN: &str = "share/jupyter/labextensions/nb-jupyter-outputs";

macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../extensions/nb-jupyter/nb_jupyter/", $name)),
        )
    };
    ($folder:literal, $name:literal) => {
        (
            $name,
            include_str!(concat!(
                "../../extensions/nb-jupyter/nb_jupyter/",
                $folder,
                "/",
                $name
            )),
        )
    };
}

const FILES: [(&str, &str); 7] = [
    file!("__init__.py"),
    file!("connection.py"),
    file!("framing.py"),
    file!("journal.py"),
    file!("kernels.py"),
    file!("line.py"),
    file!("upstream.py"),
];

/// The plugin in the page, as `extensions/nb-labextension` makes it.
const PLUGIN_FILES: [(&str, &str); 2] = [
    file!("labextension", "package.json"),
    file!("labextension", "static/remoteEntry.js"),
];

/// Brings the companion in this environment to this nb's; what is the same is not touched.
pub fn install_companion(environment: &Environment) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::user(format!(
            "nb's companion cannot be written into {}: {error}",
            environment.title()
        ))
    };
    let python = environment.python();
    let prefix = python.ancestors().nth(2).unwrap_or(&python);
    for (path, text) in files_in(prefix).map_err(failed)? {
        write(&path, text).map_err(failed)?;
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
    let is_same =
        |(path, text): &(PathBuf, &str)| fs::read(path).is_ok_and(|found| found == text.as_bytes());
    Some(match packages.join(PACKAGE).is_dir() {
        false => CompanionState::Missing,
        true if files_in(prefix).ok()?.iter().all(is_same) => CompanionState::Same,
        true => CompanionState::Other,
    })
}

/// All files of the companion, with their places in the environment with this folder.
fn files_in(prefix: &Path) -> io::Result<Vec<(PathBuf, &'static str)>> {
    let place = |folder: PathBuf| move |(name, text)| (folder.join(name), text);
    let package = packages_in(prefix)?.join(PACKAGE);
    let files = FILES.into_iter().map(place(package));
    let plugin = PLUGIN_FILES.into_iter().map(place(prefix.join(PLUGIN)));
    Ok(files.chain(plugin).collect())
}

fn packages_in(prefix: &Path) -> io::Result<PathBuf> {
    let missing = || format!("{} has no site-packages", prefix.join("lib").display());
    let missing = || io::Error::new(io::ErrorKind::NotFound, missing());
    site_packages(prefix).ok_or_else(missing)
}

/// Whole or not at all: a server that starts beside us reads the old file or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&part, text)?;
    fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::hex;
    use sha2::{Digest, Sha256};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_older_companion_is_replaced_and_the_same_is_not_touched() {
        let data = tempfile::tempdir().unwrap();
        let environment = Environment::lab(data.path());
        assert!(install_companion(&environment).is_err());
        let root = environment.python().ancestors().nth(2).unwrap().to_owned();
        let packages = root.join("lib/python3.11/site-packages");
        fs::create_dir_all(&packages).unwrap();
        let states = || -> Vec<u64> {
            let state = |(path, text): (PathBuf, &str)| {
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                fs::metadata(path).unwrap().ino()
            };
            files_in(&root).unwrap().into_iter().map(state).collect()
        };
        assert_eq!(companion_in(&root), None);
        fs::create_dir(packages.join("jupyter_server")).unwrap();
        assert_eq!(companion_in(&root), Some(CompanionState::Missing));
        install_companion(&environment).unwrap();
        assert_eq!(companion_in(&root), Some(CompanionState::Same));
        let first = states();
        install_companion(&environment).unwrap();
        assert_eq!(states(), first);
        let older = [
            packages.join(PACKAGE).join(FILES[1].0),
            root.join(PLUGIN).join(PLUGIN_FILES[1].0),
        ];
        for older in older {
            fs::write(older, "older").unwrap();
            assert_eq!(companion_in(&root), Some(CompanionState::Other));
            install_companion(&environment).unwrap();
            assert_eq!(companion_in(&root), Some(CompanionState::Same));
        }
        let files = fs::read_dir(packages.join(PACKAGE)).unwrap();
        assert_eq!(files.count(), FILES.len());
    }

    /// Who changes the plugin makes it anew: `cargo xtask labextension`.
    #[test]
    fn the_plugin_is_made_from_its_sources() {
        let extensions = Path::new(env!("CARGO_MANIFEST_DIR")).join("extensions");
        let source = extensions.join("nb-labextension");
        let made_from = extensions.join("nb-jupyter/nb_jupyter/labextension/sources.sha256");
        let made_from = fs::read_to_string(made_from).unwrap();
        let mut known = Vec::new();
        for line in made_from.lines() {
            let (hash, name) = line.split_once("  ").unwrap();
            let now = hex(&Sha256::digest(fs::read(source.join(name)).unwrap()));
            assert_eq!(now, hash, "{name} has changed");
            known.push(name.to_owned());
        }
        let mut there = Vec::new();
        for folder in ["", "src"] {
            for entry in fs::read_dir(source.join(folder)).unwrap() {
                let entry = entry.unwrap();
                let name = Path::new(folder).join(entry.file_name());
                let name = name.to_str().unwrap().to_owned();
                if entry.file_type().unwrap().is_file() && !name.starts_with('.') {
                    there.push(name);
                }
            }
        }
        there.sort();
        assert_eq!(known, there);
        // What it makes starts with Lab's own version of a manifest.
        let manifest: serde_json::Value = serde_json::from_str(PLUGIN_FILES[0].1).unwrap();
        assert_eq!(manifest["jupyterlab"]["_build"]["load"], PLUGIN_FILES[1].0);
        assert!(PLUGIN.ends_with(manifest["name"].as_str().unwrap()));
    }

    #[test]
    fn the_class_is_where_servers_are_told_that_it_is() {
        let (module, class) = COMPANION_CLASS.rsplit_once('.').unwrap();
        let file = format!("{}.py", module.rsplit_once('.').unwrap().1);
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
        assert!(text.contains(&format!("\nclass {class}(")));
    }
}
