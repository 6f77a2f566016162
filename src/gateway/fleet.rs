//! The kernels of this machine as the gateway sees them: it keeps nothing of them, it asks.
//!
//! A supervisor that does not answer in time is shown as it last wrote itself down, marked stale.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use super::Gateway;
use super::error::ApiError;
use super::identity::Identity;
use super::start::{self, Refusal};
use crate::kernels::client::{Attachment, CallError, Supervisor};
use crate::kernels::contract::{Kernel, LogPiece, PART};
use crate::kernels::launch::{Launched, Quota};
use crate::kernels::plan::Asked;
use crate::kernels::registry::{Registry, Standing};

/// How long a question waits that something depends on.
const GET_DEADLINE: Duration = Duration::from_secs(2);

/// How long a supervisor may take to agree to a client.
const ATTACH_DEADLINE: Duration = Duration::from_secs(5);

/// How long a client waits for a kernel that is being taken over, which takes a second where there is room to.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);

/// How long a supervisor that was killed takes to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Gateway {
    /// The supervisor of a kernel, if there is one.
    pub(crate) fn supervisor(&self, id: Uuid) -> Supervisor {
        Supervisor::new(self.registry.socket(id))
    }

    /// The kernels that one may see, for a listing, which waits for none of them long; listings at once share a pull.
    pub(crate) async fn listed(&self, identity: &Identity) -> Result<Vec<Kernel>, ApiError> {
        let deadline = Duration::from_millis(self.config.server.list_deadline_ms);
        let kernels = self.listing.get(self.all(deadline)).await?;
        let seen = kernels.iter().filter(|kernel| identity.sees(kernel));
        Ok(seen.cloned().collect())
    }

    /// The kernels that one may see, asked at once and waited for.
    pub(crate) async fn seen_by(&self, identity: &Identity) -> Result<Vec<Kernel>, ApiError> {
        let mut kernels = self.all(GET_DEADLINE).await?;
        kernels.retain(|kernel| identity.sees(kernel));
        Ok(kernels)
    }

    /// Fails as for a kernel that is not there unless one may see it.
    pub(crate) async fn check_seen(&self, id: Uuid, identity: &Identity) -> Result<(), ApiError> {
        if identity.sees_all() {
            return Ok(());
        }
        let known = self
            .blocking(move |registry| registry.last_known(id))
            .await?;
        match known {
            None => Err(ApiError::no_such_kernel(id)),
            Some(kernel) if identity.sees(&kernel) => Ok(()),
            Some(_) => Err(ApiError::not_their_kernel(id)),
        }
    }

    async fn all(&self, deadline: Duration) -> Result<Vec<Kernel>, ApiError> {
        let ids = self
            .blocking(|registry| registry.ids())
            .await?
            .map_err(|error| ApiError::recovering(format!("kernels cannot be listed: {error}")))?;
        let kernels = ids.into_iter().map(|id| self.look(id, deadline));
        let kernels = join_all(kernels).await;
        // The other kernels of a notebook are behind the one that it has.
        let seen = |kernel: &Kernel| !kernel.nb.contains_key(PART);
        Ok(kernels
            .into_iter()
            .filter_map(Result::ok)
            .filter(seen)
            .collect())
    }

    /// One kernel.
    pub(crate) async fn kernel(&self, id: Uuid) -> Result<Kernel, ApiError> {
        self.look(id, GET_DEADLINE).await
    }

    async fn look(&self, id: Uuid, deadline: Duration) -> Result<Kernel, ApiError> {
        let error = match self.supervisor(id).kernel(deadline).await {
            Ok(kernel) => return Ok(kernel),
            Err(error) => error,
        };
        let gone = matches!(error, CallError::Gone);
        let (last_known, standing) = self
            .blocking(move |registry| (registry.last_known(id), registry.standing(id)))
            .await?;
        match (last_known, standing) {
            (_, Standing::Missing | Standing::Starting) => Err(ApiError::no_such_kernel(id)),
            (_, Standing::Abandoned) if gone => {
                self.bury(id).await?;
                Err(ApiError::no_such_kernel(id))
            }
            (Some(mut kernel), _) => {
                kernel.nb.insert("stale".to_owned(), Value::Bool(true));
                Ok(kernel)
            }
            (None, _) => Err(error.into()),
        }
    }

    /// Removes a kernel that lost its supervisor: nobody could reach it or end it.
    async fn bury(&self, id: Uuid) -> Result<(), ApiError> {
        let removed = self.blocking(move |registry| registry.remove(id)).await?;
        if let Err(error) = removed {
            tracing::debug!(kernel = %id, %error, "what is left of a kernel stays");
        }
        Ok(())
    }

    /// Starts a kernel and returns it once it is ready. It ends unless it is kept.
    pub(crate) async fn start(
        &self,
        asked: Asked,
        identity: &Identity,
        unknown_spec: StatusCode,
    ) -> Result<(Kernel, Launched), ApiError> {
        let (planner, asker) = (self.planner.clone(), identity.clone());
        let start = spawn_blocking(move || start::plan(&planner, &asked, &asker))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?
            .map_err(|error| match error {
                Refusal::BadRequest(message) => ApiError::bad_request(message),
                Refusal::Forbidden(message) => ApiError::forbidden(message),
                Refusal::NotImplemented(message) => {
                    ApiError::user(StatusCode::NOT_IMPLEMENTED, "not implemented", message)
                }
                Refusal::UnknownSpec(message) => {
                    ApiError::user(unknown_spec, "unknown kernelspec", message)
                }
            })?;
        let spec = start.spec.clone();
        let quota = Quota {
            max: self.config.kernels.max,
            max_per_user: self.config.kernels.max_per_user,
        };
        let begun = Instant::now();
        let launched = self.launcher.launch(start, quota).await?;
        self.metrics.started(begun.elapsed());
        tracing::info!(kernel = %launched.id(), spec, "started");
        Ok((self.kernel(launched.id()).await?, launched))
    }

    /// Interrupts what a kernel runs.
    pub(crate) async fn interrupt(&self, id: Uuid) -> Result<(), ApiError> {
        match self.supervisor(id).interrupt().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(id, error).await),
        }
    }

    /// Restarts a kernel and returns it once it is ready again.
    pub(crate) async fn restart(&self, id: Uuid) -> Result<Kernel, ApiError> {
        match self.supervisor(id).restart().await {
            Ok(kernel) => Ok(kernel),
            Err(CallError::Deadline(deadline)) => Err(ApiError::user(
                StatusCode::GATEWAY_TIMEOUT,
                "the kernel did not restart in time",
                format!("the kernel did not answer within {deadline:?} of its restart"),
            )),
            Err(error) => Err(self.explain(id, error).await),
        }
    }

    /// What a kernel's process wrote itself.
    pub(crate) async fn log(
        &self,
        id: Uuid,
        stream: &str,
        after: Option<u64>,
        bytes: Option<u64>,
    ) -> Result<LogPiece, ApiError> {
        match self.supervisor(id).log(stream, after, bytes).await {
            Ok(piece) => Ok(piece),
            Err(error) => Err(self.explain(id, error).await),
        }
    }

    /// A page of a kernel's journal, as JSON in pieces.
    pub(crate) async fn journal(
        &self,
        id: Uuid,
        after: Option<u64>,
        msg_id: Option<&str>,
        limit: Option<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, CallError>> + use<>, ApiError> {
        match self.supervisor(id).journal(after, msg_id, limit).await {
            Ok(page) => Ok(page),
            Err(error) => Err(self.explain(id, error).await),
        }
    }

    /// Opens the stream for a client. One that comes back since the supervisor died waits for the next one.
    pub(crate) async fn attach(&self, id: Uuid) -> Result<Attachment, ApiError> {
        let deadline = Instant::now() + TAKEN_OVER_WITHIN;
        loop {
            let error = match self.supervisor(id).attach(ATTACH_DEADLINE).await {
                Ok(attachment) => return Ok(attachment),
                Err(error) => error,
            };
            let standing = self.blocking(move |registry| registry.standing(id)).await?;
            let comes = matches!(standing, Standing::Held | Standing::Orphaned);
            let gone = matches!(
                error,
                CallError::Gone | CallError::Lost(_) | CallError::Unreachable(_)
            );
            if !(comes && gone && Instant::now() < deadline) {
                return Err(self.explain(id, error).await);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends a kernel, or removes what is left of one.
    pub(crate) async fn delete(&self, id: Uuid) -> Result<(), ApiError> {
        let error = match self.shut_down(id).await? {
            Ok(()) => {
                tracing::info!(kernel = %id, "ended");
                return Ok(());
            }
            Err(error) => error,
        };
        match error {
            CallError::Gone => {}
            CallError::Deadline(_) if self.kill_supervisor(id).await? => {}
            error => return Err(error.into()),
        }
        let removed = self
            .blocking(move |registry| match registry.standing(id) {
                Standing::Abandoned | Standing::Orphaned => registry.remove(id).map(|()| true),
                Standing::Missing | Standing::Starting | Standing::Held => Ok(false),
            })
            .await?;
        match removed {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.explain(id, error).await),
            Err(error) => Err(ApiError::recovering(format!(
                "what is left of the kernel cannot be removed: {error}"
            ))),
        }
    }

    /// Asks the supervisor to end. While one holds the kernel and does not listen, it has only just begun, or
    /// somebody else is ending it.
    async fn shut_down(&self, id: Uuid) -> Result<Result<(), CallError>, ApiError> {
        let deadline = Instant::now() + KILLED_WITHIN;
        loop {
            match self.supervisor(id).shutdown().await {
                Err(CallError::Gone) if Instant::now() < deadline => {}
                outcome => return Ok(outcome),
            }
            if self.blocking(move |registry| registry.standing(id)).await? != Standing::Held {
                return Ok(Err(CallError::Gone));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends a supervisor that hangs, so that its kernel can be removed; false when it cannot be ended.
    async fn kill_supervisor(&self, id: Uuid) -> Result<bool, ApiError> {
        if !self
            .blocking(move |registry| registry.kill_supervisor(id))
            .await?
        {
            return Ok(false);
        }
        tracing::warn!(kernel = %id, "killed a supervisor that did not answer");
        let is_gone = async {
            while self.blocking(move |registry| registry.standing(id)).await? == Standing::Held {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(true)
        };
        timeout(KILLED_WITHIN, is_gone).await.unwrap_or(Ok(false))
    }

    /// Why a kernel's supervisor did not do what it was asked to.
    pub(crate) async fn explain(&self, id: Uuid, error: CallError) -> ApiError {
        if !matches!(error, CallError::Gone) {
            return error.into();
        }
        match self.blocking(move |registry| registry.standing(id)).await {
            // One that its supervisor has not taken yet is not listed either.
            Ok(Standing::Missing | Standing::Starting) => ApiError::no_such_kernel(id),
            Ok(Standing::Held | Standing::Abandoned | Standing::Orphaned) => error.into(),
            Err(error) => error,
        }
    }

    /// Asks the registry on a thread where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Registry) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let registry = self.registry.clone();
        spawn_blocking(move || ask(&registry))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))
    }
}
