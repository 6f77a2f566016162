//! `python -m pip` in an environment of ours: a package that is called pip and calls nb.

use std::fs;
use std::io;
use std::path::Path;

use crate::env::installed::site_packages;
use crate::env::whole;

/// What it is made of.
const FILES: [(&str, &str); 2] = [
    ("__init__.py", include_str!("stub/__init__.py")),
    ("__main__.py", include_str!("stub/__main__.py")),
];

/// Makes `python -m pip` ours, also where pip itself was installed: its files may be those of uv's cache, which stay as they are.
pub(in crate::env) fn put_pip(environment: &Path) -> io::Result<()> {
    let packages = site_packages(environment).ok_or(io::ErrorKind::NotFound)?;
    let folder = packages.join("pip");
    fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        whole::replace_for(0o644, &folder.join(name), text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_itself_stays_what_it_is_in_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let cached = folder.path().join("cached.py");
        fs::write(&cached, "pip itself").unwrap();
        let environment = folder.path().join("environment");
        let pip = environment.join("lib/python3.11/site-packages/pip");
        fs::create_dir_all(&pip).unwrap();
        fs::hard_link(&cached, pip.join("__main__.py")).unwrap();
        put_pip(&environment).unwrap();
        assert_eq!(fs::read_to_string(&cached).unwrap(), "pip itself");
        let ours = fs::read_to_string(pip.join("__main__.py")).unwrap();
        assert!(ours.contains("NB_PIP"), "{ours}");
    }
}
