//! Whose a request is, and what of that may be seen and done: decided in one place, so that all routes
//! decide alike. Pure.
//!
//! Knows nothing of how an identity is found out.

use std::sync::Arc;

use super::tokens::NamedToken;
use crate::kernels::contract::Kernel;

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    /// Names the token without being it; connections remember it, so that its end can end them.
    pub(crate) credential: Arc<str>,
    /// When the token ends, in seconds since 1970.
    pub(crate) expires: Option<u64>,
    rights: Rights,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// It is the gateway's own: everything, for everyone.
    Operator,
    /// Its user's kernels.
    User,
    /// Its user's kernels and those that it starts for others.
    ActsFor,
}

impl Identity {
    /// Whoever has the gateway's own token.
    pub(crate) fn operator(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            credential: "operator".into(),
            expires: None,
            rights: Rights::Operator,
        }
    }

    /// Whoever has this token.
    pub(crate) fn of(token: &NamedToken) -> Self {
        Self {
            name: token.user.as_str().into(),
            credential: token.id.as_str().into(),
            expires: token.expires,
            rights: match token.acts_for {
                true => Rights::ActsFor,
                false => Rights::User,
            },
        }
    }

    /// Whether every kernel is this one's to see: nothing need be looked up.
    pub(crate) fn sees_all(&self) -> bool {
        self.rights == Rights::Operator
    }

    /// Whether this kernel may be seen, used and ended.
    pub(crate) fn sees(&self, kernel: &Kernel) -> bool {
        match self.rights {
            Rights::Operator => true,
            Rights::User => *self.name == *kernel.owner,
            Rights::ActsFor => *self.name == *kernel.owner || *self.name == *kernel.started_by,
        }
    }

    /// The user that a kernel is started for when the client claims to be `username`.
    pub(crate) fn acts_for(&self, username: Option<&str>) -> Result<String, String> {
        match username.filter(|name| !name.is_empty() && **name != *self.name) {
            None => Ok(self.name.to_string()),
            Some(other) if self.rights != Rights::User => Ok(other.to_owned()),
            Some(other) => Err(format!(
                "KERNEL_USERNAME is {other:?}, but this token is of {:?} and may not act for others",
                self.name
            )),
        }
    }
}
