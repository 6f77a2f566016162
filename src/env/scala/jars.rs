//! The jars of Ammonite and of Scala itself, pinned in `jars.lock`: `group:artifact:version[:classifier] sha256 bytes`, in the order of the
//! class path.
//!
//! The lock is what Maven resolves for `com.lihaoyi:ammonite_2.13.16` with scala-library, -reflect and -compiler of the same Scala, less what
//! only its build server and its terminal use (bsp4j, lsp4j, xtend, guava, scalameta, scalapb, protobuf, gson, jna, …): 41 MB for 66, and
//! fewer libraries in the way of those that cells ask for.
//!
//! They lie as a repository has them. What is not as pinned is never there under its name.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Say;
use super::jdk::Jdk;
use super::maven::Repositories;
use crate::config::private_folder;
use crate::env::{hex, tool};
use crate::error::{Error, reason};
use crate::redact::redacted;

pub(super) const LOCK: &str = include_str!("jars.lock");

const FETCH: &str = include_str!("Fetch.java");

/// One of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jar {
    group: &'static str,
    artifact: &'static str,
    version: &'static str,
    classifier: Option<&'static str>,
    sha256: &'static str,
    bytes: u64,
}

/// All of the lock.
pub(super) fn all() -> impl Iterator<Item = Jar> {
    LOCK.lines().filter_map(Jar::of)
}

impl Jar {
    fn of(line: &'static str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut names = words.next()?.split(':');
        Some(Self {
            group: names.next()?,
            artifact: names.next()?,
            version: names.next()?,
            classifier: names.next(),
            sha256: words.next()?,
            bytes: words.next()?.parse().ok()?,
        })
    }

    /// Where it is in a repository, and in our folder.
    pub(super) fn path(&self) -> String {
        let Self {
            artifact, version, ..
        } = self;
        let group = self.group.replace('.', "/");
        let classifier = self
            .classifier
            .map(|name| format!("-{name}"))
            .unwrap_or_default();
        format!("{group}/{artifact}/{version}/{artifact}-{version}{classifier}.jar")
    }

    /// As far as its size tells, which a broken download does not have; what it holds was looked at before it got its name.
    fn is_in(&self, folder: &Path) -> bool {
        let about = fs::metadata(folder.join(self.path()));
        about.is_ok_and(|about| about.len() == self.bytes)
    }
}

/// Whether all are there.
pub(super) fn are_in(folder: &Path) -> bool {
    all().all(|jar| jar.is_in(folder))
}

/// Gets those that are missing. The caller holds the lock on the folder.
pub(super) async fn get(
    folder: &Path,
    jdk: &Jdk,
    repositories: &Repositories,
    say: Say<'_>,
) -> Result<(), Error> {
    let missing: Vec<Jar> = all().filter(|jar| !jar.is_in(folder)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let megabytes = missing
        .iter()
        .map(|jar| jar.bytes)
        .sum::<u64>()
        .div_ceil(1_000_000);
    say(&format!(
        "gets {} jars of Scala and Ammonite, {megabytes} MB",
        missing.len()
    ));
    let parts = folder.join("parts");
    let cannot = |error: io::Error| {
        Error::user(format!(
            "{} cannot be used: {}",
            folder.display(),
            reason(&error)
        ))
    };
    if parts.exists() {
        fs::remove_dir_all(&parts).map_err(cannot)?;
    }
    private_folder(&parts)?;
    let outcome = download(&missing, &parts, jdk, repositories, say).await;
    let kept = outcome.and_then(|()| keep(&missing, &parts, folder));
    fs::remove_dir_all(&parts).map_err(cannot)?;
    kept
}

async fn download(
    missing: &[Jar],
    parts: &Path,
    jdk: &Jdk,
    repositories: &Repositories,
    say: Say<'_>,
) -> Result<(), Error> {
    let mut list = String::new();
    for (at, jar) in missing.iter().enumerate() {
        list += &part(parts, at).to_string_lossy();
        for base in &repositories.bases {
            list += &format!("\t{base}/{}", jar.path());
        }
        list.push('\n');
    }
    let (program, listed) = (parts.join("Fetch.java"), parts.join("list"));
    let written = write(&program, FETCH).and_then(|()| write(&listed, &list));
    written.map_err(|error| Error::user(format!("{}: {}", parts.display(), reason(&error))))?;
    let mut java = jdk.tool();
    java.args(options()).arg(program).arg(listed);
    let ran = tool::run(&mut java, say).await;
    ran.map(|_| ()).map_err(|said| {
        let from = redacted(&repositories.bases.join(", ")).into_owned();
        Error::user(format!(
            "the jars of Scala could not be had from {from}:\n{said}"
        ))
    })
}

/// Those of `JAVA_OPTS`: a proxy is said there.
fn options() -> Vec<String> {
    let said = std::env::var("JAVA_OPTS").unwrap_or_default();
    said.split_whitespace()
        .filter(|option| option.starts_with("-D"))
        .map(str::to_owned)
        .collect()
}

/// A login may be in it.
fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::File::options();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    io::Write::write_all(&mut file, content.as_bytes())
}

fn part(parts: &Path, at: usize) -> PathBuf {
    parts.join(format!("{at}.jar"))
}

/// Gives those that are as pinned their names.
fn keep(missing: &[Jar], parts: &Path, folder: &Path) -> Result<(), Error> {
    for (at, jar) in missing.iter().enumerate() {
        let part = part(parts, at);
        let cannot = |error: io::Error| Error::user(format!("{}: {}", jar.path(), reason(&error)));
        if sha256(&part).map_err(cannot)? != jar.sha256 {
            return Err(Error::user(format!(
                "{} came and is not what nb knows by that name (its sha256 differs); the repository that it is from may change what it hands on",
                jar.path()
            )));
        }
        let to = folder.join(jar.path());
        if let Some(parent) = to.parent() {
            private_folder(parent)?;
        }
        fs::rename(part, to).map_err(cannot)?;
    }
    Ok(())
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_pins_all_by_hash_and_names_no_host() {
        assert_eq!(all().count(), LOCK.lines().count());
        assert!(!LOCK.contains("//"));
        assert!(all().all(|jar| jar.sha256.len() == 64 && jar.bytes > 0));
        let scala = |artifact: &str| {
            let found = all().find(|jar| jar.artifact == artifact);
            found.map(|jar| jar.version)
        };
        // Mixed, the compiler fails with NoSuchMethodError.
        for artifact in ["scala-library", "scala-reflect", "scala-compiler"] {
            assert_eq!(scala(artifact), Some("2.13.16"), "{artifact}");
        }
        let jline = all().find(|jar| jar.artifact == "jline").unwrap();
        assert_eq!(jline.path(), "org/jline/jline/3.27.1/jline-3.27.1-jdk8.jar");
    }

    #[test]
    fn what_is_not_as_pinned_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let parts = folder.path().join("parts");
        fs::create_dir(&parts).unwrap();
        let good = Jar {
            group: "a.b",
            artifact: "c",
            version: "1",
            classifier: None,
            // Of "x".
            sha256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
            bytes: 1,
        };
        let bad = Jar {
            artifact: "d",
            ..good
        };
        fs::write(part(&parts, 0), "x").unwrap();
        fs::write(part(&parts, 1), "y").unwrap();
        let refused = keep(&[good, bad], &parts, folder.path()).unwrap_err();
        assert!(refused.message.contains("d-1.jar came"), "{refused}");
        assert!(good.is_in(folder.path()) && !bad.is_in(folder.path()));
    }
}
