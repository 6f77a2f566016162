//! Where interpreters are: on the path, of the system, of pyenv, uv, conda, and what stands in `/opt`.
//!
//! Starts nothing. Scripts that only lead to an interpreter, as pyenv's shims, are none.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// No machine has more; whoever has a folder full of files with such names waits for nothing.
const CANDIDATES_MAX: usize = 200;

/// What is asked of somebody's variables.
pub(super) const VARIABLES: [&str; 6] = [
    "PATH",
    "HOME",
    "PYENV_ROOT",
    "XDG_DATA_HOME",
    "UV_PYTHON_INSTALL_DIR",
    "CONDA_PREFIX",
];

/// The file of a possible interpreter and what tells that it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    /// In nanoseconds.
    pub(super) modified: i64,
}

/// Those of somebody with these variables; none when a folder of theirs is on a disk that does not answer in time.
pub(super) async fn found(
    variable: impl Fn(&str) -> Option<OsString>,
    within: Duration,
) -> Vec<Candidate> {
    let variables = VARIABLES.map(|name| (name, variable(name)));
    let find = move || {
        let of = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)?
                .1
                .clone()
        };
        candidates(of)
    };
    let found = timeout(within, spawn_blocking(find)).await;
    found.ok().and_then(Result::ok).unwrap_or_default()
}

/// All that there are, each once.
pub(super) fn candidates(variable: impl Fn(&str) -> Option<OsString>) -> Vec<Candidate> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for folder in folders(variable) {
        for program in programs(&folder) {
            let Some(candidate) = look_at(&program) else {
                continue;
            };
            if found.len() < CANDIDATES_MAX && seen.insert(candidate.path.clone()) {
                found.push(candidate);
            }
        }
    }
    found
}

/// A file behind all links, if it is a program.
pub(super) fn look_at(program: &Path) -> Option<Candidate> {
    let path = fs::canonicalize(program).ok()?;
    let about = fs::metadata(&path).ok()?;
    if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
        return None;
    }
    let mut head = [0; 2];
    File::open(&path).ok()?.read_exact(&mut head).ok()?;
    (head != *b"#!").then(|| Candidate {
        path,
        inode: about.ino(),
        modified: about.mtime().wrapping_mul(1_000_000_000) + about.mtime_nsec(),
    })
}

fn folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect();
    // pyenv's own folder, for those who have not its variable: kernels get few.
    let shims = folders.iter().filter(|folder| folder.ends_with("shims"));
    let roots: Vec<_> = shims.filter_map(|folder| folder.parent()).collect();
    let versions = roots
        .into_iter()
        .flat_map(|root| below(&root.join("versions"), "bin"));
    let versions: Vec<_> = versions.collect();
    folders.extend(versions);
    folders.extend(["/usr/bin", "/usr/local/bin", "/opt/conda/bin"].map(PathBuf::from));
    folders.extend(below(Path::new("/opt"), "bin"));
    folders.extend(below(Path::new("/opt/python"), "bin"));
    folders.extend(below(Path::new("/opt/conda/envs"), "bin"));
    let place = |name: &str| variable(name).map(PathBuf::from);
    let home = place("HOME");
    let in_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
    let pyenv = place("PYENV_ROOT").or_else(|| in_home(".pyenv"));
    let shared = place("XDG_DATA_HOME").or_else(|| in_home(".local/share"));
    let uv = place("UV_PYTHON_INSTALL_DIR").or_else(|| Some(shared?.join("uv/python")));
    folders.extend(
        pyenv
            .iter()
            .flat_map(|root| below(&root.join("versions"), "bin")),
    );
    folders.extend(uv.iter().flat_map(|root| below(root, "bin")));
    for conda in ["miniconda3", "anaconda3", "miniforge3", "mambaforge"] {
        let Some(root) = in_home(conda) else { continue };
        folders.extend(below(&root.join("envs"), "bin"));
        folders.push(root.join("bin"));
    }
    folders.extend(place("CONDA_PREFIX").map(|prefix| prefix.join("bin")));
    // Conda's own list of its environments, wherever they are.
    let listed = in_home(".conda/environments.txt").and_then(|list| fs::read_to_string(list).ok());
    let listed = listed.unwrap_or_default();
    folders.extend(listed.lines().map(|prefix| Path::new(prefix).join("bin")));
    folders
}

/// `<folder>/*/<name>`, in order.
fn below(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path().join(name)).collect();
    found.sort();
    found
}

/// What is called as interpreters are.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .filter(|name| name.to_str().is_some_and(is_interpreter))
        .collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// `python3`, `python3.11`, `python3.13t`, `pypy3.10`; not `python3-config`.
fn is_interpreter(name: &str) -> bool {
    let Some(version) = ["python", "pypy"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
    else {
        return false;
    };
    let version = version.strip_suffix('t').unwrap_or(version);
    version.starts_with('3') && version.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_of_interpreters_are_known() {
        let names = ["python3", "python3.11", "python3.13t", "pypy3", "pypy3.10"];
        assert!(names.iter().all(|name| is_interpreter(name)));
        let others = [
            "python",
            "python2.7",
            "python3-config",
            "python3.11-config",
            "pythonw",
        ];
        assert!(!others.iter().any(|name| is_interpreter(name)));
    }

    #[test]
    fn each_program_is_found_once_and_scripts_are_not() {
        let home = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(home.path()).unwrap();
        let place = |path: &str| {
            let path = home.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let program = |path: &str, text: &str| {
            fs::write(place(path), text).unwrap();
            fs::set_permissions(home.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        };
        program(".pyenv/versions/3.9.18/bin/python3.9", "an interpreter");
        program(".pyenv/shims/python3.9", "#!/bin/sh");
        program("uv/cpython-3.12/bin/python3.12", "another");
        program("env/bin/python3.10", "of conda");
        program("other/versions/3.8.18/bin/python3.8", "of another pyenv");
        fs::create_dir_all(home.join("other/shims")).unwrap();
        fs::write(place("shims/python3.7"), "no program").unwrap();
        symlink(home.join("env/bin/python3.10"), place("shims/python3")).unwrap();
        symlink("nowhere", place("shims/python3.8")).unwrap();
        let list = format!("{}\n", home.join("env").display());
        fs::write(place(".conda/environments.txt"), list).unwrap();
        let found = candidates(|name| {
            Some(match name {
                "HOME" => home.clone().into(),
                "PATH" => {
                    std::env::join_paths(["shims", "other/shims"].map(|it| home.join(it))).unwrap()
                }
                "UV_PYTHON_INSTALL_DIR" => home.join("uv").into(),
                _ => return None,
            })
        });
        let own = found
            .iter()
            .filter_map(|it| it.path.strip_prefix(&home).ok());
        let own: Vec<_> = own.map(|path| path.to_str().unwrap()).collect();
        let expected = [
            "env/bin/python3.10",
            "other/versions/3.8.18/bin/python3.8",
            ".pyenv/versions/3.9.18/bin/python3.9",
            "uv/cpython-3.12/bin/python3.12",
        ];
        assert_eq!(own, expected);
    }
}
