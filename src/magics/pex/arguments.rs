//! What the pex magics are asked for, in all their spellings.
//!
//! Pure text.

use crate::magics::call::Call;
use crate::magics::failure::Failure;

/// How a pex gets into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// As the pex allows.
    #[default]
    Auto,
    /// Into the interpreter that runs.
    Live,
    /// A new interpreter takes over, the one that is named.
    Rebase(Option<String>),
}

/// What makes a pex of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuildTool {
    Pants,
    Bazel,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Load {
        file: String,
        mode: Mode,
    },
    /// Words of a command line of pip.
    Requirements(Vec<String>, Mode),
    /// A target of the tool.
    Build(BuildTool, String, Mode),
    /// The repository of pants from now on.
    Repository(String),
    Clean,
    Status,
}

/// What a call asks for.
pub(super) fn parse(call: &Call) -> Result<Asked, Failure> {
    if call
        .cell
        .as_deref()
        .is_some_and(|body| !body.trim().is_empty())
    {
        return Err(Failure::usage(format!(
            "`%%{0}` takes no lines below it; write `%{0}` for a line of its own.",
            call.magic
        )));
    }
    let words = call.words()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (spelling, verb, rest) = match (call.magic.as_str(), &words[..]) {
        ("pex", []) => ("pex".to_owned(), "status", &[][..]),
        ("pex", [verb, rest @ ..]) => (format!("pex {verb}"), *verb, rest),
        (name, rest) => (name.to_owned(), name, rest),
    };
    match verb {
        "load" | "pex_load" => {
            let (words, mode) = taken(&spelling, "FILE", rest)?;
            load(&spelling, &words, mode)
        }
        "requirements" | "requirements_load" => {
            let (words, mode) = taken(&spelling, "REQUIREMENT…", rest)?;
            match words.is_empty() {
                true => Err(Failure::usage(format!(
                    "The requirements are missing: write `%{spelling} REQUIREMENT…`."
                ))),
                false => Ok(Asked::Requirements(owned(&words), mode)),
            }
        }
        "pants" | "pants_load" | "bazel" | "bazel_load" => {
            let (words, mode) = taken(&spelling, "TARGET", rest)?;
            let tool = match verb.starts_with("pants") {
                true => BuildTool::Pants,
                false => BuildTool::Bazel,
            };
            let target = one(&spelling, "TARGET", &words)?;
            Ok(Asked::Build(tool, target, mode))
        }
        "pants_repo" => Ok(Asked::Repository(one(&spelling, "FOLDER", rest)?)),
        "reset" | "clean_path" | "status" if !rest.is_empty() => {
            Err(Failure::usage(format!("`%{spelling}` takes nothing more.")))
        }
        "reset" | "clean_path" => Ok(Asked::Clean),
        "status" => Ok(Asked::Status),
        _ => Err(Failure::usage(format!(
            "There is no `%{spelling}`; there is `%pex load FILE`, `%pex requirements REQUIREMENT…`, `%pex pants TARGET`, \
             `%pex bazel TARGET`, `%pex status` and `%pex reset`."
        ))),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn one(spelling: &str, what: &str, words: &[&str]) -> Result<String, Failure> {
    match words {
        [word] if !word.is_empty() && !word.starts_with('-') => Ok((*word).to_owned()),
        _ => Err(Failure::usage(format!("Write `%{spelling} {what}`."))),
    }
}

/// How it is to be loaded, and the words without that.
fn taken<'a>(
    spelling: &str,
    what: &str,
    words: &[&'a str],
) -> Result<(Vec<&'a str>, Mode), Failure> {
    let (mut mode, mut python) = (Mode::default(), None);
    let mut others = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if let Some(value) = word.strip_prefix("--python") {
            let value = match value.strip_prefix('=') {
                None if value.is_empty() => words.next(),
                value => value,
            };
            let value = value.filter(|value| !value.is_empty());
            if value.is_none() || python.is_some() {
                return Err(Failure::usage(format!(
                    "`--python` takes one version: write `%{spelling} {what} --rebase --python 3.11`."
                )));
            }
            python = value.map(str::to_owned);
            continue;
        }
        let value = match word.strip_prefix("--mode") {
            _ if word == "--rebase" => "rebase",
            Some("") => words.next().unwrap_or_default(),
            Some(value) if value.starts_with('=') => &value[1..],
            _ => {
                others.push(word);
                continue;
            }
        };
        mode = match value {
            "live" => Mode::Live,
            "rebase" => Mode::Rebase(None),
            "auto" => Mode::Auto,
            _ => {
                return Err(Failure::usage(format!(
                    "There is no mode `{value}`: write `%{spelling} {what} [--mode live|rebase|auto]`."
                )));
            }
        };
    }
    match (mode, python) {
        (Mode::Rebase(_), python) => Ok((others, Mode::Rebase(python))),
        (mode, None) => Ok((others, mode)),
        (_, Some(_)) => Err(Failure::usage(format!(
            "A process keeps its Python: `%{spelling} {what} --rebase --python VERSION` restarts the kernel with another one."
        ))),
    }
}

fn load(spelling: &str, words: &[&str], mode: Mode) -> Result<Asked, Failure> {
    let usage = |why: &str| {
        let how = format!("write `%{spelling} FILE [--rebase]`");
        Err(Failure::usage(format!("{why}: {how}.")))
    };
    if let Some(word) = words.iter().find(|word| word.starts_with("--")) {
        return usage(&format!("There is no option {word}"));
    }
    match words {
        [] | [""] => usage("The pex is missing"),
        [file] => Ok(Asked::Load {
            file: (*file).to_owned(),
            mode,
        }),
        _ => usage("A pex is one file, and a name with blanks is put in quotes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(magic: &str, line: &str) -> Result<Asked, String> {
        let call = Call {
            magic: magic.to_owned(),
            line: line.to_owned(),
            cell: None,
        };
        parse(&call).map_err(|failure| failure.message)
    }

    #[test]
    fn every_spelling_is_understood() {
        let load = |file: &str, mode| {
            Ok(Asked::Load {
                file: file.to_owned(),
                mode,
            })
        };
        assert_eq!(asked("pex_load", "~/a.pex "), load("~/a.pex", Mode::Auto));
        assert_eq!(asked("pex", "load 'a b.pex'"), load("a b.pex", Mode::Auto));
        let live = load("a.pex", Mode::Live);
        assert_eq!(asked("pex_load", "--mode live a.pex"), live);
        assert_eq!(asked("pex_load", "a.pex --mode=live"), live);
        let rebase = load("a.pex", Mode::Rebase(None));
        assert_eq!(asked("pex_load", "--rebase a.pex"), rebase);
        assert_eq!(asked("pex", "load a.pex --mode rebase"), rebase);
        let six = Ok(Asked::Requirements(
            owned(&["six>=1.16", "a b"]),
            Mode::Auto,
        ));
        assert_eq!(asked("requirements_load", "six>=1.16 'a b'"), six);
        assert_eq!(asked("pex", "requirements six>=1.16 'a b'"), six);
        let words = owned(&["six", "--pre"]);
        let rebase = Ok(Asked::Requirements(words.clone(), Mode::Rebase(None)));
        assert_eq!(asked("requirements_load", "six --rebase --pre"), rebase);
        let python = Some(">=3.9,<3.12".to_owned());
        let with = Ok(Asked::Requirements(words, Mode::Rebase(python)));
        for line in [
            "six --rebase --pre --python >=3.9,<3.12",
            "--python='>=3.9,<3.12' six --pre --mode=rebase",
        ] {
            assert_eq!(asked("requirements_load", line), with, "{line}");
        }
        let target = |tool| Ok(Asked::Build(tool, "//app:bin".to_owned(), Mode::Auto));
        let rebase = Asked::Build(BuildTool::Pants, "a:b".to_owned(), Mode::Rebase(None));
        assert_eq!(asked("pants_load", "--rebase a:b"), Ok(rebase.clone()));
        assert_eq!(asked("pex", "pants a:b --rebase"), Ok(rebase));
        assert_eq!(asked("pants_load", "//app:bin"), target(BuildTool::Pants));
        assert_eq!(asked("pex", "bazel //app:bin"), target(BuildTool::Bazel));
        let repository = Ok(Asked::Repository("~/repo".to_owned()));
        assert_eq!(asked("pants_repo", "~/repo"), repository);
        assert_eq!(asked("pex", "reset"), Ok(Asked::Clean));
        assert_eq!(asked("clean_path", ""), Ok(Asked::Clean));
        assert_eq!(asked("pex", ""), Ok(Asked::Status));
        assert_eq!(asked("pex", "status"), Ok(Asked::Status));
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (magic, line, why) in [
            (
                "pex_load",
                "",
                "The pex is missing: write `%pex_load FILE [--rebase]`.",
            ),
            ("pex", "load", "The pex is missing: write `%pex load FILE"),
            ("pex_load", "''", "The pex is missing"),
            ("pex_load", "a b.pex", "in quotes"),
            ("pex_load", "a.pex --mode", "There is no mode ``"),
            ("pex_load", "a.pex --mode dead", "There is no mode `dead`"),
            ("pex_load", "a.pex --now", "There is no option --now"),
            (
                "pex_load",
                "a.pex --python 3.9",
                "A process keeps its Python",
            ),
            ("pex_load", "a.pex --rebase --python", "takes one version"),
            ("pex_load", "a.pex --rebase --python=", "takes one version"),
            (
                "pants_load",
                "a:b --rebase --python 3.9 --python 3.8",
                "takes one version",
            ),
            ("pex_load", "'a.pex", "is not closed"),
            ("pex", "lode a.pex", "There is no `%pex lode`; there is"),
            ("pants_load", "", "Write `%pants_load TARGET`."),
            ("pants_load", "a:b --mode x", "There is no mode `x`"),
            ("bazel_load", "--config=x", "Write `%bazel_load TARGET`."),
            ("requirements_load", "", "The requirements are missing"),
            ("clean_path", "now", "`%clean_path` takes nothing more."),
            ("pex", "reset now", "`%pex reset` takes nothing more."),
        ] {
            let said = asked(magic, line).unwrap_err();
            assert!(said.contains(why), "{magic} {line}: {said}");
        }
        let call = Call {
            magic: "pex_load".to_owned(),
            line: "a.pex".to_owned(),
            cell: Some("x = 1".to_owned()),
        };
        assert!(parse(&call).unwrap_err().message.contains("no lines below"));
    }
}
