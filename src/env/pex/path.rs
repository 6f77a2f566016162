//! Paths in a pex: which are safe to make, and what of a distribution belongs into `site-packages`.
//!
//! Pure text.

const PATH_MAX: usize = 1024;
const NAME_MAX: usize = 255;

/// Whether this is a path to something below where it is made, and can be made.
pub(super) fn is_safe(path: &str) -> bool {
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX;
    path.len() <= PATH_MAX && !path.contains(['\0', '\\']) && path.split('/').all(is_name)
}

/// Where a file of a wheel, packed or installed by pex, belongs in `site-packages`; nothing when it does not.
///
/// pex keeps what belongs elsewhere under `.prefix`, a wheel under `NAME.data`; both may have modules in there.
pub(super) fn in_site_packages(path: &str) -> Option<&str> {
    if is_cache(path) {
        return None;
    }
    let Some((top, rest)) = path.split_once('/') else {
        return (path != ".layout.json").then_some(path);
    };
    if top == ".prefix" || top.ends_with(".data") {
        let (kind, rest) = rest.split_once('/')?;
        return matches!(kind, "purelib" | "platlib").then_some(rest);
    }
    (!top.ends_with(".pex-info")).then_some(path)
}

/// Whether a file of a pex, outside of `.deps`, is code of the user.
pub(super) fn is_code(path: &str) -> bool {
    let top = path.split_once('/').map_or(path, |(top, _)| top);
    let is_folder_of_pex = matches!(top, ".bootstrap" | ".deps" | "__pex__");
    let is_file_of_pex = matches!(path, "PEX-INFO" | "__main__.py" | "pex" | "pex-repl");
    !is_folder_of_pex && !is_file_of_pex && !is_cache(path)
}

/// What Python compiled is for the one interpreter that did, and changes without anybody's doing.
fn is_cache(path: &str) -> bool {
    path.split('/').any(|name| name == "__pycache__")
}

/// The name by which Python imports what begins so; nothing when it does not.
pub(super) fn module(path: &str) -> Option<&str> {
    let (top, is_file) = match path.split_once('/') {
        Some((top, _)) => (top, false),
        None => (path, true),
    };
    let name = match is_file {
        false => top,
        true if top.ends_with(".py") || top.ends_with(".so") => top.split('.').next()?,
        true => return None,
    };
    let is_identifier = |c: char| c == '_' || c.is_alphanumeric();
    let starts_well = !name.is_empty() && !name.starts_with(|c: char| c.is_numeric());
    (starts_well && name.chars().all(is_identifier)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_not_safe() {
        for path in [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "a//b",
            "a/./b",
            "a\\b",
            "a\0",
            "a/",
        ] {
            assert!(!is_safe(path), "{path:?}");
        }
        assert!(!is_safe(&"a".repeat(NAME_MAX + 1)) && !is_safe(&"a/".repeat(PATH_MAX)));
        for path in ["a", "a/b.py", "..a", "é/ü", "a b"] {
            assert!(is_safe(path), "{path:?}");
        }
    }

    #[test]
    fn what_belongs_into_site_packages_is_known() {
        for (path, place) in [
            ("six.py", Some("six.py")),
            ("a-1.dist-info/METADATA", Some("a-1.dist-info/METADATA")),
            (".prefix/platlib/a/b.so", Some("a/b.so")),
            ("a-1.data/purelib/a.py", Some("a.py")),
            (".layout.json", None),
            (".prefix/bin/f2py", None),
            ("a-1.data/scripts/a", None),
            ("a-1.pex-info/original-whl-info.json", None),
            ("a/__pycache__/b.cpython-311.pyc", None),
        ] {
            assert_eq!(in_site_packages(path), place, "{path}");
        }
    }

    #[test]
    fn the_users_code_is_what_is_not_of_pex() {
        let code = ["corp/__init__.py", "pex/own.py", "main.py", "data.csv"];
        assert!(code.iter().all(|path| is_code(path)));
        let pex = [
            "PEX-INFO",
            "__main__.py",
            "pex",
            "__pex__/__init__.py",
            ".bootstrap/pex/a.py",
            ".deps/a.whl",
        ];
        assert!(!pex.iter().any(|path| is_code(path)));
    }

    #[test]
    fn modules_are_named_by_what_they_begin_with() {
        for (path, name) in [
            ("six.py", Some("six")),
            ("corp/a/b.py", Some("corp")),
            (
                "_cffi_backend.cpython-311-x86_64-linux-gnu.so",
                Some("_cffi_backend"),
            ),
            ("numpy.libs/a.so", None),
            ("a-1.dist-info/RECORD", None),
            ("a.pth", None),
            ("3d/a.py", None),
        ] {
            assert_eq!(module(path), name, "{path}");
        }
    }
}
