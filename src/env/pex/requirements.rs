//! Requirements as a folder to import from: resolved and installed by uv, once for what they resolve to.
//!
//! Nothing of the kernel's environment is in it. Its files are copies, so that nobody's edit gets into uv's cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use super::store::{Content, Distribution, Mount, Store};
use crate::config::private_folder;
use crate::env::installed::normal;
use crate::env::interpreters::About;
use crate::env::pip::{
    Asked, Failure, Install, Requirements as Lines, Stop, Tool, Typed, argument,
};
use crate::env::{Say, Uv, held, hex, index, leftovers, lock};
use crate::error::Error;

/// What somebody asks for, in words of pip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    install: Install,
}

/// How the folders begin that something is resolved in.
const SCRATCH: &str = "requirements-";

impl Requirements {
    /// Of the words of a command line.
    pub fn parse(words: &[String]) -> Result<Self, Error> {
        let mut install = Install::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value)),
                _ => (word, None),
            };
            let mut take = |to: &mut Vec<String>| {
                let value = value.or_else(|| words.next()).filter(|it| !it.is_empty());
                let value = value
                    .ok_or_else(|| Error::user(format!("The option {option} needs a value.")))?;
                one_line(value)?;
                to.push(value.to_owned());
                Ok::<_, Error>(())
            };
            match option {
                "-r" | "--requirement" => take(&mut install.files)?,
                "-c" | "--constraint" => take(&mut install.constraints)?,
                "-i" | "--index-url" => {
                    let mut index = Vec::new();
                    take(&mut index)?;
                    install.from.index = index.pop();
                }
                "--extra-index-url" => take(&mut install.from.extra_indexes)?,
                "-f" | "--find-links" => take(&mut install.from.find_links)?,
                "--no-index" if value.is_none() => install.from.no_index = true,
                "--pre" if value.is_none() => install.pre = true,
                option if option.starts_with('-') => {
                    return Err(Error::user(format!(
                        "There is no option {option} for requirements."
                    )));
                }
                _ => {
                    one_line(word)?;
                    install.requirements.push(word.to_owned());
                }
            }
        }
        match install.requirements.is_empty() && install.files.is_empty() {
            true => Err(Error::user("The requirements are missing.")),
            false => Ok(Self { install }),
        }
    }

    /// The folder to import them from, for this interpreter.
    pub async fn mount(
        &self,
        python: &Path,
        about: &About,
        data: &Path,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<Mount, Failure> {
        let folder = data.join("pex");
        private_folder(data)?;
        private_folder(&folder)?;
        let unusable = |error: std::io::Error| held::unusable(&folder, &error);
        let uv = unless(typed.stop, async { Ok(Uv::find(data, say).await?) }).await?;
        let scratch = unless(typed.stop, Scratch::make(&folder, say)).await?;
        let mut asked = Asked::new(&self.install, typed);
        let mut from = self.install.from.clone();
        from.add(asked.take_logins(typed)?);
        let tool = Tool {
            uv: &uv,
            typed,
            folder: &scratch.folder,
            from: &from,
            say,
        };
        let resolved = resolve(&asked, &argument(python), &tool).await?;
        let mut hash = Sha256::new();
        hash.update(format!(
            "{about} {} {}\n{resolved}",
            about.soabi, about.platform
        ));
        // What is on this machine may change without its name.
        let is_local = resolved.contains("file:") || resolved.contains("-e ");
        if is_local {
            hash.update(scratch.folder.to_string_lossy().as_bytes());
        }
        let hash = hex(&hash.finalize());
        let never = AtomicBool::new(false);
        let store = Store {
            folder: &folder,
            cancelled: &never,
        };
        if let Some(mount) = store.mounted(&hash) {
            return Ok(mount);
        }
        let held = async { Ok(lock::exclusive(&folder.join("lock"), say).await?) };
        let _held = unless(typed.stop, held).await?;
        if let Some(mount) = store.mounted(&hash) {
            return Ok(mount);
        }
        let failed = |why: String| Failure::new(format!("The requirements cannot be kept: {why}."));
        let lines: Vec<String> = resolved.lines().map(str::to_owned).collect();
        let lines = Lines::write(&scratch.folder, &lines).map_err(unusable)?;
        let target = store.start(&hash).map_err(failed)?;
        let (python, target_at, lines_at) =
            (argument(python), argument(&target), argument(lines.path()));
        let arguments = [
            "pip",
            "install",
            "--no-deps",
            "--link-mode",
            "copy",
            "--compile-bytecode",
            "--python",
            &python,
            "--target",
            &target_at,
            "--requirement",
            &lines_at,
        ];
        tool.run(&arguments, !is_local).await?;
        let content = content(&target).map_err(|error| failed(error.to_string()))?;
        store.finish(&hash, content).map_err(failed)
    }
}

/// What uv picks, a line each, without logins: these are kept in memory.
async fn resolve(asked: &Asked, python: &str, tool: &Tool<'_>) -> Result<String, Failure> {
    let unusable = |error: std::io::Error| held::unusable(tool.folder, &error);
    let bare = |line: &str| index::without_logins(line, tool.typed.env);
    let lines: Vec<String> = asked.lines.iter().map(|line| bare(line)).collect();
    let lines = Lines::write(tool.folder, &lines).map_err(unusable)?;
    let locked = Lines::write(tool.folder, &[]).map_err(unusable)?;
    let (lines_at, locked_at) = (argument(lines.path()), argument(locked.path()));
    // What it prints is the lock itself.
    let mut arguments = vec!["pip", "compile", "--quiet", "--no-header", "--no-annotate"];
    arguments.extend(["--python", python, "--output-file", &locked_at]);
    arguments.extend(asked.resolving.iter().map(String::as_str));
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| argument(path)).collect();
    let (files, constraints): (Vec<String>, Vec<String>) =
        (paths(&asked.files), paths(&asked.constraints));
    for constraint in &constraints {
        arguments.extend(["--constraint", constraint]);
    }
    arguments.extend(files.iter().map(String::as_str));
    arguments.push(&lines_at);
    tool.run(&arguments, false).await?;
    let resolved = fs::read_to_string(locked.path()).map_err(unusable)?;
    Ok(resolved.lines().map(|line| bare(line) + "\n").collect())
}

/// Does something until it is given up.
async fn unless<T>(
    stop: &dyn Stop,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = stop.stopped() => Err(Failure::interrupt()),
    }
}

fn one_line(word: &str) -> Result<(), Error> {
    match word.contains(['\n', '\r']) {
        true => Err(Error::user("A requirement is one line.")),
        false => Ok(()),
    }
}

/// What was installed, from the names of the folders that say so.
fn content(folder: &Path) -> std::io::Result<Content> {
    let mut distributions = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let about = name
            .to_str()
            .and_then(|name| name.strip_suffix(".dist-info"));
        if let Some((project, version)) = about.and_then(|about| about.rsplit_once('-')) {
            distributions.push(Distribution {
                project: normal(project),
                version: version.to_owned(),
                modules: Vec::new(),
            });
        }
    }
    distributions.sort_by(|one, other| one.project.cmp(&other.project));
    Ok(Content {
        distributions,
        modules: Vec::new(),
        collisions: Vec::new(),
    })
}

/// A folder that goes when this is dropped. What processes that were killed have left goes with the next.
struct Scratch {
    folder: PathBuf,
    _held: File,
}

impl Scratch {
    async fn make(folder: &Path, say: Say<'_>) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| held::unusable(folder, &error);
        let lock_of = |scratch: &Path| scratch.join("lock");
        // Nobody takes one that is being made for one that was left.
        let _alone = lock::exclusive(&folder.join("requirements.lock"), say).await?;
        for entry in fs::read_dir(folder).map_err(unusable)?.flatten() {
            let left = entry.path();
            let is_one = entry.file_name().to_string_lossy().starts_with(SCRATCH);
            if !is_one || !left.is_dir() || lock::try_exclusive(&lock_of(&left))?.is_none() {
                continue;
            }
            leftovers::end(&left).await?;
            fs::remove_dir_all(&left).map_err(unusable)?;
        }
        let made = folder.join(format!("{SCRATCH}{}", uuid::Uuid::new_v4().simple()));
        private_folder(&made)?;
        let held = lock::exclusive(&lock_of(&made), say).await?;
        Ok(Self {
            folder: made,
            _held: held,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Requirements, String> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        Requirements::parse(&words).map_err(|error| error.message)
    }

    #[test]
    fn a_command_line_becomes_a_requirements_file() {
        let all = [
            "six>=1.16,<2",
            "-r",
            "a.txt",
            "-c",
            "c.txt",
            "--index-url=https://i/",
            "--extra-index-url",
            "https://e/",
            "--pre",
            "./corp",
            "-f",
            "w",
            "--no-index",
        ];
        let all = parse(&all).unwrap().install;
        assert!(all.pre && all.from.no_index);
        assert_eq!(all.requirements, ["six>=1.16,<2", "./corp"]);
        assert_eq!((all.files, all.constraints), (one("a.txt"), one("c.txt")));
        assert_eq!(all.from.index.as_deref(), Some("https://i/"));
        assert_eq!(all.from.extra_indexes, ["https://e/"]);
        assert_eq!(all.from.find_links, ["w"]);
    }

    fn one(word: &str) -> Vec<String> {
        vec![word.to_owned()]
    }

    #[tokio::test]
    async fn what_a_killed_process_has_left_goes_with_the_next() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let left = folder.join(format!("{SCRATCH}0123"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("x.nb-netrc"), "").unwrap();
        let one = Scratch::make(folder, &|_| ()).await.unwrap();
        let other = Scratch::make(folder, &|_| ()).await.unwrap();
        assert!(!left.exists() && one.folder.exists() && other.folder.exists());
        let gone = one.folder.clone();
        drop(one);
        assert!(!gone.exists() && other.folder.exists());
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (words, why) in [
            (&[][..], "missing"),
            (&["--pre"], "missing"),
            (&["six", "--target", "/"], "no option --target"),
            (&["six\n--target /"], "one line"),
            (&["-r"], "needs a value"),
            (&["--find-links="], "needs a value"),
            (&["six", "-c", "a\n--index-url x"], "one line"),
        ] {
            let said = parse(words).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
