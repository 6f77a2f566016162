//! What the tests need beside this repository, from locks: Python environments, Node's packages, programs of Debian, the last release.
//! What is there as its lock says is left alone.

use std::env;
use std::fs;
use std::path::Path;

use super::PLUGIN;
use super::run::{cargo, run};

/// The Python environments of the tests, each with the lock of its packages and the Python that it is of: of kernels, of
/// clients that know no gateway, of what makes requests of the OpenAPI document, of what makes pexes, of a package index,
/// and of pants, which runs on no newer one.
const PYTHONS: [(&str, &str, &str); 7] = [
    ("target/test-env", "tests/python/kernel.lock", "python3"),
    ("target/clients-env", "tests/python/clients.lock", "python3"),
    ("target/api-env", "tests/python/api.lock", "python3"),
    ("target/pex-env", "tests/python/pex.lock", "python3"),
    (OLD_PEX, OLD_PEX_LOCK, "python3"),
    ("target/index-env", "tests/python/index.lock", "python3"),
    ("target/pants-env", "tests/python/pants.lock", "python3.9"),
];

/// The pex that pants calls.
const OLD_PEX: &str = "target/pex-old-env";
const OLD_PEX_LOCK: &str = "tests/python/pex-old.lock";

/// What is put into the pexes of the tests.
const WHEELS: (&str, &str) = ("target/pex-wheels", "tests/python/pex-wheels.lock");

/// The client suites.
const CLIENTS: &str = "tests/js";

/// The kernelspec of R's kernel, as Debian installs it.
const R_KERNEL: &str = "/usr/share/jupyter/kernels/ir/kernel.json";

/// Where Debian has PostgreSQL's programs.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// The commit of the last release, whose supervisors the tests put under today's gateway.
const LAST_RELEASE: &str = "packaging/last-release";

/// Installs what the tests need, from locks.
pub(crate) fn setup() -> Result<(), String> {
    for (folder, lock, of) in PYTHONS {
        python(folder, lock, of)?;
    }
    wheels(WHEELS)?;
    pex_as_pex()?;
    clients()?;
    scala()?;
    last_release()
}

/// Where the environments of tests that share one are, and the jars of the Scala kernel.
const DATA: &str = "target/nb-data";

/// The jars of the Scala kernel and what it makes of them, as its first start would.
fn scala() -> Result<(), String> {
    if !is_there("javac") {
        debian(&["openjdk-17-jdk-headless"])?;
    }
    fs::create_dir_all(DATA).map_err(|error| format!("{DATA}: {error}"))?;
    let data = fs::canonicalize(DATA).map_err(|error| format!("{DATA}: {error}"))?;
    let data = format!("--data={}", data.display());
    let prepare = [
        "run",
        "--quiet",
        "--locked",
        "--bin",
        "nb",
        "--",
        "scala-kernel",
        "--prepare",
    ];
    cargo(&[&prepare[..], &[&data]].concat())
}

/// The program of the last release, from the history of this repository: `target/last-release/nb`. Built once.
fn last_release() -> Result<(), String> {
    let commit =
        fs::read_to_string(LAST_RELEASE).map_err(|error| format!("{LAST_RELEASE}: {error}"))?;
    let commit = commit.trim();
    let folder = Path::new("target/last-release");
    let done = folder.join("made-from");
    if fs::read_to_string(&done).is_ok_and(|made_from| made_from == commit) {
        return Ok(());
    }
    let source = folder.join("source");
    if source.exists() {
        fs::remove_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    }
    fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let archive = path(&folder.join("source.tar"));
    let pack = ["archive", "--format=tar", "--output", &archive, commit];
    if run("git", &pack).is_err() {
        // Of a clone without its history.
        run("git", &["fetch", "--depth=1", "origin", commit])?;
        run("git", &pack)?;
    }
    run("tar", &["-xf", &archive, "-C", &path(&source)])?;
    let (manifest, target) = (
        path(&source.join("Cargo.toml")),
        path(&folder.join("build")),
    );
    cargo(&[
        "build",
        "--locked",
        "--bin",
        "nb",
        "--manifest-path",
        &manifest,
        "--target-dir",
        &target,
    ])?;
    let built = folder.join("build/debug/nb");
    fs::copy(&built, folder.join("nb")).map_err(|error| format!("{}: {error}", built.display()))?;
    fs::write(&done, commit).map_err(|error| format!("{}: {error}", done.display()))
}

/// Node, Chromium, R's kernel, PostgreSQL, the packages of the client suites and what else is not on every machine.
fn clients() -> Result<(), String> {
    node()?;
    for (there, packages) in [
        (is_there("chromium"), &["chromium"][..]),
        // For a disk that is full, or does not answer.
        (is_there("mkfs.ext4"), &["e2fsprogs"][..]),
        // For a start without a network.
        (is_there("ip"), &["iproute2"][..]),
        (Path::new(R_KERNEL).exists(), &["r-cran-irkernel"][..]),
        (Path::new(POSTGRESQL).exists(), &["postgresql"][..]),
    ] {
        if !there {
            debian(packages)?;
        }
    }
    packages(CLIENTS)?;
    packages(PLUGIN)
}

pub(crate) fn node() -> Result<(), String> {
    match is_there("npm") {
        true => Ok(()),
        false => debian(&["nodejs", "npm"]),
    }
}

fn debian(packages: &[&str]) -> Result<(), String> {
    let install = ["install", "-y", "--no-install-recommends"];
    run("apt-get", &["update"])?;
    run("apt-get", &[&install[..], packages].concat())
}

/// Node's packages for this folder, from its lock.
pub(crate) fn packages(folder: &str) -> Result<(), String> {
    let lock = format!("{folder}/package-lock.json");
    let locked = fs::read_to_string(&lock).map_err(|error| format!("{lock}: {error}"))?;
    let modules = Path::new(folder).join("node_modules");
    let done = modules.join("made-from");
    if fs::read_to_string(&done).is_ok_and(|made_from| made_from == locked) {
        return Ok(());
    }
    run(
        "npm",
        &["ci", "--prefix", folder, "--no-audit", "--no-fund"],
    )?;
    fs::write(&done, locked).map_err(|error| format!("{}: {error}", done.display()))
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The wheels of a lock, as the Python of the tests can use them.
fn wheels((folder, lock): (&str, &str)) -> Result<(), String> {
    let packages = fs::read_to_string(lock).map_err(|error| format!("{lock}: {error}"))?;
    let done = Path::new(folder).join("made-from");
    if fs::read_to_string(&done).is_ok_and(|made_from| made_from == packages) {
        return Ok(());
    }
    if Path::new(folder).exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    }
    let (python, ..) = PYTHONS[0];
    let python = format!("{python}/bin/python");
    let download = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        folder,
        "-r",
        lock,
    ];
    run(&python, &download)?;
    fs::write(&done, packages).map_err(|error| format!("{}: {error}", done.display()))
}

/// The pex that pants calls, as one file: pants itself would fetch it from where pex is released.
fn pex_as_pex() -> Result<(), String> {
    let file = format!("{OLD_PEX}/pex");
    if Path::new(&file).exists() {
        return Ok(());
    }
    let root = format!("{OLD_PEX}/pex-root");
    let make = [
        "--pex-root",
        &root,
        "-r",
        OLD_PEX_LOCK,
        "-c",
        "pex",
        "-o",
        &file,
    ];
    run(&format!("{OLD_PEX}/bin/pex"), &make)?;
    fs::remove_dir_all(&root).map_err(|error| format!("{root}: {error}"))
}

/// A Python environment in `folder`.
pub(crate) fn python(folder: &str, lock: &str, of: &str) -> Result<(), String> {
    let packages = fs::read_to_string(lock).map_err(|error| format!("{lock}: {error}"))?;
    let done = Path::new(folder).join("made-from");
    if fs::read_to_string(&done).is_ok_and(|made_from| made_from == packages) {
        return Ok(());
    }
    let make = ["-m", "venv", "--clear", folder];
    if let Some(version) = of.strip_prefix("python3.") {
        // pyenv has it on the path and wants to be told that it is meant.
        let pyenv = format!("PYENV_VERSION=3.{version}");
        let made = run("env", &[&[pyenv.as_str(), of], &make[..]].concat());
        made.map_err(|error| format!("{error}; it is needed, on the path or in pyenv"))?;
    } else if run(of, &make).is_err() {
        run(
            "apt-get",
            &["install", "-y", "--no-install-recommends", "python3-venv"],
        )?;
        run(of, &make)?;
    }
    let python = format!("{folder}/bin/python");
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "-r",
        lock,
    ];
    run(&python, &install)?;
    fs::write(&done, packages).map_err(|error| format!("{}: {error}", done.display()))
}
