//! The door of kernels that are not IPython: the cell queue gives us the cell, and we speak in the
//! kernel's place under its header. Hints come by it from every kernel.

use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Cells, hints, printed};
use crate::env::pex::Base;
use crate::kernels::supervisor::broker::{Broker, OurCell, Work};
use crate::magics::helper::is_ours;
use crate::magics::registry::NB;
use crate::magics::{Cell, Facts, Failure, Front, OtherKernel, Others, Output, Place, Question};

pub(super) struct QueueCell<'a> {
    pub(super) cells: &'a Cells,
    pub(super) broker: &'a Broker,
    pub(super) cell: &'a OurCell,
}

/// Does the work that comes, for as long as it is polled.
pub(in crate::kernels::supervisor) async fn serve(
    cells: Rc<Cells>,
    broker: Broker,
    mut ours: mpsc::UnboundedReceiver<Work>,
    tasks: TaskTracker,
) {
    while let Some(work) = ours.recv().await {
        let (cells, broker) = (Rc::clone(&cells), broker.clone());
        tasks.spawn_local(async move {
            match work {
                Work::Cell(cell) => run(&cells, &broker, &cell).await,
                Work::Hint(hint) => hints::answer(&cells, &broker, &hint).await,
            }
        });
    }
    future::pending().await
}

async fn run(cells: &Cells, broker: &Broker, cell: &OurCell) {
    let handle = QueueCell {
        cells,
        broker,
        cell,
    };
    let mut claim = cell.claim.clone();
    if claim.elsewhere {
        match handle.is_ours().await {
            Ok(true) => {}
            // Its name is the user's.
            Ok(false) => return broker.our_cell_goes_on(cell, &cell.code()),
            Err(failure) => return broker.our_cell_ends(cell, Err(&failure)),
        }
        let count = handle.count().await;
        broker.our_cell_begins(cell, count);
    }
    loop {
        let outcome = match cells.registry.run(&claim.call, &handle).await {
            Ok(answer) => handle.give(answer, claim.rest.is_none()).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            return broker.our_cell_ends(cell, Err(&failure));
        }
        let Some(rest) = claim.rest else {
            return broker.our_cell_ends(cell, Ok(()));
        };
        match broker.claim(&rest) {
            Some(next) => claim = next,
            None => return broker.our_cell_goes_on(cell, &rest),
        }
    }
}

impl QueueCell<'_> {
    /// Whether a cell that runs elsewhere is ours still: in IPython its user may have registered the name.
    async fn is_ours(&self) -> Result<bool, Failure> {
        if self.cells.front() == Front::Plain || self.cell.claim.call.magic == NB {
            return Ok(true);
        }
        let code = is_ours(&self.cell.claim.call.magic);
        let printed = self.run_hidden(code).await?;
        Ok(printed.trim() != "False")
    }

    /// The place in the kernel's history: it has the source as comments. None where the kernel, or whoever sent the cell,
    /// keeps none.
    pub(super) async fn count(&self) -> Option<i64> {
        if !self.cell.is_kept() {
            return None;
        }
        let commented = commented(&self.cell.code(), &self.cells.facts().language)?;
        let said = self.broker.run_kept(&commented);
        tokio::select! {
            said = said => said.ok()?.ok()?.count,
            () = self.cell.interrupt.wait() => None,
        }
    }
}

/// Where a line may end for a language, and does not for us: what follows would be no comment.
const ENDS: [char; 9] = [
    '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// A source as comments of its language; nothing in one that we do not know.
fn commented(source: &str, language: &str) -> Option<String> {
    let mark = match language.to_lowercase().as_str() {
        "python" | "r" | "julia" | "ruby" | "perl" | "bash" | "shell" | "sh" | "octave" => "#",
        "scala" | "java" | "kotlin" | "groovy" | "javascript" | "typescript" | "go" | "rust"
        | "c" | "c++" | "cpp" | "c#" | "f#" | "swift" => "//",
        "sql" | "haskell" | "lua" => "--",
        _ => return None,
    };
    let lines = source
        .lines()
        .map(|line| format!("{mark} {}", line.replace(ENDS, " ")));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

impl Cell for QueueCell<'_> {
    fn emit(&self, output: Output) -> LocalBoxFuture<'_, ()> {
        let (msg_type, content) = match output {
            Output::Stream { name, text } => ("stream", json!({"name": name, "text": text})),
            Output::Clear { wait } => ("clear_output", json!({"wait": wait})),
            Output::Display {
                data,
                metadata,
                transient,
                update,
            } => {
                let msg_type = match update {
                    true => "update_display_data",
                    false => "display_data",
                };
                let content = json!({"data": data, "metadata": metadata, "transient": transient});
                (msg_type, content)
            }
        };
        // The journal has the bound: it takes what comes and drops the oldest.
        self.broker.our_cell_says(self.cell, msg_type, &content);
        future::ready(()).boxed_local()
    }

    fn ask(&self, question: Question) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let answer = self
            .broker
            .ask(self.cell, &question.prompt, question.password);
        async move {
            tokio::select! {
                answer = answer => answer.map_err(|_| {
                    let message = "The client takes no questions.";
                    Failure::new("StdinNotImplementedError", message)
                }),
                () = self.cell.interrupt.wait() => Err(Failure::interrupted()),
            }
        }
        .boxed_local()
    }

    fn run_hidden(&self, code: String) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let said = self.broker.run_hidden(&code);
        async move {
            tokio::select! {
                said = said => printed(said),
                () = self.cell.interrupt.wait() => Err(Failure::interrupted()),
            }
        }
        .boxed_local()
    }

    fn interrupted(&self) -> LocalBoxFuture<'_, ()> {
        self.cell.interrupt.wait().boxed_local()
    }

    fn restart(&self) {
        self.cells.restart_after(self.cell.msg_id());
    }

    fn base(&self) -> Option<Base> {
        self.cells.base()
    }

    fn rebase(&self, onto: Option<Base>) -> Result<(), Failure> {
        self.cells.rebase_after(onto, self.cell.msg_id())
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
        goes_on: bool,
    ) -> LocalBoxFuture<'a, Result<(), Failure>> {
        async move { self.elsewhere(kernel, &code, goes_on).await }.boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::commented;

    #[test]
    fn all_of_a_source_is_comments() {
        for (source, comments) in [
            ("%%venv x\r\na\n\nb\n", "# %%venv x\n# a\n# \n# b"),
            (
                "%%venv x\rf()\n'\u{2028}!ls\u{c}%pwd'",
                "# %%venv x f()\n# ' !ls %pwd'",
            ),
        ] {
            assert_eq!(commented(source, "Python").unwrap(), comments);
        }
        assert_eq!(commented("x", "no such language"), None);
    }
}
