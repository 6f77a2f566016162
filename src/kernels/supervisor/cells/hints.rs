//! What the magics offer at a cursor and say of a call. Nothing is shown and nobody is asked meanwhile.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Cells;
use super::printed;
use crate::kernels::supervisor::broker::{Broker, Hint, Wants};
use crate::magics::{
    Body, Cell, Completion, Facts, Failure, OtherKernel, Others, Output, Place, Question,
};

/// How long a magic may think of what fits: it may look into a kernel that is busy. The user types on.
const HINT_WITHIN: Duration = Duration::from_secs(3);

/// How long another kernel may take, which may be busy.
const OTHER_WITHIN: Duration = Duration::from_secs(60);

struct HintCell<'a> {
    cells: &'a Cells,
    broker: &'a Broker,
}

/// Answers a client's question.
pub(super) async fn answer(cells: &Cells, broker: &Broker, hint: &Hint) {
    let content = match (cells.registry.body(&hint.source, hint.cursor), hint.wants) {
        (Some(body), wants) => ask(cells, &body, wants).await,
        (None, Wants::Completion) => complete(cells, broker, hint).await,
        (None, Wants::Inspection) => inspect(cells, hint),
    };
    broker.hint(hint, &content);
}

/// Asks the kernel that the body of a cell belongs to; one that does not run has nothing to say.
async fn ask(cells: &Cells, body: &Body, wants: Wants) -> Value {
    let (msg_type, nothing) = match wants {
        Wants::Completion => ("complete_request", json!({"matches": [], "metadata": {}})),
        Wants::Inspection => (
            "inspect_request",
            json!({"found": false, "data": {}, "metadata": {}}),
        ),
    };
    let content = json!({"code": body.source, "cursor_pos": body.cursor, "detail_level": 0});
    let asked = cells.others.ask(&body.kernel, msg_type, content);
    let asked = timeout(OTHER_WITHIN, asked).await;
    let mut content = asked.ok().and_then(Result::ok).unwrap_or(nothing);
    let before = body.before;
    for key in ["cursor_start", "cursor_end"] {
        let within = content[key]
            .as_u64()
            .and_then(|at| usize::try_from(at).ok());
        if wants == Wants::Completion {
            content[key] = json!(within.unwrap_or(body.cursor) + before);
        }
    }
    content["status"] = json!("ok");
    content
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
        let said = self.broker.run_hidden(&code);
        async move { printed(said.await) }.boxed_local()
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

    fn others(&self) -> &dyn Others {
        &*self.cells.others
    }

    fn run_in<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        code: String,
        _: bool,
    ) -> LocalBoxFuture<'a, Result<(), Failure>> {
        let _nothing = (kernel, code);
        let failure = Failure::new("RuntimeError", "Nothing is run for a hint.");
        future::ready(Err(failure)).boxed_local()
    }
}
