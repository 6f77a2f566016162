//! What git says of a tree: what of it is nowhere else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::repository::Repository;
use crate::error::Error;

/// What a tree has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Look {
    /// The branch; none while a commit is checked out by itself.
    pub branch: Option<String>,
    /// None before the first one.
    pub commit: Option<String>,
    pub upstream: Option<String>,
    /// Commits that the upstream does not have, and those that it has and the branch does not.
    pub ahead: Option<u64>,
    pub behind: Option<u64>,
    /// Files that differ from the commit, those in conflict too.
    pub changed: u64,
    pub untracked: u64,
    pub stashes: u64,
    /// Commits of any branch, of a tag of its own or of none that no branch of the origin has.
    pub unpushed: u64,
    /// Other trees of the same repository, which need this one.
    pub worktrees: u64,
}

impl Look {
    /// What would be lost with the tree, in words.
    pub fn losses(&self) -> Vec<String> {
        let count = |count: u64, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {many}")),
        };
        [
            count(self.changed, "uncommitted change", "uncommitted changes"),
            count(self.untracked, "untracked file", "untracked files"),
            count(self.unpushed, "unpushed commit", "unpushed commits"),
            count(self.stashes, "stash", "stashes"),
            count(
                self.worktrees,
                "worktree of it elsewhere",
                "worktrees of it elsewhere",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Asks git; `known` has the tags of the origin, if it is there, and `commit` is one that the origin has.
pub(super) async fn look(
    tree: &Repository,
    known: Option<&Repository>,
    commit: Option<&str>,
) -> Result<Look, Error> {
    // No lock is taken: somebody may be at work.
    let status = [
        "--no-optional-locks",
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
    ];
    let mut look = read_status(&tree.answer(&status).await?);
    if tree.file("refs/stash").exists() || tree.is(&["rev-parse", "--verify", "refs/stash"]).await?
    {
        let stashes = ["rev-list", "--walk-reflogs", "--count", "refs/stash"];
        look.stashes = number(&tree.answer(&stashes).await?)?;
    }
    let mut own = vec!["rev-list", "--count", "--branches"];
    if look.commit.is_some() {
        own.push("HEAD");
    }
    let tags = own_tags(tree, known).await?;
    own.extend(tags.iter().map(String::as_str));
    own.extend(["--not", "--remotes"]);
    own.extend(commit);
    look.unpushed = number(&tree.answer(&own).await?)?;
    let listed = tree
        .answer(&["worktree", "list", "--porcelain", "-z"])
        .await?;
    let trees = listed
        .split('\0')
        .filter(|line| line.starts_with("worktree "));
    look.worktrees = (trees.count() as u64).saturating_sub(1);
    Ok(look)
}

/// What of the disk goes with a folder: what is shared with the mirror does not.
pub(super) fn own_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| {
        let Ok(about) = fs::symlink_metadata(entry.path()) else {
            return 0;
        };
        match about.is_dir() {
            true => own_bytes(&entry.path()) + about.blocks() * BLOCK_BYTES,
            false if about.nlink() > 1 => 0,
            false => about.blocks() * BLOCK_BYTES,
        }
    });
    sizes.sum()
}

/// The unit of `st_blocks`, stat(2).
const BLOCK_BYTES: u64 = 512;

/// Tags that the origin does not have: nothing says it of those that were fetched. All, where the origin's are not known.
async fn own_tags(tree: &Repository, known: Option<&Repository>) -> Result<Vec<String>, Error> {
    const TAGS: [&str; 3] = [
        "for-each-ref",
        "--format=%(objectname) %(refname)",
        "refs/tags",
    ];
    let here = tree.answer(&TAGS).await?;
    let there = match known {
        Some(known) if !here.is_empty() => known.answer(&TAGS).await?,
        _ => String::new(),
    };
    let there: std::collections::BTreeSet<&str> = there.lines().collect();
    let own = here.lines().filter(|line| !there.contains(line));
    Ok(own
        .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
        .collect())
}

fn number(said: &str) -> Result<u64, Error> {
    let number = said.trim().parse();
    number.map_err(|_| Error::nb(format!("git printed {:?} for a number", said.trim())))
}

/// git-status(1), "Porcelain Format Version 2". A renamed file has its old name as an entry of its own.
pub fn read_status(printed: &str) -> Look {
    let mut look = Look::default();
    let mut entries = printed.split('\0');
    while let Some(entry) = entries.next() {
        let Some((kind, rest)) = entry.split_once(' ') else {
            continue;
        };
        match kind {
            "#" => read_header(rest, &mut look),
            "1" | "u" => look.changed += 1,
            "2" => {
                look.changed += 1;
                entries.next();
            }
            "?" => look.untracked += 1,
            _ => {}
        }
    }
    look
}

fn read_header(header: &str, look: &mut Look) {
    let Some((key, value)) = header.split_once(' ') else {
        return;
    };
    let is = |none: &str| (value != none).then(|| value.to_owned());
    match key {
        "branch.oid" => look.commit = is("(initial)"),
        "branch.head" => look.branch = is("(detached)"),
        "branch.upstream" => look.upstream = is(""),
        "branch.ab" => {
            let numbers = value.split_once(' ');
            let count = |text: &str| text.get(1..)?.parse().ok();
            look.ahead = numbers.and_then(|(ahead, _)| count(ahead));
            look.behind = numbers.and_then(|(_, behind)| count(behind));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_of_a_tree_is_read() {
        let printed = "# branch.oid 0a\0# branch.head ma in\0# branch.upstream origin/main\0# branch.ab +2 -10\0\
            1 .M N... 100644 100644 100644 a a ? x\0\
            2 R. N... 100644 100644 100644 a a R100 new\0? old\0u UU a b\0? y\0! z\0";
        let expected = Look {
            branch: Some("ma in".to_owned()),
            commit: Some("0a".to_owned()),
            upstream: Some("origin/main".to_owned()),
            ahead: Some(2),
            behind: Some(10),
            changed: 3,
            untracked: 1,
            ..Look::default()
        };
        assert_eq!(read_status(printed), expected);
        let new = read_status("# branch.oid (initial)\0# branch.head (detached)\0");
        assert_eq!(new, Look::default());
    }

    #[test]
    fn what_would_be_lost_is_said() {
        let look = Look {
            changed: 1,
            stashes: 2,
            ..Look::default()
        };
        assert_eq!(look.losses(), ["1 uncommitted change", "2 stashes"]);
        assert!(Look::default().losses().is_empty());
    }
}
