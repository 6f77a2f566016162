//! What one repository has is had by another: hard links to its packs, as `git clone --local` makes them.
//!
//! git never writes to a pack, and what one repository removes stays in the other: so neither can break the other one, whatever is tidied
//! or removed there. Knows nothing of what is in them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

/// What belongs to a pack, in the order in which it may be seen: by its index it is found.
const PARTS: [&str; 3] = ["pack", "rev", "idx"];

/// Beside a pack it says that it is not written anew when the repository is tidied, which would end the sharing.
const KEEP: &str = "keep";

/// Gives the objects of `from` to `to`, both being the folders that git calls `objects`.
pub(super) fn share(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.join("pack"), to.join("pack"));
    fs::create_dir_all(&to)?;
    let mut packs = BTreeSet::new();
    for entry in fs::read_dir(&from)? {
        let name = std::path::PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|end| end == "idx") {
            packs.extend(name.file_stem().map(OsString::from));
        }
    }
    for pack in packs {
        let file = |folder: &Path, end: &str| {
            let mut name = pack.clone();
            name.push(".");
            name.push(end);
            folder.join(name)
        };
        if file(&to, "idx").exists() {
            continue;
        }
        fs::write(file(&to, KEEP), "")?;
        for part in PARTS {
            match link(&file(&from, part), &file(&to, part)) {
                // Old ones have no reverse index.
                Err(error) if part == "rev" && error.kind() == io::ErrorKind::NotFound => {}
                linked => linked?,
            }
        }
    }
    Ok(())
}

/// Whether there are packs that are not shared.
pub(super) fn has_own(objects: &Path) -> bool {
    let entries = fs::read_dir(objects.join("pack"));
    let mut packs = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    packs.any(|pack| {
        pack.extension().is_some_and(|end| end == "pack") && !pack.with_extension(KEEP).exists()
    })
}

/// A copy where the file system has no links.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let part = to.with_extension("part");
            fs::copy(from, &part)?;
            fs::rename(part, to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn whole_packs_are_shared_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let pack = from.join("pack");
        fs::create_dir_all(&pack).unwrap();
        for name in [
            "pack-a.pack",
            "pack-a.rev",
            "pack-a.idx",
            "pack-a.bitmap",
            "pack-b.pack",
            "pack-b.idx",
            "tmp_pack_x",
            "pack-c.pack",
        ] {
            fs::write(pack.join(name), name).unwrap();
        }
        for _again in 0..2 {
            share(&from, &to).unwrap();
        }
        assert!(has_own(&from) && !has_own(&to));
        let mut names: Vec<_> = fs::read_dir(to.join("pack"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "pack-a.idx",
                "pack-a.keep",
                "pack-a.pack",
                "pack-a.rev",
                "pack-b.idx",
                "pack-b.keep",
                "pack-b.pack"
            ]
        );
        assert_eq!(
            fs::metadata(to.join("pack/pack-a.pack")).unwrap().nlink(),
            2
        );
        fs::remove_dir_all(&from).unwrap();
        assert_eq!(
            fs::read(to.join("pack/pack-b.pack")).unwrap(),
            b"pack-b.pack"
        );
    }
}
