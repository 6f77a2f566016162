//! Finds kernelspecs where Jupyter finds them, afresh at each call: a change on disk is seen at once.
//!
//! The order is that of `jupyter --paths`: `JUPYTER_PATH`, user, environment, system; the first
//! spec of a name wins, and one that is broken hides none of another name.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
        let mut data = Vec::new();
        if let Some(list) = var("JUPYTER_PATH") {
            data.extend(env::split_paths(&list).filter(|entry| entry.is_absolute()));
        }
        data.extend(path("JUPYTER_DATA_DIR").or_else(|| {
            let share = path("XDG_DATA_HOME").or_else(|| Some(path("HOME")?.join(".local/share")));
            Some(share?.join("jupyter"))
        }));
        let prefix = path("VIRTUAL_ENV").or_else(|| path("CONDA_PREFIX"));
        data.extend(prefix.map(|prefix| prefix.join("share/jupyter")));
        data.extend(["/usr/local/share/jupyter", "/usr/share/jupyter"].map(PathBuf::from));
        Self(
            data.into_iter()
                .map(|folder| folder.join("kernels"))
                .collect(),
        )
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

    #[test]
    fn user_environment_and_system_folders_come_in_jupyters_order() {
        let path = SearchPath::from_lookup(|name| match name {
            "HOME" => Some("/h".into()),
            "VIRTUAL_ENV" => Some("/v".into()),
            _ => None,
        });
        let expected = [
            "/h/.local/share/jupyter/kernels",
            "/v/share/jupyter/kernels",
            "/usr/local/share/jupyter/kernels",
            "/usr/share/jupyter/kernels",
        ];
        assert_eq!(path.0, expected.map(PathBuf::from));
    }
}
