//! The end of a gateway: it takes no more, what is under way gets some time, then it is over.
//!
//! Owns the tasks that the end has to wait for and knows nothing of what they do.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is under way when the end is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain {
    asked: CancellationToken,
    /// Told with the end.
    patience: Arc<OnceLock<Duration>>,
    over: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// Runs what the end waits for; it is dropped when its time is over.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            over.run_until_cancelled_owned(work).await;
        });
    }

    /// Waits until the end is asked for: for how long to wait then for what was only about to begin.
    pub(crate) async fn asked(&self) -> Duration {
        self.asked.cancelled().await;
        self.patience.get().copied().unwrap_or_default()
    }

    /// Asks for the end; returns when nothing is under way any more, `grace` later at the latest.
    pub(crate) async fn run(&self, patience: Duration, grace: Duration) {
        self.patience.get_or_init(|| patience);
        self.asked.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "cut off what is not done");
            self.over.cancel();
            self.tasks.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_is_under_way_is_waited_for() {
        let drain = Drain::default();
        let (done, was_done) = oneshot::channel();
        let asked = drain.clone();
        drain.spawn(async move {
            assert_eq!(asked.asked().await, LONG);
            done.send(()).unwrap();
        });
        timeout(LONG, drain.run(LONG, LONG)).await.unwrap();
        was_done.await.unwrap();
    }

    #[tokio::test]
    async fn what_takes_too_long_is_dropped() {
        let drain = Drain::default();
        let (held, dropped) = oneshot::channel::<()>();
        drain.spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        timeout(LONG, drain.run(LONG, Duration::ZERO))
            .await
            .unwrap();
        assert!(dropped.await.is_err());
    }
}
