//! The token of a notebook server, which its gateway and its Lab share.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::gateway;

/// One, and where it is kept.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    /// Where the gateway reads it; without one it has `NB_TOKEN` as we do.
    pub(super) file: Option<PathBuf>,
}

impl Token {
    /// The one of this file, else the one that was `given`, else the one that is kept in the state folder.
    pub(super) fn find(
        file: Option<&Path>,
        given: Option<&str>,
        state: &Path,
    ) -> Result<Self, Error> {
        let (token, kept) = gateway::find_token(file, given, state)?;
        let kept = kept.then(|| state.join("token"));
        Ok(Self {
            text: token.reveal().to_owned(),
            file: file.map(Path::to_owned).or(kept),
        })
    }
}
