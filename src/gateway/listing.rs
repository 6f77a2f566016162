//! Many listings at once, few pulls: those that may share one do.
//!
//! A pull that has begun may be older than what its asker has just changed. So whoever comes while
//! one runs waits for the next, and all who wait share that. Knows nothing of what is pulled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// The last pull and the turn to make the next.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    /// How many pulls have begun.
    begun: AtomicU64,
    /// The number of the last pull that succeeded, and what it brought.
    last: Mutex<Option<(u64, Arc<T>)>>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }
}

impl<T> Listing<T> {
    /// What `pull` brings, or a pull of somebody else that began after this was asked.
    ///
    /// One that fails, or whose asker goes away, is shared with nobody: the next in turn pulls.
    pub(crate) async fn get<E>(
        &self,
        pull: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let too_old = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, pulled)) = &*last
            && *number > too_old
        {
            return Ok(Arc::clone(pulled));
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let pulled = Arc::new(pull.await?);
        *last = Some((number, Arc::clone(&pulled)));
        Ok(pulled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::cell::Cell;
    use std::convert::Infallible;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn those_who_come_while_one_pulls_share_the_next() {
        let (listing, pulls) = (Listing::default(), Cell::new(0));
        let pull = async || {
            pulls.set(pulls.get() + 1);
            let number = pulls.get();
            yield_now().await;
            Ok::<_, Infallible>(number)
        };
        let got = join_all((0..50).map(|_| listing.get(pull()))).await;
        let got: Vec<_> = got.into_iter().map(|got| *got.unwrap()).collect();
        assert_eq!((got[0], &got[1..]), (1, &[2; 49][..]));
        assert_eq!(pulls.get(), 2);
        assert_eq!(*listing.get(pull()).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_change_made_before_is_seen() {
        let (listing, truth) = (Listing::default(), Cell::new("old"));
        let (reading, go_on) = (Notify::new(), Notify::new());
        let first = listing.get(async {
            let read = truth.get();
            reading.notify_one();
            go_on.notified().await;
            Ok::<_, Infallible>(read)
        });
        let second = async {
            reading.notified().await;
            truth.set("new");
            let seen = listing.get(async { Ok::<_, Infallible>(truth.get()) });
            go_on.notify_one();
            seen.await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!((*first.unwrap(), *second.unwrap()), ("old", "new"));
    }

    #[tokio::test]
    async fn a_pull_that_fails_or_is_dropped_holds_nobody_up() {
        let listing = Listing::default();
        let never = listing.get(std::future::pending::<Result<_, &str>>());
        assert!(futures_util::poll!(Box::pin(never)).is_pending());
        let (failed, good) = tokio::join!(
            listing.get(async { Err("broken") }),
            listing.get(async { Ok::<_, &str>(1) })
        );
        assert_eq!((failed, good.map(|got| *got)), (Err("broken"), Ok(1)));
    }
}
