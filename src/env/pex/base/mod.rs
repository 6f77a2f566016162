//! A pex as the environment of a kernel: a virtual environment of an interpreter that it fits, with what a kernel needs, and what is
//! in the pex in front of that.
//!
//! ```text
//! <data>/pex/bases/<key>/env        of one interpreter and one mount; never changed
//! <data>/pex/bases/<key>/nb-broken  a kernel did not come up in it
//! <data>/pex/bases/<key>.lock       who makes it holds it, until it is written down that a kernel is in it
//! ```
//!
//! A pex that brings its own ipykernel is left alone; what else one brings of what a kernel needs, the rest goes with. Knows nothing of
//! how a kernel is started.

mod programs;
mod remains;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

pub use remains::collect_bases;

use super::store::{Distribution, Mount};
use crate::config::private_folder;
use crate::env::in_use::process_in;
use crate::env::installed::{normal, site_packages};
use crate::env::interpreters::{About, Interpreter};
use crate::env::named::{KERNEL_LOCK, LOCKED_PYTHONS};
use crate::env::notebook::logical;
use crate::env::pip::put_pip;
use crate::env::pip::{Failure, From, Requirements, Tool, Typed, argument};
use crate::env::version::Specifiers;
use crate::env::{Say, Uv, held, hex, leftovers, lock, tool};

/// In the folder of one in which a kernel did not come up.
const BROKEN: &str = "nb-broken";

/// The oldest Python that a kernel of nb can be of.
const OLDEST: (u32, u32) = (3, 8);

/// What a kernel is started with is imported within this time.
const TRIED_WITHIN: Duration = Duration::from_secs(60);

/// All that a kernel's start imports, and where it came from: nothing of it may be broken by what is in front. As there, the folder
/// that it is in is not on the path.
const TRY: &str = "import sys; sys.path[:1] == [''] and sys.path.pop(0)
import ipykernel_launcher, ipykernel.kernelapp, ipykernel.ipkernel, IPython";

/// What puts a mount in front of an environment's path: in every process of its Python, the kernel's and what that starts.
const FRONT: &str = include_str!("front.py");
const FRONT_FILE: &str = "_nb_front.py";
const FRONT_PATH: &str = "_nb_front.pth";

/// One that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// What was loaded, for people.
    pub title: String,
    /// What interpreter it is, for people.
    pub interpreter: String,
    pub python: PathBuf,
    /// What is in front.
    pub mount: PathBuf,
}

/// One that is there, and goes by nobody's doing as long as this lives.
#[must_use]
#[derive(Debug)]
pub struct Made {
    pub base: Base,
    /// Whether it is another one than the kernel is in.
    pub is_new: bool,
    _held: File,
}

impl Base {
    /// Whether a kernel can be of this interpreter.
    pub fn takes(about: &About) -> bool {
        (about.version.number(0), about.version.number(1)) >= OLDEST
    }

    /// The one of a mount that fits this interpreter, made if it is not there. A kernel can be started in it, which is not tried of
    /// the one that a kernel is in `now`. One that has been broken since is made again.
    pub async fn make(
        title: &str,
        mount: &Mount,
        interpreter: &Interpreter,
        now: Option<&Self>,
        data: &Path,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Made, Failure> {
        let bases = data.join("pex/bases");
        for folder in [data, &data.join("pex"), &bases] {
            private_folder(folder)?;
        }
        let key = key(mount, interpreter);
        let folder = bases.join(&key);
        let base = Self {
            title: title.to_owned(),
            interpreter: interpreter.about.to_string(),
            python: folder.join("env/bin/python"),
            mount: mount.folder.clone(),
        };
        let lock = bases.join(format!("{key}.lock"));
        let held = tokio::select! {
            held = lock::exclusive(&lock, say) => held?,
            () = typed.stop.stopped() => return Err(Failure::interrupt()),
        };
        let is_new = now.is_none_or(|now| now.python != base.python);
        let made = Made {
            base,
            is_new,
            _held: held,
        };
        let base = &made.base;
        let has_process = || process_in(&folder).is_some();
        if base.is_there() && (!is_new || !folder.join(BROKEN).exists() || has_process()) {
            let tried = match is_new {
                true => base.try_it(typed).await,
                false => Ok(()),
            };
            match tried {
                Ok(()) => return Ok(made),
                Err(failure) if failure.is_interrupt || has_process() => {
                    return Err(failure);
                }
                Err(failure) => say(&format!("making it again. {}", failure.message)),
            }
        }
        let uv = Uv::find(data, say).await?;
        let part = bases.join(format!("{key}.part"));
        leftovers::end(&part).await?;
        let built = build(&part, mount, interpreter, &uv, typed, say).await;
        let built = built.and_then(|()| {
            let moved = remove(&folder).and_then(|()| fs::rename(&part, &folder));
            moved.map_err(|error| held::unusable(&folder, &error))
        });
        let done = match built {
            Ok(()) => base.try_it(typed).await,
            Err(failure) => Err(failure),
        };
        if done.is_err() {
            // What is half made, or of no use.
            let _nothing = (remove(&part), remove(&folder));
        }
        done.map(|()| made)
    }

    /// Whether a kernel can be started in it still.
    pub fn is_there(&self) -> bool {
        self.python.exists() && self.mount.is_dir()
    }

    /// Whether it is in this folder.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.python.starts_with(folder)
    }

    /// A kernel did not come up in it: the next one that is to be made is made anew.
    pub fn distrust(&self) {
        let folder = self.python.ancestors().nth(3);
        if let Some(Err(error)) = folder.map(|folder| fs::write(folder.join(BROKEN), "")) {
            tracing::debug!(%error, "a broken environment is not marked");
        }
    }

    /// Its folder of programs.
    pub fn programs(&self) -> &Path {
        self.python.parent().unwrap_or(&self.python)
    }

    /// Why nothing is installed into it.
    pub fn is_closed(&self) -> String {
        format!(
            "This kernel has {} as its environment, which stays as it is; `%clean_path` restarts the kernel in its own.",
            self.title
        )
    }

    /// Imports what a kernel is started with, as one would: what is in front of it may break that.
    async fn try_it(&self, typed: &Typed<'_>) -> Result<(), Failure> {
        let mut command = tool::command(&self.python);
        command.env_clear().envs(typed.env).env_remove("PYTHONHOME");
        command.current_dir(typed.folder).args(["-c", TRY]);
        let tried = tokio::select! {
            tried = timeout(TRIED_WITHIN, tool::run(&mut command, &|_| ())) => tried,
            () = typed.stop.stopped() => return Err(Failure::interrupt()),
        };
        let cannot = format!("A kernel cannot be started with {} in it", self.title);
        let said = match tried {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(said)) => said.to_string(),
            Err(_) => {
                let within = TRIED_WITHIN.as_secs();
                return Err(Failure::new(format!(
                    "{cannot}: importing ipykernel took longer than {within} s."
                )));
            }
        };
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let why = last.unwrap_or("Python ended without a word").trim();
        Err(Failure {
            log: said.clone(),
            ..Failure::new(format!("{cannot}: {why}"))
        })
    }
}

async fn build(
    part: &Path,
    mount: &Mount,
    interpreter: &Interpreter,
    uv: &Uv,
    typed: &Typed<'_>,
    say: Say<'_>,
) -> Result<(), Failure> {
    let broken = |error: io::Error| held::unusable(part, &error);
    remove(part).map_err(broken)?;
    private_folder(part)?;
    let (environment, from) = (part.join("env"), From::default());
    let tool = Tool {
        uv,
        typed,
        folder: part,
        from: &from,
        say,
    };
    say(&format!("making an environment of {}", interpreter.about));
    let (python, folder) = (argument(&interpreter.path), argument(&environment));
    let venv = ["venv", "--quiet", "--no-project", "--relocatable"];
    let venv = [&venv[..], &["--python", &python, &folder]].concat();
    tool.run(&venv, true).await?;
    let python = argument(&environment.join("bin/python"));
    // Copies: what is edited there gets into no cache.
    let install = ["pip", "install", "--quiet", "--link-mode", "copy"];
    let install = [&install[..], &["--python", &python]].concat();
    let put = |lines: &[String]| Requirements::write(part, lines).map_err(broken);
    match needed(&mount.content.distributions, &interpreter.about) {
        Needed::Nothing => {}
        Needed::Locked => {
            let lock: Vec<String> = KERNEL_LOCK.lines().map(str::to_owned).collect();
            let lock = put(&lock)?;
            let lock = argument(lock.path());
            let of_lock = ["--no-deps", "--require-hashes", "--requirement", &lock];
            tool.run(&[&install[..], &of_lock].concat(), true).await?;
        }
        Needed::GoesWith(pins) => {
            let (lines, pins) = (put(&["ipykernel".to_owned()])?, put(&pins)?);
            let (lines, pins) = (argument(lines.path()), argument(pins.path()));
            let resolved = ["--requirement", &lines, "--constraint", &pins];
            let installed = tool.run(&[&install[..], &resolved].concat(), true).await;
            installed.map_err(|failure| Failure {
                message: match failure.is_interrupt {
                    true => failure.message.clone(),
                    false => "There is no ipykernel that goes with what is in it.".to_owned(),
                },
                ..failure
            })?;
        }
    }
    finish(&environment, mount).map_err(broken)
}

/// What nb has to do with a new environment beside installing.
fn finish(environment: &Path, mount: &Mount) -> io::Result<()> {
    let packages = site_packages(environment).ok_or(io::ErrorKind::NotFound)?;
    let place = serde_json::to_string(&mount.folder.to_string_lossy())?;
    // A JSON string is one of Python's.
    let front = FRONT.replace("MOUNT = None", &format!("MOUNT = {place}"));
    fs::write(packages.join(FRONT_FILE), front)?;
    fs::write(packages.join(FRONT_PATH), "import _nb_front\n")?;
    put_pip(environment)?;
    programs::put(&mount.folder, &environment.join("bin"))
}

/// What an environment has beside a pex.
#[derive(Debug, PartialEq, Eq)]
enum Needed {
    /// The pex has it.
    Nothing,
    /// What nb's own environments have.
    Locked,
    /// What goes with these versions of the pex.
    GoesWith(Vec<String>),
}

fn needed(distributions: &[Distribution], about: &About) -> Needed {
    let is = |one: &Distribution, name: &str| normal(&one.project) == name;
    if distributions.iter().any(|one| is(one, "ipykernel")) {
        return Needed::Nothing;
    }
    let pins: Vec<String> = logical(KERNEL_LOCK)
        .iter()
        .filter_map(|line| Some(line.split(' ').next()?.to_owned()))
        .collect();
    let goes_with_lock = |one: &Distribution| {
        let name = normal(&one.project);
        let of_it = |pin: &&String| pin.split("==").next() == Some(&name);
        let mut locked = pins.iter().filter(of_it).peekable();
        let pin = format!("{name}=={}", one.version);
        locked.peek().is_none() || locked.any(|locked| *locked == pin)
    };
    let is_locked = LOCKED_PYTHONS
        .parse()
        .is_ok_and(|locked: Specifiers| locked.allow(&about.version))
        && about.implementation == "CPython";
    match is_locked && distributions.iter().all(goes_with_lock) {
        true => Needed::Locked,
        false => {
            let pins = distributions.iter();
            let pins = pins.map(|one| format!("{}=={}", one.project, one.version));
            Needed::GoesWith(pins.collect())
        }
    }
}

fn key(mount: &Mount, interpreter: &Interpreter) -> String {
    let mut hash = Sha256::new();
    let about = &interpreter.about;
    let path = interpreter.path.to_string_lossy();
    let version = about.version.to_string();
    for part in [&mount.hash, &*path, &version, &about.soabi, KERNEL_LOCK] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..8])
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::interpreters::tests::about;
    use crate::env::pip::Never;
    use std::collections::BTreeMap;

    fn brings(pins: &[&str], python: &str) -> Needed {
        let distributions = pins.iter().map(|pin| {
            let (project, version) = pin.split_once("==").unwrap();
            Distribution {
                project: project.to_owned(),
                version: version.to_owned(),
                modules: Vec::new(),
            }
        });
        needed(
            &distributions.collect::<Vec<_>>(),
            &about("CPython", python),
        )
    }

    #[test]
    fn what_a_pex_brings_decides_what_it_gets() {
        let lock = logical(KERNEL_LOCK);
        let traitlets = lock.iter().find(|line| line.starts_with("traitlets=="));
        let traitlets = traitlets.unwrap().split(' ').next().unwrap();
        assert_eq!(brings(&["corp==1"], "3.11.7"), Needed::Locked);
        assert_eq!(brings(&["corp==1", traitlets], "3.11.7"), Needed::Locked);
        let old = Needed::GoesWith(vec!["corp==1".to_owned(), "Traitlets==5.0".to_owned()]);
        assert_eq!(brings(&["corp==1", "Traitlets==5.0"], "3.11.7"), old);
        // The lock is for other Pythons.
        let pins = Needed::GoesWith(vec!["corp==1".to_owned()]);
        assert_eq!(brings(&["corp==1"], "3.8.18"), pins);
        assert_eq!(
            brings(&["ipykernel==6.0", "traitlets==5.0"], "3.8.18"),
            Needed::Nothing
        );
    }

    #[tokio::test]
    async fn what_is_in_the_notebooks_folder_does_not_count_when_it_is_tried() {
        let root = tempfile::tempdir().unwrap();
        let (packages, folder) = (root.path().join("packages"), root.path().join("folder"));
        fs::create_dir_all(packages.join("ipykernel")).unwrap();
        fs::create_dir(&folder).unwrap();
        for name in ["__init__", "kernelapp", "ipkernel"] {
            fs::write(packages.join(format!("ipykernel/{name}.py")), "").unwrap();
        }
        for name in ["ipykernel_launcher", "IPython"] {
            fs::write(packages.join(format!("{name}.py")), "").unwrap();
            fs::write(folder.join(format!("{name}.py")), "raise RuntimeError").unwrap();
        }
        let base = Base {
            title: "a.pex".to_owned(),
            interpreter: "CPython".to_owned(),
            python: "python3".into(),
            mount: root.path().to_owned(),
        };
        let packages = packages.to_string_lossy().into_owned();
        let path = std::env::var("PATH").unwrap();
        let env = [("PATH", path), ("PYTHONPATH", packages)];
        let env = BTreeMap::from(env.map(|(name, value)| (name.to_owned(), value)));
        let (folder, stop) = (&*folder, &Never);
        let env = &env;
        base.try_it(&Typed { folder, env, stop }).await.unwrap();
    }

    #[test]
    fn a_pip_in_a_pex_is_not_the_one_that_runs() {
        let root = tempfile::tempdir().unwrap();
        let (own, mount) = (root.path().join("own"), root.path().join("mount"));
        for (folder, whose) in [(&own, "own"), (&mount, "mount")] {
            fs::create_dir(folder).unwrap();
            for module in ["pip", "other"] {
                let text = format!("print({whose:?})\n");
                fs::write(folder.join(format!("{module}.py")), text).unwrap();
            }
        }
        let front = FRONT.replace("MOUNT = None", &format!("MOUNT = {mount:?}"));
        fs::write(own.join("sitecustomize.py"), front).unwrap();
        for (words, whose) in [
            (&["-m", "other"][..], "mount"),
            (&["-m", "pip"], "own"),
            (&["-X", "utf8", "-Wignore", "-um", "pip", "install"], "own"),
            (&["-c", "import pip"], "mount"),
        ] {
            let mut python = std::process::Command::new("python3");
            let said = python.args(words).env("PYTHONPATH", &own).output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert_eq!(said.trim(), whose, "{words:?}");
        }
    }

    #[test]
    fn a_kernel_is_of_a_python_that_it_runs_on() {
        assert!(Base::takes(&about("CPython", "3.8.0")));
        assert!(!Base::takes(&about("CPython", "3.7.17")));
    }
}
