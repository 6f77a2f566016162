//! `PEX-INFO`: what a pex says of itself.
//!
//! Written by pex of every version since 1.0; what is not needed is not read.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A pex of thousands of distributions needs less.
pub(super) const INFO_MAX: u64 = 16 * 1024 * 1024;

/// What is needed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PexInfo {
    /// File names of wheels, each with a hash of its content.
    pub distributions: BTreeMap<String, String>,
    /// Whether distributions are wheels as they were downloaded, not unpacked ones.
    pub deps_are_wheel_files: bool,
    /// One of them has to hold.
    pub interpreter_constraints: Vec<String>,
    pub requirements: Vec<String>,
    pub code_hash: String,
    pub entry_point: Option<String>,
    /// Other pexes whose content belongs to this one, which pex itself finds at run time.
    pub pex_paths: Vec<String>,
    pub pex_path: Option<String>,
}

impl PexInfo {
    /// An error is what is wrong, to follow the pex's name.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("its PEX-INFO is damaged: {error}"))
    }

    /// Whether other pexes belong to it.
    pub fn names_others(&self) -> bool {
        !self.pex_paths.is_empty() || self.pex_path.as_ref().is_some_and(|path| !path.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_old_and_new_ones_write_is_read() {
        let new = br#"{"code_hash":"c","deps_are_wheel_files":true,"distributions":{"six-1.16.0-py2.py3-none-any.whl":"f5"},
            "entry_point":"corp:main","interpreter_constraints":["CPython<3.12,>=3.9"],"pex_path":"","pex_paths":[]}"#;
        let new = PexInfo::parse(new).unwrap();
        assert!(new.deps_are_wheel_files && !new.names_others());
        assert_eq!(new.interpreter_constraints, ["CPython<3.12,>=3.9"]);
        let old = PexInfo::parse(br#"{"distributions": {}, "pex_path": "a.pex"}"#).unwrap();
        assert!(old.names_others());
        assert!(PexInfo::parse(b"{").unwrap_err().contains("damaged"));
        assert!(PexInfo::parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
