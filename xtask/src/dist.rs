//! What is given to people: the program, a wheel that holds it, units of systemd, a container file, checksums.
//!
//! The program is linked against glibc and libgcc's unwinder, which Rust's standard library asks for and every glibc system has; all else is in
//! it. Static it cannot be: musl's standard library is not among the build's tools, and a static glibc knows no users but those of `/etc/passwd`, where nb has to find those of LDAP and sssd as well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const FOLDER: &str = "target/dist";

/// What goes with the program.
const FILES: [&str; 3] = [
    "packaging/systemd/nb.service",
    "packaging/systemd/nb.socket",
    "packaging/Containerfile",
];

/// The libraries that every glibc system has (manylinux allows them too); the program needs no others.
const LIBRARIES: [&str; 5] = [
    "libc.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// `jupyter nb …` runs this.
const JUPYTER_NB: &str = "#!/bin/sh\nexec \"$(dirname \"$0\")/nb\" \"$@\"\n";

/// Makes all of it in `target/dist`, of a release.
pub(crate) fn dist() -> Result<(), String> {
    super::cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "nb",
        "--bin",
        "nb",
    ])?;
    let folder = Path::new(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{FOLDER}: {error}"))?;
    }
    dist_of(Path::new("target/release/nb"), folder)
}

/// The same of a program that was built before, into a folder that it may be alone in.
pub(crate) fn dist_of(built: &Path, folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let program = folder.join("nb");
    fs::copy(built, &program).map_err(failed)?;
    let needs = needed(&program)?;
    if let Some(other) = needs
        .libraries
        .iter()
        .find(|name| !LIBRARIES.contains(&&***name))
    {
        return Err(format!(
            "the program needs {other}, which not every machine has"
        ));
    }
    wheel(&program, &needs.glibc, folder)?;
    for file in FILES {
        let name = Path::new(file).file_name().unwrap_or_default();
        fs::copy(file, folder.join(name)).map_err(failed)?;
    }
    fs::write(
        folder.join("SHA256SUMS"),
        checksums(folder).map_err(failed)?,
    )
    .map_err(failed)
}

/// What a program needs of the machine.
struct Needs {
    libraries: Vec<String>,
    /// The oldest glibc that it runs with: major and minor number.
    glibc: (u32, u32),
}

fn needed(program: &Path) -> Result<Needs, String> {
    let said = Command::new("objdump")
        .arg("-p")
        .arg(program)
        .output()
        .map_err(|error| format!("objdump: {error}"))?;
    let said = String::from_utf8_lossy(&said.stdout);
    let libraries = said.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("NEEDED")?;
        Some(name.trim().to_owned())
    });
    Ok(Needs {
        libraries: libraries.collect(),
        glibc: newest_glibc(&said).ok_or("objdump tells no version of glibc")?,
    })
}

/// Of all versions that are named, as in `GLIBC_2.34`.
fn newest_glibc(said: &str) -> Option<(u32, u32)> {
    let versions = said.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let mut numbers = rest[..end.unwrap_or(rest.len())].split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.max()
}

/// Makes a wheel that puts the program onto the path; where it is.
fn wheel(program: &Path, &(major, minor): &(u32, u32), folder: &Path) -> Result<PathBuf, String> {
    let version = version()?;
    let tag = format!(
        "py3-none-manylinux_{major}_{minor}_{}",
        std::env::consts::ARCH
    );
    let tree = folder.join("wheel");
    let about = format!("nb-{version}.dist-info");
    let scripts = format!("nb-{version}.data/scripts");
    let failed = |error: std::io::Error| format!("the wheel: {error}");
    for part in [&about, &scripts] {
        fs::create_dir_all(tree.join(part)).map_err(failed)?;
    }
    fs::copy(program, tree.join(&scripts).join("nb")).map_err(failed)?;
    let script = tree.join(&scripts).join("jupyter-nb");
    fs::write(&script, JUPYTER_NB).map_err(failed)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let metadata = format!(
        "Metadata-Version: 2.1\nName: nb\nVersion: {version}\nSummary: A kernel gateway for Jupyter clients that loses nothing\n"
    );
    fs::write(tree.join(&about).join("METADATA"), metadata).map_err(failed)?;
    let kind =
        format!("Wheel-Version: 1.0\nGenerator: xtask\nRoot-Is-Purelib: false\nTag: {tag}\n");
    fs::write(tree.join(&about).join("WHEEL"), kind).map_err(failed)?;
    let files = [
        format!("{scripts}/nb"),
        format!("{scripts}/jupyter-nb"),
        format!("{about}/METADATA"),
        format!("{about}/WHEEL"),
    ];
    let mut record = String::new();
    for file in &files {
        let content = fs::read(tree.join(file)).map_err(failed)?;
        let sum = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&content));
        record += &format!("{file},sha256={sum},{}\n", content.len());
    }
    record += &format!("{about}/RECORD,,\n");
    fs::write(tree.join(&about).join("RECORD"), record).map_err(failed)?;
    let wheel = folder.join(format!("nb-{version}-{tag}.whl"));
    // Packed from within, so that its names begin there.
    let to = std::path::absolute(&wheel).map_err(failed)?;
    let packed = Command::new("python3")
        .args(["-m", "zipfile", "-c"])
        .arg(&to)
        .args([&about, &format!("nb-{version}.data")])
        .current_dir(&tree)
        .status();
    if !packed.map_err(failed)?.success() {
        return Err("python3 -m zipfile has failed".to_owned());
    }
    fs::remove_dir_all(&tree).map_err(failed)?;
    Ok(wheel)
}

/// The product's, out of its manifest.
fn version() -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let manifest = fs::read_to_string(root).map_err(|error| format!("Cargo.toml: {error}"))?;
    let mut lines = manifest.lines().skip_while(|line| *line != "[package]");
    let line = lines.find_map(|line| line.strip_prefix("version = \""));
    let version = line.and_then(|line| line.strip_suffix('"'));
    version
        .map(str::to_owned)
        .ok_or_else(|| "Cargo.toml has no version".to_owned())
}

/// Of all files in the folder, as `sha256sum --check` reads them.
fn checksums(folder: &Path) -> std::io::Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut sums = String::new();
    for file in files {
        let sum = Sha256::digest(fs::read(&file)?);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = file.file_name().unwrap_or_default();
        sums += &format!("{sum}  {}\n", name.to_string_lossy());
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_found() {
        let said = "  0x1 0x00 05 GLIBC_2.9\n  0x2 0x00 04 GLIBC_2.34\n  GLIBC_2.2.5";
        assert_eq!(newest_glibc(said), Some((2, 34)));
        assert_eq!(newest_glibc("nothing"), None);
    }

    /// pip installs what is made, checks its record, and the program runs.
    #[test]
    fn a_wheel_puts_the_program_onto_the_path() {
        let folder = std::env::temp_dir().join(format!("nb-wheel-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        fs::write(&program, "#!/bin/sh\necho \"nb $@\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let made = wheel(&program, &(2, 17), &folder).unwrap();
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let said = Command::new(program).args(arguments).output().unwrap();
            assert!(said.status.success(), "{said:?}");
            String::from_utf8(said.stdout).unwrap()
        };
        let venv = folder.join("venv");
        run(
            "python3",
            &["-m".as_ref(), "venv".as_ref(), venv.as_os_str()],
        );
        let own = |name: &str| venv.join("bin").join(name).to_string_lossy().into_owned();
        let install = ["-m", "pip", "install", "--quiet", "--no-index"].map(AsRef::as_ref);
        run(
            &own("python"),
            &[&install[..], &[made.as_os_str()]].concat(),
        );
        for name in ["nb", "jupyter-nb"] {
            assert_eq!(run(&own(name), &["a b".as_ref()]), "nb a b\n");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
