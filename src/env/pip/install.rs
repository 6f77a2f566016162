//! What uv is told for an install: requirements by a file, since they may hold a login; options; variables.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Command, Failure, From, Install, Typed, absolute};
use crate::env::REQUIREMENTS_BYTES_MAX;
use crate::env::index;
use crate::env::installed::name_of;
use crate::plain_file;

/// What an install asks for, for a tool that runs anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::env) struct Asked {
    /// Lines of a requirements file.
    pub(in crate::env) lines: Vec<String>,
    /// The requirement and constraint files that were named.
    pub(in crate::env) files: Vec<PathBuf>,
    pub(in crate::env) constraints: Vec<PathBuf>,
    /// uv's options beside these: what picks versions, and what makes packages.
    pub(in crate::env) resolving: Vec<String>,
    pub(in crate::env) building: Vec<String>,
    /// All that is asked for is there in one version only, so what a cache has cannot be out of date.
    pub(in crate::env) is_pinned: bool,
}

impl Asked {
    pub(in crate::env) fn new(install: &Install, typed: &Typed<'_>) -> Self {
        let full = |path: &String| absolute(typed.folder, path, typed.env);
        let lines = install
            .requirements
            .iter()
            .map(|requirement| line(requirement, typed));
        let editables = install.editables.iter().map(|path| {
            let is_url = path.contains("://");
            let path = if is_url {
                path.clone()
            } else {
                full(path).display().to_string()
            };
            format!("-e {path}")
        });
        let is_pin = |requirement: &String| {
            requirement.contains("==") && !requirement.contains('*') && !requirement.contains(';')
        };
        Self {
            is_pinned: !install.upgrade
                && install.editables.is_empty()
                && install.files.is_empty()
                && install.requirements.iter().all(is_pin),
            lines: lines.chain(editables).collect(),
            files: install.files.iter().map(full).collect(),
            constraints: install.constraints.iter().map(full).collect(),
            resolving: resolving(install),
            building: building(install),
        }
    }

    /// Reads the files in which repositories have logins, of which uv would make arguments of git's; what else they say of
    /// where packages come from.
    pub(in crate::env) fn take_logins(&mut self, typed: &Typed<'_>) -> Result<From, Failure> {
        let mut from = From::default();
        for file in std::mem::take(&mut self.files) {
            let text = read_text(&file)?;
            if !index::has_login_of_git(&text, typed.env) {
                self.files.push(file);
                continue;
            }
            from.add(self.take_text(&text, &file, typed)?);
        }
        Ok(from)
    }

    /// Reads what a file of somebody's asks for; what it says of where packages come from.
    pub(in crate::env) fn take_file(
        &mut self,
        file: &Path,
        typed: &Typed<'_>,
    ) -> Result<From, Failure> {
        self.take_text(&read_text(file)?, file, typed)
    }

    /// Its paths are relative to where it was named, as pip has it.
    fn take_text(&mut self, text: &str, file: &Path, typed: &Typed<'_>) -> Result<From, Failure> {
        let (lines, from) = parse_file(text, file)?;
        self.lines
            .extend(lines.iter().map(|said| line(said, typed)));
        Ok(from)
    }

    /// The distributions that are named, in their normal form.
    pub(in crate::env) fn names(&self) -> Vec<String> {
        self.lines.iter().filter_map(|line| name_of(line)).collect()
    }
}

/// uv's options for which versions are picked.
fn resolving(install: &Install) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    if install.no_deps {
        options.push("--no-deps".to_owned());
    }
    if install.pre {
        options.extend(["--prerelease", "allow"].map(str::to_owned));
    }
    let named = install.requirements.iter();
    let names: Vec<Option<String>> = named.map(|requirement| name_of(requirement)).collect();
    // pip takes what is named to its newest version, and the rest as far as that needs it.
    let all = install.eager || !install.files.is_empty() || names.iter().any(Option::is_none);
    match install.upgrade {
        true if all => options.push("--upgrade".to_owned()),
        true => {
            for name in names.into_iter().flatten() {
                options.extend(["--upgrade-package".to_owned(), name]);
            }
        }
        false => {}
    }
    options
}

/// uv's options for how packages are got and built.
fn building(install: &Install) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    for (is, option) in [
        (install.no_build_isolation, "--no-build-isolation"),
        (install.no_cache, "--refresh"),
    ] {
        options.extend(is.then(|| option.to_owned()));
    }
    for (option, lists) in [
        ("--only-binary", &install.only_binary),
        ("--no-binary", &install.no_binary),
    ] {
        for name in lists.iter().flat_map(|list| list.split(',')) {
            options.extend([option.to_owned(), name.to_owned()]);
        }
    }
    options
}

/// A requirement whose path, if it is one, says where it is from anywhere.
fn line(requirement: &str, typed: &Typed<'_>) -> String {
    let editable = ["-e ", "--editable ", "--editable="]
        .iter()
        .find_map(|option| requirement.strip_prefix(option));
    if let Some(place) = editable {
        let place = place.trim_start();
        return format!("-e {}", self::line(place, typed));
    }
    let is_path = requirement.starts_with(['.', '/', '~'])
        || !requirement.contains("://")
            && (requirement.contains('/') && !requirement.contains('@')
                || [".whl", ".tar.gz", ".zip"]
                    .iter()
                    .any(|end| requirement.ends_with(end)));
    match is_path {
        true => {
            // `./own[extra]`
            let (path, extras) = match requirement.split_once('[') {
                Some((path, extras)) => (path, format!("[{extras}")),
                None => (requirement, String::new()),
            };
            format!(
                "{}{extras}",
                absolute(typed.folder, path, typed.env).display()
            )
        }
        false => requirement.to_owned(),
    }
}

/// The requirements of a file of somebody's, without its comments.
pub(in crate::env) fn read_requirements(file: &Path) -> Result<Vec<String>, Failure> {
    Ok(parse_file(&read_text(file)?, file)?.0)
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let text = plain_file::text(file, REQUIREMENTS_BYTES_MAX);
    text.map_err(|error| Failure::new(format!("{} cannot be read: {error}.", file.display())))
}

/// The lines of a file of this text, and where it says that packages come from.
fn parse_file(text: &str, file: &Path) -> Result<(Vec<String>, From), Failure> {
    let (mut lines, mut from) = (Vec::new(), From::default());
    for line in text.replace("\\\n", " ").lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('-') && !line.starts_with("-e ") && !line.starts_with("--editable") {
            from.add(option(line).ok_or_else(|| {
                Failure::new(format!(
                    "{} has the line `{}`, which is not understood here; give that on the command line.",
                    file.display(),
                    crate::redact::redacted(line)
                ))
            })?);
            continue;
        }
        let line = line.split(" --hash").next().unwrap_or(line).trim();
        lines.push(line.to_owned());
    }
    Ok((lines, from))
}

/// A line of options, if it is all about where packages come from.
fn option(line: &str) -> Option<From> {
    let words = ["install", "x"].into_iter().chain(line.split_whitespace());
    let words: Vec<String> = words.map(str::to_owned).collect();
    let Ok(Command::Install(mut install)) = Command::read(&words) else {
        return None;
    };
    let from = std::mem::take(&mut install.from);
    let nothing_else = Install {
        requirements: vec!["x".to_owned()],
        ..Install::default()
    };
    (*install == nothing_else).then_some(from)
}

/// Lines of requirements in a file of ours that goes when this is dropped.
#[derive(Debug)]
pub(in crate::env) struct Requirements {
    path: PathBuf,
}

impl Requirements {
    /// In this folder, which exists.
    pub(in crate::env) fn write(folder: &Path, lines: &[String]) -> io::Result<Self> {
        let path = folder.join(format!(".nb-{}.txt", uuid::Uuid::new_v4()));
        let mut file = fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        let written = Self { path };
        for line in lines {
            // What is in one word is on one line.
            writeln!(file, "{}", line.replace(['\n', '\r'], " "))?;
        }
        Ok(written)
    }

    pub(in crate::env) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Requirements {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::pip::Never;
    use std::collections::BTreeMap;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn paths_are_full_and_names_stay() {
        let env = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        let typed = Typed {
            folder: Path::new("/w"),
            env: &env,
            stop: &Never,
        };
        for (requirement, expected) in [
            ("six", "six"),
            ("./own[x]", "/w/./own[x]"),
            (".", "/w/."),
            ("a/b", "/w/a/b"),
            ("~/own", "/h/own"),
            ("six-1-py3-none-any.whl", "/w/six-1-py3-none-any.whl"),
            ("git+https://h/x.git", "git+https://h/x.git"),
            ("six @ https://h/six.whl", "six @ https://h/six.whl"),
            ("six @ file:///x", "six @ file:///x"),
            ("-e ./own[x]", "-e /w/./own[x]"),
            ("--editable=.", "-e /w/."),
            ("-e git+https://h/x.git", "-e git+https://h/x.git"),
        ] {
            assert_eq!(line(requirement, &typed), expected, "{requirement}");
        }
    }

    #[test]
    fn an_upgrade_is_of_what_is_named() {
        let mut install = Install {
            requirements: words(&["A_b>1", "c"]),
            upgrade: true,
            ..Install::default()
        };
        assert_eq!(
            resolving(&install),
            words(&["--upgrade-package", "a-b", "--upgrade-package", "c"])
        );
        install.eager = true;
        assert_eq!(resolving(&install), words(&["--upgrade"]));
    }

    #[test]
    fn a_file_with_a_login_of_git_is_no_argument() {
        let folder = tempfile::tempdir().unwrap();
        let env = BTreeMap::from([("TOKEN".to_owned(), "t0ken".to_owned())]);
        let (file, plain) = (folder.path().join("r.txt"), folder.path().join("p.txt"));
        fs::write(&file, "-f ./w\ngit+https://x:${TOKEN}@h/r.git\n./own\n").unwrap();
        fs::write(&plain, "six\n").unwrap();
        let typed = Typed {
            folder: Path::new("/w"),
            env: &env,
            stop: &Never,
        };
        let mut asked = Asked {
            files: vec![file, plain.clone()],
            ..Asked::default()
        };
        let from = asked.take_logins(&typed).unwrap();
        assert_eq!(
            (from.find_links, asked.files),
            (words(&["./w"]), vec![plain])
        );
        assert_eq!(asked.lines, ["git+https://x:${TOKEN}@h/r.git", "/w/./own"]);
        asked.files = vec![folder.path().join("none")];
        let none = asked.take_logins(&typed).unwrap_err().message;
        assert!(none.contains("none cannot be read: "), "{none}");
    }

    #[test]
    fn a_file_says_where_packages_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.txt");
        fs::write(
            &file,
            "--extra-index-url https://h/simple  # ours\nsix\n-f ./wheels\n",
        )
        .unwrap();
        let read = |file: &Path| parse_file(&read_text(file)?, file);
        let (lines, from) = read(&file).unwrap();
        assert_eq!(lines, ["six"]);
        assert_eq!(from.extra_indexes, ["https://h/simple"]);
        assert_eq!(from.find_links, ["./wheels"]);
        fs::write(&file, "--pre\n").unwrap();
        assert!(read(&file).is_err());
    }

    #[test]
    fn requirements_are_private_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = Requirements::write(folder.path(), &words(&["a", "b\n--index-url x"])).unwrap();
        assert_eq!(
            fs::read_to_string(file.path()).unwrap(),
            "a\nb --index-url x\n"
        );
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
