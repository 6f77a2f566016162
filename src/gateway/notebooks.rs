//! Notebook sessions: Jupyter's link between a notebook's path and its kernel.
//!
//! They are kept by the kernels' supervisors, so that any gateway finds them. Owns the order of
//! writes: of two requests for one path, or for one session, the second sees what the first did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use uuid::Uuid;

use super::Gateway;
use super::error::ApiError;
use super::identity::Identity;
use super::models::SessionModel;
use crate::compose::timestamp;
use crate::kernels::contract::{Kernel, NotebookSession};
use crate::kernels::launch::Launched;
use crate::kernels::plan::{Asked, Place};
use crate::kernels::registry::parse_id;

/// Longer than the longest start.
const LOCK_DEADLINE: Duration = Duration::from_secs(660);

/// What a session is to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) kernel: WantedKernel,
}

/// The kernel of a session.
#[derive(Clone, Debug)]
pub(crate) enum WantedKernel {
    Existing(String),
    /// A new one of this kernelspec, or of the default one.
    New(Option<String>),
}

/// What is to be different with a session; what is absent stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) path: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) kernel: Option<WantedKernel>,
}

impl Gateway {
    /// All sessions, each with its kernel; of two records of one session the newer counts.
    pub(crate) async fn sessions(
        &self,
        identity: &Identity,
    ) -> Result<Vec<SessionModel>, ApiError> {
        let found = newest(&self.listed(identity).await?);
        let models = found
            .into_iter()
            .map(|(session, kernel)| SessionModel::new(session, kernel));
        Ok(models.collect())
    }

    /// One session.
    pub(crate) async fn session(
        &self,
        id: Uuid,
        identity: &Identity,
    ) -> Result<SessionModel, ApiError> {
        let (session, kernel) = self.find_session(id, identity).await?;
        Ok(SessionModel::new(session, kernel))
    }

    /// The session of that path, made with a kernel if there is none. A kernel started for it ends
    /// unless it is kept, and until it has ended nobody else gets a turn at the path.
    pub(crate) async fn create_session(
        &self,
        wanted: Wanted,
        identity: &Identity,
    ) -> Result<(SessionModel, Option<Launched>), ApiError> {
        let turn = format!("path of {}: {}", identity.name, wanted.path);
        let turn = self.turns.take(turn).await?;
        let sessions = newest(&self.seen_by(identity).await?);
        let existing = sessions
            .into_iter()
            .find(|(session, _)| session.path == wanted.path && session.owner == *identity.name);
        if let Some((session, kernel)) = existing {
            return Ok((SessionModel::new(session, kernel), None));
        }
        let (kernel, mut launched) = self
            .kernel_for(&wanted.kernel, &wanted.path, identity)
            .await?;
        let _turn = match &mut launched {
            Some(launched) => {
                launched.hold(turn);
                None
            }
            None => Some(turn),
        };
        let session = NotebookSession {
            id: Uuid::new_v4().to_string(),
            path: wanted.path,
            name: wanted.name,
            kind: wanted.kind,
            owner: identity.name.to_string(),
            updated: timestamp(Timestamp::now()),
        };
        self.record(&session, &kernel).await?;
        Ok((SessionModel::new(session, kernel), launched))
    }

    /// Renames a session, gives it another kernel, or both.
    ///
    /// The new record is written before the old one goes, so no crash leaves the session without.
    pub(crate) async fn change_session(
        &self,
        id: Uuid,
        changes: Changes,
        identity: &Identity,
    ) -> Result<SessionModel, ApiError> {
        let _turn = self.turns.take(format!("session {id}")).await?;
        let (mut session, old) = self.find_session(id, identity).await?;
        session.path = changes.path.unwrap_or(session.path);
        session.name = changes.name.unwrap_or(session.name);
        session.kind = changes.kind.unwrap_or(session.kind);
        session.updated = timestamp(Timestamp::now());
        let (kernel, launched) = match &changes.kernel {
            Some(wanted) => self.kernel_for(wanted, &session.path, identity).await?,
            None => (old.clone(), None),
        };
        self.record(&session, &kernel).await?;
        if let Some(launched) = launched {
            launched.keep();
        }
        if kernel.id != old.id {
            self.leave(&session.id, &old).await;
        }
        Ok(SessionModel::new(session, kernel))
    }

    /// Ends a session and its kernel, whose id is returned.
    pub(crate) async fn delete_session(
        &self,
        id: Uuid,
        identity: &Identity,
    ) -> Result<Uuid, ApiError> {
        let _turn = self.turns.take(format!("session {id}")).await?;
        let (_, kernel) = self.find_session(id, identity).await?;
        let kernel = kernel_id(&kernel)?;
        self.delete(kernel).await?;
        Ok(kernel)
    }

    async fn find_session(
        &self,
        id: Uuid,
        identity: &Identity,
    ) -> Result<(NotebookSession, Kernel), ApiError> {
        let id = id.to_string();
        let sessions = newest(&self.seen_by(identity).await?);
        let found = sessions.into_iter().find(|(session, _)| session.id == id);
        found.ok_or_else(|| ApiError::not_found(format!("there is no session {id}")))
    }

    /// The kernel; one that was started for this ends unless it is kept.
    async fn kernel_for(
        &self,
        wanted: &WantedKernel,
        path: &str,
        identity: &Identity,
    ) -> Result<(Kernel, Option<Launched>), ApiError> {
        match wanted {
            WantedKernel::Existing(text) => {
                let missing = || ApiError::bad_request(format!("there is no kernel {text:?}"));
                let id = parse_id(text).ok_or_else(missing)?;
                match self.kernel(id).await {
                    Ok(kernel) if identity.sees(&kernel) => Ok((kernel, None)),
                    Ok(_) => Err(missing()),
                    Err(error) if error.is_not_found() => Err(missing()),
                    Err(error) => Err(error),
                }
            }
            WantedKernel::New(spec) => {
                let asked = Asked {
                    spec: spec.clone(),
                    place: Some(Place::Notebook(path.to_owned())),
                    ..Asked::default()
                };
                let (kernel, launched) = self
                    .start(asked, identity, StatusCode::NOT_IMPLEMENTED)
                    .await?;
                Ok((kernel, Some(launched)))
            }
        }
    }

    /// Writes a session down with its kernel.
    async fn record(&self, session: &NotebookSession, kernel: &Kernel) -> Result<(), ApiError> {
        let id = kernel_id(kernel)?;
        match self.supervisor(id).put_notebook_session(session).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(id, error).await),
        }
    }

    /// Takes a session from a kernel that it has left, and ends the kernel if it was the last.
    /// The session has moved already, so what fails here is no failure of the move.
    async fn leave(&self, session: &str, kernel: &Kernel) {
        let Ok(id) = kernel_id(kernel) else {
            return;
        };
        if let Err(error) = self.supervisor(id).delete_notebook_session(session).await {
            tracing::warn!(kernel = %id, %error, "the kernel keeps a session that has left it");
        }
        let others = kernel
            .notebook_sessions
            .iter()
            .any(|other| other.id != session);
        if !others && let Err(error) = self.delete(id).await {
            tracing::warn!(kernel = %id, ?error, "a kernel without sessions stays");
        }
    }
}

fn kernel_id(kernel: &Kernel) -> Result<Uuid, ApiError> {
    parse_id(&kernel.id).ok_or_else(|| ApiError::internal("a kernel has an id that is none"))
}

/// Each session once, the newest record of it, in the order of paths.
fn newest(kernels: &[Kernel]) -> Vec<(NotebookSession, Kernel)> {
    let mut found: HashMap<String, (NotebookSession, Kernel)> = HashMap::new();
    for kernel in kernels {
        for session in &kernel.notebook_sessions {
            let newer = found
                .get(&session.id)
                .is_none_or(|(known, _)| known.updated < session.updated);
            if newer {
                found.insert(session.id.clone(), (session.clone(), kernel.clone()));
            }
        }
    }
    let mut sessions: Vec<_> = found.into_values().collect();
    sessions.sort_by(|(a, _), (b, _)| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
    sessions
}

/// Lets one request at a time work on a thing, by the thing's name.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits for its turn, which lasts until the guard is dropped.
    async fn take(&self, name: String) -> Result<OwnedMutexGuard<()>, ApiError> {
        let lock = self.lock(name);
        timeout(LOCK_DEADLINE, lock.lock_owned())
            .await
            .map_err(|_| ApiError::recovering("another request for the same is still at work"))
    }

    fn lock(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kernel(id: &str, sessions: &[(&str, &str, &str)]) -> Kernel {
        let sessions: Vec<_> = sessions
            .iter()
            .map(|(id, path, updated)| {
                json!({"id": id, "path": path, "name": "", "type": "notebook", "owner": "",
                    "updated": updated})
            })
            .collect();
        serde_json::from_value(json!({
            "id": id, "name": "python3", "execution_state": "idle", "connections": 0,
            "last_activity": "", "notebook_sessions": sessions,
        }))
        .unwrap()
    }

    #[test]
    fn a_session_that_was_cut_off_while_it_moved_is_shown_once_where_it_went() {
        let old = kernel("old", &[("s", "b", "1"), ("t", "a", "1")]);
        let new = kernel("new", &[("s", "b", "2")]);
        for kernels in [vec![old.clone(), new.clone()], vec![new, old]] {
            let found = newest(&kernels);
            let shown: Vec<_> = found
                .iter()
                .map(|(session, kernel)| (session.id.as_str(), kernel.id.as_str()))
                .collect();
            assert_eq!(shown, [("t", "old"), ("s", "new")]);
        }
    }

    #[tokio::test]
    async fn turns_are_taken_one_after_the_other_and_forgotten() {
        let turns = Turns::default();
        let first = turns.take("a".to_owned()).await.unwrap();
        assert!(turns.lock("a".to_owned()).try_lock().is_err());
        assert!(turns.lock("b".to_owned()).try_lock().is_ok());
        drop(first);
        assert!(turns.lock("a".to_owned()).try_lock().is_ok());
        assert_eq!(turns.locks.lock().unwrap().len(), 1);
    }
}
