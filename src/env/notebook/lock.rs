//! A notebook's lock: a requirements file in which all is pinned and has hashes, and nothing else is. Pure.
//!
//! Its head, in comments, says which Pythons it is for and what was asked for.

use std::collections::BTreeSet;

use super::super::installed::name_of;
use super::super::named::KERNEL_LOCK;
use super::super::version::{Specifiers, Version};

const PYTHON: &str = "# requires-python:";
const ASKED: &str = "# asked for:";

/// Sound: every line pins one distribution by hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    text: String,
    lines: Vec<String>,
    names: BTreeSet<String>,
}

impl Lock {
    /// Reads its text; an error is a part of a sentence that says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        let mut names = BTreeSet::new();
        for line in logical(text) {
            let words = || line.split_whitespace().skip(1);
            if let Some(option) = line.strip_prefix('-') {
                let option = option.split([' ', '=']).next().unwrap_or_default();
                return Err(format!("it has the option `-{option}`"));
            }
            let name =
                name_of(&line).ok_or_else(|| format!("`{}` names no package", short(&line)))?;
            if let Some(option) =
                words().find(|word| word.starts_with("--") && !word.starts_with("--hash="))
            {
                return Err(format!("`{name}` has the option `{}`", short(option)));
            }
            if !words().any(|word| word.starts_with("--hash=")) {
                return Err(format!("`{name}` has no hash"));
            }
            let requirement = line.split(" --hash=").next().unwrap_or_default();
            let pin = requirement.split(';').next().unwrap_or_default();
            if !pin.contains("==") && !pin.contains('@') || pin.contains('*') {
                return Err(format!("`{name}` is not pinned"));
            }
            names.insert(name);
            lines.push(line);
        }
        Ok(Self {
            text: text.to_owned(),
            lines,
            names,
        })
    }

    /// What uv resolved, with a head.
    pub(in crate::env) fn new(
        resolved: &str,
        python: &str,
        asked: &[String],
    ) -> Result<Self, String> {
        let mut text = format!("{PYTHON} {python}\n");
        for one in asked {
            let one = one.replace(['\n', '\r'], " ");
            text.push_str(&format!("{ASKED} {one}\n"));
        }
        for line in resolved
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            text.push_str(line);
            text.push('\n');
        }
        Self::read(&text)
    }

    /// As it is kept.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A line for each distribution, whole.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The distributions that it pins, some of them only for other machines.
    pub(in crate::env) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// `>=3.11`, as its head has it.
    pub fn requires_python(&self) -> Option<&str> {
        let mut heads = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix(PYTHON));
        heads
            .next()
            .map(str::trim)
            .filter(|python| !python.is_empty())
    }

    /// What was asked for, as its head has it.
    pub fn asked(&self) -> Vec<&str> {
        let heads = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix(ASKED));
        heads.map(str::trim).collect()
    }

    /// What is not from an index.
    pub(in crate::env) fn elsewhere(&self) -> Option<&str> {
        let mut pins = self
            .lines
            .iter()
            .filter_map(|line| line.split([';', ' ']).next().zip(Some(line)));
        let (name, _) = pins.find(|(_, line)| {
            let requirement = line.split(" --hash=").next().unwrap_or_default();
            requirement
                .split(';')
                .next()
                .is_some_and(|pin| pin.contains('@'))
        })?;
        Some(name)
    }

    /// Whether it is for a Python of this version; an error is a sentence.
    pub fn goes_with(&self, python: &Version) -> Result<(), String> {
        let asked = self.requires_python().unwrap_or_default();
        match asked.parse::<Specifiers>() {
            Ok(specifiers) if !specifiers.allow(python) => Err(format!(
                "The notebook's lock is for Python {asked}, and its environment has {python}."
            )),
            _ => Ok(()),
        }
    }

    /// What a kernel needs beside it.
    pub fn rest_for_a_kernel(&self) -> Vec<String> {
        self.with_rest_of(KERNEL_LOCK).split_off(self.lines.len())
    }

    /// All of it, and of another lock what it does not name.
    pub(in crate::env) fn with_rest_of(&self, other: &str) -> Vec<String> {
        let is_new = |line: &String| name_of(line).is_some_and(|name| !self.names.contains(&name));
        let rest = logical(other).into_iter().filter(is_new);
        self.lines.iter().cloned().chain(rest).collect()
    }
}

/// The lines of a requirements file, each in one piece, without comments.
pub(in crate::env) fn logical(text: &str) -> Vec<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let lines = joined.lines().map(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "# requires-python: >=3.11\n# asked for: Six\n# asked for: rich<14\n\
        six==1.17.0 ; python_version > '3' \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\n\
        own @ https://h/own.whl \\\n    --hash=sha256:ef\n";

    #[test]
    fn a_lock_is_read() {
        let lock = Lock::read(TEXT).unwrap();
        assert_eq!(lock.requires_python(), Some(">=3.11"));
        assert_eq!(lock.asked(), ["Six", "rich<14"]);
        assert_eq!(lock.elsewhere(), Some("own"));
        assert_eq!(
            lock.lines()[0],
            "six==1.17.0 ; python_version > '3' --hash=sha256:ab --hash=sha256:cd"
        );
        assert!(lock.goes_with(&"3.11.7".parse().unwrap()).is_ok());
        let other = lock.goes_with(&"3.10".parse().unwrap()).unwrap_err();
        assert!(
            other.contains(">=3.11") && other.contains("3.10"),
            "{other}"
        );
        let made = Lock::new(
            "# by uv\nsix==1 \\\n    --hash=sha256:ab\n    # via x\n",
            ">=3.11",
            &["six\n-i x".to_owned()],
        );
        let expected =
            "# requires-python: >=3.11\n# asked for: six -i x\nsix==1 \\\n    --hash=sha256:ab\n";
        assert_eq!(made.unwrap().text(), expected);
    }

    #[test]
    fn what_pins_nothing_or_leads_elsewhere_is_refused() {
        for (text, why) in [
            ("--index-url https://u:SECRET@h", "option `--index-url`"),
            ("--index-url=https://u:SECRET@h", "option `--index-url`"),
            ("-e .", "option `-e`"),
            ("six==1", "no hash"),
            ("six>1 --hash=sha256:ab", "not pinned"),
            ("six==1.* --hash=sha256:ab", "not pinned"),
            ("six==1 --hash=sha256:ab --config-settings=x", "option"),
            ("git+https://h/x --hash=sha256:ab", "names no package"),
        ] {
            let refused = Lock::read(text).unwrap_err();
            assert!(
                refused.contains(why) && !refused.contains("SECRET"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_kernel_has_what_the_lock_does_not_name() {
        let lock = Lock::read("Six==1 --hash=sha256:ab").unwrap();
        let both =
            lock.with_rest_of("six==2 \\\n  --hash=sha256:cd\nb==1 \\\n  --hash=sha256:ef\n");
        assert_eq!(both, ["Six==1 --hash=sha256:ab", "b==1 --hash=sha256:ef"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text in "[-a=@#;*\\\\\n :é]{0,40}") {
            if let Ok(lock) = Lock::read(&text) {
                lock.elsewhere();
                lock.with_rest_of(&text);
            }
        }
    }
}
