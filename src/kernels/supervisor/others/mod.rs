//! The other kernels of this notebook: each a kernel with a supervisor of its own, of which we are the client.
//!
//! Owns which there are. Their clients' messages are the broker's; what they run for a cell is `cells`'. One that we lose
//! with our process is found again by the next supervisor of this kernel.

mod hidden;
mod other;
mod unanswered;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::broker::Broker;
use crate::kernels::client::Supervisor;
use crate::kernels::contract::{PART, Part, Start};
use crate::kernels::launch::{LaunchError, Launcher, Quota, log_format};
use crate::kernels::part;
use crate::kernels::registry::{Registry, Standing};
use crate::kernels::upstream::Reach;
use crate::magics::{Failure, OtherKernel, Running};

pub(super) use other::Other;

/// So many there are at most.
const OTHERS_MAX: usize = 16;

/// The pause between two looks at one that somebody else ends or takes over.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// For what a supervisor answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A kernel that was found again may be busy for so long, until its comms are not asked for any more.
const COMMS_WITHIN: Duration = Duration::from_secs(600);

/// All may take so long to end.
const END_WITHIN: Duration = Duration::from_secs(15);

/// The other kernels.
pub(super) struct Others {
    main: Start,
    broker: Broker,
    /// Nothing when this kernel is one of another notebook itself.
    machine: Option<(Registry, Launcher)>,
    running: RefCell<BTreeMap<OtherKernel, Rc<Other>>>,
    /// Held by whoever starts or ends one.
    turn: Mutex<()>,
    /// Rung when all are to end: then none is started for a cell of before.
    ending: Notify,
    /// This kernel has ended: none is started any more.
    closed: Cell<bool>,
}

impl Others {
    /// None yet, of the kernel with this start and folder.
    pub(super) fn new(main: &Start, folder: &Path, broker: Broker) -> Self {
        let runtime = folder.ancestors().nth(2).filter(|_| main.part.is_none());
        let registry = runtime.and_then(|runtime| {
            Registry::open(runtime)
                .inspect_err(|error| warn!(%error, "no other kernels can be started"))
                .ok()
        });
        Self {
            main: main.clone(),
            broker,
            machine: registry.map(|registry| {
                let launcher = Launcher::new(registry.clone()).logging(log_format());
                (registry, launcher)
            }),
            running: RefCell::default(),
            turn: Mutex::default(),
            ending: Notify::new(),
            closed: Cell::new(false),
        }
    }

    /// Takes in those that an earlier supervisor of this kernel has started.
    pub(super) async fn find_again(&self) {
        let Some(machine) = &self.machine else {
            return;
        };
        let turn = self.turn.lock().await;
        if self.closed.get() {
            return;
        }
        let found = self.known().await;
        let joined: Vec<_> = found
            .iter()
            .map(|kernel| self.join(kernel, machine))
            .collect();
        self.broker.others_are_found();
        drop(turn);
        let asked = found.iter().zip(joined).map(|(kernel, other)| async move {
            debug!(%kernel, "another kernel of this notebook is there");
            match timeout(COMMS_WITHIN, other.ask("comm_info_request", &json!({}))).await {
                Ok(Ok(comms)) => self.broker.other_has_comms(kernel, &comms),
                Ok(Err(failure)) => warn!(%failure, %kernel, "what its comms are is not known"),
                Err(_) => warn!(%kernel, "what its comms are is not known, it is busy"),
            }
        });
        join_all(asked).await;
    }

    /// Those that there are, whether we are with them or not.
    async fn known(&self) -> Vec<OtherKernel> {
        let Some((registry, _)) = &self.machine else {
            return Vec::new();
        };
        let (registry, main) = (registry.clone(), self.main.kernel_id.clone());
        let known = spawn_blocking(move || parts(&registry, &main)).await;
        known.unwrap_or_default()
    }

    /// The one that runs.
    pub(super) fn get(&self, kernel: &OtherKernel) -> Result<Rc<Other>, Failure> {
        let running = self.running.borrow().get(kernel).cloned();
        running.filter(|other| !other.is_gone()).ok_or_else(|| {
            let kind = kernel.kind();
            Failure::usage(format!(
                "No kernel runs in {kernel}; a `%%{kind} {kernel}` cell starts one."
            ))
        })
    }

    /// The one of this name, started unless it runs.
    pub(super) async fn open(&self, kernel: &OtherKernel) -> Result<Rc<Other>, Failure> {
        let ending = self.ending.notified();
        tokio::pin!(ending);
        ending.as_mut().enable();
        let _turn = self.turn.lock().await;
        if self.closed.get() {
            return Err(ended());
        }
        if let Ok(other) = self.get(kernel) {
            return Ok(other);
        }
        let Some(machine @ (registry, launcher)) = &self.machine else {
            return Err(Failure::usage(
                "This is another kernel of a notebook itself: it has no others.",
            ));
        };
        self.running
            .borrow_mut()
            .retain(|_, other| !other.is_gone());
        if self.running.borrow().len() >= OTHERS_MAX {
            return Err(Failure::usage(format!(
                "This notebook has {OTHERS_MAX} other kernels already; `%venv stop NAME` and `%kernel stop NAME` end one."
            )));
        }
        let (main, asked) = (self.main.clone(), kernel.clone());
        let start = spawn_blocking(move || part::start(&main, &asked)).await;
        let start = start.map_err(|error| failed(error.to_string()))?;
        let start = start.map_err(Failure::usage)?;
        if self.is_left(kernel, registry).await {
            match self.is_dead(kernel, registry).await {
                // Its supervisor stays, so that somebody may restart it: nobody but us would.
                true => self.end_part(kernel, registry).await,
                false => return Ok(self.join(kernel, machine)),
            }
        }
        // Dropped, what a launch has begun is undone.
        let launched = tokio::select! {
            launched = launcher.launch(start, Quota::default()) => launched,
            () = ending => return Err(ended()),
        };
        launched.map_err(|error| unstarted(kernel, error))?.keep();
        Ok(self.join(kernel, machine))
    }

    /// Whether one runs that we did not get to know of. What can be nobody's any more is removed.
    async fn is_left(&self, kernel: &OtherKernel, registry: &Registry) -> bool {
        let id = part::id(&self.main.kernel_id, kernel);
        let registry = registry.clone();
        let left = spawn_blocking(move || match registry.standing(id) {
            Standing::Held | Standing::Orphaned => true,
            Standing::Abandoned => {
                let removed = registry.remove(id);
                debug!(?removed, "what is left of another kernel of the notebook");
                false
            }
            Standing::Missing | Standing::Starting => false,
        });
        left.await.unwrap_or_default()
    }

    /// Whether its kernel has died for good.
    async fn is_dead(&self, kernel: &OtherKernel, registry: &Registry) -> bool {
        let id = part::id(&self.main.kernel_id, kernel);
        let supervisor = Supervisor::new(registry.socket(id));
        let known = supervisor.kernel(ANSWER_WITHIN).await;
        known.is_ok_and(|kernel| kernel.execution_state == "dead")
    }

    /// Ends one with its supervisor, whoever that is by then, and leaves nothing of it.
    async fn end_part(&self, kernel: &OtherKernel, registry: &Registry) {
        let id = part::id(&self.main.kernel_id, kernel);
        let supervisor = Supervisor::new(registry.socket(id));
        let deadline = Instant::now() + END_WITHIN;
        while Instant::now() < deadline {
            let ended = supervisor.shutdown().await;
            let registry = registry.clone();
            let standing = spawn_blocking(move || {
                // One whose supervisor has died first is nobody's any more.
                let removed = match registry.standing(id) {
                    Standing::Orphaned | Standing::Abandoned => Some(registry.remove(id)),
                    _ => None,
                };
                (registry.standing(id), removed)
            });
            let standing = standing.await;
            debug!(%kernel, ?ended, ?standing, "another kernel of the notebook");
            match standing {
                Ok((Standing::Held | Standing::Orphaned | Standing::Abandoned, _)) => {
                    sleep(LOOK_AGAIN).await;
                }
                _ => return,
            }
        }
        warn!(%kernel, "it has not ended");
    }

    /// The one that is joined already, or a new client of it: two would take the line from each other.
    fn join(&self, kernel: &OtherKernel, (registry, launcher): &(Registry, Launcher)) -> Rc<Other> {
        if let Ok(joined) = self.get(kernel) {
            return joined;
        }
        let id = part::id(&self.main.kernel_id, kernel);
        let reach = Reach::new(
            id,
            self.main.owner.clone(),
            "notebook",
            registry.clone(),
            launcher.clone(),
        );
        let session = format!("notebook-{}", self.main.kernel_id);
        let other = Other::join(kernel.clone(), reach, session, self.broker.clone());
        let joined = Rc::clone(&other);
        self.running.borrow_mut().insert(kernel.clone(), joined);
        other
    }

    /// Interrupts these, as far as they run.
    pub(super) async fn interrupt(&self, kernels: &[OtherKernel]) {
        let running = kernels.iter().filter_map(|kernel| self.get(kernel).ok());
        join_all(running.map(|other| async move { other.interrupt().await })).await;
    }

    /// Ends one, if it runs.
    async fn end_now(&self, kernel: &OtherKernel) -> bool {
        let other = self.running.borrow_mut().remove(kernel);
        if let Some((registry, _)) = &self.machine {
            self.end_part(kernel, registry).await;
        }
        other.inspect(|other| other.leave("it was ended")).is_some()
    }

    /// Ends all of them, and what is about to be one.
    pub(super) async fn end_all(&self) {
        self.ending.notify_waiters();
        let ended = async {
            let _turn = self.turn.lock().await;
            let mut all: BTreeSet<OtherKernel> = self.running.borrow().keys().cloned().collect();
            all.extend(self.known().await);
            join_all(all.iter().map(|kernel| self.end_now(kernel))).await
        };
        if timeout(END_WITHIN, ended).await.is_err() {
            warn!("not all other kernels of the notebook have ended");
        }
    }

    /// The same for good: waits until nothing of them is left.
    pub(super) async fn close(&self) {
        self.closed.set(true);
        self.end_all().await;
        if let Some((_, launcher)) = &self.machine {
            let undone = timeout(END_WITHIN, launcher.settled()).await;
            debug!(?undone, "the starts of other kernels");
        }
    }
}

impl crate::magics::Others for Others {
    fn start<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, Result<(), Failure>> {
        async move { self.open(kernel).await.map(drop) }.boxed_local()
    }

    fn running(&self) -> LocalBoxFuture<'_, Vec<Running>> {
        async move {
            let all: Vec<_> = self.running.borrow().values().cloned().collect();
            let running = all.iter().filter(|other| !other.is_gone());
            let asked = running.map(|other| async move {
                let kernel = other.supervisor().kernel(ANSWER_WITHIN).await.ok()?;
                let nb = |key: &str| kernel.nb.get(key);
                Some(Running {
                    kernel: other.kernel().clone(),
                    language: nb("language")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned(),
                    pid: nb("kernel_pid")
                        .and_then(Value::as_u64)
                        .and_then(|pid| pid.try_into().ok()),
                    execution_state: kernel.execution_state.clone(),
                })
            });
            join_all(asked).await.into_iter().flatten().collect()
        }
        .boxed_local()
    }

    fn run_hidden<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        code: String,
    ) -> LocalBoxFuture<'a, Result<String, Failure>> {
        async move { self.get(kernel)?.run_hidden(&code).await }.boxed_local()
    }

    fn ask<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        msg_type: &'a str,
        content: Value,
    ) -> LocalBoxFuture<'a, Result<Value, Failure>> {
        async move { self.get(kernel)?.ask(msg_type, &content).await }.boxed_local()
    }

    fn restart<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, Result<(), Failure>> {
        async move {
            let other = self.get(kernel)?;
            self.broker.other_restarts(kernel);
            let restarted = other.supervisor().restart().await;
            restarted.map_err(|error| {
                failed(format!(
                    "The kernel in {kernel} was not restarted: {error}."
                ))
            })?;
            Ok(())
        }
        .boxed_local()
    }

    fn end<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, bool> {
        async move {
            let _turn = self.turn.lock().await;
            self.end_now(kernel).await
        }
        .boxed_local()
    }
}

/// The other kernels of the kernel with this id.
fn parts(registry: &Registry, main: &str) -> Vec<OtherKernel> {
    let ids = registry.ids().unwrap_or_default();
    let of_main = ids.into_iter().filter_map(|id| {
        let known = registry.last_known(id)?;
        let of = known.nb.get(PART)?;
        let part: Part = serde_json::from_value(of.clone()).ok()?;
        (part.of == main).then_some(part.kernel)
    });
    of_main.collect()
}

fn ended() -> Failure {
    failed("The kernel of this notebook is restarted or ended.")
}

fn failed(message: impl Into<String>) -> Failure {
    Failure::new("KernelError", message)
}

fn unstarted(kernel: &OtherKernel, error: LaunchError) -> Failure {
    let kind = kernel.kind();
    match error {
        LaunchError::Failed(failure) => Failure {
            log: failure.stderr_tail,
            ..failed(format!(
                "The kernel of `%%{kind} {kernel}` did not start: {}.",
                failure.message
            ))
        },
        error => failed(format!(
            "The kernel of `%%{kind} {kernel}` did not start: {error}."
        )),
    }
}

#[cfg(test)]
mod tests;
