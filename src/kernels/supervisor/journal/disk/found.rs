//! What earlier supervisors have left on the disk: when the disk does not give it in time, readers go on without it.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::super::tail::Tail;
use super::super::{Read, Seq, far_after};
use super::segment::Segment;
use super::{DiskJournal, LARGE_SHARE, folder, tail_bytes_max};
use crate::kernels::supervisor::clock::now;

/// Readers wait so long for it.
pub(super) const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// Whether all of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Until then readers wait for it.
    NotYet {
        waits_until: Instant,
    },
    Whole,
    /// Some of it is missing.
    NotAll,
}

impl Found {
    pub(super) fn not_yet() -> Self {
        Self::NotYet {
            waits_until: now() + FOUND_WITHIN,
        }
    }
}

impl DiskJournal {
    pub(super) fn is_unprepared(&self) -> bool {
        matches!(self.found, Found::NotYet { .. })
    }

    /// For a reader that comes from before this supervisor, while it is to wait.
    pub(super) fn wait_for_found(&self, after: Seq) -> Option<Read> {
        let Found::NotYet { waits_until } = self.found else {
            return None;
        };
        let is_ready = self.is_ready();
        (after < self.begin && now() < waits_until).then(|| {
            Read::Loading(Box::pin(async move {
                let waited = timeout_at(waits_until.into(), is_ready).await;
                tracing::debug!(?waited, "waited for what earlier supervisors have left");
            }))
        })
    }

    /// It goes before all else.
    pub(super) fn take_in(&mut self, found: folder::Found) {
        self.found = match found.is_whole {
            true => Found::Whole,
            false => Found::NotAll,
        };
        let newest = found.segments.last().and_then(Segment::last).unwrap_or(0);
        let is_fresh = self.tail.last() == self.begin && self.in_flight.is_empty();
        if newest > self.begin && is_fresh {
            self.begin = far_after([newest].into_iter(), 0);
            self.tail = Tail::new(self.begin, tail_bytes_max(self.bounds) / LARGE_SHARE);
        }
        self.segments = found.segments.into();
        while (self.segments.back()).is_some_and(|newest| newest.last() > Some(self.begin)) {
            tracing::error!("a part of the journal has numbers that were given out again");
            self.found = Found::NotAll;
            self.segments.pop_back();
        }
    }
}
