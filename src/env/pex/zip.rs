//! Zip archives, as far as pexes and wheels are ones: what is in them, and where.
//!
//! All that an archive says is checked against its length. One that hides something (the same name twice, files that
//! share bytes, which is how a small archive unpacks to a huge tree) is refused.

use std::collections::HashSet;
use std::io;

use super::bytes::Bytes;
use super::path;

/// A directory of more is no archive of a program; it is held in memory.
const DIRECTORY_MAX: u64 = 256 * 1024 * 1024;

/// No pex has more files; each is held in memory.
pub(super) const FILES_MAX: usize = 1_000_000;

const END: u32 = 0x0605_4b50;
const END_LENGTH: usize = 22;
const COMMENT_MAX: u64 = 0xffff;
const LARGE_END: u32 = 0x0606_4b50;
const LARGE_END_LENGTH: usize = 56;
const LOCATOR: u32 = 0x0706_4b50;
const LOCATOR_LENGTH: usize = 20;
const ENTRY: u32 = 0x0201_4b50;
const ENTRY_LENGTH: usize = 46;
const LOCAL: u32 = 0x0403_4b50;
const LOCAL_LENGTH: usize = 30;
const LARGE_FIELD: u16 = 1;

const ENCRYPTED: u16 = 1;

/// An archive whose directory was read.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    bytes: Bytes,
    /// Files alone, in the directory's order.
    pub(super) files: Vec<Entry>,
}

/// A file in an archive. Its name leads nowhere else than below where it is unpacked.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) is_program: bool,
    pub(super) packing: Packing,
    packed: u64,
    /// Of its local header.
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Stored,
    Deflated,
}

impl Archive {
    /// Reads the directory. An error is what is wrong, to follow the archive's name.
    pub(super) fn open(bytes: Bytes) -> Result<Self, String> {
        let end = End::find(&bytes)?;
        let mut directory = vec![0; usize::try_from(end.size).map_err(|_| broken())?];
        bytes.read(end.at, &mut directory).map_err(unreadable)?;
        let mut files = Vec::new();
        let mut names = HashSet::new();
        let mut packed: u64 = 0;
        let mut rest = &directory[..];
        while !rest.is_empty() {
            let (entry, after) = Entry::parse(rest, end.shift)?;
            rest = after;
            let Some(entry) = entry else { continue };
            packed = packed.saturating_add(entry.packed);
            if files.len() == FILES_MAX {
                return Err(too_many());
            }
            if !names.insert(entry.name.clone()) {
                return Err(format!("it has {} twice", entry.name));
            }
            files.push(entry);
        }
        if packed > end.at {
            return Err("files in it share their bytes".to_owned());
        }
        Ok(Self { bytes, files })
    }

    /// The packed bytes of one of its files.
    pub(super) fn packed(&self, entry: &Entry) -> Result<Bytes, String> {
        let mut head = [0; LOCAL_LENGTH];
        self.bytes.read(entry.at, &mut head).map_err(unreadable)?;
        if number4(&head, 0) != Some(LOCAL) {
            return Err(broken());
        }
        let length = |at| number2(&head, at).map(u64::from).ok_or_else(broken);
        let skipped = LOCAL_LENGTH as u64 + length(26)? + length(28)?;
        let start = entry.at.checked_add(skipped);
        let part = start.and_then(|start| self.bytes.part(start, entry.packed));
        part.ok_or_else(broken)
    }
}

/// Where the directory is.
struct End {
    at: u64,
    size: u64,
    /// What stands before the archive, a `#!` line say, where the directory does not count it.
    shift: u64,
}

impl End {
    fn find(bytes: &Bytes) -> Result<Self, String> {
        let length = bytes.length();
        let tail_length = length.min(COMMENT_MAX + END_LENGTH as u64);
        let mut tail = vec![0; usize::try_from(tail_length).map_err(|_| broken())?];
        let tail_at = length - tail_length;
        bytes.read(tail_at, &mut tail).map_err(unreadable)?;
        let last = tail.len().checked_sub(END_LENGTH);
        let is_end = |at: &usize| {
            let comment = number2(&tail, at + 20).map(usize::from);
            number4(&tail, *at) == Some(END) && comment == Some(tail.len() - at - END_LENGTH)
        };
        let found = last.and_then(|last| (0..=last).rev().find(is_end));
        let found = found.ok_or_else(|| "it is no zip archive, or was cut off".to_owned())?;
        let field = |at: usize| number4(&tail, found + at).map(u64::from).ok_or_else(broken);
        let (mut size, mut offset) = (field(12)?, field(16)?);
        let mut end = tail_at + found as u64;
        if let Some((large_at, large_size, large_offset)) = large(bytes, end)? {
            (end, size, offset) = (large_at, large_size, large_offset);
        }
        if size > DIRECTORY_MAX {
            return Err(too_many());
        }
        let at = end.checked_sub(size).ok_or_else(broken)?;
        let shift = at.checked_sub(offset).ok_or_else(broken)?;
        Ok(Self { at, size, shift })
    }
}

/// The end of an archive over 4 GiB or 65535 files: where it is, the directory's size and offset.
fn large(bytes: &Bytes, end: u64) -> Result<Option<(u64, u64, u64)>, String> {
    let Some(locator_at) = end.checked_sub(LOCATOR_LENGTH as u64) else {
        return Ok(None);
    };
    let mut locator = [0; LOCATOR_LENGTH];
    bytes.read(locator_at, &mut locator).map_err(unreadable)?;
    if number4(&locator, 0) != Some(LOCATOR) {
        return Ok(None);
    }
    let at = locator_at
        .checked_sub(LARGE_END_LENGTH as u64)
        .ok_or_else(broken)?;
    let mut head = [0; LARGE_END_LENGTH];
    bytes.read(at, &mut head).map_err(unreadable)?;
    if number4(&head, 0) != Some(LARGE_END) {
        return Err(broken());
    }
    let field = |at| number8(&head, at).ok_or_else(broken);
    Ok(Some((at, field(40)?, field(48)?)))
}

impl Entry {
    /// The first of a directory, and what follows it. Nothing for a folder: files bring theirs.
    fn parse(directory: &[u8], shift: u64) -> Result<(Option<Self>, &[u8]), String> {
        let field2 = |at| number2(directory, at).ok_or_else(broken);
        let field4 = |at| number4(directory, at).ok_or_else(broken);
        if field4(0)? != ENTRY {
            return Err(broken());
        }
        let (name, extra, comment) = (field2(28)?, field2(30)?, field2(32)?);
        let name_end = ENTRY_LENGTH + usize::from(name);
        let extra_end = name_end + usize::from(extra);
        let rest = directory.get(extra_end + usize::from(comment)..);
        let rest = rest.ok_or_else(broken)?;
        let name = str::from_utf8(&directory[ENTRY_LENGTH..name_end])
            .map_err(|_| "a name in it is not UTF-8".to_owned())?;
        if name.ends_with('/') {
            return Ok((None, rest));
        }
        if !path::is_safe(name) {
            return Err(format!("the name {name:?} in it leads out of it"));
        }
        let mut larger = large_fields(&directory[name_end..extra_end]);
        let mut long = |at: usize| -> Result<u64, String> {
            match field4(at)? {
                u32::MAX => larger.next().ok_or_else(broken),
                small => Ok(u64::from(small)),
            }
        };
        // In the order of the extra field.
        let (size, packed, at) = (long(24)?, long(20)?, long(42)?);
        // What is not of Unix has no mode there.
        let mode = field4(38)? >> 16;
        if !matches!(mode & 0o170_000, 0 | 0o100_000) {
            return Err(format!("{name} in it is no plain file"));
        }
        let packing = match field2(10)? {
            _ if field2(8)? & ENCRYPTED != 0 => return Err(format!("{name} in it is encrypted")),
            0 if size == packed => Packing::Stored,
            8 => Packing::Deflated,
            0 => return Err(broken()),
            method => return Err(format!("{name} in it is packed by method {method}")),
        };
        let entry = Self {
            name: name.to_owned(),
            size,
            crc: field4(16)?,
            is_program: mode & 0o111 != 0,
            packing,
            packed,
            at: at.checked_add(shift).ok_or_else(broken)?,
        };
        Ok((Some(entry), rest))
    }
}

/// The numbers in the extra field of an entry that needs more than 32 bits.
fn large_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found: &[u8] = &[];
    while let (Some(kind), Some(length)) = (number2(extra, 0), number2(extra, 2)) {
        let Some(body) = extra.get(4..4 + usize::from(length)) else {
            break;
        };
        if kind == LARGE_FIELD {
            found = body;
            break;
        }
        extra = &extra[4 + body.len()..];
    }
    let numbers = found.chunks_exact(8);
    numbers.filter_map(|bytes| number8(bytes, 0))
}

fn number2(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn number4(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn number8(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

fn too_many() -> String {
    "it has more files than a program has".to_owned()
}

fn broken() -> String {
    "it is damaged".to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn unreadable(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => broken(),
        _ => error.to_string(),
    }
}
