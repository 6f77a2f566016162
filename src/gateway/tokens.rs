//! Named tokens: each stands for a user, may end by a date, and can be revoked by itself.
//!
//! One file in the state folder, 0600, holds what is needed to recognise a token and nothing to use
//! one. Every change writes it whole, under a lock. Knows nothing of HTTP.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::token::Token;
use crate::config::private_folder;
use crate::error::Error;

/// The version of the file.
const FORMAT: u32 = 1;

/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A longer name stands for nobody.
const USER_BYTES_MAX: usize = 128;

/// What a token of ours begins with, so that it is recognised where it should not be.
const PREFIX: &str = "nb_";

/// A token, without what would be needed to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedToken {
    /// Part of the token itself, and no secret.
    pub id: String,
    /// Whoever has the token is this user.
    pub user: String,
    /// Of the whole token, in hexadecimal.
    sha256: String,
    /// In seconds since 1970.
    pub created: u64,
    /// From this second on it is none; never when absent.
    #[serde(default)]
    pub expires: Option<u64>,
    /// Whether it may start kernels for other users, named by `KERNEL_USERNAME`.
    #[serde(default)]
    pub acts_for: bool,
}

impl NamedToken {
    /// Whether its time is over.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn is(&self, presented: &str) -> bool {
        let presented = sha256(presented);
        self.sha256.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    tokens: Vec<NamedToken>,
}

/// The file that holds them.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// The one in this state folder; it may not exist.
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join("tokens.json"),
        }
    }

    /// All tokens, expired ones included.
    pub fn list(&self) -> Result<Vec<NamedToken>, Error> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fault(&error)),
        };
        let metadata = file.metadata().map_err(|error| self.fault(&error))?;
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || metadata.mode() & 0o077 != 0 {
            return Err(self.fault(&"others could have read or written it"));
        }
        let mut json = Vec::new();
        let limited = (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut json);
        limited.map_err(|error| self.fault(&error))?;
        let content: Content = serde_json::from_slice(&json).map_err(|error| self.fault(&error))?;
        if content.format > FORMAT {
            return Err(self.fault(&"it was written by a newer nb"));
        }
        Ok(content.tokens)
    }

    /// Makes a token for a user; what is returned beside it is the only place where it is whole.
    pub fn add(
        &self,
        user: &str,
        expires: Option<u64>,
        acts_for: bool,
        now: u64,
    ) -> Result<(NamedToken, Token), Error> {
        if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
            return Err(Error::user(format!(
                "{user:?} is no user's name: it has 1 to {USER_BYTES_MAX} bytes and no control characters"
            )));
        }
        let secret = || Uuid::new_v4().simple().to_string();
        let id = secret().split_off(24);
        let text = format!("{PREFIX}{id}_{}{}", secret(), secret());
        let named = NamedToken {
            id,
            user: user.to_owned(),
            sha256: sha256(&text),
            created: now,
            expires,
            acts_for,
        };
        self.change(|tokens| tokens.push(named.clone()))?;
        let token = Token::new(&text).ok_or_else(|| Error::nb("a token came out empty"))?;
        Ok((named, token))
    }

    /// Ends the token of this id, or every token of this user; what was ended is returned.
    pub fn revoke(&self, id_or_user: &str) -> Result<Vec<NamedToken>, Error> {
        let mut revoked = Vec::new();
        self.change(|tokens| {
            let is_meant =
                |token: &mut NamedToken| token.id == id_or_user || token.user == id_or_user;
            revoked = tokens.extract_if(.., is_meant).collect();
        })?;
        Ok(revoked)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<NamedToken>)) -> Result<(), Error> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        private_folder(folder)?;
        let locked = File::open(folder)
            .and_then(|lock| {
                rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
                Ok(lock)
            })
            .map_err(|error| self.fault(&error))?;
        let mut tokens = self.list()?;
        change(&mut tokens);
        let content = Content {
            format: FORMAT,
            tokens,
        };
        let fresh = self.path.with_extension("new");
        let written = serde_json::to_vec_pretty(&content)
            .map_err(io::Error::from)
            .and_then(|json| {
                let mut options = OpenOptions::new();
                options.create(true).truncate(true).write(true).mode(0o600);
                options.open(&fresh)?.write_all(&json)?;
                fs::rename(&fresh, &self.path)
            });
        drop(locked);
        written.map_err(|error| self.fault(&error))
    }

    fn fault(&self, why: &dyn std::fmt::Display) -> Error {
        let path = self.path.display();
        Error::user(format!("the file of tokens {path} cannot be used: {why}"))
    }
}

/// What tells one version of the file from the next.
type Stamp = (u64, i64, i64);

/// The tokens as a gateway knows them: read again when the file has changed.
#[derive(Debug)]
pub(crate) struct Tokens {
    file: TokenFile,
    known: Mutex<(Option<Stamp>, Arc<[NamedToken]>)>,
}

impl Tokens {
    pub(crate) fn new(file: TokenFile) -> Self {
        Self {
            file,
            known: Mutex::new((None, Arc::new([]))),
        }
    }

    /// The token that this is, if its time is not over. Reads a small file when it has changed.
    pub(crate) fn find(&self, presented: &str, now: u64) -> Option<NamedToken> {
        let id = presented.strip_prefix(PREFIX)?.split('_').next()?;
        let tokens = self.known();
        let token = tokens.iter().find(|token| token.id == id)?;
        (token.is(presented) && !token.is_expired(now)).then(|| token.clone())
    }

    /// A file that cannot be read lets nobody in.
    fn known(&self) -> Arc<[NamedToken]> {
        let stamp = fs::metadata(&self.file.path);
        let stamp = stamp.map(|m| (m.ino(), m.mtime(), m.mtime_nsec())).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != stamp {
            let tokens = self.file.list().unwrap_or_else(|error| {
                tracing::warn!(%error, "named tokens are not accepted");
                Vec::new()
            });
            *known = (stamp, tokens.into());
        }
        Arc::clone(&known.1)
    }
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_known_until_it_ends_or_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path());
        let tokens = Tokens::new(file.clone());
        assert_eq!(file.list().unwrap(), []);
        let (ada, token) = file.add("ada", Some(100), false, 1).unwrap();
        let (bob, other) = file.add("bob", None, true, 2).unwrap();
        assert_eq!(tokens.find(token.reveal(), 99), Some(ada.clone()));
        assert_eq!(tokens.find(token.reveal(), 100), None);
        assert_eq!(tokens.find(other.reveal(), 1 << 40), Some(bob.clone()));
        for wrong in [
            "",
            "nb_",
            "nb__",
            &other.reveal()[..70],
            &format!("nb_{}_0", bob.id),
        ] {
            assert_eq!(tokens.find(wrong, 1), None, "{wrong}");
        }
        assert_eq!(file.revoke("nobody").unwrap(), []);
        assert_eq!(file.revoke("bob").unwrap(), [bob]);
        assert_eq!(tokens.find(other.reveal(), 1), None);
        assert_eq!(file.revoke(&ada.id).unwrap(), [ada]);
        assert_eq!(tokens.find(token.reveal(), 1), None);
    }

    #[test]
    fn the_file_is_private_and_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path());
        let (_, token) = file.add("ada", None, false, 1).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        let secret = token.reveal().rsplit('_').next().unwrap();
        assert!(!text.contains(secret));
        assert_eq!(fs::metadata(&file.path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(file.list().is_err());
        assert_eq!(Tokens::new(file).find(token.reveal(), 1), None);
    }

    #[test]
    fn a_name_that_could_break_a_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path());
        for user in ["", "a\nb", &"x".repeat(USER_BYTES_MAX + 1)] {
            assert!(file.add(user, None, false, 1).is_err(), "{user:?}");
        }
    }

    #[test]
    fn changes_at_once_lose_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path());
        std::thread::scope(|scope| {
            for user in 0..8 {
                let file = &file;
                scope.spawn(move || file.add(&user.to_string(), None, false, 1).unwrap());
            }
        });
        assert_eq!(file.list().unwrap().len(), 8);
    }
}
