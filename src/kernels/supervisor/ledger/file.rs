//! Writes lines to a file in shared memory, at once: what is written is there when this process is killed, and no disk
//! is waited for.
//!
//! What cannot be written is not tried again: the file is to be written anew, as a whole. Knows nothing of notes.

use std::fs::File;
use std::io::{self, Write};

use tracing::{info, warn};

use crate::kernels::shared_memory::{Shared, is_removed};

/// A file that has grown by more than this, and has doubled, is to be written anew, without what is over. All kernels of
/// a container may have 64 MiB of shared memory together.
const LONG_BYTES: u64 = 128 * 1024;

#[derive(Debug)]
pub(super) struct Writer {
    place: Shared,
    /// Without one it has failed.
    file: Option<File>,
    /// Since it was written anew, and then.
    bytes: u64,
    anew_bytes: u64,
    is_told: bool,
}

impl Writer {
    pub(super) fn new(place: Shared) -> Self {
        Self {
            place,
            file: None,
            bytes: 0,
            anew_bytes: 0,
            is_told: false,
        }
    }

    pub(super) fn write(&mut self, line: &[u8]) {
        self.bytes += line.len() as u64;
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(line) {
            self.fails(&error);
        }
    }

    pub(super) fn write_anew(&mut self, content: &[u8]) {
        self.bytes = 0;
        self.anew_bytes = content.len() as u64;
        match self.place.replace(content) {
            Ok(file) => {
                self.file = Some(file);
                if self.is_told {
                    info!("requests are written down again");
                    self.is_told = false;
                }
            }
            Err(error) => self.fails(&error),
        }
    }

    pub(super) fn is_long(&self) -> bool {
        self.bytes > LONG_BYTES.max(self.anew_bytes)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.file.as_ref().is_none_or(is_removed)
    }

    fn fails(&mut self, error: &io::Error) {
        self.file = None;
        if !self.is_told {
            warn!(%error, "requests are not written down");
            self.is_told = true;
        }
    }
}
