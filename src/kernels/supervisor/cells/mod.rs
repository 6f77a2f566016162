//! Our own cells: the magics, what they may know of this kernel, and the doors by which a cell comes.
//!
//! Owns the questions that wait for an answer. Knows nothing of HTTP.

mod elsewhere;
mod given;
pub(super) mod helper_door;
mod hints;
mod interrupting;
pub(super) mod queue_door;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::broker::{Broker, Said, Takeover};
use super::lifecycle::Command;
use super::others::Others;
use super::rebase;
use super::record::Record;
use super::vitals::Vitals;
use crate::env::pex::Base;
use crate::kernels::contract::{RequestPhase, Start};
use crate::magics::wire::Reply;
use crate::magics::{Claim, Facts, Failure, Front, Place, Registry, Setting};

/// A cell that asks for a restart and is not over by then is not waited for.
const RESTART_WITHIN: Duration = Duration::from_secs(2);

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The magics of one kernel.
pub(super) struct Cells {
    pub(super) registry: Registry,
    broker: Broker,
    vitals: Rc<Vitals>,
    others: Rc<Others>,
    commands: mpsc::Sender<Command>,
    record: Rc<Record>,
    place: Place,
    journal_bytes_max: u64,
    questions: RefCell<HashMap<String, oneshot::Sender<Reply>>>,
    asked: Cell<u64>,
}

impl Cells {
    /// The magics of the kernel that is started so, with its folder.
    pub(super) fn new(
        start: &Start,
        folder: &Path,
        record: Rc<Record>,
        broker: Broker,
        vitals: Rc<Vitals>,
        others: Rc<Others>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            vitals,
            broker,
            commands,
            registry: Registry::standard(&Setting {
                environment: start.environment.as_ref(),
                has_others: start.around.is_some() && start.part.is_none(),
            }),
            record,
            others,
            place: Place {
                argv: start.argv.clone(),
                env: start.env.clone(),
                cwd: start.cwd.clone(),
                environment: start.environment.clone(),
                data: start.around.as_ref().map(|around| around.data.clone()),
                scratch: folder.join("scratch"),
            },
            journal_bytes_max: start.journal_bytes_max,
            questions: RefCell::default(),
            asked: Cell::new(0),
        }
    }

    /// An answer has come; false when nothing waits for it.
    pub(super) fn answer(&self, id: &str, reply: Reply) -> bool {
        let asker = self.questions.borrow_mut().remove(id);
        asker.is_some_and(|asker| asker.send(reply).is_ok())
    }

    /// A fresh id for a question, and what its answer comes by.
    fn question(&self) -> (String, oneshot::Receiver<Reply>) {
        self.asked.set(self.asked.get() + 1);
        let id = self.asked.get().to_string();
        let (asker, answer) = oneshot::channel();
        self.questions.borrow_mut().insert(id.clone(), asker);
        (id, answer)
    }

    /// Restarts the kernel when this request is over, or does not end.
    fn restart_after(&self, msg_id: &str) {
        let (broker, commands, msg_id) = (
            self.broker.clone(),
            self.commands.clone(),
            msg_id.to_owned(),
        );
        spawn_local(async move {
            let deadline = Instant::now() + RESTART_WITHIN;
            let is_over = || broker.request_state(&msg_id).state == RequestPhase::Over;
            while !is_over() && Instant::now() < deadline {
                sleep(LOOK_AGAIN).await;
            }
            let (asker, _nobody) = oneshot::channel();
            let _gone = commands.send(Command::Restart(asker)).await;
        });
    }

    /// What the kernel was started with first is not what a process that was rebased runs in.
    fn place(&self) -> Place {
        let mut place = self.place.clone();
        if self.base().is_some() {
            place.environment = None;
        }
        place
    }

    /// What the process that runs was rebased onto.
    fn base(&self) -> Option<Base> {
        self.record.base()
    }

    /// Restarts the kernel in this environment when this request is over, or does not end.
    fn rebase_after(&self, onto: Option<Base>, msg_id: &str) -> Result<(), Failure> {
        rebase::ask(self.record.folder(), onto).map_err(|error| {
            let message = format!("The kernel's folder cannot be written: {error}.");
            Failure::new("PexError", message)
        })?;
        self.restart_after(msg_id);
        Ok(())
    }

    fn front(&self) -> Front {
        match self.vitals.has_helper.get() {
            true => Front::IPython,
            false => Front::Plain,
        }
    }

    fn facts(&self) -> Facts {
        self.record.facts(self.journal_bytes_max)
    }
}

/// What hidden code has printed.
fn printed(
    said: Result<Result<Said, Failure>, oneshot::error::RecvError>,
) -> Result<String, Failure> {
    match said {
        Ok(said) => said.map(|said| said.printed),
        Err(_) => Err(Failure::new("KernelDied", "The kernel was replaced.")),
    }
}

/// What the broker takes from the kernel that runs now.
pub(super) struct ForKernel(pub(super) Rc<Cells>);

impl Takeover for ForKernel {
    fn claim(&self, source: &str) -> Option<Claim> {
        self.0.registry.claim(source, self.0.front())
    }

    fn knows(&self, source: &str, cursor: usize) -> bool {
        self.0.registry.knows(source, cursor, self.0.front())
    }

    fn kernel_ended(&self) {
        self.0.registry.kernel_ended();
    }
}
