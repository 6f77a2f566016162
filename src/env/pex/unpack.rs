//! Brings a file of an archive out of it: so many bytes as the directory says, and no other ones.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::zip::{Archive, Entry, Packing};

const CHUNK: usize = 64 * 1024;

/// What is written until nobody wants it any more, which is an error then.
pub(super) struct Unless<'a, W> {
    to: W,
    lost: &'a AtomicBool,
}

impl<'a, W: Write> Unless<'a, W> {
    pub(super) fn new(to: W, lost: &'a AtomicBool) -> Self {
        Self { to, lost }
    }

    pub(super) fn into_inner(self) -> W {
        self.to
    }
}

impl<W: Write> Write for Unless<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.lost.load(Ordering::Relaxed) {
            true => Err(io::Error::other("it was interrupted")),
            false => self.to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The memory that unpacking takes, for one thread.
pub(super) struct Unpacker {
    state: Box<InflateState>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            input: vec![0; CHUNK],
            output: vec![0; CHUNK],
        }
    }

    /// Writes the file. An error is what is wrong with it, or with where it is written.
    pub(super) fn unpack(
        &mut self,
        archive: &Archive,
        entry: &Entry,
        to: &mut impl Write,
    ) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        let damaged = || format!("{} in it is damaged", entry.name);
        let packed = archive.packed(entry)?;
        let mut hash = crc32fast::Hasher::new();
        let mut written: u64 = 0;
        let mut read: u64 = 0;
        let mut write = |bytes: &[u8]| {
            written += bytes.len() as u64;
            if written > entry.size {
                return Err(damaged());
            }
            hash.update(bytes);
            to.write_all(bytes).map_err(failed)
        };
        self.state.reset(DataFormat::Raw);
        let mut is_done = false;
        while read < packed.length() && !is_done {
            let length = (packed.length() - read).min(CHUNK as u64);
            let length = usize::try_from(length).unwrap_or(CHUNK);
            let input = &mut self.input[..length];
            packed.read(read, input).map_err(failed)?;
            read += length as u64;
            if entry.packing == Packing::Stored {
                write(input)?;
                continue;
            }
            let mut input = &*input;
            loop {
                let step = inflate(&mut self.state, input, &mut self.output, MZFlush::None);
                input = &input[step.bytes_consumed..];
                write(&self.output[..step.bytes_written])?;
                let is_stuck = step.bytes_consumed + step.bytes_written == 0;
                let is_hungry = input.is_empty() && step.bytes_written < self.output.len();
                match step.status {
                    Ok(MZStatus::StreamEnd) => {
                        is_done = true;
                        break;
                    }
                    Ok(_) | Err(MZError::Buf) if is_hungry || is_stuck => break,
                    Ok(_) | Err(MZError::Buf) => {}
                    Err(_) => return Err(damaged()),
                }
            }
        }
        let is_whole = is_done || entry.packing == Packing::Stored;
        if !is_whole || written != entry.size || hash.finalize() != entry.crc {
            return Err(damaged());
        }
        Ok(())
    }
}
