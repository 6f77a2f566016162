//! Our own cells: the magics, what they may know of this kernel, and the doors by which a cell comes.
//!
//! Owns the questions that wait for an answer. Knows nothing of HTTP.

pub(super) mod helper_door;
mod hints;
pub(super) mod queue_door;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::broker::Takeover;
use super::record::Record;
use super::vitals::Vitals;
use crate::kernels::contract::Start;
use crate::magics::wire::Reply;
use crate::magics::{Claim, Facts, Front, Place, Registry};

/// The magics of one kernel.
pub(super) struct Cells {
    pub(super) registry: Registry,
    record: Rc<Record>,
    place: Place,
    journal_bytes_max: u64,
    questions: RefCell<HashMap<String, oneshot::Sender<Reply>>>,
    asked: Cell<u64>,
}

impl Cells {
    /// The magics of the kernel that is started so, with its folder.
    pub(super) fn new(start: &Start, folder: &Path, record: Rc<Record>) -> Self {
        Self {
            registry: Registry::standard(start.environment.as_ref()),
            record,
            place: Place {
                argv: start.argv.clone(),
                env: start.env.clone(),
                cwd: start.cwd.clone(),
                environment: start.environment.clone(),
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

    fn facts(&self) -> Facts {
        self.record.facts(self.journal_bytes_max)
    }
}

/// What the broker takes from the kernel that runs now.
pub(super) struct ForKernel {
    pub(super) cells: Rc<Cells>,
    pub(super) vitals: Rc<Vitals>,
}

impl ForKernel {
    fn front(&self) -> Front {
        match self.vitals.has_helper.get() {
            true => Front::IPython,
            false => Front::Plain,
        }
    }
}

impl Takeover for ForKernel {
    fn claim(&self, source: &str) -> Option<Claim> {
        self.cells.registry.claim(source, self.front())
    }

    fn knows(&self, source: &str, cursor: usize) -> bool {
        self.cells.registry.knows(source, cursor, self.front())
    }
}
