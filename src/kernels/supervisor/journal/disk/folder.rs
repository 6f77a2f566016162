//! The folder of one kernel's journal: whose it is, and what an earlier supervisor has left in it. Blocks.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::super::SEQ_MAX;
use super::record::{self, MAGIC, RecordError};
use super::segment::{Piece, Segment};
use crate::kernels::supervisor::private_file;

/// The file that says whose the folder is.
const ABOUT: &str = "about.json";

/// A longer one is not read.
const ABOUT_BYTES_MAX: u64 = 64 * 1024;

/// A file with a higher number is none of ours.
const FILES_MAX: u64 = 1 << 53;

/// More of a file is not read.
const READ_BYTES_MAX: u64 = 1 << 30;

/// Whose a journal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub owner: String,
    /// The kernel's folder in the runtime folder: without it the kernel is gone.
    pub kernel: PathBuf,
}

impl About {
    /// Whose the journal in this folder is; nothing when it is none.
    pub fn read(folder: &Path) -> Option<Self> {
        let mut content = Vec::new();
        let file = File::open(folder.join(ABOUT)).ok()?;
        file.take(ABOUT_BYTES_MAX).read_to_end(&mut content).ok()?;
        serde_json::from_slice(&content).ok()
    }

    /// Makes the folder, if it is not there, and says whose it is. Where it is there, nothing is written: the disk may
    /// be full.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        if Self::read(folder).as_ref() == Some(self) {
            return Ok(());
        }
        let made = DirBuilder::new().mode(0o700).create(folder);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        private_file::write(&folder.join(ABOUT), &serde_json::to_vec(self)?)
    }
}

/// The file of a segment.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:08}.segment"))
}

/// What an earlier supervisor has left.
#[derive(Debug)]
pub(super) struct Found {
    /// Oldest first.
    pub(super) segments: Vec<Segment>,
    /// Files have numbers up to this one.
    pub(super) number: u64,
    /// Nothing is missing, but what was being written when it died.
    pub(super) is_whole: bool,
}

/// Makes the folder ready, and reads what is there. What is torn or damaged ends a segment; a file that is none is
/// passed over, and so is one that cannot be read, if that `is_enough`.
pub(super) fn prepare(folder: &Path, about: &About, is_enough: bool) -> io::Result<Found> {
    about.write(folder)?;
    let mut numbers = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        numbers.extend(number.filter(|number| *number < FILES_MAX));
    }
    numbers.sort_unstable();
    let mut found = Found {
        segments: Vec::new(),
        number: numbers.last().copied().unwrap_or(0),
        is_whole: true,
    };
    for number in numbers {
        let after = found.segments.last().and_then(Segment::last);
        match read(folder, number, after) {
            Ok((segment, ends_well)) => {
                found.is_whole &= ends_well;
                found
                    .segments
                    .extend(Some(segment).filter(|segment| segment.last().is_some()));
            }
            Err(error) if is_enough || is_damage(&error) => {
                tracing::warn!(number, %error, "a part of the journal is not readable");
                found.is_whole = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether the file was read and is not what it was: another attempt finds the same.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

/// The index of a file, and whether that is all of it.
fn read(folder: &Path, number: u64, after: Option<u64>) -> io::Result<(Segment, bool)> {
    let path = path(folder, number);
    let mut content = Vec::new();
    let file = File::open(path)?;
    file.take(READ_BYTES_MAX).read_to_end(&mut content)?;
    let mut content = Bytes::from(content);
    if MAGIC.starts_with(&content) {
        // Nothing was written, or not even that.
        return Ok((Segment::new(number), true));
    }
    if !content.starts_with(MAGIC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "another format"));
    }
    content.advance(MAGIC.len());
    let mut segment = Segment::new(number);
    let mut last = after.unwrap_or(0);
    let mut ends_well = true;
    while !content.is_empty() {
        match record::decode(&mut content) {
            Ok(record) if record.seen.seq > last && record.seen.seq < SEQ_MAX => {
                last = record.seen.seq;
                segment.push(record.seen);
            }
            Ok(_) => {
                ends_well = false;
                break;
            }
            Err(error) => {
                tracing::warn!(number, %error, "the journal ends here");
                // A writer that died leaves half a record.
                ends_well = error == RecordError::Torn;
                break;
            }
        }
    }
    segment.seal();
    Ok((segment, ends_well))
}

/// A piece of a segment, if it is what was written.
pub(super) fn piece(path: &Path, piece: Piece) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let length = usize::try_from(piece.bytes).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    File::open(path)?.read_exact_at(&mut content, piece.offset)?;
    let content = Bytes::from(content);
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let (mut rest, mut entries, mut last) = (content.clone(), 0, None);
    while !rest.is_empty() {
        let record = record::decode(&mut rest).map_err(|error| damaged(error.to_string()))?;
        entries += 1;
        last = Some(record.seen.seq);
    }
    if entries != piece.entries || last != Some(piece.last) {
        return Err(damaged("it holds something else".to_owned()));
    }
    Ok(content)
}
