//! What was changed in an environment, for kernels that run in it: written by whoever changes it, read by the helper in each
//! kernel, since also a command in a terminal changes what a notebook can import.
//!
//! One file, the last changes by number.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::held::Held;
use super::pip::Changes;
use super::whole::replace;

/// The file, in the folder of what is changed.
pub(super) const CHANGES: &str = "nb-changes.json";

/// A kernel that has missed more than these looks at the last ones.
const KEPT: usize = 20;

/// Where a kernel that runs finds what was added to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The folder of packages to come before the others.
    pub packages: PathBuf,
    /// The Python that has it.
    pub python: PathBuf,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Log {
    changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    number: u64,
    /// Where a kernel that was started before there was something finds it.
    added: Option<Added>,
    replaced: BTreeMap<String, Replaced>,
}

/// A distribution that is gone, or has another version.
#[derive(Debug, Serialize, Deserialize)]
struct Replaced {
    old: String,
    new: Option<String>,
    /// Full paths of its packages and modules.
    modules: Vec<PathBuf>,
}

/// Tells kernels that run of a change to what is in this folder, which the caller holds.
pub(super) async fn tell(held: &Held, folder: &Path, changes: &Changes, added: Option<Added>) {
    let (file, changes) = (folder.join(CHANGES), changes.clone());
    let told = held.aside(move || write(&file, &changes, added)).await;
    if let Err(error) = told {
        tracing::warn!(%error, "kernels that run are not told of a change");
    }
}

fn write(file: &Path, changes: &Changes, added: Option<Added>) -> io::Result<()> {
    let log = fs::read(file).ok();
    let mut log: Log = log
        .and_then(|log| serde_json::from_slice(&log).ok())
        .unwrap_or_default();
    let number = log.changes.last().map_or(1, |last| last.number + 1);
    let replaced = changes.replaced.iter().map(|(name, one)| {
        let modules = changes.modules.get(name).into_iter().flatten();
        let replaced = Replaced {
            old: format!("{} {}", one.name, one.version),
            new: changes.added.get(name).map(|new| new.version.clone()),
            modules: modules.map(|module| one.packages.join(module)).collect(),
        };
        (name.clone(), replaced)
    });
    let change = Change {
        number,
        added,
        replaced: replaced.collect(),
    };
    log.changes.push(change);
    let surplus = log.changes.len().saturating_sub(KEPT);
    log.changes.drain(..surplus);
    replace(file, &serde_json::to_vec(&log)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_changes_are_kept_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nb-changes.json");
        for _ in 0..=KEPT {
            write(&file, &Changes::default(), None).unwrap();
        }
        let log: Log = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let numbers: Vec<u64> = log.changes.iter().map(|change| change.number).collect();
        assert_eq!((numbers[0], numbers.len()), (2, KEPT));
    }
}
