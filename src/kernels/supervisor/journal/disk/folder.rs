//! The folder of one kernel's journal: whose it is, and what an earlier supervisor has left in it. Blocks.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::record::{self, MAGIC, Record};
use super::segment::Segment;
use crate::kernels::supervisor::bring_up::write_private;

/// The file that says whose the folder is.
const ABOUT: &str = "about.json";

/// A longer one is not read.
const ABOUT_BYTES_MAX: u64 = 64 * 1024;

/// A larger segment is none.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

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

    /// Makes the folder, if it is not there, and says whose it is.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let made = DirBuilder::new().mode(0o700).create(folder);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        write_private(&folder.join(ABOUT), &serde_json::to_vec(self)?)
    }
}

/// The file of a segment.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:08}.segment"))
}

/// The segments that are there, oldest first. What is torn or damaged ends a segment; a file that is none is passed
/// over. With the highest number of any.
pub(super) fn segments(folder: &Path) -> io::Result<(Vec<Segment>, u64)> {
    let mut numbers: Vec<u64> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|file| {
            let name = file.file_name();
            name.to_str()?.strip_suffix(".segment")?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    let last = numbers.last().copied().unwrap_or(0);
    let mut segments: Vec<Segment> = Vec::new();
    for number in numbers {
        let segment = read(folder, number, segments.last().and_then(Segment::last));
        match segment {
            Ok(segment) => segments.push(segment),
            Err(error) => tracing::warn!(number, %error, "a part of the journal is not readable"),
        }
    }
    Ok((segments, last))
}

fn read(folder: &Path, number: u64, after: Option<u64>) -> io::Result<Segment> {
    let path = path(folder, number);
    let mut content = Vec::new();
    let file = File::open(path)?;
    file.take(SEGMENT_BYTES_MAX).read_to_end(&mut content)?;
    let mut content = Bytes::from(content);
    if !content.starts_with(MAGIC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "another format"));
    }
    content.advance(MAGIC.len());
    let mut segment = Segment::new(number);
    let mut last = after.unwrap_or(0);
    while !content.is_empty() {
        match record::decode(&mut content) {
            Ok(record) if record.seen.seq > last => {
                last = record.seen.seq;
                segment.push(record.seen);
            }
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(number, %error, "the journal ends here");
                break;
            }
        }
    }
    segment.seal();
    Ok(segment)
}

/// A piece of a segment, as records.
pub(super) fn piece(path: &Path, offset: u64, bytes: u64) -> io::Result<Vec<Record>> {
    use std::os::unix::fs::FileExt;
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    File::open(path)?.read_exact_at(&mut content, offset)?;
    let mut content = Bytes::from(content);
    let mut records = Vec::new();
    while !content.is_empty() {
        let record = record::decode(&mut content);
        records.push(record.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?);
    }
    Ok(records)
}
