//! An environment as one of those that are kept: written down, used, tidied up after somebody, removed.

use std::fs;

use jiff::Timestamp;

use super::super::pip::{Failure, Never};
use super::super::{Say, held};
use super::{Named, RECORD, Record};

/// Its time is that of the last start in it.
const USED: &str = "nb-used";

impl Named {
    /// Removes all that is nb's of it.
    pub(in crate::env) async fn remove(&self, say: Say<'_>) -> Result<(), Failure> {
        let _held = self.hold(&Never, say).await?;
        // Without its record it is none any more, however this ends.
        let record = fs::remove_file(self.folder.join(RECORD));
        record
            .and_then(|()| fs::remove_dir_all(&self.folder))
            .map_err(|error| self.unusable(&error))
    }

    /// Writes down what is there already.
    pub(in crate::env) async fn found(&self, record: &Record, say: Say<'_>) -> Result<(), Failure> {
        let _held = self.hold(&Never, say).await?;
        self.keep(record).map_err(|error| self.unusable(&error))
    }

    /// A kernel is started in it.
    pub(in crate::env) fn touch(&self) {
        if let Err(error) = fs::write(self.folder.join(USED), "") {
            tracing::debug!(%error, "when an environment was used last is not known");
        }
    }

    /// When a kernel was last started in it.
    pub(in crate::env) fn used(&self) -> Option<Timestamp> {
        let about = fs::metadata(self.folder.join(USED)).ok()?;
        about.modified().ok()?.try_into().ok()
    }

    /// Takes back what a process that was killed has left half done, unless another one is at it.
    pub(in crate::env) async fn tidy(&self) -> Result<(), Failure> {
        held::tidy(&self.folder, &self.environment()).await
    }
}
