//! Starts a supervisor for a new kernel and waits for its one announcement.
//!
//! Owns the kernel's folder until the supervisor does, and the kernel until somebody knows of it: a
//! start whose asker goes away leaves nothing behind. Knows nothing of what is started: that is
//! all in `contract::Start`.

mod process;

use std::any::Any;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::contract::{self, Announcement, Start, StartFailure, StartFailureKind};
use super::registry::{Registry, Standing, parse_id};
use crate::config::{self, LogFormat};

/// The setting by whose variable a supervisor is told how to log.
const LOG_FORMAT: &str = "server.log_format";

/// How a supervisor logs, as whoever starts it says: a file that could not be read must not keep a kernel from
/// starting.
pub fn log_format() -> LogFormat {
    let said = std::env::var(config::variable(LOG_FORMAT)).unwrap_or_default();
    match said == LogFormat::Json.name() {
        true => LogFormat::Json,
        false => LogFormat::Text,
    }
}

/// What a supervisor needs on top of the kernel's own start deadline.
const SLACK: Duration = Duration::from_secs(10);

/// How long a supervisor that was asked to end may take until it is killed: it ends its kernel first.
const END_WITHIN: Duration = Duration::from_secs(15);

/// A longer announcement is refused.
const ANNOUNCEMENT_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("there is a kernel with this id already")]
    Duplicate,
    /// Another one would be more than allowed.
    #[error("{0}")]
    Quota(String),
    #[error("{}", .0.message)]
    Failed(StartFailure),
    #[error("the kernel was ended before it was ready")]
    Ended,
    /// This machine has no room for it: processes, descriptors, the disk.
    #[error("{0}")]
    Machine(String),
}

/// How many kernels there may be; no bound where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub max: Option<u64>,
    pub max_per_user: Option<u64>,
}

impl Quota {
    /// What another kernel of this user would exceed, given the owners of those there are.
    fn exceeded(self, owner: &str, owners: &[String]) -> Option<String> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let theirs = owners.iter().filter(|other| *other == owner).count();
        if self.max.is_some_and(|max| count(owners.len()) >= max) {
            let all = owners.len();
            return Some(format!(
                "there are {all} kernels, and no more are allowed here"
            ));
        }
        self.max_per_user
            .is_some_and(|max| count(theirs) >= max)
            .then(|| {
                format!("{owner} has {theirs} kernels, and no more are allowed here; end one first")
            })
    }
}

/// Starts supervisors.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program whose `supervise FOLDER` is the supervisor.
    program: PathBuf,
    registry: Registry,
    log_format: LogFormat,
    /// What starts and what is undone; both go on when their asker is gone.
    tasks: TaskTracker,
}

/// A kernel that is ready and that nobody has been told of: dropped, it is ended.
#[must_use = "dropped, it ends its kernel"]
#[derive(Debug)]
pub struct Launched {
    launcher: Launcher,
    id: Uuid,
    /// Taken by whichever of keeping and dropping comes first.
    child: Option<Child>,
    held: Option<Box<dyn Any + Send>>,
}

impl Launched {
    /// The kernel's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Drops this only when the kernel is kept, or is gone.
    pub fn hold(&mut self, held: impl Send + 'static) {
        self.held = Some(Box::new(held));
    }

    /// Somebody knows of the kernel from now on.
    pub fn keep(mut self) {
        if let Some(child) = self.child.take() {
            reap(child, self.id);
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let (Some(child), Ok(runtime)) = (self.child.take(), Handle::try_current()) else {
            return;
        };
        let (launcher, id, held) = (self.launcher.clone(), self.id, self.held.take());
        let undo = async move {
            tracing::info!(kernel = %id, "ended, since whoever asked for it is gone");
            launcher.undo(id, child).await;
            drop(held);
        };
        self.launcher.tasks.spawn_on(undo, &runtime);
    }
}

impl Launcher {
    /// One whose supervisors are this very program, even after its file was replaced.
    pub fn new(registry: Registry) -> Self {
        Self::with_program(registry, PathBuf::from("/proc/self/exe"))
    }

    /// One whose supervisors are another program.
    pub fn with_program(registry: Registry, program: PathBuf) -> Self {
        Self {
            program,
            registry,
            log_format: LogFormat::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// The same, with supervisors that log like this.
    #[must_use]
    pub fn logging(self, log_format: LogFormat) -> Self {
        Self { log_format, ..self }
    }

    /// Starts a kernel and returns when it is ready.
    ///
    /// When the future is dropped before that, what has begun is undone.
    pub async fn launch(&self, start: Start, quota: Quota) -> Result<Launched, LaunchError> {
        let (mut asker, outcome) = oneshot::channel();
        let launcher = self.clone();
        self.tasks.spawn(async move {
            let outcome = launcher.launch_unless(&start, quota, asker.closed()).await;
            // An asker that is gone drops it, and the kernel goes.
            drop(asker.send(outcome));
        });
        let cut_off = |_| LaunchError::Machine("the start was cut off".to_owned());
        outcome.await.map_err(cut_off)?
    }

    /// Waits until nothing is being started or undone any more.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts a supervisor for a kernel whose own has died, and waits until it has taken it over. Another gateway
    /// may have started one too: one of them gets the kernel.
    pub async fn adopt(&self, id: Uuid) -> Result<(), LaunchError> {
        let machine =
            |error| LaunchError::Machine(format!("no supervisor could be started: {error}"));
        let (child, stdout) =
            process::spawn(&self.program, self.log_format, &self.registry.folder(id))
                .map_err(machine)?;
        let announced = timeout(SLACK, announcement(stdout)).await;
        reap(child, id);
        match announced {
            Ok(Some(Announcement::Ready | Announcement::Ended)) => Ok(()),
            Ok(Some(Announcement::Failed(failure))) => Err(LaunchError::Failed(failure)),
            // The lock was another's.
            Ok(None) if self.registry.standing(id) == Standing::Held => Ok(()),
            Ok(None) | Err(_) => {
                let message = "the supervisor ended, or did not take it over in time".to_owned();
                Err(LaunchError::Machine(message))
            }
        }
    }

    async fn launch_unless(
        &self,
        start: &Start,
        quota: Quota,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Launched, LaunchError> {
        let id = parse_id(&start.kernel_id)
            .ok_or_else(|| LaunchError::Machine("the kernel's id is no UUID".to_owned()))?;
        let folder = self.prepare(id, start, quota).await?;
        let (child, stdout) = match process::spawn(&self.program, self.log_format, &folder) {
            Ok(spawned) => spawned,
            Err(error) => {
                self.remove(id).await;
                let message = format!("no supervisor could be started: {error}");
                return Err(LaunchError::Machine(message));
            }
        };
        let deadline = Duration::from_millis(start.launch_timeout_ms) + SLACK;
        let announced = tokio::select! {
            announced = timeout(deadline, announcement(stdout)) => announced,
            () = unwanted => {
                self.undo(id, child).await;
                return Err(LaunchError::Ended);
            }
        };
        let failure = match announced {
            Ok(Some(Announcement::Ready)) => {
                return Ok(Launched {
                    launcher: self.clone(),
                    id,
                    child: Some(child),
                    held: None,
                });
            }
            Ok(Some(Announcement::Failed(failure))) => {
                gone(child, id).await;
                return Err(LaunchError::Failed(failure));
            }
            Ok(Some(Announcement::Ended)) => {
                gone(child, id).await;
                return Err(LaunchError::Ended);
            }
            Ok(None) => {
                let tail = process::log_tail(folder.join(contract::file::LOG)).await;
                self.undo(id, child).await;
                self.remove(id).await;
                return Err(LaunchError::Failed(StartFailure {
                    kind: StartFailureKind::Internal,
                    message: "the kernel's supervisor ended before the kernel had started"
                        .to_owned(),
                    stderr_tail: tail,
                }));
            }
            Err(_) => StartFailure {
                kind: StartFailureKind::Deadline,
                message: format!("the kernel did not start within {deadline:?}"),
                stderr_tail: String::new(),
            },
        };
        self.undo(id, child).await;
        Err(LaunchError::Failed(failure))
    }

    /// Leaves nothing of a kernel. A supervisor that ended well has left nothing itself, and what has
    /// its id by then is another's.
    async fn undo(&self, id: Uuid, mut child: Child) {
        if !end(&mut child).await {
            self.remove(id).await;
        }
    }

    /// Makes the folder and writes the request into it, which takes one of the places that there are.
    async fn prepare(&self, id: Uuid, start: &Start, quota: Quota) -> Result<PathBuf, LaunchError> {
        let machine = |error: io::Error| {
            LaunchError::Machine(format!("the kernel's folder cannot be made: {error}"))
        };
        let json = serde_json::to_vec(start).map_err(|error| machine(error.into()))?;
        let (registry, owner) = (self.registry.clone(), start.owner.clone());
        let made = spawn_blocking(move || {
            let _turn = registry.turn_to_start()?;
            let is_bounded = quota != Quota::default();
            let owners = is_bounded.then(|| registry.owners()).transpose()?;
            if let Some(full) = owners.and_then(|owners| quota.exceeded(&owner, &owners)) {
                return Ok(Err(LaunchError::Quota(full)));
            }
            let folder = registry.create(id)?;
            process::private_file(&folder.join(contract::file::START))
                .and_then(|mut file| file.write_all(&json))
                .inspect_err(|_| drop(registry.remove(id)))?;
            Ok::<_, io::Error>(Ok(folder))
        });
        match made.await {
            Ok(Ok(folder)) => folder,
            Ok(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(LaunchError::Duplicate)
            }
            Ok(Err(error)) => Err(machine(error)),
            Err(error) => Err(machine(io::Error::other(error))),
        }
    }

    async fn remove(&self, id: Uuid) {
        let registry = self.registry.clone();
        match spawn_blocking(move || registry.remove(id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => tracing::warn!(kernel = %id, %error, "its folder was not removed"),
            Err(error) => tracing::warn!(kernel = %id, %error, "its folder was not removed"),
        }
    }
}

/// The supervisor's one line, or nothing when it ended or wrote something else.
async fn announcement(stdout: ChildStdout) -> Option<Announcement> {
    let mut line = Vec::new();
    BufReader::new(stdout.take(ANNOUNCEMENT_BYTES_MAX))
        .read_until(b'\n', &mut line)
        .await
        .ok()?;
    if line.is_empty() {
        return None;
    }
    serde_json::from_slice(&line)
        .inspect_err(
            |error| tracing::warn!(%error, "a supervisor's announcement is not understood"),
        )
        .ok()
}

/// Ends a supervisor that is of no use, and with it its kernel; whether it ended well. By its pid: on
/// its socket another could listen already.
async fn end(child: &mut Child) -> bool {
    // A child that was waited for has no pid any more.
    let pid = child
        .id()
        .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::debug!(%error, "a supervisor could not be signalled");
    }
    match timeout(END_WITHIN, child.wait()).await {
        Ok(ended) => ended.is_ok_and(|status| status.success()),
        Err(_) => {
            if let Err(error) = child.kill().await {
                tracing::warn!(%error, "a supervisor could not be killed");
            }
            false
        }
    }
}

/// Waits until a supervisor that has told its end is gone: whoever is told of that finds its kernel in no list.
async fn gone(mut child: Child, id: Uuid) {
    if timeout(END_WITHIN, child.wait()).await.is_err() {
        reap(child, id);
    }
}

/// Waits for the end of a supervisor, whenever that is: nothing of it may stay.
fn reap(mut child: Child, id: Uuid) {
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) => tracing::debug!(kernel = %id, %status, "its supervisor has ended"),
            Err(error) => tracing::warn!(kernel = %id, %error, "its supervisor was lost"),
        }
    });
}
