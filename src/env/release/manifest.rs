//! What a release is for: a manifest, which is lines of requirements, some of them folders of a repository. Pure.
//!
//! Knows nothing of where the folders are, nor of what is in them.

/// A manifest that can be followed: all that it means is in it, in its lock and in its folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(in crate::env) text: String,
    /// The distributions that it names.
    pub(super) names: Vec<String>,
    /// The lines that name them.
    pub(super) requirements: Vec<String>,
    /// The first-party packages: folders, from the root of the repository.
    pub(in crate::env) folders: Vec<String>,
}

impl Manifest {
    /// Reads one; an error says which line cannot be, and why.
    pub(in crate::env) fn parse(text: &str) -> Result<Self, String> {
        let mut manifest = Self {
            text: text.to_owned(),
            names: Vec::new(),
            requirements: Vec::new(),
            folders: Vec::new(),
        };
        for (n, line) in text.lines().enumerate() {
            let line = without_remark(line).trim();
            if !line.is_empty() {
                let added = manifest.add(line);
                added.map_err(|why| format!("line {} of the manifest {why}", n + 1))?;
            }
        }
        if manifest.requirements.is_empty() && manifest.folders.is_empty() {
            return Err("the manifest names no package".to_owned());
        }
        Ok(manifest)
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        if is_option(line, "-e", "--editable") {
            return Err(
                "is editable, which a release never is: without -e its package is built and copied",
            );
        }
        if is_option(line, "-r", "--requirement") || is_option(line, "-c", "--constraint") {
            return Err("names another file, which would not be followed: put its lines here");
        }
        if line.starts_with('-') {
            return Err("is an option; where packages come from is a setting of uv");
        }
        if is_path(line) {
            let folder = folder(line)?;
            if !self.folders.contains(&folder) {
                self.folders.push(folder);
            }
            return Ok(());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let (name, rest) = line.split_at(line.find(|c| !is_name(c)).unwrap_or(line.len()));
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || rest.starts_with([':', '+']) {
            return Err(
                "is neither a requirement nor a path; a URL has its name before it: NAME @ URL",
            );
        }
        let source = rest.trim_start().strip_prefix('@').map(str::trim_start);
        if source.is_some_and(|source| !source.contains("://") || source.starts_with("file:")) {
            return Err("names a path behind a @: write the path alone, ./like/this");
        }
        self.names.push(name.to_owned());
        self.requirements.push(line.to_owned());
        Ok(())
    }
}

/// A path of a repository from its root, in git's spelling; an error says what is wrong with it.
pub(in crate::env) fn in_repository(path: &str) -> Result<String, &'static str> {
    if path.starts_with('/') || path.starts_with('~') {
        return Err("is not a path of the repository");
    }
    if path.chars().any(char::is_control) {
        return Err("has control characters in its path");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            ".." => return Err("leaves the repository"),
            ".git" => return Err("is of git itself"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The lock without the folders of the repository, which `uv pip compile` leaves in it and which have no hashes.
pub(super) fn without_paths(lock: &str) -> String {
    let mut is_left = false;
    let kept = lock.lines().filter(|line| {
        if !line.starts_with([' ', '\t', '#']) {
            is_left = is_path(line) || is_option(line, "-e", "--editable");
        }
        !is_left
    });
    kept.map(|line| format!("{line}\n")).collect()
}

fn without_remark(line: &str) -> &str {
    let remark = match line.starts_with('#') {
        true => Some(0),
        false => line.find(" #").or_else(|| line.find("\t#")),
    };
    &line[..remark.unwrap_or(line.len())]
}

fn is_option(line: &str, short: &str, long: &str) -> bool {
    let is_long = line.strip_prefix(long);
    is_long.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=', '\t']))
        || (line.starts_with(short) && !line.starts_with("--"))
}

/// Whether it is a path as pip takes one: with a slash before all else, or a dot.
fn is_path(line: &str) -> bool {
    let first = line.split([' ', '\t', ';', '@', '[']).next();
    let first = first.unwrap_or_default();
    first.starts_with('.')
        || (first.contains('/') && !first.contains(':'))
        || first.starts_with("file:")
}

fn folder(line: &str) -> Result<String, &'static str> {
    if line.starts_with("file:") {
        return Err("is a URL of a file: write a path of the repository, ./like/this");
    }
    if line.contains([' ', '\t', ';', '@', '\\']) {
        return Err("has more than a path");
    }
    let path = match line.split_once('[') {
        Some((path, extras)) if extras.ends_with(']') => path,
        Some(_) => return Err("has an extra that does not end"),
        None => line,
    };
    in_repository(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_manifest_names_distributions_and_folders() {
        let text = "# all\nnumpy>=2 # why\n\n  scikit-learn[x]; python_version>'3'\nsix\n./libs/foo\n\
                    tools/../libs/bar/[all]  # ours\n./libs/foo/\nx @ https://host/x.whl#sha256=1\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.names, ["numpy", "scikit-learn", "six", "x"]);
        assert_eq!(manifest.folders, ["libs/foo", "libs/bar"]);
        assert_eq!(manifest.requirements[0], "numpy>=2");
        assert_eq!(manifest.requirements[3], "x @ https://host/x.whl#sha256=1");
        assert_eq!(Manifest::parse(".").unwrap().folders, [""]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_its_line() {
        for (line, why) in [
            ("-e ./libs/foo", "editable"),
            ("-e./libs/foo", "editable"),
            ("--editable=./libs/foo", "editable"),
            ("-r other.in", "another file"),
            ("--constraint other.in", "another file"),
            ("--index-url https://u:p@host", "setting of uv"),
            ("    --hash=sha256:1", "setting of uv"),
            ("../foo", "leaves the repository"),
            ("./a/../../foo", "leaves the repository"),
            ("/srv/foo", "not a path of the repository"),
            ("~/foo", "not a path of the repository"),
            ("file:///srv/foo", "a URL of a file"),
            ("./foo; python_version>'3'", "more than a path"),
            ("./foo[x", "does not end"),
            ("./.git/hooks", "of git itself"),
            ("foo @ ./foo", "write the path alone"),
            ("foo @ file:///foo", "write the path alone"),
            ("git+https://host/x", "NAME @ URL"),
            ("https://host/x.whl", "NAME @ URL"),
            ("=1", "neither a requirement nor a path"),
        ] {
            let refused = Manifest::parse(&format!("six\n{line}\n")).unwrap_err();
            let is_told = refused.starts_with("line 2 of the manifest") && refused.contains(why);
            assert!(is_told, "{line}: {refused}");
        }
        let empty = Manifest::parse("# nothing\n").unwrap_err();
        assert_eq!(empty, "the manifest names no package");
    }

    #[test]
    fn a_lock_is_left_with_what_has_hashes() {
        let lock = "# made\n./libs/foo\n    # via -r x.in\nsix==1 \\\n    --hash=sha256:1\n    # via foo\n\
                    libs/bar\n-e ./libs/baz\n    # via\n    #   x\nz @ https://host/z.whl \\\n    --hash=sha256:2\n";
        assert_eq!(
            without_paths(lock),
            "# made\nsix==1 \\\n    --hash=sha256:1\n    # via foo\nz @ https://host/z.whl \\\n    --hash=sha256:2\n"
        );
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_repository(path in "[./a~ -]{0,12}") {
            if let Ok(path) = in_repository(&path) {
                prop_assert!(path.split('/').all(|part| part != ".." && part != "."));
                prop_assert!(!path.starts_with('/'));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _either = Manifest::parse(&text);
            without_paths(&text);
        }
    }
}
