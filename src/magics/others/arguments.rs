//! What the magics of other kernels are asked for. Pure text.

use crate::magics::call::Call;
use crate::magics::failure::Failure;
use crate::protocol::kernelspec::is_valid_name;

/// What stands behind `%%venv` and `%%kernel`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) name: String,
    /// The version of Python.
    pub(super) python: Option<String>,
    /// Requirements.
    pub(super) with: Vec<String>,
    /// Variables of the notebook's kernel that the cell is to have.
    pub(super) get: Vec<String>,
    /// Variables of the cell's that the notebook's kernel is to have.
    pub(super) put: Vec<String>,
    pub(super) force: bool,
}

/// What stands behind `%get` and `%put`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) names: Vec<String>,
    pub(super) other: String,
}

/// An option that has words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Python,
    With,
    Get,
    Put,
}

/// Reads `NAME [--python V] [--with REQ…] [--get a,b] [--put c]`; `is_venv` tells whether the first two make sense.
pub(super) fn asked(words: &[String], spelling: &str, is_venv: bool) -> Result<Asked, Failure> {
    let mut asked = Asked::default();
    let mut option = None;
    for word in words {
        let (named, value) = match word.split_once('=') {
            Some((named, value)) if word.starts_with("--") => (named, Some(value)),
            _ => (word.as_str(), None),
        };
        let known = match named {
            "--python" | "-p" if is_venv => Some(Takes::Python),
            "--with" if is_venv => Some(Takes::With),
            "--get" => Some(Takes::Get),
            "--put" => Some(Takes::Put),
            "--force" | "-f" if value.is_none() => {
                asked.force = true;
                continue;
            }
            _ => None,
        };
        match (known, value, option) {
            (Some(known), value, _) => {
                option = Some((known, named));
                if let Some(value) = value {
                    asked.take(known, value)?;
                }
            }
            (None, ..) if word.starts_with('-') => {
                let more = if is_venv { "--python, --with, " } else { "" };
                return Err(Failure::usage(format!(
                    "There is no option {named} of `%{spelling}`; there is {more}--get and --put."
                )));
            }
            (None, _, Some((option, _))) => asked.take(option, word)?,
            (None, ..) if asked.name.is_empty() => asked.name.clone_from(word),
            (None, ..) => {
                return Err(Failure::usage(format!(
                    "`%{spelling}` takes one name, and then options; {word:?} is one too many."
                )));
            }
        }
    }
    if let Some((option, named)) = option
        && !asked.has(option)
    {
        return Err(Failure::usage(format!(
            "`{named}` needs something behind it."
        )));
    }
    if asked.name.is_empty() {
        return Err(Failure::usage(format!(
            "The name is missing: write `%{spelling} NAME`."
        )));
    }
    if !is_valid_name(&asked.name) {
        return Err(Failure::usage(format!(
            "{:?} cannot be a name: it has letters, digits, `-`, `_` and `.`.",
            asked.name
        )));
    }
    Ok(asked)
}

impl Asked {
    fn has(&self, option: Takes) -> bool {
        match option {
            Takes::Python => self.python.is_some(),
            Takes::With => !self.with.is_empty(),
            Takes::Get => !self.get.is_empty(),
            Takes::Put => !self.put.is_empty(),
        }
    }

    fn take(&mut self, option: Takes, word: &str) -> Result<(), Failure> {
        match option {
            Takes::Python if self.python.is_some() => {
                return Err(Failure::usage("`--python` takes one version."));
            }
            Takes::Python => self.python = Some(word.to_owned()),
            Takes::With => self.with.push(word.to_owned()),
            Takes::Get => self.get.extend(variables(word)?),
            Takes::Put => self.put.extend(variables(word)?),
        }
        Ok(())
    }
}

/// Reads `a,b --from NAME`, where `from` is the name of that option.
pub(super) fn moved(call: &Call, from: &str) -> Result<Moved, Failure> {
    let spelling = &call.magic;
    let usage = || Failure::usage(format!("Write `%{spelling} VARIABLE… {from} NAME`."));
    if call
        .cell
        .as_deref()
        .is_some_and(|body| !body.trim().is_empty())
    {
        return Err(Failure::usage(format!(
            "`%%{spelling}` takes no lines below it; write `%{spelling} VARIABLE… {from} NAME`."
        )));
    }
    let (mut names, mut other) = (Vec::new(), None);
    let words = call.words()?;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = word.strip_prefix(from);
        match value.map(|rest| (rest, rest.strip_prefix('='))) {
            Some(("", _)) => other = Some(words.next().ok_or_else(usage)?.clone()),
            Some((_, Some(name))) => other = Some(name.to_owned()),
            _ if word.starts_with('-') => return Err(usage()),
            _ => names.extend(variables(word)?),
        }
    }
    match other {
        Some(other) if !names.is_empty() => Ok(Moved { names, other }),
        _ => Err(usage()),
    }
}

/// Names of variables, with commas between them.
fn variables(word: &str) -> Result<Vec<String>, Failure> {
    let names = word
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let is_start = |c: char| c.is_alphabetic() || c == '_';
            let mut chars = name.chars();
            let is_name = chars.next().is_some_and(is_start)
                && chars.all(|c| c.is_alphanumeric() || c == '_');
            match is_name {
                true => Ok(name.to_owned()),
                false => Err(Failure::usage(format!(
                    "{name:?} is no name of a variable."
                ))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Asked, String> {
        let call = Call {
            magic: "venv".to_owned(),
            line: line.to_owned(),
            cell: None,
        };
        asked(&call.words().unwrap(), "%venv", true).map_err(|failure| failure.message)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn options_take_words_until_the_next_one() {
        let asked =
            read("old --python 3.11 --with 'pandas<2' numpy==1.26.4 --get a,b c --put=d").unwrap();
        let expected = Asked {
            name: "old".to_owned(),
            python: Some("3.11".to_owned()),
            with: texts(&["pandas<2", "numpy==1.26.4"]),
            get: texts(&["a", "b", "c"]),
            put: texts(&["d"]),
            force: false,
        };
        assert_eq!(asked, expected);
        assert_eq!(
            read("--get a, b -- old").unwrap_err().split(' ').next(),
            Some("There")
        );
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (line, why) in [
            ("", "name is missing"),
            ("a b", "one too many"),
            ("../a", "cannot be a name"),
            ("a --wiht b", "no option --wiht"),
            ("a --get", "needs something"),
            ("a --get 1x", "no name of a variable"),
            ("a --python 3.11 3.12", "one version"),
        ] {
            let said = read(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
        let kernel = asked(&texts(&["scala", "--with", "x"]), "%kernel", false);
        assert!(kernel.unwrap_err().message.contains("--with"));
    }

    #[test]
    fn what_is_moved_has_a_name_and_a_place() {
        let read = |line: &str| {
            let call = Call {
                magic: "get".to_owned(),
                line: line.to_owned(),
                cell: None,
            };
            moved(&call, "--from")
        };
        let expected = Moved {
            names: texts(&["a", "b", "c"]),
            other: "old".to_owned(),
        };
        for line in ["a,b c --from old", "--from=old a b,c"] {
            assert_eq!(read(line).unwrap(), expected, "{line}");
        }
        for line in [
            "",
            "a",
            "--from old",
            "a --from",
            "a --to b",
            "a.b --from old",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_a_panic(words in prop::collection::vec(".{0,12}", 0..8)) {
            let _read = asked(&words, "%venv", true);
            let call = Call { magic: "get".to_owned(), line: words.join(" "), cell: None };
            let _read = moved(&call, "--from");
        }
    }
}
