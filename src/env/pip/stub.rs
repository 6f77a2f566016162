//! `python -m pip` in an environment of ours: a package that is called pip and calls nb.

use std::fs;
use std::io;
use std::path::Path;

use crate::env::installed::site_packages;

/// What it is made of.
const FILES: [(&str, &str); 2] = [
    ("__init__.py", include_str!("stub/__init__.py")),
    ("__main__.py", include_str!("stub/__main__.py")),
];

/// Makes `python -m pip` ours.
pub(in crate::env) fn put_pip(environment: &Path) -> io::Result<()> {
    let packages = site_packages(environment).ok_or(io::ErrorKind::NotFound)?;
    let folder = packages.join("pip");
    fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
