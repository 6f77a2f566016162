//! What happened to a kernel lately, for whoever reads of a failure.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// No more is remembered.
const EVENTS_MAX: usize = 80;

/// Of a file the end is shown.
const FILE_BYTES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Story(Mutex<VecDeque<(Timestamp, String)>>);

impl Story {
    pub(super) fn tell(&self, what: impl Into<String>) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back((Timestamp::now(), what.into()));
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events
            .iter()
            .try_for_each(|(at, what)| writeln!(f, "{at} {what}"))
    }
}

/// What a kernel and its supervisor wrote themselves.
pub(super) fn written(folder: &Path) -> String {
    let end = |name: &str| {
        let content = fs::read(folder.join(name)).unwrap_or_default();
        let end = &content[content.len().saturating_sub(FILE_BYTES_MAX)..];
        format!("--- {name}\n{}", String::from_utf8_lossy(end))
    };
    ["log", "stderr", "requests"].map(end).concat()
}
