//! The gateway's own token, and where it comes from: a file, the environment, or one of our own making
//! that is kept.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::config::private_folder;
use crate::error::Error;

/// The secret that lets clients in.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token as it was configured or generated; nothing when it is blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The secret itself, to be shown to the one who starts the gateway.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether what was presented is it.
    pub(crate) fn is(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A larger file holds no token.
const FILE_BYTES_MAX: u64 = 4096;

/// The token, and whether it is one of our own making.
pub fn find(
    file: Option<&Path>,
    variable: Option<&str>,
    state: &Path,
) -> Result<(Token, bool), Error> {
    if let Some(file) = file {
        let token = read(file).map_err(|error| unusable(file, &error.to_string()))?;
        let token = token.ok_or_else(|| unusable(file, "it is empty"))?;
        return Ok((token, false));
    }
    let Some(variable) = variable else {
        return Ok((kept(state)?, true));
    };
    // Elsewhere an empty token lets everybody in. Whoever means that is told, on whatever address.
    let token = Token::new(variable).ok_or_else(|| {
        Error::user(
            "NB_TOKEN is empty, and nb does not run without a token: a kernel can do all that its user can. \
             Unset it, and a token is made and printed with the address",
        )
    })?;
    Ok((token, false))
}

/// The token that was generated once, or a new one.
fn kept(state: &Path) -> Result<Token, Error> {
    private_folder(state)?;
    let path = state.join("token");
    if !path.exists() {
        generate(&path).map_err(|error| unusable(&path, &error.to_string()))?;
    }
    let metadata = path
        .symlink_metadata()
        .map_err(|error| unusable(&path, &error.to_string()))?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !ours || metadata.mode() & 0o077 != 0 {
        let advice = "others could have read or written it; remove it, and a new one is made";
        return Err(unusable(&path, advice));
    }
    let token = read(&path).map_err(|error| unusable(&path, &error.to_string()))?;
    token.ok_or_else(|| unusable(&path, "it is empty; remove it, and a new one is made"))
}

/// Puts a new token there; one that somebody else was first to put there stays.
///
/// It is written beside its place and linked to it, so nobody reads half of it.
fn generate(path: &Path) -> io::Result<()> {
    let fresh = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let beside = path.with_file_name(format!("token-{}", Uuid::new_v4().simple()));
    let put = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(fresh.as_bytes()))
        .and_then(|()| fs::hard_link(&beside, path));
    let removed = fs::remove_file(&beside);
    match put {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        put => put.and(removed),
    }
}

fn read(file: &Path) -> io::Result<Option<Token>> {
    let mut text = String::new();
    File::open(file)?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(Token::new(&text))
}

fn unusable(file: &Path, why: &str) -> Error {
    Error::user(format!(
        "the token file {} cannot be used: {why}",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn a_file_wins_over_the_variable_and_both_over_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("given");
        fs::write(&file, "from file\n").unwrap();
        let state = folder.path().join("state");
        let (token, ours) = find(Some(&file), Some("variable"), &state).unwrap();
        assert_eq!((token.reveal(), ours), ("from file", false));
        let (token, ours) = find(None, Some("variable"), &state).unwrap();
        assert_eq!((token.reveal(), ours), ("variable", false));
        assert!(!state.exists());
        assert!(find(Some(&state), None, &state).is_err());
        for nothing in ["", " \n"] {
            let error = find(None, Some(nothing), &state).unwrap_err().message;
            assert!(error.contains("Unset it"), "{error}");
            fs::write(&file, nothing).unwrap();
            assert!(find(Some(&file), Some("variable"), &state).is_err());
        }
        assert!(!state.exists());
    }

    #[test]
    fn those_who_ask_at_once_get_one_token_and_nobody_half_of_it() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let state = folder.path().join(round.to_string());
            let together = Barrier::new(8);
            let ask = || {
                together.wait();
                find(None, None, &state).unwrap().0.reveal().to_owned()
            };
            let tokens: BTreeSet<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
                let tokens = threads.into_iter().map(|thread| thread.join().unwrap());
                tokens.collect()
            });
            assert_eq!(tokens.len(), 1);
            assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        }
    }

    #[test]
    fn our_own_is_private_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (first, ours) = find(None, None, &state).unwrap();
        let (second, _) = find(None, None, &state).unwrap();
        assert!(ours && first.reveal().len() == 64);
        assert_eq!(first.reveal(), second.reveal());
        let file = state.join("token");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(None, None, &state).is_err());
    }
}
