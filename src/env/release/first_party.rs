//! The first-party packages of a release: built into wheels from an exported commit, installed as copies.
//!
//! They are built as uv builds any package from its sources, in isolation: what they need for that comes from where uv
//! gets packages, in the versions of the lock where it has them. Knows nothing of how the folders were had.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use crate::env::venv::Venv;
use crate::env::{Say, Uv};
use crate::error::Error;

/// A package that was built.
#[derive(Clone, Debug)]
pub(super) struct Wheel {
    path: PathBuf,
    /// The distribution's.
    pub(super) name: String,
}

/// Builds each folder of the manifest below `root` into a wheel in the release.
pub(super) async fn build(
    venv: &Venv,
    uv: &Uv,
    manifest: &Manifest,
    root: &Path,
    lock: Option<&Path>,
    say: Say<'_>,
) -> Result<Vec<Wheel>, Error> {
    let mut wheels: Vec<Wheel> = Vec::new();
    for (n, folder) in manifest.folders.iter().enumerate() {
        let shown = shown(folder);
        say(&format!("builds {shown}"));
        let source = root.join(folder);
        if !["pyproject.toml", "setup.py"]
            .iter()
            .any(|file| source.join(file).is_file())
        {
            return Err(Error::user(format!(
                "the first-party package {shown} has neither pyproject.toml nor setup.py"
            )));
        }
        let wheel = in_folder(venv, uv, &source, n, lock, say).await;
        let wheel = wheel.map_err(|said| {
            Error::user(format!(
                "the first-party package {shown} could not be built. uv said:\n{said}"
            ))
        })?;
        if wheels.iter().any(|other| other.name == wheel.name) {
            return Err(Error::user(format!(
                "there are two first-party packages {}: {shown} is the second",
                wheel.name
            )));
        }
        wheels.push(wheel);
    }
    Ok(wheels)
}

async fn in_folder(
    venv: &Venv,
    uv: &Uv,
    source: &Path,
    n: usize,
    lock: Option<&Path>,
    say: Say<'_>,
) -> Result<Wheel, String> {
    let wheels = venv.folder.join("nb-wheels").join(n.to_string());
    let (python, to) = (venv.python(), wheels.to_string_lossy());
    let (python, source) = (python.to_string_lossy(), source.to_string_lossy());
    // Other folders of its workspace are not there: its requirements are those of the package as it is published.
    let mut arguments = vec!["build", "--wheel", "--no-sources", "--out-dir", &to];
    arguments.extend(["--python", &python]);
    let lock = lock.map(Path::to_string_lossy);
    if let Some(lock) = &lock {
        arguments.extend(["--build-constraints", lock]);
    }
    arguments.push(&source);
    uv.run(&arguments, say).await?;
    let built = fs::read_dir(&wheels).map_err(|error| error.to_string())?;
    let mut built = built.flatten().map(|entry| entry.path());
    let path = built.find(|path| path.extension() == Some(OsStr::new("whl")));
    let path = path.ok_or("it made no wheel")?;
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name
        .and_then(distribution)
        .ok_or("it made a wheel without a name")?;
    Ok(Wheel { path, name })
}

/// The lock of a manifest that has none, made by uv into the file `to`.
pub(super) async fn lock(
    venv: &Venv,
    uv: &Uv,
    manifest: &Manifest,
    wheels: &[Wheel],
    to: &Path,
    say: Say<'_>,
) -> Result<(), Error> {
    say("makes a lock");
    let source = venv.folder.join("nb-manifest.in");
    let wheel_lines = wheels.iter().map(|wheel| wheel.path.display().to_string());
    let lines: Vec<_> = manifest
        .requirements
        .iter()
        .cloned()
        .chain(wheel_lines)
        .collect();
    fs::write(&source, lines.join("\n") + "\n").map_err(|error| venv.unusable(&error))?;
    let (python, source, to) = (
        venv.python(),
        source.to_string_lossy(),
        to.to_string_lossy(),
    );
    let python = python.to_string_lossy();
    let mut arguments = vec!["pip", "compile", "--quiet", "--generate-hashes"];
    arguments.extend(["--no-emit-index-url", "--no-annotate", "--no-header"]);
    arguments.extend(["--python", &python, "--output-file", &to]);
    // What is not installed from the lock is not in it.
    for wheel in wheels {
        arguments.extend(["--no-emit-package", &wheel.name]);
    }
    arguments.push(&source);
    uv.run(&arguments, say).await.map_err(|said| {
        Error::user(format!(
            "there is no lock, and none could be made of the manifest. uv said:\n{said}"
        ))
    })
}

/// Installs them beside what the lock names, and sees to it that nothing that they need is missing.
pub(super) async fn install(
    venv: &Venv,
    uv: &Uv,
    wheels: &[Wheel],
    say: Say<'_>,
) -> Result<(), Error> {
    if wheels.is_empty() {
        return Ok(());
    }
    let python = venv.python();
    let python = python.to_string_lossy();
    let paths: Vec<_> = wheels
        .iter()
        .map(|wheel| wheel.path.to_string_lossy())
        .collect();
    // Each commit has others, which shall not stay in uv's cache.
    let mut arguments = vec!["pip", "install", "--no-deps", "--no-index", "--no-cache"];
    arguments.extend([
        "--compile-bytecode",
        "--link-mode",
        "copy",
        "--python",
        &python,
    ]);
    arguments.extend(paths.iter().map(|path| &**path));
    uv.run(&arguments, say).await.map_err(|said| {
        Error::user(format!(
            "the first-party packages could not be installed. uv said:\n{said}"
        ))
    })?;
    let check = ["pip", "check", "--python", &python];
    uv.run(&check, say).await.map_err(|said| {
        Error::user(format!(
            "the lock does not have what the first-party packages need: make it anew. uv said:\n{said}"
        ))
    })
}

/// The name in a wheel's file name.
fn distribution(file: &str) -> Option<String> {
    let (name, _) = file.split_once('-')?;
    (!name.is_empty()).then(|| name.replace('_', "-").to_lowercase())
}

fn shown(folder: &str) -> String {
    format!("./{folder}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_says_its_distribution() {
        let name = distribution("Acme_foo-1.0-py3-none-any.whl");
        assert_eq!(name.as_deref(), Some("acme-foo"));
        assert_eq!(distribution("-1.whl"), None);
        assert_eq!(distribution("x.whl"), None);
    }
}
