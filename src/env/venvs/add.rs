//! An environment of somebody's own becomes a kernel: what is there is looked at, a record and a kernelspec are written, and
//! nothing else is touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::Say;
use super::super::kernelspec::{PIP, own_kernelspecs};
use super::super::named::{Named, Record};
use super::super::tool;
use crate::error::Error;
use crate::protocol::kernelspec::is_valid_name;

/// What does not say by then what it is does not work.
const LIMIT: Duration = Duration::from_secs(30);

/// What an interpreter is asked: its version, its prefix, and the version of what makes it a kernel.
const QUESTION: &str = "
import json, sys
try:
    from importlib.metadata import version
    kernel = version('ipykernel')
except Exception:
    kernel = None
print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.prefix, kernel]))
";

/// Names of folders that say nothing.
const NAMELESS: [&str; 5] = [".venv", "venv", "env", ".env", "virtualenv"];

/// What became a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// That of the kernelspec.
    pub name: String,
    pub display_name: String,
    pub path: PathBuf,
    pub python: String,
}

/// Makes the environment in this folder, or of this Python, a kernel. `is_others` tells which kernels are there that are not
/// nb's.
pub async fn add(
    data: &Path,
    path: &Path,
    name: Option<&str>,
    display_name: Option<&str>,
    is_others: &dyn Fn(&str) -> bool,
    say: Say<'_>,
) -> Result<Added, Error> {
    let folder = environment(path)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => name_for(&folder),
    };
    if !is_valid_name(&name) {
        return Err(Error::user(format!(
            "{name:?} cannot be the name of a kernel: letters, digits, `.`, `-` and `_` can; say --name NAME"
        )));
    }
    let python = asked(&folder).await?;
    let named = Named::new(data, &name);
    let is_same = named
        .record()
        .is_some_and(|record| record.path.as_ref() == Some(&folder));
    let is_taken = named.record().is_some() || own_kernelspecs(data).join(&name).exists();
    if is_taken && !is_same || is_others(&name) {
        return Err(Error::user(format!(
            "there is a kernel or an environment {name} already; say --name NAME, or remove that one first"
        )));
    }
    let display_name = display_name.map_or_else(|| format!("Python ({name})"), str::to_owned);
    let mut spec = PIP.spec()?;
    spec.display_name.clone_from(&display_name);
    if let Some(program) = spec.argv.first_mut() {
        *program = folder.join("bin/python").to_string_lossy().into_owned();
    }
    if folder.join("conda-meta").is_dir() {
        let prefix = folder.to_string_lossy().into_owned();
        spec.env.insert("CONDA_PREFIX".to_owned(), prefix);
    }
    let nb: Value = json!({"environment": "named", "name": name});
    spec.metadata.insert("nb".to_owned(), nb);
    let record = Record {
        created: Timestamp::now(),
        path: Some(folder.clone()),
        ..Record::default()
    };
    let written = named.found(&record, say).await;
    written.map_err(|failure| Error::user(failure.message))?;
    PIP.write_as(&name, &spec, data)?;
    Ok(Added {
        name,
        display_name,
        path: folder,
        python,
    })
}

/// The folder of the environment that a path means.
fn environment(path: &Path) -> Result<PathBuf, Error> {
    let shown = path.display();
    let full = std::path::absolute(path)
        .ok()
        .filter(|full| full.exists())
        .ok_or_else(|| Error::user(format!("{shown} is not there")))?;
    let folder = match full.is_dir() {
        true => full.canonicalize().unwrap_or(full),
        // `bin/python` is a link that leads out of it.
        false => {
            let folder = full.ancestors().nth(2).unwrap_or(&full);
            folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
        }
    };
    let has = |program: &str| folder.join("bin").join(program).exists();
    let is_own = folder.join("pyvenv.cfg").is_file() || folder.join("conda-meta").is_dir();
    match (has("python"), is_own) {
        (true, true) => Ok(folder),
        (false, _) if !has("python3") || is_own => Err(Error::user(format!(
            "{shown} is no Python environment: it has no bin/python"
        ))),
        _ => Err(Error::user(format!(
            "{shown} is a Python of the system, whose packages are not to be changed; make an environment of it: \
             {}/bin/python3 -m venv FOLDER",
            folder.display()
        ))),
    }
}

/// Its version, if it works and has what a kernel needs.
async fn asked(folder: &Path) -> Result<String, Error> {
    let python = folder.join("bin/python");
    let mut command = tool::command(&python);
    command.args(["-I", "-c", QUESTION]);
    let said = tool::run_for(&mut command, LIMIT, &|_| ()).await;
    let shown = python.display();
    let said = said.map_err(|why| Error::user(format!("{shown} does not run: {why}")))?;
    let last = said.lines().last().unwrap_or_default();
    let answer: Result<(String, PathBuf, Option<String>), _> = serde_json::from_str(last);
    match answer {
        Ok((version, _, Some(_))) => Ok(version),
        Ok((_, _, None)) => Err(Error::user(format!(
            "there is no ipykernel in {}, which a kernel needs; `{shown} -m pip install ipykernel` installs it, then try again",
            folder.display()
        ))),
        Err(_) => Err(Error::user(format!(
            "{shown} is no Python: it said {last:?}"
        ))),
    }
}

/// What a kernel of this environment is called by itself.
fn name_for(folder: &Path) -> String {
    let name = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        name.into_owned()
    };
    let own = name(folder);
    let own = match folder.parent() {
        Some(parent) if NAMELESS.contains(&own.as_str()) => name(parent),
        _ => own,
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    own.chars()
        .map(|c| {
            if allowed(c) {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_name_says_whose_it_is() {
        for (folder, name) in [
            ("/home/ada/Project X/.venv", "project-x"),
            ("/opt/envs/Data_1", "data_1"),
            ("/venv", ""),
        ] {
            assert_eq!(name_for(Path::new(folder)), name, "{folder}");
        }
    }

    #[test]
    fn only_an_environment_is_one() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap();
        let refused = |path: &Path| environment(path).unwrap_err().message;
        assert!(refused(&folder.join("none")).contains("not there"));
        assert!(refused(&folder).contains("no Python environment"));
        fs::create_dir(folder.join("bin")).unwrap();
        fs::write(folder.join("bin/python"), "").unwrap();
        assert!(refused(&folder).contains("of the system"));
        fs::write(folder.join("pyvenv.cfg"), "").unwrap();
        assert_eq!(environment(&folder).unwrap(), folder);
        assert_eq!(environment(&folder.join("bin/python")).unwrap(), folder);
    }
}
