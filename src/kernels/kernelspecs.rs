//! Finds kernelspecs where Jupyter finds them, afresh at each call: a change on disk is seen at once.
//!
//! The order is that of `jupyter --paths`: `JUPYTER_PATH`, user, environment, system, with an active
//! environment of the user's own before the user; then nb's own. The first spec of a name wins, and one
//! that is broken hides none of another name.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::protocol::kernelspec::{self, KernelSpec};

/// A spec as it lies on disk.
#[derive(Debug)]
pub struct Found {
    /// The folder that holds `kernel.json` and its resources.
    pub folder: PathBuf,
    /// The spec, or what is wrong with it.
    pub spec: Result<KernelSpec, String>,
}

/// The folders that hold kernelspecs, first one wins.
#[derive(Clone, Debug)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// The folders that this process's environment leads to.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The same for any environment.
    pub fn from_lookup(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| var(name).map(PathBuf::from);
        let mut data: Vec<Option<PathBuf>> = Vec::new();
        if let Some(list) = var("JUPYTER_PATH") {
            let entries = env::split_paths(&list).filter(|entry| entry.is_absolute());
            data.extend(entries.map(Some));
        }
        let user = path("JUPYTER_DATA_DIR").or_else(|| {
            let share = path("XDG_DATA_HOME").or_else(|| Some(path("HOME")?.join(".local/share")));
            Some(share?.join("jupyter"))
        });
        let prefix = path("VIRTUAL_ENV").or_else(|| path("CONDA_PREFIX"));
        let preferred = prefix
            .as_deref()
            .is_some_and(|prefix| is_preferred(prefix, &var));
        let environment = prefix.map(|prefix| prefix.join("share/jupyter"));
        data.extend(match preferred {
            true => [environment, user],
            false => [user, environment],
        });
        let mut folders: Vec<_> = data.into_iter().flatten().collect();
        folders.extend(["/usr/local/share/jupyter", "/usr/share/jupyter"].map(PathBuf::from));
        let kernels = folders.into_iter().map(|folder| folder.join("kernels"));
        Self(kernels.collect())
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// These folders and none of the machine's.
    pub(super) fn of(folders: Vec<PathBuf>) -> Self {
        Self(folders)
    }

    /// The same, and after all others a folder of nb's own.
    pub fn and_own(mut self, kernels: PathBuf) -> Self {
        self.0.push(kernels);
        self
    }

    /// Every spec by its name in lower case, as Jupyter has it; blocks on the file system.
    pub fn find_all(&self) -> BTreeMap<String, Found> {
        let mut specs = BTreeMap::new();
        for entry in self
            .0
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
        {
            let folder = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_ascii_lowercase) else {
                continue;
            };
            if kernelspec::is_valid_name(&name) && folder.join("kernel.json").is_file() {
                specs.entry(name).or_insert_with(|| Found {
                    spec: read(&folder.join("kernel.json")),
                    folder,
                });
            }
        }
        specs
    }
}

/// Whether Jupyter would look into this environment before it looks at the user's folder: an active one
/// that is the user's own and not conda's base, unless somebody has said otherwise.
fn is_preferred(prefix: &Path, var: &impl Fn(&str) -> Option<OsString>) -> bool {
    if let Some(said) = var("JUPYTER_PREFER_ENV_PATH") {
        let no = ["no", "n", "false", "off", "0", "0.0"];
        return !no.iter().any(|no| said.eq_ignore_ascii_case(no));
    }
    let is_base = || var("CONDA_DEFAULT_ENV").is_none_or(|name| name == "base");
    (var("VIRTUAL_ENV").is_some() || !is_base()) && access(prefix, Access::WRITE_OK).is_ok()
}

fn read(file: &Path) -> Result<KernelSpec, String> {
    let content = read_capped(file).map_err(|error| format!("cannot be read: {error}"))?;
    KernelSpec::decode(&content).map_err(|error| error.to_string())
}

fn read_capped(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?
        .take(kernelspec::FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, name: &str, json: &str) {
        let folder = root.join("kernels").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("kernel.json"), json).unwrap();
    }

    #[test]
    fn the_first_of_a_name_wins_and_a_broken_one_breaks_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (first, user) = (root.path().join("first"), root.path().join("user"));
        put(&first, "Python3", r#"{"argv":["first"]}"#);
        put(&user, "python3", r#"{"argv":["second"]}"#);
        put(&user, "broken", "{");
        put(&user, "no name", r#"{"argv":["x"]}"#);
        let path = SearchPath::from_lookup(|name| match name {
            "JUPYTER_PATH" => Some(first.clone().into()),
            "JUPYTER_DATA_DIR" => Some(user.clone().into()),
            _ => None,
        });
        let specs = path.find_all();
        assert_eq!(specs["python3"].spec.as_ref().unwrap().argv, ["first"]);
        assert!(specs["broken"].spec.is_err());
        assert!(!specs.contains_key("no name"));

        put(&user, "later", r#"{"argv":["x"]}"#);
        assert!(path.find_all().contains_key("later"));
    }

    /// The folders for this environment, `{env}` being a folder of ours.
    fn folders(env: &Path, vars: &[(&str, &str)]) -> Vec<String> {
        let env = env.to_str().unwrap();
        let path = SearchPath::from_lookup(|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.replace("{env}", env).into())
        });
        let path = path.and_own("/data/kernels".into());
        let shown = |folder: &PathBuf| folder.to_str().unwrap().replace(env, "{env}");
        path.0.iter().map(shown).collect()
    }

    #[test]
    fn user_environment_and_system_folders_come_in_jupyters_order() {
        let env = tempfile::tempdir().unwrap();
        let user = "/h/.local/share/jupyter/kernels";
        let own = "{env}/share/jupyter/kernels";
        let home = ("HOME", "/h");
        for (vars, expected) in [
            (vec![], [user, own]),
            (vec![("VIRTUAL_ENV", "{env}")], [own, user]),
            (
                vec![("VIRTUAL_ENV", "{env}"), ("JUPYTER_PREFER_ENV_PATH", "0")],
                [user, own],
            ),
            (
                vec![("CONDA_PREFIX", "{env}"), ("CONDA_DEFAULT_ENV", "base")],
                [user, own],
            ),
            (
                vec![("CONDA_PREFIX", "{env}"), ("CONDA_DEFAULT_ENV", "x")],
                [own, user],
            ),
            (
                vec![("CONDA_PREFIX", "{env}"), ("JUPYTER_PREFER_ENV_PATH", "1")],
                [own, user],
            ),
        ] {
            let found = folders(env.path(), &[&vars[..], &[home]].concat());
            let expected = match vars.is_empty() {
                true => &expected[..1],
                false => &expected[..],
            };
            assert_eq!(found[..expected.len()], *expected, "{vars:?}");
            let rest = [
                "/usr/local/share/jupyter/kernels",
                "/usr/share/jupyter/kernels",
                "/data/kernels",
            ];
            assert_eq!(found[expected.len()..], rest, "{vars:?}");
        }
        // One that is not ours to write to.
        let foreign = folders(env.path(), &[home, ("VIRTUAL_ENV", "/none")]);
        assert_eq!(foreign[..2], [user, "/none/share/jupyter/kernels"]);
    }
}
