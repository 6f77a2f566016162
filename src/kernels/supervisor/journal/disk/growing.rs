//! A segment file as it grows: what is added is there whole or not at all. Blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;

use super::folder::path;
use super::record::MAGIC;

/// Pieces of one system call.
const SLICES_MAX: usize = 256;

/// The newest file of a journal.
pub(super) struct Growing {
    pub(super) segment: u64,
    file: File,
    /// So much of it is whole.
    pub(super) bytes: u64,
}

impl Growing {
    pub(super) fn create(folder: &Path, segment: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(path(folder, segment))?;
        file.write_all(MAGIC)?;
        Ok(Self {
            segment,
            file,
            bytes: MAGIC.len() as u64,
        })
    }

    /// All of it or, for whoever reads, nothing.
    pub(super) fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        // An earlier attempt may have left a part.
        self.file.seek(SeekFrom::Start(self.bytes))?;
        let mut written = 0;
        for pieces in pieces.chunks(SLICES_MAX) {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut slices = slices.as_mut_slice();
            while !slices.is_empty() {
                match self.file.write_vectored(slices) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(bytes) => {
                        written += bytes as u64;
                        IoSlice::advance_slices(&mut slices, bytes);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.file.set_len(self.bytes)?;
                        return Err(error);
                    }
                }
            }
        }
        self.bytes += written;
        Ok(())
    }
}
