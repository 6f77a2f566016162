//! What workspaces are called, and what may be asked for of a repository. Pure.

/// A longer name fits in no table.
const CHARS_MAX: usize = 64;

/// Whether a folder can be called so anywhere, and is not taken for a flag, nor for one of ours.
pub fn is_valid(name: &str) -> bool {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty()
        && name.len() <= CHARS_MAX
        && name.chars().all(is_usual)
        && !name.starts_with(['.', '-'])
}

/// The name that git's own `clone` takes: the last part of the address.
pub fn of_address(address: &str) -> Option<String> {
    let path = address.trim_end_matches('/');
    let path = path.strip_suffix("/.git").unwrap_or(path);
    let last = path.rsplit(['/', ':']).next()?;
    let name = last.strip_suffix(".git").unwrap_or(last);
    is_valid(name).then(|| name.to_owned())
}

/// A folder of a repository as git has it; nothing for one that leads out of it or could be a flag.
pub fn folder(path: &str) -> Option<String> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let is_sound = |part: &&str| *part != ".." && *part != ".git";
    let is_plain = !path.starts_with('/') && !path.chars().any(char::is_control);
    let folder = parts.join("/");
    let could_be_one = !folder.is_empty() && !folder.starts_with('-');
    (is_plain && could_be_one && parts.iter().all(is_sound)).then_some(folder)
}

/// Whether git may call a branch or a tag so (git-check-ref-format(1)), and it is not taken for a flag or for more than one.
pub fn is_reference(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.chars().all(is_plain)
        && name.split('/').all(is_part)
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && name != "@"
}

/// Whether this is the whole hash of a commit.
pub fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_called_like_its_repository() {
        for (address, name) in [
            ("https://host/team/mono.git", Some("mono")),
            ("https://host/team/mono/", Some("mono")),
            ("git@host:mono.git", Some("mono")),
            ("/srv/mono/.git", Some("mono")),
            ("ssh://host/a.b-c_d", Some("a.b-c_d")),
            ("https://host/~ada", None),
            ("host:.git", None),
            ("/", None),
        ] {
            assert_eq!(of_address(address).as_deref(), name, "{address}");
        }
    }

    #[test]
    fn what_would_be_a_flag_or_one_of_ours_is_no_name() {
        let long = "x".repeat(CHARS_MAX + 1);
        for name in ["", ".nb", "..", "-x", "a/b", "a b", "a\n", &long] {
            assert!(!is_valid(name), "{name:?}");
        }
    }

    #[test]
    fn a_folder_stays_in_its_repository() {
        assert_eq!(folder("./a//b/").as_deref(), Some("a/b"));
        for path in [
            "", ".", "/a", "../a", "a/../..", "-a", "./-a", "a\nb", ".git", "a/.git",
        ] {
            assert_eq!(folder(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_repository_elsewhere_names_no_flag_and_no_pattern() {
        for name in ["main", "a/b-c", "v1.0", "é", "@x"] {
            assert!(is_reference(name), "{name}");
        }
        for name in [
            "",
            "-d",
            "a b",
            "a:b",
            "*",
            "a/*",
            "a..b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a@{1}",
            "@",
            "a\n",
            "a.",
            "x\u{1b}[2J",
        ] {
            assert!(!is_reference(name), "{name:?}");
        }
    }

    #[test]
    fn a_hash_is_whole() {
        assert!(is_hash(&"0a".repeat(20)) && is_hash(&"0a".repeat(32)));
        assert!(!is_hash("0a0a") && !is_hash(&"0A".repeat(20)) && !is_hash(&"x".repeat(40)));
    }
}
