//! What a tool says, under the cell as it comes.
//!
//! Of a flood that is faster than the client the middle is left out, and the number of its lines told.

use std::cell::{Cell as Counter, RefCell};

use futures_util::future::{self, Either};
use tokio::sync::Notify;

use crate::env::Say;
use crate::magics::cell::{Cell, Output};

/// Of lines that wait for the client; a line has less.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Does the work and shows what it says meanwhile.
pub(super) async fn shown<T>(cell: &dyn Cell, work: impl AsyncFnOnce(Say<'_>) -> T) -> T {
    let waiting = RefCell::new(String::new());
    let left_out = Counter::new(0u64);
    let more = Notify::new();
    let say = |line: &str| {
        let mut waiting = waiting.borrow_mut();
        match waiting.len() + line.len() < WAITING_BYTES_MAX {
            true => waiting.extend([line, "\n"]),
            false => left_out.set(left_out.get() + 1),
        }
        more.notify_one();
    };
    let take = || -> String {
        let mut text = waiting.take();
        if let lines @ 1.. = left_out.take() {
            text.push_str(&format!("({lines} lines left out)\n"));
        }
        text
    };
    let show = async || {
        let text = take();
        if !text.is_empty() {
            cell.emit(Output::stdout(text)).await;
        }
    };
    let shows = async {
        loop {
            more.notified().await;
            show().await;
        }
    };
    let outcome = {
        let (work, shows) = (work(&say), shows);
        tokio::pin!(work, shows);
        match future::select(work, shows).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => never,
        }
    };
    show().await;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::test_cell::TestCell;

    #[tokio::test]
    async fn all_lines_are_shown_in_their_order_and_a_flood_is_cut() {
        let cell = TestCell::default();
        let work = async |say: Say<'_>| {
            say("one");
            tokio::task::yield_now().await;
            let flood = "x".repeat(1023);
            (0..1024 + 5).for_each(|_| say(&flood));
            7
        };
        assert_eq!(shown(&cell, work).await, 7);
        let shown = cell.shown.borrow();
        let text = |output: &Output| match output {
            Output::Stream { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&shown[0]), "one\n");
        assert!(text(shown.last().unwrap()).ends_with("x\n(5 lines left out)\n"));
    }
}
