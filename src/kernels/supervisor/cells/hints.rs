//! What the magics offer at a cursor and say of a call. Nothing is shown and nobody is asked meanwhile.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Cells;
use crate::kernels::supervisor::broker::{Broker, Hint, Wants};
use crate::magics::{Cell, Completion, Facts, Failure, Output, Place, Question};

/// How long a magic may think of what fits: it may look into a kernel that is busy. The user types on.
const HINT_WITHIN: Duration = Duration::from_secs(3);

struct HintCell<'a> {
    cells: &'a Cells,
    broker: &'a Broker,
}

/// Answers a client's question.
pub(super) async fn answer(cells: &Cells, broker: &Broker, hint: &Hint) {
    let content = match hint.wants {
        Wants::Completion => complete(cells, broker, hint).await,
        Wants::Inspection => inspect(cells, hint),
    };
    broker.hint(hint, &content);
}

async fn complete(cells: &Cells, broker: &Broker, hint: &Hint) -> Value {
    let cell = HintCell { cells, broker };
    let offered = cells.registry.complete(&hint.source, hint.cursor, &cell);
    let offered = timeout(HINT_WITHIN, offered).await.ok().flatten();
    let cursor = hint.cursor.min(hint.source.chars().count());
    let Completion {
        matches,
        start,
        end,
    } = offered.unwrap_or(Completion {
        matches: Vec::new(),
        start: cursor,
        end: cursor,
    });
    json!({
        "status": "ok", "matches": matches, "cursor_start": start, "cursor_end": end, "metadata": {},
    })
}

fn inspect(cells: &Cells, hint: &Hint) -> Value {
    let said = cells.registry.inspect(&hint.source, hint.cursor);
    let found = said.is_some();
    let data = said.map_or(json!({}), |text| json!({"text/plain": text}));
    json!({"status": "ok", "found": found, "data": data, "metadata": {}})
}

impl Cell for HintCell<'_> {
    fn emit(&self, _: Output) -> LocalBoxFuture<'_, ()> {
        future::ready(()).boxed_local()
    }

    fn ask(&self, _: Question) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let failure = Failure::new("StdinNotImplementedError", "Nobody is asked for a hint.");
        future::ready(Err(failure)).boxed_local()
    }

    fn run_hidden(&self, code: String) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let printed = self.broker.run_hidden(&code);
        let replaced = |_| Err(Failure::new("KernelDied", "The kernel was replaced."));
        async move { printed.await.unwrap_or_else(replaced) }.boxed_local()
    }

    fn interrupted(&self) -> LocalBoxFuture<'_, ()> {
        future::pending().boxed_local()
    }

    fn restart(&self) {}

    fn facts(&self) -> Facts {
        self.cells.facts()
    }

    fn place(&self) -> Place {
        self.cells.place()
    }
}
