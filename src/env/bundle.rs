//! All that nb needs on a machine without a network, in one folder: the program, uv, and the wheels of its locks.
//!
//! ```text
//! nb  uv  wheels/*.whl  nb-bundle.json  SHA256SUMS
//! ```
//!
//! An nb that runs from such a folder takes packages from there before it asks an index. Knows nothing of what is installed of them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::environment::LOCKS;
use super::index::Access;
use super::named::KERNEL_LOCK;
use super::release::PYCX_LOCK;
use super::uv::pip;
use super::venv::PYTHONS;
use super::whole::replace;
use super::{Say, Uv, hex, lock, tool};
use crate::config::private_folder;
use crate::error::{Error, reason};

const RECORD: &str = "nb-bundle.json";
const CHECKSUMS: &str = "SHA256SUMS";
const WHEELS: &str = "wheels";
const UV: &str = "uv";
const PROGRAM: &str = "nb";

/// What is read at once of a file that is summed up.
const PIECE_BYTES: usize = 1024 * 1024;

/// A folder of this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    folder: PathBuf,
}

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of nb.
    pub nb: String,
    /// Of which Python its wheels are, as in `3.11`.
    pub python: String,
    pub wheels: usize,
    /// All of it.
    pub bytes: u64,
}

impl Bundle {
    /// The one that this program runs from.
    pub fn of_this_program() -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let folder = program.parent()?;
        folder.join(RECORD).is_file().then(|| Self {
            folder: folder.to_owned(),
        })
    }

    /// The folder of wheels.
    pub(super) fn wheels(&self) -> PathBuf {
        self.folder.join(WHEELS)
    }

    pub(super) fn uv(&self) -> PathBuf {
        self.folder.join(UV)
    }

    /// Makes one of this program in a folder that does not exist, whole or not at all.
    pub async fn make(folder: &Path, uv: &Uv, say: Say<'_>) -> Result<About, Error> {
        let taken = |what: &str| Error::user(format!("{} {what}", folder.display()));
        if folder.symlink_metadata().is_ok() {
            return Err(taken("is there already"));
        }
        let (Some(name), Some(beside)) = (folder.file_name(), folder.parent()) else {
            return Err(taken("is no name for a folder"));
        };
        let part = beside.join(format!(".{}.part", name.to_string_lossy()));
        let unusable = |error: io::Error| taken(&format!("cannot be made: {}", reason(&error)));
        private_folder(&part)?;
        // Else two would fill it, and sum up what the other one has cleared away.
        let Some(_ours) = lock::try_folder(&part)? else {
            return Err(taken("is being made by another nb"));
        };
        clear(&part).map_err(unusable)?;
        let made = fill(&part, uv, say).await;
        if made.is_err() {
            let _kept = fs::remove_dir_all(&part);
        }
        let about = made?;
        fs::rename(&part, folder).map_err(unusable)?;
        Ok(about)
    }
}

/// Removes what one that was killed has left in it.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

async fn fill(part: &Path, uv: &Uv, say: Say<'_>) -> Result<About, Error> {
    let failed = |error: io::Error| Error::user(format!("the bundle cannot be written: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    for (from, to) in [(program.as_path(), PROGRAM), (&uv.on_disk()?, UV)] {
        let to = part.join(to);
        fs::copy(from, &to).map_err(failed)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    let wheels = part.join(WHEELS);
    let python = uv.find_python(PYTHONS).await?;
    // Where a throw-away environment is made, if the machine has no pip.
    let tools = part.join("tools");
    private_folder(&tools)?;
    let pip = pip(&tools, say).await?;
    for (title, lock) in LOCKS
        .into_iter()
        .chain([("PyCX", PYCX_LOCK), ("the kernel pip", KERNEL_LOCK)])
    {
        say(&format!("Downloading what {title} needs"));
        let requirements = tools.join("lock.txt");
        fs::write(&requirements, lock).map_err(failed)?;
        let access = Access::of_process(&tools, &[]).await;
        let access = access.map_err(|failure| Error::user(failure.message))?;
        let mut command = tool::command(&pip);
        command
            .args(["-m", "pip", "--python", &python, "download", "--no-input"])
            .args([
                "--disable-pip-version-check",
                "--require-hashes",
                "--no-deps",
            ])
            .args(["--only-binary=:all:", "--dest"])
            .arg(&wheels)
            .arg("--requirement")
            .arg(&requirements)
            .envs(access.of_pip());
        tool::run(&mut command, say).await.map_err(|said| {
            Error::user(format!(
                "what {title} needs was not fetched. pip said:\n{said}"
            ))
        })?;
    }
    fs::remove_dir_all(&tools).map_err(failed)?;
    say("summing up");
    let about = sum_up(part, &version(&python).await?).map_err(failed)?;
    Ok(about)
}

/// Writes the record and the checksums, as `sha256sum --check` reads them.
fn sum_up(part: &Path, python: &str) -> io::Result<About> {
    let mut files = vec![part.join(PROGRAM), part.join(UV)];
    for entry in fs::read_dir(part.join(WHEELS))? {
        files.push(entry?.path());
    }
    files.sort();
    let (mut sums, mut bytes) = (String::new(), 0);
    for file in &files {
        let (sum, size) = digest(file)?;
        bytes += size;
        let name = file.strip_prefix(part).unwrap_or(file);
        sums.push_str(&format!("{sum}  {}\n", name.display()));
    }
    let about = About {
        nb: env!("CARGO_PKG_VERSION").to_owned(),
        python: python.to_owned(),
        wheels: files.len() - 2,
        bytes,
    };
    replace(&part.join(CHECKSUMS), sums.as_bytes())?;
    replace(&part.join(RECORD), &serde_json::to_vec(&about)?)?;
    Ok(about)
}

fn digest(file: &Path) -> io::Result<(String, u64)> {
    let (mut file, mut hash, mut size) = (File::open(file)?, Sha256::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hex(&hash.finalize()), size)),
            read => {
                hash.update(&piece[..read]);
                size += read as u64;
            }
        }
    }
}

/// `3.11`
async fn version(python: &str) -> Result<String, Error> {
    let ask = "import sys; print('%d.%d' % sys.version_info[:2])";
    let said = tool::run(tool::command(python).args(["-I", "-c", ask]), &|_| ()).await;
    said.map_err(|said| Error::user(format!("{python} does not run: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_summed_up_as_sha256sum_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(WHEELS)).unwrap();
        for (name, content) in [(PROGRAM, "a"), (UV, "b"), ("wheels/x.whl", "")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let about = sum_up(folder.path(), "3.11").unwrap();
        assert_eq!((about.wheels, about.bytes), (1, 2));
        let check = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", CHECKSUMS])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
        assert_eq!(String::from_utf8(check.stdout).unwrap().lines().count(), 3);
    }

    #[tokio::test]
    async fn what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let uv = Uv::find(folder.path(), &|_| ()).await.unwrap();
        let refused = Bundle::make(folder.path(), &uv, &|_| ()).await.unwrap_err();
        assert!(refused.message.contains("is there already"), "{refused}");
    }

    #[tokio::test]
    async fn two_do_not_fill_one() {
        let folder = tempfile::tempdir().unwrap();
        let uv = Uv::find(folder.path(), &|_| ()).await.unwrap();
        let part = folder.path().join(".b.part");
        private_folder(&part).unwrap();
        fs::write(part.join("theirs"), "").unwrap();
        let _theirs = lock::try_folder(&part).unwrap().unwrap();
        let bundle = folder.path().join("b");
        let refused = Bundle::make(&bundle, &uv, &|_| ()).await.unwrap_err();
        assert!(refused.message.contains("another nb"), "{refused}");
        assert!(part.join("theirs").exists() && !bundle.exists());
    }

    #[test]
    fn what_a_killed_one_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("wheels/x")).unwrap();
        fs::write(folder.path().join("nb"), "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }
}
