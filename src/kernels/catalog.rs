//! Which kernels can be started: the kernelspecs on disk, and PyCX by the name that most notebooks have too.
//!
//! Read afresh at each call, so a change on disk is seen at once; blocks on the file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::kernelspecs::SearchPath;
use crate::protocol::kernelspec::KernelSpec;

/// The kernel of whoever names none, if it is there.
const PYCX: &str = "pycx";

/// Needs nothing but uv and a Python.
const PIP: &str = "pip";

/// What most notebooks name, and the kernel of whoever names none where there is no PyCX.
const PYTHON: &str = "python3";

/// Finds kernelspecs.
#[derive(Clone, Debug)]
pub struct Catalog {
    search: SearchPath,
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
    pub fn new(search: SearchPath) -> Self {
        Self { search }
    }

    /// Where it looks, the first folder wins.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.search.folders().to_vec()
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
        specs.lend_python();
        specs
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
        let usual = [PYCX, PYTHON, PIP].into_iter();
        let usual = usual.filter(|name| self.by_name.get(*name).is_some_and(startable));
        let mut usual = usual.chain(specs.find_map(|(name, listed)| {
            let name = name.as_str();
            startable(listed).then_some(name)
        }));
        usual.next().unwrap_or(PYTHON)
    }

    /// Notebooks that name `python3` get PyCX where there is no other kernel of that name.
    fn lend_python(&mut self) {
        let taken = self.by_name.contains_key(PYTHON) || self.broken.contains_key(PYTHON);
        if let (Some(pycx), false) = (self.by_name.get(PYCX), taken) {
            let mut python = pycx.clone();
            let name = &mut python.spec.display_name;
            *name = name.replacen("Python (", "Python 3 (", 1);
            self.by_name.insert(PYTHON.to_owned(), python);
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
            (None, None) if [PYCX, PYTHON].contains(&&*name) => Err(format!(
                "there is no kernelspec {name:?}; \"nb up\" makes PyCX, and so does \"nb env release pycx\""
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
        Catalog::new(search)
    }

    #[test]
    fn pycx_is_the_default_and_python3_too_unless_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        let catalog = catalog(root.path());
        put(root.path(), "a", r#"{"argv":["a"]}"#);
        assert_eq!(catalog.read().default_name(), "a");
        assert!(catalog.read().find(Some("python3")).is_err());

        let pycx = r#"{"argv":["pycx"],"display_name":"Python (PyCX 2026.11.28)"}"#;
        put(root.path(), "pycx", pycx);
        let specs = catalog.read();
        assert_eq!(specs.find(None).unwrap().0, "pycx");
        let python = &specs.find(Some("Python3")).unwrap().1.spec;
        assert_eq!(
            (&*python.argv[0], &*python.display_name),
            ("pycx", "Python 3 (PyCX 2026.11.28)")
        );

        put(root.path(), "python3", "{");
        let broken = catalog.read();
        assert!(broken.find(Some("python3")).unwrap_err().contains("broken"));
        put(root.path(), "python3", r#"{"argv":["own"]}"#);
        let specs = catalog.read();
        assert_eq!(specs.find(Some("python3")).unwrap().1.spec.argv, ["own"]);
        assert_eq!(specs.default_name(), "pycx");
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
        let catalog = Catalog::new(search);
        assert_eq!(catalog.read().by_name["mine"].argv()[0], "python3");
        fs::create_dir_all(prefix.join("bin")).unwrap();
        fs::write(prefix.join("bin/python3"), "").unwrap();
        let python = prefix.join("bin/python3").display().to_string();
        assert_eq!(catalog.read().by_name["mine"].argv(), [&python, "-m", "x"]);
    }
}
