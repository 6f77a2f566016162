//! What the kernel was rebased onto, in `base.json` in its folder: whoever starts its next process reads it, another supervisor too.
//!
//! ```text
//! asked for: {now: the new one, before: the old one} -> the kernel is ready in it: {now}
//!                                                    -> it is not: {now: the old one}
//! {now: one that was ready once} -> the kernel is not ready in it: {}
//! ```
//!
//! Knows nothing of how an environment is made, nor how a kernel is started.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::private_file;
use crate::env::pex::Base;
use crate::kernels::contract::file;

/// The file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Bases {
    /// Nothing: what the kernel was started with.
    now: Option<Base>,
    /// While no process has been ready in `now`.
    before: Option<Before>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    base: Option<Base>,
}

/// What the next process is started in.
pub(super) fn now(folder: &Path) -> Option<Base> {
    read(folder).now
}

/// All that a process of the kernel with this folder may be started in.
pub fn rebased_onto(folder: &Path) -> Vec<Base> {
    let known = read(folder);
    let before = known.before.and_then(|before| before.base);
    known.now.into_iter().chain(before).collect()
}

/// The next process is to be started in this one.
pub(super) fn ask(folder: &Path, onto: Option<Base>) -> io::Result<()> {
    let known = read(folder);
    let before = known.before.unwrap_or(Before { base: known.now });
    let bases = Bases {
        now: onto,
        before: Some(before),
    };
    write(folder, &bases)
}

/// A process is ready in it.
pub(super) fn prove(folder: &Path) {
    let mut known = read(folder);
    if known.before.take().is_some() {
        told(write(folder, &known));
    }
}

/// What was asked for and has never been ready is forgotten, and told: the next process is started in the one before.
pub(super) fn take_back(folder: &Path) -> Option<Option<Base>> {
    let known = read(folder);
    let before = known.before?;
    let bases = Bases {
        now: before.base,
        before: None,
    };
    known.now.iter().for_each(Base::distrust);
    told(write(folder, &bases)).then_some(known.now)
}

/// What a process has been ready in, and the last one was not, is forgotten, and told: the next process is started as the first was.
pub(super) fn give_up(folder: &Path) -> Option<Base> {
    let known = read(folder);
    let broken = known.now.filter(|_| known.before.is_none())?;
    broken.distrust();
    forget(folder).then_some(broken)
}

/// It is not there any more. False when it could not be forgotten.
pub(super) fn forget(folder: &Path) -> bool {
    told(write(folder, &Bases::default()))
}

fn read(folder: &Path) -> Bases {
    let Ok(content) = fs::read(folder.join(file::BASE)) else {
        return Bases::default();
    };
    let bases = serde_json::from_slice(&content);
    let bases = bases.inspect_err(|error| warn!(%error, "base.json is not understood"));
    bases.unwrap_or_default()
}

fn write(folder: &Path, bases: &Bases) -> io::Result<()> {
    private_file::write(&folder.join(file::BASE), &serde_json::to_vec(bases)?)
}

/// Whether it was written.
fn told(written: io::Result<()>) -> bool {
    written
        .inspect_err(|error| warn!(%error, "base.json could not be written"))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(title: &str) -> Base {
        Base {
            title: title.to_owned(),
            interpreter: "CPython 3.12.1".to_owned(),
            python: "/env/bin/python".into(),
            mount: "/mount/site-packages".into(),
        }
    }

    #[test]
    fn what_was_never_ready_is_taken_back_to_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(now(folder), None);
        assert_eq!(take_back(folder), None);
        ask(folder, Some(base("a"))).unwrap();
        assert_eq!(now(folder), Some(base("a")));
        assert_eq!(give_up(folder), None);
        prove(folder);
        assert_eq!(take_back(folder), None);
        assert_eq!(now(folder), Some(base("a")));

        // Asked twice before anything was started.
        ask(folder, Some(base("b"))).unwrap();
        ask(folder, None).unwrap();
        assert_eq!(now(folder), None);
        assert_eq!(rebased_onto(folder), [base("a")]);
        assert_eq!(take_back(folder), Some(None));
        assert_eq!(now(folder), Some(base("a")));
        // That one is broken by now too.
        assert_eq!(give_up(folder), Some(base("a")));
        assert_eq!((now(folder), give_up(folder)), (None, None));
        ask(folder, Some(base("c"))).unwrap();
        forget(folder);
        assert_eq!(now(folder), None);

        fs::write(folder.join(file::BASE), "{").unwrap();
        assert_eq!(now(folder), None);
    }
}
