//! A kernel of this machine: started by the launcher, reached through its supervisor.
//!
//! There is one kernel for each connection file: a front that comes back to its file, as after a
//! restart by a client that ends and starts the process, finds the kernel and restarts that.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::error::Error;
use crate::kernels::client::{CallError, Supervisor};
use crate::kernels::contract::{Kernel, RequestPhase, Start};
use crate::kernels::launch::{LaunchError, Launcher, Quota};
use crate::kernels::registry::{Registry, Standing};
use crate::kernels::upstream::{Line, Over, Reach};

/// How long an earlier kernel of the same connection file may take to go.
const OLD_GOES_WITHIN: Duration = Duration::from_secs(20);

/// How often it is looked for then.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// For what the supervisor answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How kernels are started here.
#[derive(Clone, Debug)]
pub struct Machine {
    pub registry: Registry,
    pub launcher: Launcher,
    pub quota: Quota,
    /// The start of this front's kernel but for its id.
    pub start: Start,
}

/// A kernel that runs.
#[derive(Debug)]
pub(super) struct Local {
    supervisor: Supervisor,
    reach: Reach,
}

impl Local {
    /// Starts the kernel `id`, or restarts the one that has this id.
    pub(super) async fn start(machine: &Machine, id: Uuid) -> Result<Self, Error> {
        let mut start = machine.start.clone();
        start.kernel_id = id.to_string();
        start.env.insert("KERNEL_ID".to_owned(), id.to_string());
        let (registry, launcher) = (machine.registry.clone(), machine.launcher.clone());
        let reach = Reach::new(id, start.owner.clone(), "front", registry, launcher);
        let local = Self {
            supervisor: reach.supervisor().clone(),
            reach,
        };
        let deadline = Instant::now() + OLD_GOES_WITHIN;
        loop {
            match machine.launcher.launch(start.clone(), machine.quota).await {
                Ok(launched) => {
                    launched.keep();
                    return Ok(local);
                }
                Err(LaunchError::Duplicate) if Instant::now() < deadline => {}
                Err(error) => return Err(explained(error)),
            }
            if local.took_over(machine, id, &start.spec).await {
                return Ok(local);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the kernel that is there was restarted. One that cannot be is ended.
    async fn took_over(&self, machine: &Machine, id: Uuid, spec: &str) -> bool {
        match self.supervisor.kernel(ANSWER_WITHIN).await {
            Ok(kernel) if kernel.name == spec && kernel.execution_state != "dead" => {
                match self.supervisor.restart().await {
                    Ok(_) => return true,
                    Err(error) => tracing::warn!(%error, "the kernel was not restarted"),
                }
                self.end().await;
            }
            Ok(_) => self.end().await,
            Err(CallError::Gone) => {
                let registry = machine.registry.clone();
                let removed = spawn_blocking(move || match registry.standing(id) {
                    Standing::Abandoned | Standing::Orphaned => registry.remove(id),
                    Standing::Missing | Standing::Starting | Standing::Held => Ok(()),
                });
                tracing::debug!(removed = ?removed.await, "what is left of a kernel");
            }
            Err(error) => tracing::warn!(%error, "the kernel does not answer"),
        }
        false
    }

    /// A line to it.
    pub(super) async fn attach(&self, session: &str) -> Result<Line, Over> {
        self.reach.attach(session).await
    }

    pub(super) async fn has_got(&self, msg_id: &str) -> Result<bool, String> {
        let known = self.supervisor.requests(vec![msg_id.to_owned()]).await;
        let known = known.map_err(|error| error.to_string())?;
        Ok(known.phases.first() != Some(&RequestPhase::Unknown))
    }

    pub(super) async fn interrupt(&self) -> Result<(), String> {
        let interrupted = self.supervisor.interrupt().await;
        interrupted.map_err(|error| error.to_string())
    }

    /// Ends it; one that is gone is ended.
    pub(super) async fn end(&self) {
        match self.supervisor.shutdown().await {
            Ok(()) | Err(CallError::Gone) => {}
            Err(error) => tracing::warn!(%error, "the kernel was not ended"),
        }
    }

    /// What is known of it, if it is still there.
    pub(super) async fn kernel(&self) -> Option<Kernel> {
        self.supervisor.kernel(ANSWER_WITHIN).await.ok()
    }
}

fn explained(error: LaunchError) -> Error {
    match error {
        LaunchError::Failed(failure) => Error::kernel(match failure.stderr_tail.as_str() {
            "" => failure.message,
            tail => format!("{}\n{tail}", failure.message),
        }),
        LaunchError::Ended => Error::kernel(error.to_string()),
        LaunchError::Quota(message) => Error::user(message),
        LaunchError::Duplicate => Error::user(
            "the kernel of this connection file is still there and does not answer; see `nb serve`",
        ),
        LaunchError::Machine(message) => Error::nb(message),
    }
}
