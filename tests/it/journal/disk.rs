//! A small file system of a test's own, in a file, that can be full or frozen.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const BYTES: u64 = 48 << 20;

/// Mounted until it is dropped.
pub(crate) struct SmallDisk {
    _root: TempDir,
    mounted: PathBuf,
}

impl SmallDisk {
    pub(super) fn mount() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mounted = root.path().join("mounted");
        fs::create_dir(&mounted).unwrap();
        Self::mount_on(root, mounted, BYTES)
    }

    /// In place of what is in this folder.
    pub(super) fn mount_over(folder: &Path) -> Self {
        Self::mount_large_over(folder, BYTES)
    }

    /// The same, of another size.
    pub(crate) fn mount_large_over(folder: &Path, bytes: u64) -> Self {
        let disk = Self::mount_on(tempfile::tempdir().unwrap(), folder.to_owned(), bytes);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        disk
    }

    /// Needs root, as in a container or a virtual machine of one's own.
    fn mount_on(root: TempDir, mounted: PathBuf, bytes: u64) -> Self {
        let image = root.path().join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        run("mkfs.ext4", &["-q", "-m", "0"], &image);
        run("mount", &["-o", "loop", image.to_str().unwrap()], &mounted);
        Self {
            _root: root,
            mounted,
        }
    }

    /// A folder on it; it may not exist.
    pub(super) fn folder(&self) -> PathBuf {
        self.mounted.join("journals")
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.mounted.join("ballast")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Of what [`Self::fill`] has taken, gives so much back.
    pub(crate) fn free(&self, bytes: u64) {
        let ballast = File::options()
            .write(true)
            .open(self.mounted.join("ballast"))
            .unwrap();
        let now = ballast.metadata().unwrap().len();
        ballast.set_len(now.saturating_sub(bytes)).unwrap();
    }

    /// Makes room again.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.mounted.join("ballast")).unwrap();
    }

    /// From now on whoever writes waits.
    pub(super) fn freeze(&self) {
        run("fsfreeze", &["--freeze"], &self.mounted);
    }

    pub(super) fn thaw(&self) {
        run("fsfreeze", &["--unfreeze"], &self.mounted);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Frozen it could not be unmounted, and nobody on it could be ended.
        let thawed = Command::new("fsfreeze")
            .arg("--unfreeze")
            .arg(&self.mounted)
            .output();
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(&self.mounted)
            .output();
        drop((thawed, unmounted));
    }
}

fn run(program: &str, arguments: &[&str], last: &Path) {
    let ran = Command::new(program)
        .args(arguments)
        .arg(last)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{program}: {said}");
}
