//! The three shapes of a pex (one zip file, a folder of zip files, a folder of files) as one: what it says of itself,
//! its distributions, its code.
//!
//! Decides nothing by what it finds, and never runs any of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::bytes::Bytes;
use super::info::{INFO_MAX, PexInfo};
use super::path::{in_site_packages, is_code, is_safe};
use super::unpack::{Unless, Unpacker};
use super::zip::{Archive, Entry, FILES_MAX, Packing};
use crate::plain_file;

const INFO: &str = "PEX-INFO";
const DEPS: &str = ".deps";

/// No pex has deeper folders; who made one waits for nothing.
const DEPTH_MAX: usize = 64;

/// A file that belongs somewhere below `site-packages`.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) is_program: bool,
    pub(super) at: At,
}

/// Where its content is.
#[derive(Clone, Debug)]
pub(super) enum At {
    Packed(Arc<Archive>, Entry),
    Plain(PathBuf),
}

/// A pex that was opened.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) info: PexInfo,
    pub(super) code: Vec<Leaf>,
    /// By the file names of wheels.
    pub(super) deps: BTreeMap<String, Dep>,
}

/// A distribution.
#[derive(Clone, Debug)]
pub(super) enum Dep {
    /// A wheel, or an unpacked one that was packed again: its archive is not yet read.
    Packed(Bytes),
    /// The same, packed once more within the pex.
    Nested(Arc<Archive>, Entry),
    Files(Vec<Leaf>),
    Folder(PathBuf),
}

impl Shape {
    /// An error is what is wrong, to follow the pex's name.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let about = fs::metadata(path).map_err(reason)?;
        match about.is_dir() {
            true => Self::of_folder(path),
            // Else opening it might wait for ever.
            false if !about.is_file() => Err("it is neither a file nor a folder".to_owned()),
            false => {
                Self::of_zip(Bytes::of_file(File::open(path).map_err(reason)?).map_err(reason)?)
            }
        }
    }

    pub(super) fn of_zip(bytes: Bytes) -> Result<Self, String> {
        let archive = Arc::new(Archive::open(bytes)?);
        let mut info = None;
        let mut code = Vec::new();
        let mut files: BTreeMap<String, Vec<Leaf>> = BTreeMap::new();
        let mut deps = BTreeMap::new();
        for entry in &archive.files {
            let at = || At::Packed(Arc::clone(&archive), entry.clone());
            let leaf = |path: &str| Leaf {
                path: path.to_owned(),
                size: entry.size,
                crc: entry.crc,
                is_program: entry.is_program,
                at: at(),
            };
            if entry.name == INFO {
                info = Some(PexInfo::parse(&read_packed(&archive, entry)?)?);
            } else if let Some(dep) = entry.name.strip_prefix(".deps/") {
                match dep.split_once('/') {
                    Some((dep, path)) => {
                        let leaves = files.entry(dep.to_owned()).or_default();
                        leaves.extend(in_site_packages(path).map(leaf));
                    }
                    None if entry.packing == Packing::Stored => {
                        deps.insert(dep.to_owned(), Dep::Packed(archive.packed(entry)?));
                    }
                    None => {
                        let nested = Dep::Nested(Arc::clone(&archive), entry.clone());
                        deps.insert(dep.to_owned(), nested);
                    }
                }
            } else if is_code(&entry.name) {
                code.push(leaf(&entry.name));
            }
        }
        let files = files
            .into_iter()
            .map(|(dep, leaves)| (dep, Dep::Files(leaves)));
        deps.extend(files);
        let info = info.ok_or_else(|| format!("it has no {INFO}"))?;
        Ok(Self { info, code, deps })
    }

    fn of_folder(folder: &Path) -> Result<Self, String> {
        let info = match plain_file::bytes(&folder.join(INFO), INFO_MAX) {
            Ok(bytes) => PexInfo::parse(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("it is a folder without {INFO}"));
            }
            Err(error) => return Err(reason(error)),
        };
        let root = fs::canonicalize(folder).map_err(reason)?;
        let code = walk(&root, &root, &|path| is_code(path).then_some(path))?;
        let mut deps = BTreeMap::new();
        for entry in fs::read_dir(root.join(DEPS))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = within(&root, &entry.path())?;
            let dep = match path.is_dir() {
                true => Dep::Folder(path),
                false => {
                    let bytes = File::open(&path).and_then(Bytes::of_file);
                    Dep::Packed(bytes.map_err(reason)?)
                }
            };
            deps.insert(name, dep);
        }
        Ok(Self { info, code, deps })
    }
}

impl Dep {
    /// What it takes before it can be looked into.
    pub(super) fn nested_bytes(&self) -> u64 {
        match self {
            Self::Nested(_, entry) => entry.size,
            _ => 0,
        }
    }

    /// What belongs into `site-packages`. What has to be unpacked for that goes, for as long as it is needed, to a file
    /// without a name in the folder `scratch`.
    pub(super) fn leaves(self, scratch: &Path, lost: &AtomicBool) -> Result<Vec<Leaf>, String> {
        let bytes = match self {
            Self::Files(leaves) => return Ok(leaves),
            Self::Folder(folder) => return walk(&folder, &folder, &in_site_packages),
            Self::Packed(bytes) => bytes,
            Self::Nested(archive, entry) => {
                let file = tempfile(scratch).map_err(reason)?;
                let mut to = Unless::new(file, lost);
                Unpacker::new().unpack(&archive, &entry, &mut to)?;
                Bytes::of_file(to.into_inner()).map_err(reason)?
            }
        };
        let archive = Arc::new(Archive::open(bytes)?);
        let files = archive.files.iter();
        let leaves = files.filter_map(|entry| {
            Some(Leaf {
                path: in_site_packages(&entry.name)?.to_owned(),
                size: entry.size,
                crc: entry.crc,
                is_program: entry.is_program,
                at: At::Packed(Arc::clone(&archive), entry.clone()),
            })
        });
        Ok(leaves.collect())
    }
}

fn read_packed(archive: &Archive, entry: &Entry) -> Result<Vec<u8>, String> {
    if entry.size > INFO_MAX {
        return Err(format!("its {INFO} is too large"));
    }
    let mut bytes = Vec::new();
    Unpacker::new().unpack(archive, entry, &mut bytes)?;
    Ok(bytes)
}

/// A file that goes when it is closed.
fn tempfile(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("nested-{}.part", uuid::Uuid::new_v4().simple()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

type Place<'a> = &'a dyn for<'p> Fn(&'p str) -> Option<&'p str>;

/// The files below a folder that have a place. Links are followed as far as they stay in `root`.
fn walk(root: &Path, folder: &Path, place: Place<'_>) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    let mut seen = 0;
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(reason)? {
            let entry = entry.map_err(reason)?;
            let name = entry.file_name();
            let name = name.to_str().ok_or("a name in it is not UTF-8")?;
            let path = format!("{prefix}{name}");
            seen += 1;
            if seen > FILES_MAX || depth > DEPTH_MAX || !is_safe(&path) {
                return Err(format!("{path:?} in it cannot be taken"));
            }
            let kind = entry.file_type().map_err(reason)?;
            if kind.is_dir() {
                // What has no place for any file in it is not looked through.
                if place(&format!("{path}/a")).is_some()
                    || path.starts_with(".prefix")
                    || path.ends_with(".data")
                {
                    folders.push((entry.path(), format!("{path}/"), depth + 1));
                }
            } else if let Some(place) = place(&path) {
                let file = within(root, &entry.path())?;
                leaves.push(plain(file, place).map_err(reason)?);
            }
        }
    }
    leaves.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(leaves)
}

/// Where a path leads, if that is in `root`.
fn within(root: &Path, path: &Path) -> Result<PathBuf, String> {
    let real = fs::canonicalize(path).map_err(reason)?;
    let is_plain = || real.is_file() || real.is_dir();
    match real.starts_with(root) && is_plain() {
        true => Ok(real),
        false => Err(format!("{} leads out of it", path.display())),
    }
}

fn plain(file: PathBuf, place: &str) -> io::Result<Leaf> {
    use std::os::unix::fs::PermissionsExt;

    let mut from = File::open(&file)?;
    let is_program = from.metadata()?.permissions().mode() & 0o111 != 0;
    let mut hash = crc32fast::Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hash.update(&buffer[..read]);
    }
    Ok(Leaf {
        path: place.to_owned(),
        size,
        crc: hash.finalize(),
        is_program,
        at: At::Plain(file),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn reason(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        _ => error.to_string(),
    }
}
