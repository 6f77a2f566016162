//! When a notebook that runs is written to its file: at once where something ended, else as often as the disk bears.
//!
//! Owns the file. A file that somebody else changes meanwhile stays theirs, what follows goes beside it.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::document::Document;
use crate::error::Error;
use crate::notebook_file::Output;

/// Output that comes is in the file after so long.
const WRITTEN_AFTER: Duration = Duration::from_secs(1);

/// A write that takes long is followed by so many times that long without one.
const PAUSES: u32 = 10;

/// A file, and when it was written.
#[derive(Debug)]
pub struct Keeper {
    output: Output,
    /// No write before this.
    rests_until: Instant,
    /// Something is not written yet, since then.
    since: Option<Instant>,
    turned_aside: bool,
}

impl Keeper {
    /// Nothing is written yet.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            rests_until: Instant::now(),
            since: None,
            turned_aside: false,
        }
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        self.output.path()
    }

    /// Whether it is written beside the file that was asked for, which somebody else has changed.
    pub fn is_aside(&self) -> bool {
        self.turned_aside
    }

    /// There is something new.
    pub fn changed(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// When the next write is due; nothing when all is written.
    pub fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some((since + WRITTEN_AFTER).max(self.rests_until))
    }

    /// Writes it now.
    pub fn write(&mut self, document: &Document<'_>) -> Result<(), Error> {
        if !self.output.is_as_known() {
            self.output.turn_aside();
            self.turned_aside = true;
        }
        let begun = Instant::now();
        self.output.put(&document.text())?;
        let now = Instant::now();
        self.rests_until = now + (now - begun) * PAUSES;
        self.since = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTEBOOK: &str = "{\"cells\": [], \"metadata\": {}, \"nbformat\": 4}";

    #[tokio::test(start_paused = true)]
    async fn what_is_new_is_due_soon_and_nothing_is_due_when_all_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ipynb");
        let mut keeper = Keeper::new(Output::at(&path).unwrap());
        assert_eq!(keeper.due(), None);
        keeper.changed();
        let due = keeper.due();
        assert_eq!(due, Some(Instant::now() + WRITTEN_AFTER));
        tokio::time::advance(WRITTEN_AFTER / 2).await;
        keeper.changed();
        assert_eq!(keeper.due(), due);
        keeper.write(&Document::parse(NOTEBOOK).unwrap()).unwrap();
        assert_eq!(keeper.due(), None);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), NOTEBOOK);
    }

    #[tokio::test]
    async fn what_somebody_else_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ipynb");
        let mut keeper = Keeper::new(Output::at(&path).unwrap());
        let document = Document::parse(NOTEBOOK).unwrap();
        keeper.write(&document).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        keeper.write(&document).unwrap();
        assert!(keeper.is_aside());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(std::fs::read_to_string(keeper.path()).unwrap(), NOTEBOOK);
    }
}
