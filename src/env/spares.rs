//! Environments that nobody has asked for yet: the next notebook of that content gets one at once.
//!
//! ```text
//! <data>/spares/<key>/
//!   nb-spare   what it was made of; written when it is whole, compiled and shares no file
//!   env/
//! ```
//!
//! One of each content, and few of them: the one that was wanted last is kept longest. Knows nothing of whose an environment
//! becomes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::installed::site_packages;
use super::pip::{Failure, Requirements, Tool, argument, put_pip};
use super::uv::no_python;
use super::{held, hex, leftovers, lock, tool, unshare};
use crate::config::private_folder;
use crate::error::Error;

/// What is larger has none: nobody may ever want it.
const BYTES_MAX: u64 = 1 << 30;

/// So many contents have one.
const KEPT: usize = 3;

const WHOLE: &str = "nb-spare";

/// In an environment, newer than its folder of packages when that is compiled.
const COMPILED: &str = "nb-compiled";

/// How uv begins to say that there is no such Python.
const NO_PYTHON: &str = "No interpreter found";

/// Compiling takes no longer, however much there is.
const COMPILES: Duration = Duration::from_secs(15 * 60);

/// What an environment is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// As uv takes it.
    pub(super) python: String,
    /// A lock, with hashes.
    pub(super) lock: Vec<String>,
    /// Whether all is there as wheels: nothing of it is built.
    pub(super) is_wheels: bool,
}

impl Content {
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        for line in [&self.python].into_iter().chain(&self.lock) {
            hash.update(line);
            hash.update("\n");
        }
        hex(&hash.finalize()[..8])
    }

    /// Makes an environment of it in a folder that is not there. It may be moved.
    pub(super) async fn build(&self, environment: &Path, tool: &Tool<'_>) -> Result<(), Failure> {
        let broken = |error: io::Error| held::unusable(environment, &error);
        let folder = argument(environment);
        let venv = [
            "venv",
            "--quiet",
            "--no-project",
            "--relocatable",
            "--no-python-downloads",
            "--python",
            &self.python,
            &folder,
        ];
        let made = tool.run(&venv, false).await;
        made.map_err(|failure| match failure.message.starts_with(NO_PYTHON) {
            true => Error::user(no_python(&self.python, &failure.message)).into(),
            false => failure,
        })?;
        unshare::expect(environment).map_err(broken)?;
        let lock = Requirements::write(tool.folder, &self.lock).map_err(broken)?;
        let (python, lock) = (
            argument(&environment.join("bin/python")),
            argument(lock.path()),
        );
        let mut install = vec![
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--python",
            &python,
            "-r",
            &lock,
        ];
        install.extend(self.is_wheels.then_some("--no-build"));
        tool.run(&install, true).await
    }
}

/// The spares under nb's data folder.
#[derive(Clone, Debug)]
pub(super) struct Spares {
    folder: PathBuf,
}

impl Spares {
    pub(super) fn new(data: &Path) -> Self {
        Self {
            folder: data.join("spares"),
        }
    }

    /// Whether there is one of this content.
    pub(super) fn has(&self, content: &Content) -> bool {
        is_whole(&self.folder.join(content.key()))
    }

    /// Moves the spare of this content to a place where nothing is; false when there is none.
    pub(super) fn take(&self, content: &Content, to: &Path) -> bool {
        let folder = self.folder.join(content.key());
        let Ok(Some(_held)) = lock::try_exclusive(&folder.with_extension("lock")) else {
            return false;
        };
        let environment = folder.join("env");
        if !is_whole(&folder) {
            return false;
        }
        let taken = fs::remove_file(folder.join(WHOLE)).and_then(|()| fs::rename(environment, to));
        taken.is_ok()
    }

    /// Makes the spare of this content, unless it is there or somebody makes it.
    pub(super) async fn fill(&self, content: &Content, tool: &Tool<'_>) -> Result<(), Failure> {
        if let Some(data) = self.folder.parent() {
            private_folder(data)?;
        }
        private_folder(&self.folder)?;
        let folder = self.folder.join(content.key());
        let Some(_held) = lock::try_exclusive(&folder.with_extension("lock"))? else {
            return Ok(());
        };
        if is_whole(&folder) {
            return Ok(());
        }
        let broken = |error: io::Error| held::unusable(&folder, &error);
        leftovers::end(&folder).await?;
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
            _ => {}
        }
        private_folder(&folder)?;
        let environment = folder.join("env");
        let there = Tool {
            folder: &folder,
            ..*tool
        };
        content.build(&environment, &there).await?;
        if is_larger(&environment, BYTES_MAX).map_err(broken)? {
            let _again = fs::remove_dir_all(&environment);
            return Err(Failure::new("It is too large to have another one of it."));
        }
        put_pip(&environment).map_err(broken)?;
        unshare::settle(&environment, &held::lock_of(&folder)).await;
        compile(&environment, &folder).await;
        fs::write(folder.join(WHOLE), "").map_err(broken)?;
        self.keep_few().map_err(broken)
    }

    /// Removes those that were made longest ago.
    fn keep_few(&self) -> io::Result<()> {
        let mut whole = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            if let Ok(about) = fs::metadata(folder.join(WHOLE)) {
                whole.push((about.modified()?, folder));
            }
        }
        whole.sort();
        let surplus = whole.len().saturating_sub(KEPT);
        for (_, folder) in whole.drain(..surplus) {
            if let Ok(Some(_held)) = lock::try_exclusive(&folder.with_extension("lock")) {
                fs::remove_file(folder.join(WHOLE))?;
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }
}

/// Whether it was made to the end, and the interpreter that it is of is still there.
fn is_whole(folder: &Path) -> bool {
    folder.join(WHOLE).exists() && folder.join("env/bin/python").exists()
}

/// Compiles all below a folder; packages have files that are no Python of this version, which is no failure.
const COMPILE: &str =
    "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2, workers=1)";

/// Whether the files in a folder are more than that.
fn is_larger(folder: &Path, bytes: u64) -> io::Result<bool> {
    let (mut folders, mut sum) = (vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
            }
            sum += about.len();
            if sum > bytes {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Compiles what is installed, at the lowest priority. Whoever changes the environment in this folder ends it; what is not
/// compiled is compiled by its first import.
pub(super) async fn compile(environment: &Path, folder: &Path) {
    let Some(packages) = site_packages(environment) else {
        return;
    };
    let compiled = environment.join(COMPILED);
    let time = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    if time(&compiled) >= time(&packages) {
        return;
    }
    let mut command = tool::command("nice");
    command
        .args(["-n", "19"])
        .arg(environment.join("bin/python"))
        .args(["-c", COMPILE])
        .arg(&packages);
    leftovers::mark(&mut command, folder);
    match timeout(COMPILES, tool::run(&mut command, &|_| ())).await {
        Ok(Ok(_)) => {
            let _again = fs::write(compiled, "");
        }
        // Mostly since somebody changes it, which ends this.
        Ok(Err(said)) => tracing::debug!(%said, "not all was compiled"),
        Err(_) => tracing::warn!("compiling an environment took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_spare_without_its_interpreter_is_none() {
        let data = tempfile::tempdir().unwrap();
        let spares = Spares::new(data.path());
        let content = Content {
            python: "3".to_owned(),
            lock: Vec::new(),
            is_wheels: false,
        };
        let folder = data.path().join("spares").join(content.key());
        fs::create_dir_all(folder.join("env/bin")).unwrap();
        fs::write(folder.join(WHOLE), "").unwrap();
        let interpreter = data.path().join("python3");
        fs::write(&interpreter, "").unwrap();
        symlink(&interpreter, folder.join("env/bin/python")).unwrap();
        assert!(spares.has(&content));
        fs::remove_file(interpreter).unwrap();
        assert!(!spares.has(&content) && !spares.take(&content, &data.path().join("env")));
    }

    #[tokio::test]
    async fn what_was_killed_while_it_compiled_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let environment = folder.path().join("env");
        let (packages, program) = (
            environment.join("lib/python3/site-packages"),
            environment.join("bin/python"),
        );
        fs::create_dir_all(&packages).unwrap();
        fs::create_dir_all(environment.join("bin")).unwrap();
        fs::write(packages.join("fine.py"), "x = 1\n").unwrap();
        fs::write(packages.join("broken.py"), "x = = 1\n").unwrap();
        let put = |text: &str| {
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        put("#!/bin/sh\nkill -9 $$\n");
        compile(&environment, folder.path()).await;
        assert!(!environment.join(COMPILED).exists());
        put("#!/bin/sh\nexec python3 \"$@\"\n");
        compile(&environment, folder.path()).await;
        assert!(environment.join(COMPILED).exists());
        assert_eq!(
            fs::read_dir(packages.join("__pycache__")).unwrap().count(),
            1
        );
    }
}
