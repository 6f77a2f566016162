//! Folders of a commit as files, with nothing else of it: no working copy is looked at, and none is made.
//!
//! Attributes and filters are as in any checkout, of the files that are there. Knows nothing of what is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::mirror::{ANSWER_BYTES_MAX, Kind, Mirror};
use crate::error::Error;

impl Mirror {
    /// Writes folders, each a path and a hash, below `root`, which is made afresh.
    pub(super) async fn export(&self, folders: &[(&str, &str)], root: &Path) -> Result<(), Error> {
        let index = root.with_extension("index");
        for left in [fs::remove_dir_all(root), fs::remove_file(&index)] {
            match left {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.unusable(&error));
                }
                _ => {}
            }
        }
        fs::create_dir_all(root).map_err(|error| self.unusable(&error))?;
        let git = || {
            let mut git = self.git();
            git.env("GIT_INDEX_FILE", &index);
            git.arg("--work-tree").arg(root);
            git
        };
        for (path, id) in folders {
            let mut read = git();
            read.arg("read-tree");
            if !path.is_empty() {
                read.arg(format!("--prefix={path}/"));
            }
            self.run(read.arg(id)).await?;
        }
        let mut list = git();
        list.args(["ls-files", "--stage", "-z"]);
        let listed = self.answer(&mut list, ANSWER_BYTES_MAX).await?;
        let listed = String::from_utf8_lossy(&listed);
        if let Some(line) = listed.split('\0').find(|line| line.starts_with("160000 ")) {
            let path = line.split_once('\t').map_or(line, |(_, path)| path);
            return Err(Error::user(format!(
                "{path} is {}: what is in it would be missing",
                Kind::Submodule.name()
            )));
        }
        let mut checkout = git();
        checkout.args(["checkout-index", "--all", "--force"]);
        self.run(&mut checkout).await?;
        let _next_time = fs::remove_file(&index);
        match leaves(root).map_err(|error| self.unusable(&error))? {
            Some(link) => Err(Error::user(format!(
                "{} is a link to what is in no first-party package",
                link.display()
            ))),
            None => Ok(()),
        }
    }
}

/// A link below `root` that leads to something that is not; its path from there.
fn leaves(root: &Path) -> io::Result<Option<PathBuf>> {
    let root = root.canonicalize()?;
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                // One to nothing is for whoever builds.
                let outside = path.canonicalize().is_ok_and(|to| !to.starts_with(&root));
                if outside {
                    let path = path.strip_prefix(&root).unwrap_or(&path).to_owned();
                    return Ok(Some(path));
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_that_leaves_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        symlink("../file", root.join("a/b/inside")).unwrap();
        symlink("nothing", root.join("a/b/dangling")).unwrap();
        symlink("..", root.join("a/b/up")).unwrap();
        assert_eq!(leaves(&root).unwrap(), None);
        symlink("/etc/passwd", root.join("a/b/out")).unwrap();
        assert_eq!(leaves(&root).unwrap(), Some("a/b/out".into()));
    }
}
