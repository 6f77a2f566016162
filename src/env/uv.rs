//! uv, which makes environments: the one on the path, else that of the bundle that nb runs from, else nb's own, else nb's own from
//! PyPI by pip.
//!
//! Its release and hashes are pinned in `locks/uv.txt`. Knows nothing of the environments it makes.

use std::fs;
use std::path::{Path, PathBuf};

use super::index::Access;
use super::tool::{self, Failure};
use super::{Bundle, Say, leftovers, lock};
use crate::config::private_folder;
use crate::error::Error;

const LOCK: &str = include_str!("locks/uv.txt");

/// The oldest release with every option that is used here.
const OLDEST: (u32, u32) = (0, 5);

/// The certificates that the machine trusts count, as they do for pip. The first name is that of older uvs.
pub(super) const OF_THE_SYSTEM: [(&str, &str); 2] =
    [("UV_NATIVE_TLS", "1"), ("UV_SYSTEM_CERTS", "1")];

/// A uv that works.
#[derive(Clone, Debug)]
pub struct Uv {
    program: PathBuf,
    /// The folder that it changes, if what it leaves behind has to be found.
    works_in: Option<PathBuf>,
}

impl Uv {
    /// Finds one or installs one into the tool folder under `data`.
    pub async fn find(data: &Path, say: Say<'_>) -> Result<Self, Error> {
        if let Some(uv) = Self::that_works("uv".into()).await {
            return Ok(uv);
        }
        if let Some(bundle) = Bundle::of_this_program()
            && let Some(uv) = Self::that_works(bundle.uv()).await
        {
            return Ok(uv);
        }
        let tools = data.join("tools");
        let own = tools.join("uv/bin/uv");
        if let Some(uv) = Self::that_works(own.clone()).await {
            return Ok(uv);
        }
        private_folder(data)?;
        private_folder(&tools)?;
        let _held = lock::exclusive(&tools.join("uv.lock"), say).await?;
        if let Some(uv) = Self::that_works(own.clone()).await {
            return Ok(uv);
        }
        install(&tools, say).await?;
        Self::that_works(own).await.ok_or_else(|| {
            Error::user(
                "the uv from PyPI does not run on this machine; \
                 install uv so that it is on the PATH, then try again",
            )
        })
    }

    /// The program that [`Self::find`] would find, if it had to install none.
    pub async fn look(data: &Path) -> Option<PathBuf> {
        let own = data.join("tools/uv/bin/uv");
        let on_path = Self::that_works("uv".into()).await;
        match on_path {
            Some(uv) => Some(uv.program),
            None => Self::that_works(own).await.map(|uv| uv.program),
        }
    }

    /// The same one, whose processes are found by the folder that they change.
    pub(super) fn working_in(&self, folder: &Path) -> Self {
        Self {
            works_in: Some(folder.to_owned()),
            ..self.clone()
        }
    }

    /// Runs it; an error is what it said last.
    pub(super) async fn run(&self, arguments: &[&str], say: Say<'_>) -> Result<(), String> {
        let mut command = tool::command(&self.program);
        if let Some(folder) = &self.works_in {
            leftovers::mark(&mut command, folder);
        }
        let own = self.works_in.as_deref().unwrap_or(Path::new(""));
        let access = Access::of_process(own, arguments).await;
        let access = access.map_err(|failure| format!("{}\n{}", failure.message, failure.log))?;
        command
            .args(arguments)
            .envs(access.of_uv())
            .env("UV_NO_PROGRESS", "1");
        match tool::run(&mut command, say).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Where its program is.
    pub(super) fn on_disk(&self) -> Result<PathBuf, Error> {
        if self.program.is_absolute() {
            return Ok(self.program.clone());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(&self.program));
        places
            .find(|place| place.is_file())
            .ok_or_else(|| Error::user("uv is not where it was found a moment ago"))
    }

    /// It, to be told what to do.
    pub(super) fn command(&self) -> tokio::process::Command {
        let mut command = tool::command(&self.program);
        command.envs(OF_THE_SYSTEM);
        command
    }

    /// The path of a Python of these versions.
    pub(super) async fn find_python(&self, versions: &str) -> Result<String, Error> {
        let mut command = self.command();
        command.args(["python", "find", "--no-project", versions]);
        let found = tool::run(&mut command, &|_| ()).await;
        found.map_err(|said| Error::user(no_python(versions, &said.to_string())))
    }

    async fn that_works(program: PathBuf) -> Option<Self> {
        let said = tool::run(tool::command(&program).arg("--version"), &|_| ()).await;
        let release = release(&said.ok()?)?;
        (release >= OLDEST).then_some(Self {
            program,
            works_in: None,
        })
    }
}

/// What is told of where uv finds no Python, and what it says itself.
pub(super) fn no_python(versions: &str, said: &str) -> String {
    format!(
        "there is no Python {versions} on this machine (on Debian: apt install python3). uv said:\n{said}"
    )
}

/// Major and minor number out of `uv 0.13.9 (…)`.
fn release(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("uv ")?.split(['.', ' ']);
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

/// Installs into a folder beside the final one, which appears whole or not at all.
async fn install(tools: &Path, say: Say<'_>) -> Result<(), Error> {
    let failed = |reason: String| {
        Error::user(format!(
            "uv could not be installed from PyPI; install it so that it is on the PATH, or repair \
             what pip says, then try again. pip said:\n{reason}"
        ))
    };
    let part = tools.join("uv.part");
    let broken = |error: std::io::Error| failed(format!("{}: {error}", part.display()));
    if part.exists() {
        fs::remove_dir_all(&part).map_err(broken)?;
    }
    private_folder(&part)?;
    let requirements = part.join("uv.txt");
    fs::write(&requirements, LOCK).map_err(broken)?;

    let python = pip(&part, say).await?;
    let access = Access::of_process(&part, &[]).await;
    let access = access.map_err(|failure| failed(failure.message))?;
    let whole = part.join("whole");
    let mut command = tool::command(python);
    command
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps"])
        .args(["--disable-pip-version-check", "--only-binary=:all:"])
        .arg("--require-hashes")
        .arg("--target")
        .arg(&whole)
        .arg("--requirement")
        .arg(&requirements)
        .envs(access.of_pip())
        // Settings that forbid or redirect what `--target` asks for.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0");
    tool::run(&mut command, say)
        .await
        .map_err(|failure| failed(failure.to_string()))?;

    let own = tools.join("uv");
    if own.exists() {
        fs::remove_dir_all(&own).map_err(broken)?;
    }
    fs::rename(&whole, &own).map_err(broken)?;
    fs::remove_dir_all(&part).map_err(broken)
}

/// A Python that has pip: the system's, else one in a throw-away environment.
pub(super) async fn pip(part: &Path, say: Say<'_>) -> Result<PathBuf, Error> {
    let python = PathBuf::from("python3");
    match tool::run(tool::command(&python).args(["-m", "pip", "--version"]), say).await {
        Ok(_) => return Ok(python),
        Err(Failure::Missing) => {
            return Err(Error::user(
                "Python environments need Python and uv, and neither is installed; \
                 install Python 3.11 or newer with pip (on Debian: apt install python3-pip), \
                 then try again",
            ));
        }
        Err(Failure::Failed(_)) => {}
    }
    let venv = part.join("venv");
    match tool::run(tool::command(&python).args(["-m", "venv"]).arg(&venv), say).await {
        Ok(_) => Ok(venv.join("bin/python")),
        Err(_) => Err(Error::user(
            "Python environments need uv, and there is no pip to install it with; \
             install uv or pip (on Debian: apt install python3-pip), then try again",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_from_what_uv_says() {
        assert_eq!(
            release("uv 0.13.9 (x86_64-unknown-linux-gnu)"),
            Some((0, 13))
        );
        assert_eq!(release("uv 1.0"), Some((1, 0)));
        assert_eq!(release("pyenv: uv: command not found"), None);
        assert!((0, 3) < OLDEST && (0, 13) > OLDEST);
    }

    #[test]
    fn the_lock_pins_by_hash_and_names_no_host() {
        assert!(LOCK.starts_with("uv==") && LOCK.contains("--hash=sha256:"));
        assert!(!LOCK.contains("://") && !LOCK.contains("--index"));
    }
}
