//! Which kernels can be started: the kernelspecs on disk, and `python3` in any case.
//!
//! Read afresh at each call, so a change on disk is seen at once; blocks on the file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::kernelspecs::SearchPath;
use crate::protocol::kernelspec::{InterruptMode, KernelSpec};

/// The kernel of whoever names none.
const DEFAULT: &str = "python3";

/// Finds kernelspecs.
#[derive(Clone, Debug)]
pub struct Catalog {
    search: SearchPath,
    /// The Python of the default environment; it may not exist yet.
    default_python: PathBuf,
}

/// A spec that can be started.
#[derive(Clone, Debug)]
pub struct Listed {
    pub folder: PathBuf,
    pub spec: KernelSpec,
}

/// All that can be started.
#[derive(Clone, Debug)]
pub struct Specs {
    pub by_name: BTreeMap<String, Listed>,
    /// What is wrong with those that cannot.
    pub broken: BTreeMap<String, Broken>,
}

/// A spec that cannot be started.
#[derive(Clone, Debug)]
pub struct Broken {
    pub folder: PathBuf,
    pub error: String,
}

impl Catalog {
    pub fn new(search: SearchPath, default_python: PathBuf) -> Self {
        Self {
            search,
            default_python,
        }
    }

    /// Every spec that can be started; broken ones are logged and left out.
    pub fn read(&self) -> Specs {
        let mut specs = Specs {
            by_name: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        for (name, found) in self.search.find_all() {
            match found.spec {
                // It would be a kernel of nb before a kernel of nb.
                Ok(spec) if is_front(&spec) => {}
                Ok(mut spec) => {
                    if spec.display_name.is_empty() {
                        spec.display_name.clone_from(&name);
                    }
                    let folder = found.folder;
                    specs.by_name.insert(name, Listed { folder, spec });
                }
                Err(error) => {
                    let folder = found.folder;
                    tracing::warn!(folder = %folder.display(), error, "a broken kernelspec is left out");
                    specs.broken.insert(name, Broken { folder, error });
                }
            }
        }
        if !specs.by_name.contains_key(DEFAULT) && self.default_python.is_file() {
            let fallback = self.fallback();
            specs.by_name.insert(DEFAULT.to_owned(), fallback);
        }
        specs
    }

    /// The default environment as a kernelspec, with the icons of the one that ipykernel brings.
    fn fallback(&self) -> Listed {
        let environment = self.default_python.ancestors().nth(2);
        let folder = environment
            .unwrap_or(&self.default_python)
            .join("share/jupyter/kernels/python3");
        let mut argv = vec![self.default_python.to_string_lossy().into_owned()];
        argv.extend(["-m", "ipykernel_launcher", "-f", "{connection_file}"].map(str::to_owned));
        Listed {
            folder,
            spec: KernelSpec {
                argv,
                env: BTreeMap::new(),
                display_name: "Python 3 (ipykernel)".to_owned(),
                language: "python".to_owned(),
                interrupt_mode: InterruptMode::Signal,
                metadata: Map::from_iter([("debugger".to_owned(), json!(true))]),
                kernel_protocol_version: None,
            },
        }
    }
}

/// Whether a spec's command is `nb launch`, as `nb kernel install` writes it.
fn is_front(spec: &KernelSpec) -> bool {
    let nb = spec.metadata.get("nb");
    nb.and_then(|nb| nb.get("front")?.as_bool()) == Some(true)
}

impl Listed {
    /// The command. A bare `python` is that of the environment which the spec lies in: `PATH` here is
    /// the gateway's, not that of whoever installed the spec.
    pub fn argv(&self) -> Vec<String> {
        let mut argv = self.spec.argv.clone();
        if let Some(program) = argv.first_mut()
            && program.starts_with("python")
            && !program.contains('/')
            && let Some(prefix) = self.prefix()
        {
            let own = prefix.join("bin").join(&*program);
            if own.is_file() {
                *program = own.to_string_lossy().into_owned();
            }
        }
        argv
    }

    /// The environment of a spec in `<prefix>/share/jupyter/kernels/<name>`.
    fn prefix(&self) -> Option<&Path> {
        let kernels = self.folder.parent()?;
        kernels
            .ends_with("share/jupyter/kernels")
            .then(|| kernels.ancestors().nth(3))?
    }
}

impl Specs {
    /// The name of the spec of whoever names none.
    pub fn default_name(&self) -> &str {
        let startable = |listed: &Listed| listed.spec.foreign_launcher().is_none();
        let mut specs = self.by_name.iter();
        match specs.find(|(_, listed)| startable(listed)) {
            Some((first, _)) if !self.by_name.contains_key(DEFAULT) => first,
            _ => DEFAULT,
        }
    }

    /// The spec of that name, else the reason why there is none, as a sentence.
    pub fn find(&self, name: Option<&str>) -> Result<(String, &Listed), String> {
        let name = name.filter(|name| !name.is_empty());
        let name = name.unwrap_or(self.default_name()).to_ascii_lowercase();
        match (self.by_name.get(&name), self.broken.get(&name)) {
            (Some(listed), _) => Ok((name, listed)),
            (None, Some(Broken { error, .. })) => {
                Err(format!("the kernelspec {name:?} is broken: {error}"))
            }
            (None, None) if name == DEFAULT => Err(format!(
                "there is no kernelspec {name:?} and no default Python environment; \
                 make one with \"nb up\" or install ipykernel"
            )),
            (None, None) => Err(format!("there is no kernelspec {name:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(root: &Path, name: &str, json: &str) {
        let folder = root.join("kernels").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("kernel.json"), json).unwrap();
    }

    fn catalog(root: &Path) -> Catalog {
        let search = SearchPath::of(vec![root.join("kernels")]);
        Catalog::new(search, root.join("env/bin/python"))
    }

    #[test]
    fn python3_is_a_spec_of_that_name_or_the_default_environment() {
        let root = tempfile::tempdir().unwrap();
        let catalog = catalog(root.path());
        put(root.path(), "python3", "{");
        let missing = catalog.read();
        assert!(missing.find(None).unwrap_err().contains("broken"));

        fs::create_dir_all(root.path().join("env/bin")).unwrap();
        fs::write(root.path().join("env/bin/python"), "").unwrap();
        let specs = catalog.read();
        let (name, fallback) = specs.find(None).unwrap();
        assert_eq!(name, "python3");
        assert_eq!(fallback.spec.argv[1..3], ["-m", "ipykernel_launcher"]);
        assert!(
            fallback
                .folder
                .ends_with("env/share/jupyter/kernels/python3")
        );

        put(root.path(), "python3", r#"{"argv":["own"]}"#);
        let specs = catalog.read();
        assert_eq!(specs.find(Some("Python3")).unwrap().1.spec.argv, ["own"]);
    }

    #[test]
    fn without_python_the_default_is_one_that_can_be_started() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "echo", r#"{"argv":["echo"]}"#);
        put(root.path(), "broken", "{");
        let specs = catalog(root.path()).read();
        put(
            root.path(),
            "an-echo",
            r#"{"argv":["nb"],"metadata":{"nb":{"front":true}}}"#,
        );
        let specs_with_front = catalog(root.path()).read();
        assert!(!specs_with_front.by_name.contains_key("an-echo"));
        assert_eq!(specs.default_name(), "echo");
        assert_eq!(specs.by_name["echo"].spec.display_name, "echo");
        assert!(!specs.by_name.contains_key("broken"));
        assert!(specs.find(Some("none")).is_err());
    }

    #[test]
    fn a_bare_python_is_that_of_the_specs_environment() {
        let root = tempfile::tempdir().unwrap();
        let prefix = root.path().join("env");
        put(
            &prefix.join("share/jupyter"),
            "mine",
            r#"{"argv":["python3","-m","x"]}"#,
        );
        let search =
            SearchPath::from_lookup(|name| (name == "VIRTUAL_ENV").then(|| prefix.clone().into()));
        let catalog = Catalog::new(search, root.path().join("none"));
        assert_eq!(catalog.read().by_name["mine"].argv()[0], "python3");
        fs::create_dir_all(prefix.join("bin")).unwrap();
        fs::write(prefix.join("bin/python3"), "").unwrap();
        let python = prefix.join("bin/python3").display().to_string();
        assert_eq!(catalog.read().by_name["mine"].argv(), [&python, "-m", "x"]);
    }
}
