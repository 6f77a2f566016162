//! Bytes at rest: a file, a part of one, or memory. Read by position, so that threads can share them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Something that can be read anywhere.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    from: From,
    start: u64,
    length: u64,
}

#[derive(Clone, Debug)]
enum From {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

impl Bytes {
    pub(super) fn of_file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            from: From::File(Arc::new(file)),
            start: 0,
            length,
        })
    }

    pub(super) fn of_memory(bytes: &[u8]) -> Self {
        Self {
            from: From::Memory(bytes.into()),
            start: 0,
            length: bytes.len() as u64,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// These from here on; nothing when they are not all there.
    pub(super) fn part(&self, at: u64, length: u64) -> Option<Self> {
        let end = at.checked_add(length)?;
        (end <= self.length).then(|| Self {
            from: self.from.clone(),
            start: self.start + at,
            length,
        })
    }

    /// Fills the buffer with what stands here.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let part = self.part(at, buffer.len() as u64).ok_or_else(end)?;
        match &self.from {
            From::File(file) => file.read_exact_at(buffer, part.start),
            From::Memory(bytes) => {
                let from = usize::try_from(part.start).map_err(|_| end())?;
                let found = bytes.get(from..from + buffer.len()).ok_or_else(end)?;
                buffer.copy_from_slice(found);
                Ok(())
            }
        }
    }
}
