//! Requirements as a folder to import from: resolved and installed by uv, once for what they resolve to.
//!
//! Nothing of the kernel's environment is in it. Its files are copies, so that nobody's edit gets into uv's cache.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use super::store::{Content, Distribution, Mount, Store};
use crate::config::private_folder;
use crate::env::installed::normal;
use crate::env::interpreters::About;
use crate::env::{Say, Uv, hex, lock};
use crate::error::Error;

/// What somebody asks for, as a requirements file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    lines: Vec<String>,
    allows_pre: bool,
}

/// Options with a value that a requirements file takes too, and whether that is a path.
const OPTIONS: [(&str, &str, bool); 8] = [
    ("-r", "--requirement", true),
    ("-c", "--constraint", true),
    ("-i", "--index-url", false),
    ("--index-url", "--index-url", false),
    ("--extra-index-url", "--extra-index-url", false),
    ("-f", "--find-links", true),
    ("--find-links", "--find-links", true),
    ("--requirement", "--requirement", true),
];

impl Requirements {
    /// Of the words of a command line, in this folder.
    pub fn parse(words: &[String], folder: &Path) -> Result<Self, Error> {
        let mut all = Self {
            lines: Vec::new(),
            allows_pre: false,
        };
        let mut words = words.iter().map(String::as_str);
        let mut names_some = false;
        while let Some(word) = words.next() {
            if word.contains(['\n', '\r']) {
                return Err(Error::user("A requirement is one line."));
            }
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value)),
                _ => (word, None),
            };
            let known = OPTIONS.iter().find(|(short, ..)| *short == option);
            match (option, known) {
                (_, Some((_, name, is_path))) => {
                    let value = value.or_else(|| words.next());
                    let value = value.ok_or_else(|| {
                        Error::user(format!("The option {option} needs a value."))
                    })?;
                    names_some |= *name == "--requirement";
                    let value = match *is_path && !value.contains("://") {
                        true => folder.join(value).display().to_string(),
                        false => value.to_owned(),
                    };
                    all.lines.push(format!("{name} {value}"));
                }
                ("--no-index", None) if value.is_none() => all.lines.push(option.to_owned()),
                ("--pre", None) if value.is_none() => all.allows_pre = true,
                (option, None) if option.starts_with('-') => {
                    return Err(Error::user(format!(
                        "There is no option {option} for requirements."
                    )));
                }
                (_, None) => {
                    names_some = true;
                    let is_path = word.starts_with("./") || word.starts_with("../");
                    all.lines.push(match is_path {
                        true => folder.join(word).display().to_string(),
                        false => word.to_owned(),
                    });
                }
            }
        }
        match names_some {
            true => Ok(all),
            false => Err(Error::user("The requirements are missing.")),
        }
    }

    /// The folder to import them from, for this interpreter.
    pub async fn mount(
        &self,
        python: &Path,
        about: &About,
        data: &Path,
        say: Say<'_>,
    ) -> Result<Mount, Error> {
        let folder = data.join("pex");
        private_folder(data)?;
        private_folder(&folder)?;
        let uv = Uv::find(data, say).await?;
        let unusable = |error: std::io::Error| {
            Error::user(format!(
                "the folder {} cannot be used: {error}",
                folder.display()
            ))
        };
        let scratch = tempdir(&folder).map_err(unusable)?;
        let (asked, locked) = (scratch.0.join("asked.txt"), scratch.0.join("locked.txt"));
        fs::write(&asked, self.lines.join("\n") + "\n").map_err(unusable)?;
        let python = python.to_string_lossy();
        let (asked, locked_at) = (asked.to_string_lossy(), locked.to_string_lossy());
        let mut arguments = vec!["pip", "compile", "--no-header", "--no-annotate"];
        arguments.extend(["--python", &python, "--output-file", &locked_at]);
        if self.allows_pre {
            arguments.extend(["--prerelease", "allow"]);
        }
        arguments.push(&asked);
        // What it prints is the lock itself.
        uv.run(&arguments, &|_| ())
            .await
            .map_err(|said| Error::user(format!("The requirements cannot be met.\n{said}")))?;
        let resolved = fs::read_to_string(&locked).map_err(unusable)?;
        let mut hash = Sha256::new();
        hash.update(format!(
            "{about} {} {}\n{resolved}",
            about.soabi, about.platform
        ));
        // What is on this machine may change without its name.
        if resolved.contains("file:") || resolved.contains("-e ") {
            hash.update(scratch.0.to_string_lossy().as_bytes());
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
        let _held = lock::exclusive(&folder.join("lock"), say).await?;
        if let Some(mount) = store.mounted(&hash) {
            return Ok(mount);
        }
        let failed =
            |why: String| Error::user(format!("The requirements cannot be installed.\n{why}"));
        // Where they come from stands in what was asked; it may have a login, which belongs in no command line.
        let is_source = |line: &&String| {
            line.starts_with("--")
                && !line.starts_with("--requirement")
                && !line.starts_with("--constraint")
        };
        let sources: String = self
            .lines
            .iter()
            .filter(is_source)
            .map(|line| format!("{line}\n"))
            .collect();
        let install = scratch.0.join("install.txt");
        fs::write(&install, sources + &resolved).map_err(unusable)?;
        let install_at = install.to_string_lossy();
        let target = store.start(&hash).map_err(failed)?;
        let target_at = target.to_string_lossy();
        let mut arguments = vec!["pip", "install", "--no-deps", "--link-mode", "copy"];
        arguments.extend([
            "--compile-bytecode",
            "--python",
            &python,
            "--target",
            &target_at,
        ]);
        arguments.extend(["--requirement", &install_at]);
        uv.run(&arguments, say).await.map_err(failed)?;
        let content = content(&target).map_err(|error| failed(error.to_string()))?;
        store.finish(&hash, content).map_err(failed)
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

/// A folder that goes when this is dropped.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn tempdir(folder: &Path) -> std::io::Result<Scratch> {
    let path = folder.join(format!("requirements-{}", uuid::Uuid::new_v4().simple()));
    fs::create_dir(&path)?;
    Ok(Scratch(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Requirements, String> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        Requirements::parse(&words, Path::new("/here")).map_err(|error| error.message)
    }

    #[test]
    fn a_command_line_becomes_a_requirements_file() {
        let all = [
            "six>=1.16,<2",
            "-r",
            "a.txt",
            "--index-url=https://i/",
            "--pre",
            "./corp",
            "-f",
            "w",
            "--no-index",
        ];
        let all = parse(&all).unwrap();
        assert!(all.allows_pre);
        let expected = [
            "six>=1.16,<2",
            "--requirement /here/a.txt",
            "--index-url https://i/",
            "/here/./corp",
            "--find-links /here/w",
            "--no-index",
        ];
        assert_eq!(all.lines, expected);
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (words, why) in [
            (&[][..], "missing"),
            (&["--pre"], "missing"),
            (&["six", "--target", "/"], "no option --target"),
            (&["six\n--target /"], "one line"),
            (&["-r"], "needs a value"),
        ] {
            let said = parse(words).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
