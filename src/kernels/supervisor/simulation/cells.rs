//! Our cells in a simulation: claimed as in a kernel that is not IPython, and run by somebody who has no magics but says
//! something, fails, or leaves the rest to the kernel.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::chance::Chance;
use super::notes::Notes;
use super::record::Request;
use crate::kernels::supervisor::broker::{Broker, OurCell, Takeover, Work};
use crate::kernels::supervisor::journal::RequestKey;
use crate::magics::{Claim, Failure, Front, Registry};

/// Our cells in a kernel that is not IPython.
pub(super) struct Plain(pub(super) Registry);

impl Takeover for Plain {
    fn claim(&self, source: &str) -> Option<Claim> {
        self.0.claim(source, Front::Plain)
    }

    fn knows(&self, source: &str, cursor: usize) -> bool {
        self.0.knows(source, cursor, Front::Plain)
    }
}

/// Runs our cells, as the magics do.
pub(super) async fn run_cells(
    broker: Broker,
    mut ours: mpsc::UnboundedReceiver<Work>,
    notes: Notes,
    mut chance: Chance,
) {
    let mut cells = FuturesUnordered::new();
    loop {
        let work = tokio::select! {
            biased;
            Some(()) = cells.next() => continue,
            work = ours.recv() => work,
        };
        match work {
            Some(Work::Cell(cell)) => cells.push(run_cell(&broker, *cell, &notes, chance.fork())),
            Some(Work::Hint(hint)) => broker.hint(&hint, &json!({"status": "ok", "matches": []})),
            None => return,
        }
    }
}

async fn run_cell(broker: &Broker, cell: OurCell, notes: &Notes, mut chance: Chance) {
    let is_interrupted = tokio::select! {
        biased;
        () = cell.interrupt.wait() => true,
        () = sleep(chance.pause(Duration::from_millis(500))) => false,
    };
    let text = json!({"name": "stdout", "text": "ours"});
    broker.our_cell_says(&cell, "stream", &text);
    match chance.below(3) {
        0 if !is_interrupted => broker.our_cell_goes_on(&cell, "rest"),
        1 if !is_interrupted => broker.our_cell_ends(&cell, Ok(())),
        _ => {
            broker.our_cell_ends(&cell, Err(&Failure::usage("No.")));
            // All behind it waited for it.
            let is_cell = |request: &Request| request.msg_type == "execute_request";
            let waits = (notes.record().unanswered())
                .find(|(_, request)| is_cell(request))
                .map(|(key, _)| RequestKey::clone(key));
            if let Some(key) = waits {
                notes.fault(format!("{key:?} is not aborted"));
            }
        }
    }
}
