//! Python's versions and what is asked of them, as PEP 440 has it, as far as interpreters need it.
//!
//! Pure. A version is a release with at most one mark of a pre-release; local parts and epochs are no interpreter's.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// No version of anything has more numbers than this.
const NUMBERS_MAX: usize = 16;

/// `3.11.7`, or `3.14.0rc1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    release: Vec<u32>,
    /// Its kind and number: `a1`, `b2`, `rc1`.
    pre: Option<(u8, u32)>,
    text: String,
}

/// No version, or nothing that can be asked of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Version {
    /// One of its numbers, from the left; what is not written is 0.
    pub fn number(&self, at: usize) -> u32 {
        self.release.get(at).copied().unwrap_or(0)
    }

    /// Whether this begins as `other` does: 3.11.7 begins with 3.11.
    fn begins_with(&self, other: &Self) -> bool {
        (0..other.release.len()).all(|at| self.number(at) == other.number(at))
    }
}

impl FromStr for Version {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed(text.to_owned());
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        // A `+` is what Debian and others add to a version that they changed.
        let (release, rest) = text.split_at(end);
        let rest = rest.split('+').next().unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = release.split('.').map(str::parse).collect();
        let release = numbers.map_err(|_| malformed())?;
        if release.len() > NUMBERS_MAX {
            return Err(malformed());
        }
        let pre = match rest {
            "" => None,
            rest => {
                let digits = rest
                    .find(|c: char| c.is_ascii_digit())
                    .ok_or_else(malformed)?;
                let kind = match &rest[..digits] {
                    "a" => 0,
                    "b" => 1,
                    "rc" | "c" => 2,
                    _ => return Err(malformed()),
                };
                Some((kind, rest[digits..].parse().map_err(|_| malformed())?))
            }
        };
        Ok(Self {
            release,
            pre,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By what is meant: 3.11 and 3.11.0 are equal in this order.
impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = self.release.len().max(other.release.len());
        let releases = (0..numbers).map(|at| self.number(at).cmp(&other.number(at)));
        let mut differing = releases.filter(|order| order.is_ne());
        let release = differing.next().unwrap_or(Ordering::Equal);
        // A release comes after all that led to it.
        let rank = |pre: Option<(u8, u32)>| pre.unwrap_or((3, 0));
        release.then_with(|| rank(self.pre).cmp(&rank(other.pre)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All of these at once: `>=3.9,<3.12`. None asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specifiers(Vec<Specifier>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Specifier {
    operator: Operator,
    version: Version,
    /// `==3.9.*`
    is_prefix: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    AtLeast,
    AtMost,
    Below,
    Above,
    Compatible,
    Same,
}

const OPERATORS: [(&str, Operator); 8] = [
    ("===", Operator::Same),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("~=", Operator::Compatible),
    ("<", Operator::Below),
    (">", Operator::Above),
];

impl Specifiers {
    /// Whether a version is as asked.
    pub fn allow(&self, version: &Version) -> bool {
        self.0.iter().all(|one| one.allows(version))
    }
}

impl FromStr for Specifiers {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Specifier {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed(text.to_owned());
        let (operator, rest) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?.trim())))
            .ok_or_else(malformed)?;
        let (number, is_prefix) = match rest.strip_suffix(".*") {
            Some(number) => (number, true),
            None => (rest, false),
        };
        let takes_prefix = matches!(operator, Operator::Equal | Operator::NotEqual);
        let version: Version = number.parse().map_err(|_| malformed())?;
        let is_short = operator == Operator::Compatible && version.release.len() < 2;
        if is_prefix && !takes_prefix || is_short {
            return Err(malformed());
        }
        Ok(Self {
            operator,
            version,
            is_prefix,
        })
    }
}

impl Specifier {
    fn allows(&self, version: &Version) -> bool {
        let asked = &self.version;
        let is_it = || match self.is_prefix {
            true => version.begins_with(asked),
            false => version.cmp(asked).is_eq(),
        };
        match self.operator {
            Operator::Equal => is_it(),
            Operator::NotEqual => !is_it(),
            Operator::AtLeast => version >= asked,
            Operator::AtMost => version <= asked,
            // What leads to a release is not below it to those who ask for less than the release.
            Operator::Below => {
                version < asked
                    && (asked.pre.is_some() || version.pre.is_none() || !version.begins_with(asked))
            }
            Operator::Above => version > asked,
            Operator::Compatible => {
                let mut family = asked.clone();
                family.release.pop();
                version >= asked && version.begins_with(&family)
            }
            Operator::Same => version.text == asked.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_in_their_order() {
        let sorted = [
            "3",
            "3.8.18",
            "3.9",
            "3.10.13",
            "3.14.0a2",
            "3.14.0b1",
            "3.14.0rc1",
            "3.14",
        ];
        assert!(
            sorted
                .windows(2)
                .all(|two| version(two[0]) < version(two[1]))
        );
        assert!(version("3.11") <= version("3.11.0") && version("3.11.0") <= version("3.11"));
        assert_eq!(version("3.12.0+").cmp(&version("3.12")), Ordering::Equal);
        for malformed in [
            "",
            ".",
            "3.",
            "3..1",
            "three",
            "3.1x",
            "3.1rc",
            "99999999999",
        ] {
            assert!(malformed.parse::<Version>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn specifiers_say_what_pep_440_says() {
        for (asked, allowed, refused) in [
            (
                ">=3.9,<3.12",
                &["3.9", "3.11.7"][..],
                &["3.8.18", "3.12", "3.12.0rc1"][..],
            ),
            ("==3.9.*", &["3.9.18", "3.9"], &["3.90", "3.10"]),
            ("!=3.9.*, >= 3.8", &["3.8", "3.10"], &["3.9.1", "3.7"]),
            ("~=3.9", &["3.9", "3.13"], &["3.8", "4.0"]),
            ("~=3.9.2", &["3.9.2", "3.9.18"], &["3.9.1", "3.10"]),
            ("==3.11", &["3.11.0"], &["3.11.7"]),
            ("===3.11", &["3.11"], &["3.11.0"]),
            (">3.11", &["3.11.1"], &["3.11"]),
            ("<=3.11", &["3.11.0", "3"], &["3.11.1"]),
            ("<3.14.0rc2", &["3.14.0rc1"], &["3.14.0rc2"]),
            ("", &["2.7.18"], &[]),
        ] {
            let specifiers: Specifiers = asked.parse().unwrap();
            for (versions, expected) in [(allowed, true), (refused, false)] {
                for text in versions {
                    assert_eq!(specifiers.allow(&version(text)), expected, "{asked} {text}");
                }
            }
        }
        for malformed in ["3.9", "=3.9", "~=3", ">=3.9.*", ">=", "=>3", "<3;4"] {
            assert!(malformed.parse::<Specifiers>().is_err(), "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text in "[=<>!~.,*0-9abrc+ ]{0,20}", other in "[0-9.abrc+]{0,9}") {
            let (asked, version) = (text.parse::<Specifiers>(), other.parse::<Version>());
            if let (Ok(asked), Ok(version)) = (asked, version) {
                asked.allow(&version);
            }
        }
    }
}
