//! The door of IPython kernels: the helper in the kernel asks, and gets lines until the magic has ended.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use super::Cells;
use crate::env::pex::Base;
use crate::kernels::supervisor::bounded;
use crate::magics::wire::{CellRequest, Line};
use crate::magics::{Answer, Cell, Facts, Failure, OtherKernel, Others, Output, Place, Question};

/// What the helper has not taken; a magic that goes on waits.
const LINES_BYTES_MAX: u32 = 1024 * 1024;

pub(super) struct HelperCell {
    pub(super) cells: Rc<Cells>,
    lines: bounded::Sender<Bytes>,
    /// Of the request that runs the cell.
    msg_id: String,
    /// The header of that, as far as it is known.
    pub(super) header: Option<Bytes>,
}

/// Runs a magic and gives the lines to answer with. Whoever drops them interrupts it.
pub(in crate::kernels::supervisor) fn open(
    cells: Rc<Cells>,
    request: CellRequest,
    tasks: &TaskTracker,
) -> bounded::Receiver<Bytes> {
    let (lines, answer) = bounded::channel(LINES_BYTES_MAX);
    let (call, parent) = request.into_parts();
    let msg_id = parent.as_deref().and_then(msg_id).unwrap_or_default();
    let header = parent.map(|parent| Bytes::copy_from_slice(parent.get().as_bytes()));
    tasks.spawn_local(async move {
        let cell = HelperCell {
            cells: Rc::clone(&cells),
            lines,
            msg_id,
            header,
        };
        let outcome = cells.registry.run(&call, &cell).await;
        let held = outcome.as_ref().ok().and_then(Answer::held);
        cell.say(&Line::Last(outcome.into())).await;
        if held.is_some() {
            // The helper closes when it has taken it, and a kernel that dies does.
            cell.lines.closed().await;
        }
    });
    answer
}

/// The id in a header.
fn msg_id(header: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Header {
        msg_id: String,
    }
    let header: Header = serde_json::from_str(header.get()).ok()?;
    Some(header.msg_id)
}

impl HelperCell {
    /// Nobody may listen any more: then the cell is interrupted, which the magic notices itself.
    async fn say(&self, line: &Line) {
        let line = line.encode();
        let bytes = line.len();
        let _gone = self.lines.send(line.into(), bytes).await;
    }

    async fn ask_helper(&self, line: impl FnOnce(String) -> Line) -> Result<String, Failure> {
        let (id, answer) = self.cells.question();
        self.say(&line(id.clone())).await;
        tokio::select! {
            Ok(reply) = answer => reply.into(),
            () = self.lines.closed() => {
                self.cells.questions.borrow_mut().remove(&id);
                Err(Failure::interrupted())
            }
        }
    }
}

impl Cell for HelperCell {
    fn emit(&self, output: Output) -> LocalBoxFuture<'_, ()> {
        async move { self.say(&Line::Output(output)).await }.boxed_local()
    }

    fn ask(&self, question: Question) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let Question { prompt, password } = question;
        let line = move |id| Line::Ask {
            id,
            prompt,
            password,
        };
        self.ask_helper(line).boxed_local()
    }

    fn run_hidden(&self, code: String) -> LocalBoxFuture<'_, Result<String, Failure>> {
        self.ask_helper(move |id| Line::Run { id, code })
            .boxed_local()
    }

    fn interrupted(&self) -> LocalBoxFuture<'_, ()> {
        self.lines.closed().boxed_local()
    }

    fn restart(&self) {
        self.cells.restart_after(&self.msg_id);
    }

    fn base(&self) -> Option<Base> {
        self.cells.base()
    }

    fn rebase(&self, onto: Option<Base>) -> Result<(), Failure> {
        self.cells.rebase_after(onto, &self.msg_id)
    }

    fn facts(&self) -> Facts {
        self.cells.facts()
    }

    fn place(&self) -> Place {
        self.cells.place()
    }

    fn others(&self) -> &dyn Others {
        &*self.cells.others
    }

    fn run_in<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        code: String,
        _: bool,
    ) -> LocalBoxFuture<'a, Result<(), Failure>> {
        async move { self.elsewhere(kernel, &code).await }.boxed_local()
    }
}
