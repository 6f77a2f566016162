//! Gives the files of an environment inodes of their own.
//!
//! uv links them to its cache, which is quick, and then an edit in place would be one in the cache and in every other
//! environment. What is installed is therefore copied afterwards: at once as long as that is quick, the rest in the
//! background; a mark beside the environment tells that there is a rest. Whoever does it holds the environment's lock.
//! Blocks on the file system.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::lock;

/// So long others wait for an environment at most, since its files are copied.
const A_WHILE: Duration = Duration::from_millis(200);

/// So long they can get at it before the next are copied: longer than they wait before they try again.
const IN_BETWEEN: Duration = lock::RETRY.saturating_add(Duration::from_millis(20));

/// Files that are given inodes of their own before an install ends; the rest comes later.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Whether there may be files that are shared.
fn has_rest(environment: &Path) -> bool {
    mark(environment).exists()
}

/// Before something is installed: from here on there may be files that are shared.
pub(super) fn expect(environment: &Path) -> io::Result<()> {
    fs::write(mark(environment), "")
}

/// Copies what is shared, for about so long; whether that was all.
pub(super) fn unshare(environment: &Path, within: Duration) -> io::Result<bool> {
    if !has_rest(environment) {
        return Ok(true);
    }
    let all = unshare_below(environment, Instant::now().checked_add(within))?;
    if all {
        fs::remove_file(mark(environment))?;
    }
    Ok(all)
}

/// The same for some of its files and folders, which are looked at first; the mark stays.
fn unshare_first(some: impl Iterator<Item = PathBuf>, within: Duration) -> io::Result<()> {
    let deadline = Instant::now().checked_add(within);
    for path in some {
        let Ok(about) = fs::symlink_metadata(&path) else {
            continue;
        };
        if about.is_dir() {
            unshare_below(&path, deadline)?;
        } else if about.is_file() && about.nlink() > 1 {
            copy(&path)?;
        }
    }
    Ok(())
}

fn unshare_below(folder: &Path, deadline: Option<Instant>) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !unshare_below(&entry.path(), deadline)? {
                return Ok(false);
            }
        } else if kind.is_file() && entry.metadata()?.nlink() > 1 {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            copy(&entry.path())?;
        }
    }
    Ok(true)
}

/// [`unshare`] for as long as an install may take longer for it; what cannot be copied now is tried again later.
pub(super) fn at_once(environment: &Path) {
    if let Err(error) = unshare(environment, AT_ONCE) {
        tracing::warn!(%error, "files of an environment are still shared with uv's cache");
    }
}

/// Copies these files and what is in these folders, as [`at_once`] does.
pub(super) fn first(some: impl Iterator<Item = PathBuf>) {
    if let Err(error) = unshare_first(some, AT_ONCE) {
        tracing::warn!(%error, "files of an environment are still shared with uv's cache");
    }
}

/// Copies the rest, and lets others get at the environment in between.
pub(super) async fn settle(environment: &Path, lock: &Path) {
    while has_rest(environment) {
        match settle_once(environment, lock).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "files of an environment are still shared with uv's cache");
                return;
            }
        }
    }
}

/// Copies what is shared now, piece by piece; whether nothing has come meanwhile.
async fn settle_once(environment: &Path, lock: &Path) -> io::Result<bool> {
    let of = environment.to_owned();
    let mut shared = blocking(move || {
        let mut shared = Vec::new();
        shared_below(&of, &mut shared).map(|()| shared)
    })
    .await?;
    while !shared.is_empty() {
        let held = lock::exclusive(lock, &|_| ()).await;
        let held = held.map_err(io::Error::other)?;
        shared = blocking(move || {
            let _held = held;
            copy_some(shared)
        })
        .await?;
        if !shared.is_empty() {
            sleep(IN_BETWEEN).await;
        }
    }
    let of = environment.to_owned();
    let held = lock::exclusive(lock, &|_| ()).await;
    let held = held.map_err(io::Error::other)?;
    blocking(move || {
        let _held = held;
        unshare(&of, Duration::ZERO)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The files that are shared, while others may change what there is.
fn shared_below(folder: &Path, shared: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(about) if about.is_dir() => shared_below(&entry.path(), shared)?,
            Ok(about) if about.is_file() && about.nlink() > 1 => shared.push(entry.path()),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Copies files that are still there and shared, at least one, for a while; the others.
fn copy_some(mut shared: Vec<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let begun = Instant::now();
    while let Some(path) = shared.pop() {
        let about = fs::symlink_metadata(&path);
        if about.is_ok_and(|about| about.is_file() && about.nlink() > 1) {
            copy(&path)?;
        }
        if begun.elapsed() > A_WHILE {
            break;
        }
    }
    Ok(shared)
}

/// Replaces a file by a copy of the same mode and time: what Python has compiled stays valid.
fn copy(path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".nb-part");
    let part = path.with_file_name(name);
    let copied = copy_to(path, &part).and_then(|()| fs::rename(&part, path));
    if copied.is_err() {
        let _none = fs::remove_file(part);
    }
    copied
}

fn copy_to(path: &Path, part: &Path) -> io::Result<()> {
    fs::copy(path, part)?;
    let modified = fs::metadata(path)?.modified()?;
    // Times need no right to write.
    fs::File::open(part)?.set_modified(modified)
}

fn mark(environment: &Path) -> PathBuf {
    let mut mark = environment.to_owned().into_os_string();
    mark.push(".shared");
    mark.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long it takes to look at all files, each look is followed by copying some.
    #[tokio::test]
    async fn what_is_shared_is_copied_piece_by_piece() {
        let root = tempfile::tempdir().unwrap();
        let (cache, env) = (root.path().join("cache.py"), root.path().join("env"));
        fs::create_dir_all(env.join("lib/deep")).unwrap();
        fs::write(&cache, "original").unwrap();
        expect(&env).unwrap();
        let links = ["a.py", "lib/b.py", "lib/deep/c.py"].map(|name| env.join(name));
        for link in &links {
            fs::hard_link(&cache, link).unwrap();
        }
        std::os::unix::fs::symlink(&cache, env.join("link")).unwrap();
        let mut shared = Vec::new();
        shared_below(&env, &mut shared).unwrap();
        assert_eq!(shared.len(), 3);
        // What is gone by then is passed over.
        fs::remove_file(&links[2]).unwrap();
        assert!(copy_some(shared).unwrap().is_empty());
        fs::hard_link(&cache, &links[2]).unwrap();
        settle(&env, &root.path().join("lock")).await;
        assert!(!has_rest(&env));
        assert!(
            links
                .iter()
                .all(|link| fs::metadata(link).unwrap().nlink() == 1)
        );
    }

    #[test]
    fn an_edit_in_place_reaches_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let (cache, env) = (root.path().join("cache.py"), root.path().join("env"));
        fs::create_dir_all(env.join("lib")).unwrap();
        fs::write(&cache, "original").unwrap();
        let installed = env.join("lib/a.py");
        assert!(unshare(&env, Duration::ZERO).unwrap());
        expect(&env).unwrap();
        fs::hard_link(&cache, &installed).unwrap();
        assert!(!unshare(&env, Duration::ZERO).unwrap() && has_rest(&env));
        assert!(unshare(&env, Duration::from_secs(10)).unwrap() && !has_rest(&env));
        let times = [&cache, &installed].map(|file| fs::metadata(file).unwrap().mtime_nsec());
        assert_eq!(times[0], times[1]);
        fs::write(&installed, "edited").unwrap();
        assert_eq!(fs::read_to_string(&cache).unwrap(), "original");
        expect(&env).unwrap();
        for name in ["b.py", "c.py"] {
            fs::hard_link(&cache, env.join("lib").join(name)).unwrap();
        }
        let some = [env.join("lib/b.py"), env.join("none")];
        unshare_first(some.into_iter(), Duration::ZERO).unwrap();
        let links =
            ["b.py", "c.py"].map(|name| fs::metadata(env.join("lib").join(name)).unwrap().nlink());
        assert_eq!((links, has_rest(&env)), ([1, 2], true));
        assert_eq!(fs::read_dir(env.join("lib")).unwrap().count(), 3);
    }
}
