//! The Python interpreters of this machine: where they are, what they are, which one is meant.
//!
//! Each is asked once and again when its file has changed; what it said is kept in `<data>/interpreters.json`. Knows
//! nothing of what they are for.

mod ask;
mod guess;
mod search;
mod tags;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::version::{Specifiers, Version};
use crate::error::Error;

pub use ask::ABOUT;
pub use tags::{Rank, WheelName};

/// What decides which packages an interpreter can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `CPython`, `PyPy`.
    pub implementation: String,
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub version: Version,
    pub free_threaded: bool,
    pub debug: bool,
    pub soabi: String,
    /// As `sysconfig.get_platform()` has it: `linux-x86_64`.
    pub platform: String,
    /// The version of the C library, where that is glibc.
    pub glibc: String,
}

/// One that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its own file, not a link to it.
    pub path: PathBuf,
    pub about: About,
}

/// Those of this machine, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Interpreters(pub Vec<Interpreter>);

impl fmt::Display for About {
    /// `CPython 3.11.7`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.implementation, self.version)?;
        match self.free_threaded {
            true => f.write_str(" (free-threaded)"),
            false => Ok(()),
        }
    }
}

impl Interpreters {
    /// Looks where interpreters are, with the variables of somebody. Those that do not answer in time are left out;
    /// the next look finds them.
    pub async fn look(
        data: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
        within: Duration,
    ) -> Self {
        let found = search::found(variable, within).await;
        Self::sorted(ask::all(data, found, within).await)
    }

    /// The same without asking any: of those that have said nothing yet it is taken what their folders tell, and that
    /// they are of the same machine as the one that they are to be `like`. The flag tells whether there are such.
    pub async fn guess(
        data: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
        within: Duration,
        like: &About,
    ) -> (Self, bool) {
        let found = search::found(variable, within).await;
        let (mut known, unknown) = ask::known(data, found).await;
        let is_guessed = !unknown.is_empty();
        known.extend(unknown.into_iter().filter_map(|path| {
            let about = guess::about(&path, like)?;
            Some(Interpreter { path, about })
        }));
        (Self::sorted(known), is_guessed)
    }

    fn sorted(mut interpreters: Vec<Interpreter>) -> Self {
        interpreters.sort_by(|one, other| {
            let key = |it: &Interpreter| {
                (
                    it.about.implementation == "CPython",
                    !it.about.free_threaded,
                )
            };
            let by_kind = key(other).cmp(&key(one));
            let by_version = other.about.version.cmp(&one.about.version);
            by_kind
                .then(by_version)
                .then_with(|| one.path.cmp(&other.path))
        });
        Self(interpreters)
    }

    /// The newest one that is as asked: `3.11`, `3.11.7`, `>=3.9,<3.12`, `3.13t`, `pypy3.10`, `CPython>=3.9`.
    pub fn find(&self, asked: &str) -> Result<&Interpreter, Error> {
        let wanted: Wanted = asked.parse()?;
        let found = self.0.iter().find(|it| wanted.is(&it.about));
        found.ok_or_else(|| {
            Error::user(format!(
                "There is no Python {} on this machine; there is: {}.",
                asked.trim(),
                self.names()
            ))
        })
    }

    /// What there is, for people: each version once.
    pub fn names(&self) -> String {
        names(self.0.iter().map(|it| &it.about))
    }
}

/// Each version once, in this order; `none` when there is none.
pub fn names<'a>(abouts: impl Iterator<Item = &'a About>) -> String {
    let mut names: Vec<String> = Vec::new();
    for about in abouts {
        let name = about.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// Which interpreter somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Nothing: any that is not free-threaded, unless there is no other.
    implementation: Option<String>,
    free_threaded: Option<bool>,
    versions: Specifiers,
}

impl Wanted {
    /// Whether this is one.
    pub fn is(&self, about: &About) -> bool {
        let implementation = self.implementation.as_ref();
        implementation.is_none_or(|wanted| wanted.eq_ignore_ascii_case(&about.implementation))
            && self
                .free_threaded
                .is_none_or(|it| it == about.free_threaded)
            && self.versions.allow(&about.version)
    }
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || {
            Error::user(format!(
                "`{}` names no Python: write `3.11`, `>=3.9,<3.12`, `3.13t` or `pypy3.10`.",
                text.trim()
            ))
        };
        let mut rest = text.trim();
        let mut implementation = None;
        for name in ["cpython", "pypy", "python", "graalpy"] {
            if let Some(head) = rest.get(..name.len())
                && head.eq_ignore_ascii_case(name)
            {
                implementation = (name != "python").then(|| name.to_owned());
                rest = &rest[name.len()..];
                break;
            }
        }
        let mut free_threaded = None;
        for (mark, is_free) in [
            ("[free-threaded]", true),
            ("[gil]", false),
            ("+t", true),
            ("-t", false),
        ] {
            if let Some(after) = rest.strip_prefix(mark) {
                (free_threaded, rest) = (Some(is_free), after);
                break;
            }
        }
        let rest = rest.trim_start_matches(['@', ' ']);
        let bare = match rest.strip_suffix('t') {
            Some(bare) => {
                free_threaded = Some(true);
                bare
            }
            None => rest,
        };
        let versions = match bare.starts_with(|c: char| c.is_ascii_digit()) {
            true if bare.split('.').count() < 3 => format!("=={bare}.*").parse(),
            true => format!("=={bare}").parse(),
            false => bare.parse(),
        };
        Ok(Self {
            implementation,
            free_threaded,
            versions: versions.map_err(|_| malformed())?,
        })
    }
}

fn as_text<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(version)
}

fn from_text<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
    let text = String::deserialize(from)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("{text} is no version")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::env) fn about(implementation: &str, version: &str) -> About {
        About {
            implementation: implementation.to_owned(),
            version: version.parse().unwrap(),
            free_threaded: false,
            debug: false,
            soabi: String::new(),
            platform: "linux-x86_64".to_owned(),
            glibc: "2.36".to_owned(),
        }
    }

    #[test]
    fn the_newest_that_is_as_asked_is_found() {
        let mut all: Vec<_> = [
            ("CPython", "3.12.1"),
            ("CPython", "3.11.7"),
            ("PyPy", "3.10.14"),
        ]
        .map(|(implementation, version)| Interpreter {
            path: PathBuf::from(format!("/opt/{version}")),
            about: about(implementation, version),
        })
        .into();
        let mut free = about("CPython", "3.13.0");
        free.free_threaded = true;
        all.push(Interpreter {
            path: PathBuf::from("/opt/3.13.0t"),
            about: free,
        });
        let all = Interpreters(all);
        for (asked, path) in [
            ("", "/opt/3.12.1"),
            ("3", "/opt/3.12.1"),
            ("3.11", "/opt/3.11.7"),
            ("3.11.7", "/opt/3.11.7"),
            ("python3.11", "/opt/3.11.7"),
            (" >=3.9, <3.12 ", "/opt/3.11.7"),
            ("CPython==3.11.*", "/opt/3.11.7"),
            ("pypy3.10", "/opt/3.10.14"),
            ("PyPy", "/opt/3.10.14"),
            ("3.13t", "/opt/3.13.0t"),
            ("CPython[free-threaded]>=3.13", "/opt/3.13.0t"),
            ("CPython+t", "/opt/3.13.0t"),
        ] {
            let found = all.find(asked).unwrap();
            assert_eq!(found.path, PathBuf::from(path), "{asked}");
        }
        let missing = all.find("3.9").unwrap_err().message;
        assert_eq!(
            missing,
            "There is no Python 3.9 on this machine; there is: CPython 3.12.1, CPython 3.11.7, PyPy 3.10.14, \
             CPython 3.13.0 (free-threaded)."
        );
        assert!(all.find("three").unwrap_err().message.contains("names no"));
        assert!(all.find("é").is_err());
    }
}
