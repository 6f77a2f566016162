//! What an interpreter seems to be, by its name and the files beside it, for as long as nobody has asked it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::About;
use crate::env::version::Version;

/// The header that tells the version is shorter.
const HEADER_MAX: u64 = 64 * 1024;

/// What it seems to be, on the machine of one that is known.
pub(super) fn about(path: &Path, like: &About) -> Option<About> {
    let name = path.file_name()?.to_str()?;
    let (implementation, rest) = match name.strip_prefix("pypy") {
        Some(rest) => ("PyPy", rest),
        None => ("CPython", name.strip_prefix("python")?),
    };
    let number = rest.strip_suffix('t').unwrap_or(rest);
    let prefix = path.parent()?.parent()?;
    let header = prefix.join("include").join(name).join("patchlevel.h");
    let version = exact(&header)
        .or_else(|| folder(prefix, number))
        .or_else(|| number.parse().ok())?;
    Some(About {
        implementation: implementation.to_owned(),
        version,
        free_threaded: rest.ends_with('t'),
        debug: false,
        soabi: match implementation {
            "PyPy" => format!("pypy{}-pp73", number.replace('.', "")),
            _ => String::new(),
        },
        platform: like.platform.clone(),
        glibc: like.glibc.clone(),
    })
}

/// `#define PY_VERSION "3.9.18"` of CPython's headers.
fn exact(header: &Path) -> Option<Version> {
    let mut text = String::new();
    let file = File::open(header).ok()?;
    file.take(HEADER_MAX).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let version = lines.find_map(|line| line.trim_start().strip_prefix("#define PY_VERSION "))?;
    version.trim().trim_matches('"').parse().ok()
}

/// `versions/3.9.18` of pyenv, `cpython-3.12.1-linux-x86_64-gnu` of uv.
fn folder(prefix: &Path, number: &str) -> Option<Version> {
    let name = prefix.file_name()?.to_str()?;
    let mut parts = name.split(['-', '+']);
    let version = parts.find(|part| part.starts_with(&format!("{number}.")))?;
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::interpreters::tests::about as known;
    use std::fs;

    #[test]
    fn names_folders_and_headers_tell_the_version() {
        let root = tempfile::tempdir().unwrap();
        let like = known("CPython", "3.11.7");
        let guess = |path: &str| about(&root.path().join(path), &like).map(|it| it.to_string());
        let headers = root.path().join("a/include/python3.9");
        fs::create_dir_all(&headers).unwrap();
        let text =
            "/* */\n#define PY_VERSION_HEX 1\n#define PY_VERSION              \t\"3.9.18\"\n";
        fs::write(headers.join("patchlevel.h"), text).unwrap();
        for (path, version) in [
            ("a/bin/python3.9", "CPython 3.9.18"),
            ("versions/3.8.18/bin/python3.8", "CPython 3.8.18"),
            (
                "cpython-3.12.1-linux-x86_64-gnu/bin/python3.12",
                "CPython 3.12.1",
            ),
            ("usr/bin/python3.10", "CPython 3.10"),
            ("b/bin/python3.13t", "CPython 3.13 (free-threaded)"),
            ("b/bin/pypy3.10", "PyPy 3.10"),
        ] {
            assert_eq!(guess(path).as_deref(), Some(version), "{path}");
        }
        assert_eq!(guess("bin/graalpy"), None);
    }
}
