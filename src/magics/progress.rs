//! What a tool says, under the cell as it comes.
//!
//! Of a flood that is faster than the client the middle is left out, and the number of its lines told.

use std::cell::{Cell as Counter, RefCell};

use tokio::sync::Notify;

use super::cell::{Cell, Output};
use crate::env::Say;

/// Of what waits for the client.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Does the work and shows the lines that it says meanwhile.
pub(super) async fn lines<T>(cell: &dyn Cell, work: impl AsyncFnOnce(Say<'_>) -> T) -> T {
    shown(cell, async |print| {
        work(&|line| print(&format!("{line}\n"))).await
    })
    .await
}

/// The same of text as it is.
pub(super) async fn shown<T>(cell: &dyn Cell, work: impl AsyncFnOnce(&dyn Fn(&str)) -> T) -> T {
    let waiting = RefCell::new(String::new());
    let left_out = Counter::new(0);
    let is_done = Counter::new(false);
    let more = Notify::new();
    let print = |text: &str| {
        let mut waiting = waiting.borrow_mut();
        match waiting.len() + text.len() <= WAITING_BYTES_MAX {
            true => waiting.push_str(text),
            false => left_out.set(left_out.get() + text.lines().count()),
        }
        more.notify_one();
    };
    let take = || {
        let mut text = waiting.take();
        if let lines @ 1.. = left_out.take() {
            text.push_str(&format!("({lines} lines left out)\n"));
        }
        text
    };
    let works = async {
        let outcome = work(&print).await;
        is_done.set(true);
        more.notify_one();
        outcome
    };
    // What is on its way to the client when the work is done gets there.
    let shows = async {
        loop {
            let text = take();
            if !text.is_empty() {
                cell.emit(Output::stdout(text)).await;
            } else if is_done.get() {
                break;
            } else {
                more.notified().await;
            }
        }
    };
    let (outcome, ()) = tokio::join!(works, shows);
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
            (0..WAITING_BYTES_MAX / 1024 + 5).for_each(|_| say(&flood));
            7
        };
        assert_eq!(lines(&cell, work).await, 7);
        let shown = cell.shown.borrow();
        let text = |output: &Output| match output {
            Output::Stream { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&shown[0]), "one\n");
        assert!(text(shown.last().unwrap()).ends_with("x\n(5 lines left out)\n"));
    }
}
