//! What somebody asks of pip: its command line, read.
//!
//! pip's own words and options. What would lead elsewhere than into the environment is refused, what has no meaning here
//! is passed over, and what is not known is an error: nothing is guessed. Pure.

use std::collections::VecDeque;

use crate::env::index::From;

/// A command line of pip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Install(Box<Install>),
    Uninstall {
        names: Vec<String>,
        /// Requirement files.
        files: Vec<String>,
        quiet: bool,
    },
    List {
        format: Format,
        editable: bool,
        outdated: bool,
    },
    Freeze,
    Show {
        names: Vec<String>,
        files: bool,
    },
    /// pip itself does it, with these words: `download`, `check`.
    ByPip(Vec<String>),
    Version,
    Help,
}

/// `pip install`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Install {
    pub requirements: Vec<String>,
    pub editables: Vec<String>,
    pub files: Vec<String>,
    pub constraints: Vec<String>,
    pub upgrade: bool,
    /// What depends on what is named is upgraded too.
    pub eager: bool,
    pub reinstall: bool,
    pub no_deps: bool,
    pub pre: bool,
    pub dry_run: bool,
    pub quiet: bool,
    /// For all notebooks of the user.
    pub user: bool,
    pub no_build_isolation: bool,
    pub require_hashes: bool,
    pub no_cache: bool,
    pub only_binary: Vec<String>,
    pub no_binary: Vec<String>,
    pub from: From,
}

impl From {
    /// Takes what is about this out of words that pip itself gets: they may hold a login, and everybody can read arguments.
    pub(super) fn taken(words: &[String]) -> (Self, Vec<String>) {
        let (mut from, mut rest) = (Self::default(), Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (option, with) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value)),
                _ => (word.as_str(), None),
            };
            let option = match option {
                "-i" | "--pypi-url" => "--index-url",
                "-f" => "--find-links",
                option => option,
            };
            let known = [
                "--index-url",
                "--extra-index-url",
                "--find-links",
                "--proxy",
            ];
            if !known.contains(&option) {
                rest.push(word.clone());
                continue;
            }
            let Some(value) = with.map(str::to_owned).or_else(|| words.next().cloned()) else {
                rest.push(word.clone());
                continue;
            };
            match option {
                "--index-url" => from.index = Some(value),
                "--extra-index-url" => from.extra_indexes.push(value),
                "--find-links" => from.find_links.push(value),
                _ => from.proxy = Some(value),
            }
        }
        (from, rest)
    }
}

/// How `pip list` is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Columns,
    Freeze,
    Json,
}

/// What there is behind `pip`.
pub const COMMANDS: [&str; 7] = [
    "install",
    "uninstall",
    "list",
    "show",
    "freeze",
    "check",
    "download",
];

/// Options without a value that say nothing here.
const IDLE: [&str; 14] = [
    "--no-input",
    "--no-color",
    "--disable-pip-version-check",
    "--no-warn-script-location",
    "--no-warn-conflicts",
    "--break-system-packages",
    "--prefer-binary",
    "--use-pep517",
    "--compile",
    "--no-compile",
    "--no-python-version-warning",
    "--isolated",
    "--local",
    "--verbose",
];

/// The same with a value.
const IDLE_WITH_VALUE: [&str; 8] = [
    "--progress-bar",
    "--root-user-action",
    "--timeout",
    "--retries",
    "--exists-action",
    "--cache-dir",
    "--log",
    "--keyring-provider",
];

/// Options that would install elsewhere.
const ELSEWHERE: [&str; 5] = ["--target", "--prefix", "--root", "--python", "--src"];

impl Format {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Columns => "columns",
            Self::Freeze => "freeze",
            Self::Json => "json",
        }
    }
}

/// What a short option is called in full.
fn full(short: char) -> Option<&'static str> {
    Some(match short {
        'r' => "--requirement",
        'c' => "--constraint",
        'e' => "--editable",
        'U' => "--upgrade",
        'q' => "--quiet",
        'v' => "--verbose",
        'i' => "--index-url",
        'f' => "--find-links",
        'I' => "--ignore-installed",
        't' => "--target",
        'y' => "--yes",
        'l' => "--local",
        'o' => "--outdated",
        'h' => "--help",
        'V' => "--version",
        _ => return None,
    })
}

impl Command {
    /// Reads the words behind `pip`; an error is a sentence.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let mut line = Line {
            words: words.iter().cloned().collect(),
            quiet: false,
        };
        let name = loop {
            match line.words.pop_front() {
                None => return Ok(Self::Help),
                Some(word) if word.starts_with('-') => match line.option(&word)?.0.as_str() {
                    "--quiet" => line.quiet = true,
                    "--help" => return Ok(Self::Help),
                    "--version" => return Ok(Self::Version),
                    option if IDLE.contains(&option) => {}
                    option if IDLE_WITH_VALUE.contains(&option) => {
                        line.value(option)?;
                    }
                    option => return Err(unknown("pip", option)),
                },
                Some(name) => break name,
            }
        };
        match name.as_str() {
            "install" => line.install(),
            "uninstall" | "remove" => line.uninstall(),
            "list" => line.list(),
            "freeze" => line.freeze(),
            "show" => line.show(),
            "download" | "check" => {
                line.words.push_front(name);
                Ok(Self::ByPip(line.words.into()))
            }
            "help" => Ok(Self::Help),
            name => Err(format!(
                "There is no `pip {name}` here; there is install, uninstall, list, show, freeze, check and download."
            )),
        }
    }
}

/// What is left of a command line.
struct Line {
    words: VecDeque<String>,
    quiet: bool,
}

impl Line {
    /// An option by its full name. A value that was written with it, and further short options, are put back.
    fn option(&mut self, word: &str) -> Result<(String, bool), String> {
        if word.starts_with("--") {
            return Ok(match word.split_once('=') {
                Some((name, value)) => {
                    self.words.push_front(value.to_owned());
                    (name.to_owned(), true)
                }
                None => (word.to_owned(), false),
            });
        }
        let mut letters = word.chars().skip(1);
        let name = letters.next().and_then(full);
        let name = name.ok_or_else(|| format!("pip has no option `{word}`."))?;
        let rest: String = letters.collect();
        if rest.is_empty() {
            return Ok((name.to_owned(), false));
        }
        let takes = [
            "--requirement",
            "--constraint",
            "--editable",
            "--index-url",
            "--find-links",
            "--target",
        ];
        let is_value = takes.contains(&name);
        self.words.push_front(match is_value {
            true => rest.strip_prefix('=').unwrap_or(&rest).to_owned(),
            false => format!("-{rest}"),
        });
        Ok((name.to_owned(), is_value))
    }

    fn value(&mut self, option: &str) -> Result<String, String> {
        let value = self.words.pop_front().filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("`{option}` needs a value."))
    }

    /// Hands each option to `take`, which says whether it knows it, and gives the other words.
    fn each(
        &mut self,
        command: &str,
        mut take: impl FnMut(&mut Self, &str) -> Result<bool, String>,
    ) -> Result<Option<Vec<String>>, String> {
        let mut others = Vec::new();
        while let Some(word) = self.words.pop_front() {
            if word == "--" {
                others.extend(self.words.drain(..));
            } else if word.len() > 1 && word.starts_with('-') {
                let (option, has_value) = self.option(&word)?;
                let before = self.words.len();
                match option.as_str() {
                    "--help" => return Ok(None),
                    "--quiet" => self.quiet = true,
                    option if take(self, option)? => {}
                    option if IDLE.contains(&option) => {}
                    option if IDLE_WITH_VALUE.contains(&option) => {
                        self.value(option)?;
                    }
                    option if ELSEWHERE.contains(&option) => {
                        return Err(format!(
                            "`{option}` would lead elsewhere than into this kernel's environment; leave it out."
                        ));
                    }
                    option => return Err(unknown(command, option)),
                }
                if has_value && self.words.len() == before {
                    return Err(format!("`{option}` takes no value."));
                }
            } else {
                others.push(word);
            }
        }
        Ok(Some(others))
    }

    fn install(mut self) -> Result<Command, String> {
        let mut asked = Install::default();
        let words = self.each("pip install", |line, option| {
            match option {
                "--requirement" => asked.files.push(line.value(option)?),
                "--constraint" => asked.constraints.push(line.value(option)?),
                "--editable" => asked.editables.push(line.value(option)?),
                "--upgrade" => asked.upgrade = true,
                "--upgrade-strategy" => match line.value(option)?.as_str() {
                    "eager" => asked.eager = true,
                    "only-if-needed" | "to-satisfy-only" => asked.eager = false,
                    other => return Err(format!("There is no upgrade strategy `{other}`.")),
                },
                "--force-reinstall" | "--ignore-installed" => asked.reinstall = true,
                "--no-deps" | "--no-dependencies" => asked.no_deps = true,
                "--pre" => asked.pre = true,
                "--dry-run" => asked.dry_run = true,
                "--user" => asked.user = true,
                "--no-build-isolation" => asked.no_build_isolation = true,
                "--require-hashes" => asked.require_hashes = true,
                "--no-cache-dir" => asked.no_cache = true,
                "--only-binary" => asked.only_binary.push(line.value(option)?),
                "--no-binary" => asked.no_binary.push(line.value(option)?),
                "--index-url" | "--pypi-url" => asked.from.index = Some(line.value(option)?),
                "--extra-index-url" => asked.from.extra_indexes.push(line.value(option)?),
                "--find-links" => asked.from.find_links.push(line.value(option)?),
                "--no-index" => asked.from.no_index = true,
                "--trusted-host" => asked.from.trusted_hosts.push(line.value(option)?),
                "--proxy" => asked.from.proxy = Some(line.value(option)?),
                "--cert" => asked.from.cert = Some(line.value(option)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(words) = words else {
            return Ok(Command::Help);
        };
        asked.requirements = words;
        asked.quiet = self.quiet;
        if asked.requirements.is_empty() && asked.editables.is_empty() && asked.files.is_empty() {
            return Err("You must give at least one requirement to install.".to_owned());
        }
        Ok(Command::Install(Box::new(asked)))
    }

    fn uninstall(mut self) -> Result<Command, String> {
        let mut files = Vec::new();
        let names = self.each("pip uninstall", |line, option| {
            match option {
                "--yes" => {}
                "--requirement" => files.push(line.value(option)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(names) = names else {
            return Ok(Command::Help);
        };
        if names.is_empty() && files.is_empty() {
            return Err("You must give at least one distribution to uninstall.".to_owned());
        }
        Ok(Command::Uninstall {
            names,
            files,
            quiet: self.quiet,
        })
    }

    fn list(mut self) -> Result<Command, String> {
        let (mut format, mut editable, mut outdated) = (Format::Columns, false, false);
        let words = self.each("pip list", |line, option| {
            match option {
                "--format" => {
                    let name = line.value(option)?;
                    let formats = [Format::Columns, Format::Freeze, Format::Json];
                    let found = formats.into_iter().find(|format| format.name() == name);
                    format = found.ok_or_else(|| {
                        format!("There is no format `{name}`; there is columns, freeze and json.")
                    })?;
                }
                "--editable" => editable = true,
                "--outdated" => outdated = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let list = Command::List {
            format,
            editable,
            outdated,
        };
        self.no_words(words.as_deref(), "pip list", list)
    }

    fn freeze(mut self) -> Result<Command, String> {
        let words = self.each("pip freeze", |_, option| Ok(option == "--all"))?;
        self.no_words(words.as_deref(), "pip freeze", Command::Freeze)
    }

    fn show(mut self) -> Result<Command, String> {
        let mut files = false;
        let names = self.each("pip show", |_, option| {
            // `-f` is that of `install`.
            let is_files = ["--files", "--find-links"].contains(&option);
            files |= is_files;
            Ok(is_files)
        })?;
        match names {
            None => Ok(Command::Help),
            Some(names) if names.is_empty() => {
                Err("You must give at least one distribution to show.".to_owned())
            }
            Some(names) => Ok(Command::Show { names, files }),
        }
    }

    fn no_words(
        &self,
        words: Option<&[String]>,
        name: &str,
        command: Command,
    ) -> Result<Command, String> {
        match words {
            None => Ok(Command::Help),
            Some([]) => Ok(command),
            Some([word, ..]) => Err(format!("`{name}` takes no `{word}`.")),
        }
    }
}

fn unknown(command: &str, option: &str) -> String {
    format!("`{command}` has no option `{option}` here.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Command::read(&words)
    }

    #[test]
    fn where_packages_come_from_is_in_no_argument_of_pips() {
        let words = "download -i https://u:p@h --extra-index-url=https://v six -d out -f";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let (from, rest) = From::taken(&words);
        assert_eq!(from.index.as_deref(), Some("https://u:p@h"));
        assert_eq!(from.extra_indexes, ["https://v"]);
        assert_eq!(rest.join(" "), "download six -d out -f");
    }

    fn install(line: &str) -> Install {
        match read(line) {
            Ok(Command::Install(install)) => *install,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_install_is_read_in_every_spelling_of_pip() {
        let wanted = Install {
            requirements: vec!["a".to_owned(), "git+https://h/b".to_owned()],
            editables: vec![".".to_owned()],
            files: vec!["r.txt".to_owned()],
            constraints: vec!["c.txt".to_owned()],
            upgrade: true,
            quiet: true,
            from: From {
                index: Some("https://h/simple".to_owned()),
                ..From::default()
            },
            ..Install::default()
        };
        for line in [
            "install -qU a git+https://h/b -e . -r r.txt -c c.txt -i https://h/simple",
            "-q install a --upgrade git+https://h/b --editable=. -rr.txt --constraint=c.txt --index-url https://h/simple",
            "install --no-input a git+https://h/b -Uqqe. -r=r.txt -c c.txt --index-url=https://h/simple --progress-bar off",
        ] {
            assert_eq!(install(line), wanted, "{line}");
        }
        assert!(install("install --pre --no-deps x").no_deps);
        assert_eq!(install("install -- -x").requirements, ["-x"]);
    }

    #[test]
    fn what_cannot_be_done_is_said_in_a_sentence() {
        for (line, part) in [
            ("install", "at least one requirement"),
            ("install -r", "`--requirement` needs a value"),
            ("install --target=x y", "elsewhere"),
            ("install -t x y", "elsewhere"),
            (
                "install --nonsense y",
                "`pip install` has no option `--nonsense`",
            ),
            ("install --pre=1 y", "takes no value"),
            ("install -Z y", "no option `-Z`"),
            ("frobnicate", "no `pip frobnicate`"),
            ("list x", "takes no `x`"),
            ("list --format=x", "no format `x`"),
            ("uninstall -y", "at least one distribution"),
            ("show", "at least one distribution"),
        ] {
            let said = read(line).unwrap_err();
            assert!(said.contains(part) && said.ends_with('.'), "{line}: {said}");
        }
    }

    #[test]
    fn the_other_commands_are_read() {
        for (line, command) in [
            ("", Command::Help),
            ("install --help", Command::Help),
            ("--version", Command::Version),
            ("freeze --all", Command::Freeze),
            ("check", Command::ByPip(vec!["check".to_owned()])),
            (
                "show -f a",
                Command::Show {
                    names: vec!["a".to_owned()],
                    files: true,
                },
            ),
            (
                "download -d x a",
                Command::ByPip(["download", "-d", "x", "a"].map(str::to_owned).to_vec()),
            ),
            (
                "list -o --format json",
                Command::List {
                    format: Format::Json,
                    editable: false,
                    outdated: true,
                },
            ),
        ] {
            assert_eq!(read(line), Ok(command), "{line}");
        }
        let removed = read("uninstall -y a -r f").unwrap();
        let (names, files) = (vec!["a".to_owned()], vec!["f".to_owned()]);
        assert_eq!(
            removed,
            Command::Uninstall {
                names,
                files,
                quiet: false
            }
        );
    }

    proptest! {
        #[test]
        fn any_words_are_taken_without_a_panic(words in prop::collection::vec("(install|list|show|-[a-zA-Z=]{0,4}|--[a-z-]{0,12}=?[a-zé]{0,3}|)", 0..6)) {
            let _: Result<_, _> = Command::read(&words);
        }
    }
}
