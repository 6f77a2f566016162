//! What one `up` has to itself: its folders, its logs, its kernels; and the token, which all share.
//!
//! Ending an `up` ends every kernel of its gateway, so no two may share a runtime folder. The first takes
//! `up`, one beside it `up2`, and so on; a later one finds again what a killed one left. Starts nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use uuid::Uuid;

use crate::config::{Places, private_folder};
use crate::error::Error;

/// How many may run beside each other.
const SLOTS: u32 = 32;

/// The folders of this `up`, held until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    /// Logs.
    pub(super) state: PathBuf,
    /// Where the gateway has its kernels.
    pub(super) runtime: PathBuf,
    _held: File,
}

impl Slot {
    /// Takes the first that is free.
    pub(super) fn take(places: &Places) -> Result<Self, Error> {
        private_folder(&places.state)?;
        for number in 1..=SLOTS {
            let name = match number {
                1 => "up".to_owned(),
                number => format!("up{number}"),
            };
            let state = places.state.join(&name);
            private_folder(&state)?;
            let failed = |reason: String| {
                Error::user(format!(
                    "the folder {} cannot be locked: {reason}",
                    state.display()
                ))
            };
            let held = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(state.join("lock"))
                .map_err(|error| failed(error.to_string()))?;
            match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let runtime = places.runtime.join(&name);
                    return Ok(Self {
                        state,
                        runtime,
                        _held: held,
                    });
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Err(Error::user(format!("{SLOTS} `nb up` run already; end one")))
    }
}

/// The token of the gateway and of Lab, and the 0600 file that it is read from.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl Token {
    /// Reads the user's file.
    pub(super) fn read(file: PathBuf) -> Result<Self, Error> {
        let failed = |why: &str| Error::user(format!("the token file {} {why}", file.display()));
        let text = fs::read_to_string(&file)
            .map_err(|error| failed(&format!("cannot be read: {error}")))?;
        let text = text.trim().to_owned();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(failed("must hold one word of printable ASCII"));
        }
        Ok(Self { file, text })
    }

    /// Reads the generated one, or generates it: addresses in a browser stay good from one `up` to the next.
    pub(super) fn kept(places: &Places) -> Result<Self, Error> {
        let folder = places.state.join("up");
        private_folder(&folder)?;
        let file = folder.join("token");
        if !file.exists() {
            generate(&folder, &file).map_err(|error| {
                Error::user(format!(
                    "the token file {} cannot be written: {error}",
                    file.display()
                ))
            })?;
        }
        Self::read(file)
    }
}

/// The file appears whole, and the first of two processes wins.
fn generate(folder: &Path, file: &Path) -> io::Result<()> {
    let text = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let part = folder.join(format!("token.{}", Uuid::new_v4().simple()));
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    options.open(&part)?.write_all(text.as_bytes())?;
    let linked = match fs::hard_link(&part, file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    fs::remove_file(part)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn places(root: &Path) -> Places {
        Places {
            runtime: root.join("run"),
            state: root.join("state"),
            data: root.join("data"),
        }
    }

    #[test]
    fn two_ups_never_share_a_folder_and_a_later_one_finds_it_again() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let first = Slot::take(&places).unwrap();
        let second = Slot::take(&places).unwrap();
        assert!(first.runtime != second.runtime && first.state != second.state);
        let runtime = first.runtime.clone();
        drop(first);
        assert_eq!(Slot::take(&places).unwrap().runtime, runtime);
    }

    #[test]
    fn the_generated_token_is_kept_and_private() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let token = Token::kept(&places).unwrap();
        assert_eq!(token.text.len(), 64);
        assert_eq!(fs::metadata(&token.file).unwrap().mode() & 0o777, 0o600);
        generate(&places.state.join("up"), &token.file).unwrap();
        assert_eq!(Token::kept(&places).unwrap().text, token.text);
        fs::write(&token.file, " \n").unwrap();
        assert!(Token::kept(&places).is_err());
    }
}
