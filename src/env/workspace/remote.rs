//! What a repository somewhere else has: its own branch, and what is meant by a name.

use std::path::Path;

use super::name::{is_hash, is_reference};
use super::repository::not_had;
use crate::env::git::{self, Address};
use crate::env::tool::{self, Failure};
use crate::error::Error;

/// More than the few lines that are asked for is no answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What a tree is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Branch(String),
    Tag(String),
    Commit(String),
}

impl Reference {
    /// As people say it.
    pub fn name(&self) -> &str {
        let (Self::Branch(name) | Self::Tag(name) | Self::Commit(name)) = self;
        name
    }

    /// What git fetches there and keeps here, where branches are below `branches`.
    pub(super) fn refspec(&self, branches: &str) -> String {
        match self {
            Self::Branch(name) => format!("+refs/heads/{name}:{branches}/{name}"),
            Self::Tag(name) => format!("+refs/tags/{name}:refs/tags/{name}"),
            Self::Commit(hash) => hash.clone(),
        }
    }
}

/// What a repository said.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub reference: Reference,
    /// The branch that is its own.
    pub default: Option<String>,
}

impl Found {
    /// What `git ls-remote --symref` printed, of this name or of the repository's own branch.
    pub fn read(listed: &str, wanted: Option<&str>) -> Option<Self> {
        let default = default_of(listed);
        let reference = match wanted {
            None => default.clone().map(Reference::Branch),
            Some(name) => named(listed, name),
        };
        reference.map(|reference| Self { reference, default })
    }
}

/// Asks the repository for what is meant by a name; by none its own branch is.
pub(super) async fn find(
    address: &Address,
    wanted: Option<&str>,
    works_in: &Path,
) -> Result<Found, Error> {
    let mut command = git::command(works_in);
    let _access = git::log_in(&mut command, address, works_in).await?;
    command.args(["ls-remote", "--symref", "--", &address.bare, "HEAD"]);
    if let Some(name) = wanted {
        command.args([format!("refs/heads/{name}"), format!("refs/tags/{name}")]);
    }
    let listed = match tool::output(&mut command, ANSWER_BYTES_MAX).await {
        Ok(listed) => String::from_utf8_lossy(&listed).into_owned(),
        Err(Failure::Missing) => return Err(git::missing()),
        Err(Failure::Failed(said)) => return Err(not_had(address, &said)),
    };
    match Found::read(&listed, wanted) {
        Some(found) => Ok(found),
        None => {
            let bare = &address.bare;
            Err(Error::user(match wanted {
                None => format!("the repository {bare} has no branch of its own; --ref names one"),
                Some(name) => format!(
                    "the repository {bare} has no branch and no tag {}, and it is not the whole hash of a commit",
                    name.escape_debug()
                ),
            }))
        }
    }
}

/// `ref: refs/heads/main TAB HEAD`, where there is a commit. What is there is said by others.
fn default_of(listed: &str) -> Option<String> {
    let has_commit = listed.lines().any(|line| {
        let named = line.split_once('\t');
        named.is_some_and(|(hash, name)| name == "HEAD" && is_hash(hash))
    });
    let mut names = listed.lines().filter_map(|line| {
        let (name, of) = line.strip_prefix("ref: refs/heads/")?.split_once('\t')?;
        (of == "HEAD").then(|| name.to_owned())
    });
    names.next().filter(|name| has_commit && is_reference(name))
}

/// git lists whatever ends like the name.
fn named(listed: &str, name: &str) -> Option<Reference> {
    let has = |whole: String| {
        let mut lines = listed.lines();
        lines.any(|line| {
            line.split_once('\t')
                .is_some_and(|(_, listed)| listed == whole)
        })
    };
    if !is_reference(name) {
        return None;
    }
    if has(format!("refs/heads/{name}")) {
        return Some(Reference::Branch(name.to_owned()));
    }
    if has(format!("refs/tags/{name}")) {
        return Some(Reference::Tag(name.to_owned()));
    }
    is_hash(name).then(|| Reference::Commit(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn what_a_repository_lists_is_read() {
        let listed = format!(
            "ref: refs/heads/ma/in\tHEAD\n{HASH}\tHEAD\n{HASH}\trefs/heads/x/refs/heads/y\n{HASH}\trefs/heads/both\n{HASH}\trefs/tags/both\n{HASH}\trefs/tags/v1\n"
        );
        assert_eq!(default_of(&listed).as_deref(), Some("ma/in"));
        assert_eq!(
            named(&listed, "both"),
            Some(Reference::Branch("both".to_owned()))
        );
        assert_eq!(named(&listed, "v1"), Some(Reference::Tag("v1".to_owned())));
        assert_eq!(named(&listed, "y"), None);
        assert_eq!(
            named(&listed, HASH),
            Some(Reference::Commit(HASH.to_owned()))
        );
        let hostile = format!("ref: refs/heads/--exec=x\tHEAD\n{HASH}\tHEAD\n");
        assert_eq!(Found::read(&hostile, None), None);
        assert_eq!(named(&format!("{HASH}\trefs/heads/*\n"), "*"), None);
        assert_eq!(default_of("ref: refs/heads/main\tHEAD\n"), None);
        assert_eq!(default_of(&format!("{HASH}\tHEAD\n")), None);
    }
}
