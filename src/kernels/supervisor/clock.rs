//! The time by the runtime's clock, which tests can move. A leaf.

use std::time::Instant;

/// Now.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
