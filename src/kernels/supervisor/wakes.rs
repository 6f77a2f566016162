//! When an interrupted IPython kernel is woken.
//!
//! ipykernel cancels a cell that awaits something by its event loop, which a signal alone does not wake: any
//! request does that comes after the signal has been taken. Knows nothing of requests.

use std::collections::VecDeque;
use std::future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const AFTER: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// The times at which a kernel is still to be woken.
#[derive(Debug, Default)]
pub(super) struct Wakes(VecDeque<Instant>);

impl Wakes {
    /// The kernel has been signalled.
    pub(super) fn begin(&mut self) {
        self.0 = AFTER.map(|after| Instant::now() + after).into();
    }

    /// Waits for the next time, for ever when there is none. Cancelling loses nothing.
    pub(super) async fn due(&mut self) {
        match self.0.front() {
            Some(at) => sleep_until(*at).await,
            None => future::pending().await,
        }
        self.0.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_signal_is_followed_by_three_wakes_and_no_more() {
        let mut wakes = Wakes::default();
        wakes.begin();
        let begun = Instant::now();
        for after in AFTER {
            wakes.due().await;
            assert!(
                begun.elapsed() >= after && begun.elapsed() <= after + Duration::from_millis(2)
            );
        }
        assert!(timeout(Duration::from_secs(60), wakes.due()).await.is_err());
    }
}
