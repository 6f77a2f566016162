//! When to interrupt another kernel for a cell that may still be on its way there. Knows no kernel.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::kernels::supervisor::broker::Progress;

/// A cell that does not run by then waits for something, which is interrupted for it.
const RUNS_WITHIN: Duration = Duration::from_millis(500);

/// Interrupts once the cell runs. What it waits for is interrupted too, as often as that takes, up to a deadline.
pub(super) async fn interrupt(
    mut at: watch::Receiver<Progress>,
    deadline: Instant,
    send: impl AsyncFn(),
) {
    while Instant::now() < deadline {
        drop(timeout(RUNS_WITHIN, at.wait_for(|at| *at == Progress::Runs)).await);
        let is_over = at.has_changed().is_err();
        if is_over {
            return;
        }
        let progress = *at.borrow();
        send().await;
        if progress != Progress::Sent {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_does_not_overtake_the_cell_that_it_is_for() {
        let (progress, at) = watch::channel(Progress::Sent);
        let sent = Cell::new(0);
        let send = async || sent.set(sent.get() + 1);
        let mut interrupting = std::pin::pin!(interrupt(at, Instant::now() + LIMIT, send));
        assert!(interrupting.as_mut().now_or_never().is_none());
        progress.send_replace(Progress::Taken);
        assert!(interrupting.as_mut().now_or_never().is_none());
        assert_eq!(sent.get(), 0);
        progress.send_replace(Progress::Runs);
        interrupting.await;
        assert_eq!(sent.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_cell_waits_for_is_interrupted_and_then_the_cell() {
        let (progress, at) = watch::channel(Progress::Sent);
        let sent = Cell::new(0);
        let send = async || sent.set(sent.get() + 1);
        let interrupting = interrupt(at, Instant::now() + LIMIT, send);
        let both = async {
            tokio::join!(interrupting, async {
                sleep(RUNS_WITHIN + RUNS_WITHIN / 2).await;
                assert_eq!(sent.get(), 1);
                progress.send_replace(Progress::Runs);
            })
        };
        both.await;
        assert_eq!(sent.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_interrupted_for_a_cell_that_is_over_or_for_ever() {
        let (progress, at) = watch::channel(Progress::Sent);
        progress.send_replace(Progress::Runs);
        drop(progress);
        interrupt(at, Instant::now() + LIMIT, async || unreachable!()).await;
        // A kernel that does not say when it runs something is interrupted once.
        let (_progress, at) = watch::channel(Progress::Taken);
        let sent = Cell::new(0);
        let send = async || sent.set(sent.get() + 1);
        interrupt(at, Instant::now() + LIMIT, send).await;
        assert_eq!(sent.get(), 1);
        let (_progress, at) = watch::channel(Progress::Sent);
        interrupt(at, Instant::now() + LIMIT, async || ()).await;
    }
}
