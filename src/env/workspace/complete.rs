//! What comes after a workspace can be worked in: all history, all branches, and the content of what is not checked out.
//!
//! A process of its own does it, for as long as it takes. Killed, it is begun again by whoever looks next.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::sleep;

use super::mirror::Mirror;
use super::places::Held;
use super::record::{Completion, Record};
use super::tree::Tree;
use super::{Workspace, Workspaces};
use crate::env::git::Address;
use crate::env::lock::{LOOK, LOOKS};
use crate::env::{Say, leftovers};
use crate::error::Error;

/// Somebody works in the tree meanwhile, and git lets one at a time write what both do.
const TRIES: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What failed is tried again after that: who asks for a password is not to be asked all the time.
const AFTER_A_FAILURE: Duration = Duration::from_mins(10);

/// How often what is done is written down.
const TELL: Duration = Duration::from_millis(500);

impl Workspaces {
    /// Whether a workspace is not complete and nobody is at it, nor has failed just now.
    pub fn is_to_be_completed(&self, workspace: &Workspace) -> bool {
        let own = self.folders.own(&workspace.name);
        let is_due = match Completion::read(&own) {
            Some(Completion::Complete { .. }) => false,
            Some(Completion::Failed { at, .. }) => {
                let since = Timestamp::now().duration_since(at);
                Duration::try_from(since).is_ok_and(|since| since > AFTER_A_FAILURE)
            }
            Some(Completion::Running { .. }) | None => true,
        };
        is_due && !self.is_being_completed(&workspace.name)
    }

    /// Whether a process is at it.
    pub fn is_being_completed(&self, name: &str) -> bool {
        let at = self.folders.own(name).join(AT_IT);
        // A folder that is not there is not made.
        at.exists() && matches!(self.folders.try_hold(at), Ok(None))
    }

    /// Completes it, and writes down how far that is. `url` may hold the login that it was made with.
    pub async fn complete(&self, name: &str, url: Option<&str>, say: Say<'_>) -> Result<(), Error> {
        let workspace = self.find(name)?;
        let own = self.folders.own(name);
        let Some(_at_it) = self.at_it(own.join(AT_IT)).await? else {
            return self.wait_for_it(name, say).await;
        };
        if matches!(Completion::read(&own), Some(Completion::Complete { .. })) {
            return Ok(());
        }
        let told = Cell::new(None::<Instant>);
        let tell = |line: &str| {
            say(line);
            if told.get().is_none_or(|last| last.elapsed() >= TELL) {
                told.set(Some(Instant::now()));
                let (step, at) = (line.to_owned(), Timestamp::now());
                let _next_time = Completion::Running { step, at }.write(&own);
            }
        };
        let done = self.bring_all(&workspace, url, &tell).await;
        let at = Timestamp::now();
        match &done {
            Ok(()) => Completion::Complete { at },
            Err(error) => Completion::Failed {
                why: error.message.clone(),
                at,
            },
        }
        .write(&own)?;
        done
    }

    /// Whoever looks whether somebody is at it has the lock for a moment.
    async fn at_it(&self, folder: PathBuf) -> Result<Option<Held>, Error> {
        for _moment in 0..LOOKS {
            if let Some(held) = self.folders.try_hold(folder.clone())? {
                return Ok(Some(held));
            }
            sleep(LOOK).await;
        }
        Ok(None)
    }

    /// Another process is at it: its failure is ours.
    async fn wait_for_it(&self, name: &str, say: Say<'_>) -> Result<(), Error> {
        say("waiting for another nb that is at it");
        while self.is_being_completed(name) {
            sleep(TELL).await;
        }
        match Completion::read(&self.folders.own(name)) {
            Some(Completion::Complete { .. }) => Ok(()),
            Some(Completion::Failed { why, .. }) => Err(Error::user(why)),
            _ => Err(Error::user(format!(
                "{name} is not complete: the process that was at it was ended"
            ))),
        }
    }

    async fn bring_all(
        &self,
        workspace: &Workspace,
        url: Option<&str>,
        say: Say<'_>,
    ) -> Result<(), Error> {
        let record = &workspace.record;
        let given = url.map(Address::of).transpose()?;
        let given = given.filter(|given| given.bare == record.url);
        let address = given.map_or_else(|| Address::of(&record.url), Ok)?;
        let mirror = self
            .folders
            .hold(self.folders.mirror(&record.url), say)
            .await?;
        let mirror = Mirror::open(mirror).await?;
        mirror.complete(&address, say).await?;
        self.complete_tree(workspace, record, &address, &mirror, say)
            .await
    }

    async fn complete_tree(
        &self,
        workspace: &Workspace,
        record: &Record,
        address: &Address,
        mirror: &Mirror,
        say: Say<'_>,
    ) -> Result<(), Error> {
        let works_in = self.folders.own(&workspace.name).join(AT_IT);
        // Its own process is not marked: it would end itself.
        leftovers::end(&works_in).await?;
        let tree = Tree::at(workspace.path.clone(), works_in);
        let default = record.default.as_deref();
        for again in 1.. {
            match tree.complete(address, mirror, default, say).await {
                Err(_) if again < TRIES => sleep(TRY_AGAIN).await,
                done => return done,
            }
        }
        Ok(())
    }

    /// Ends the process that completes a workspace, and what it has started.
    pub(super) async fn stop_completing(
        &self,
        name: &str,
        say: Say<'_>,
    ) -> Result<Option<Held>, Error> {
        let at = self.folders.own(name).join(AT_IT);
        if !at.exists() {
            return Ok(None);
        }
        leftovers::end(&self.mark(name)).await?;
        leftovers::end(&at).await?;
        self.folders.hold(at, say).await.map(Some)
    }

    /// The variables by which the process that completes a workspace is found, as tools are.
    pub fn mark_of(&self, workspace: &Workspace) -> [(&'static str, PathBuf); 1] {
        [(leftovers::MARK, self.mark(&workspace.name))]
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.folders.own(name).join("completes")
    }
}

/// The folder whose lock is held by the process that completes the workspace.
const AT_IT: &str = "completing";
