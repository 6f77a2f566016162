//! The project's own commands, called as `cargo xtask <command>`: what README and CI call.

mod dist;

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

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

/// The sources of the plugin in Lab's page. What is made of them is committed, so that nobody needs Node for it.
const PLUGIN: &str = "extensions/nb-labextension";

/// The kernelspec of R's kernel, as Debian installs it.
const R_KERNEL: &str = "/usr/share/jupyter/kernels/ir/kernel.json";

/// Where Debian has PostgreSQL's programs.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// The steps of `cargo xtask test`, cheapest first so that a fault is found early.
const STEPS: [&[&str]; 6] = [
    &["fmt", "--all", "--check"],
    &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ],
    // They are run last, and built for that in a long while.
    &[
        "check",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--locked",
        "--target-dir",
        "target",
    ],
    &["doc", "--workspace", "--no-deps", "--locked"],
    &["test", "--workspace", "--locked"],
];

/// The commit of the last release, whose supervisors the tests put under today's gateway.
const LAST_RELEASE: &str = "packaging/last-release";

/// What the fuzz targets are built for.
#[cfg(target_arch = "x86_64")]
const TARGET: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What libFuzzer sees its way by; cargo-fuzz sets the same, and a sanitizer that needs a nightly compiler.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table";

/// What `cargo xtask bench lab` prints is how long a browser waits for a cell's text.
const LAB: [&str; 9] = [
    "test",
    "--locked",
    "--features",
    "measure",
    "--test",
    "it",
    "--",
    "--nocapture",
    "shift_enter",
];

/// A short one is among the tests.
const SOAK: [&str; 7] = [
    "test",
    "--locked",
    "--test",
    "it",
    "--",
    "--nocapture",
    "soak::",
];

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (command, part) = (arguments.next(), arguments.next());
    let outcome = match command.as_deref() {
        Some("setup") => setup(),
        Some("test") => setup().and_then(|()| test()),
        Some("labextension") => node()
            .and_then(|()| packages(PLUGIN))
            .and_then(|()| plugin(&[])),
        Some("fuzz") => fuzz(part.as_deref(), 60),
        Some("bench") if part.as_deref() == Some("lab") => setup().and_then(|()| cargo(&LAB)),
        Some("bench") if matches!(part.as_deref(), Some("environments" | "frames")) => {
            environments(part.as_deref().unwrap_or_default())
        }
        Some("bench") if part.as_deref() == Some("jobs") => jobs(),
        Some("bench") if part.as_deref() == Some("workspaces") => workspaces(),
        Some("bench") => cargo(&["bench", "--locked"]),
        Some("losses") => losses(),
        Some("dist") => match (part, arguments.next()) {
            (None, _) => dist::dist(),
            (Some(program), Some(folder)) => dist::dist_of(program.as_ref(), folder.as_ref()),
            _ => Err("usage: cargo xtask dist [PROGRAM FOLDER]".to_owned()),
        },
        Some("soak") => match (part.as_deref(), arguments.next()) {
            (Some("--minutes"), Some(minutes)) => soak(&minutes),
            _ => Err("usage: cargo xtask soak --minutes N".to_owned()),
        },
        _ => Err(
            "usage: cargo xtask setup|test|bench [lab|environments|frames|jobs|workspaces]|dist|fuzz [target]|labextension|losses|soak --minutes N"
                .to_owned(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What nb does beside what is done by hand, or by plain uv; prints a table.
fn environments(which: &str) -> Result<(), String> {
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    run(
        "python3",
        &[
            &format!("benches/environments/{which}.py"),
            "--nb=target/release/nb",
            "--folder=target/bench-environments",
            "--tools=target/nb-data/tools",
        ],
    )
}

/// What a notebook takes by nb run, papermill and jupyter execute; prints tables.
fn jobs() -> Result<(), String> {
    python("target/clients-env", "tests/python/clients.lock", "python3")?;
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    run(
        "target/clients-env/bin/python",
        &["benches/jobs/jobs.py", "--nb=target/release/nb"],
    )
}

/// What a tree of a repository takes by each way that git has, and by nb; prints tables.
fn workspaces() -> Result<(), String> {
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    run(
        "python3",
        &["benches/workspaces/workspaces.py", "--nb=target/release/nb"],
    )
}

/// The same losses with nb and with what people come from; prints a table.
fn losses() -> Result<(), String> {
    python("target/peers-env", "benches/losses/peers.lock", "python3")?;
    python("target/clients-env", "tests/python/clients.lock", "python3")?;
    python("target/test-env", "tests/python/kernel.lock", "python3")?;
    cargo(&["build", "--release", "--locked", "--bin", "nb"])?;
    let python = fs::canonicalize("target/test-env/bin")
        .map_err(|error| format!("target/test-env: {error}"))?
        .join("python");
    run(
        "target/clients-env/bin/python",
        &[
            "benches/losses/losses.py",
            "--nb=target/release/nb",
            "--jupyter-server=target/clients-env/bin/jupyter-server",
            "--jeg=target/peers-env/bin/jupyter-enterprisegateway",
            &format!("--python={}", python.display()),
        ],
    )
}

/// Random ends of everything for so long; `NB_SOAK_SEED` repeats their choice.
fn soak(minutes: &str) -> Result<(), String> {
    if !minutes.parse().is_ok_and(|minutes: f64| minutes > 0.0) {
        return Err(format!("{minutes} is no number of minutes"));
    }
    setup()?;
    cargo_with(&SOAK, &[("NB_SOAK_MINUTES", minutes)])
}

fn test() -> Result<(), String> {
    plugin(&["--check"])?;
    STEPS.iter().try_for_each(|step| cargo(step))?;
    fuzz(None, 3)
}

/// Makes the plugin, or makes it again and compares: the same sources make the same bytes.
fn plugin(arguments: &[&str]) -> Result<(), String> {
    run("npm", &["run", "--silent", "--prefix", PLUGIN, "check"])?;
    let build = format!("{PLUGIN}/build.mjs");
    run("node", &[&[&*build], arguments].concat())
}

/// Feeds the decoders what the fuzzer makes of their corpus, for so many seconds each. What makes one fail is
/// written to `target/fuzz/found`.
fn fuzz(only: Option<&str>, seconds: u32) -> Result<(), String> {
    let folder = Path::new("target/fuzz");
    let found = format!("-artifact_prefix={}/", folder.join("found").display());
    fs::create_dir_all(folder.join("found"))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let build = [
        "build",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--locked",
        // Named, so that build scripts are not instrumented.
        "--target",
        TARGET,
        "--target-dir",
        "target/fuzz",
    ];
    cargo_with(&build, &[("RUSTFLAGS", INSTRUMENTED)])?;
    let entries = fs::read_dir("fuzz/corpus").map_err(|error| format!("fuzz/corpus: {error}"))?;
    let mut targets: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    targets.sort();
    targets.retain(|target| only.is_none_or(|only| only == target));
    if targets.is_empty() {
        return Err("no such fuzz target: they are the folders of fuzz/corpus".to_owned());
    }
    for target in targets {
        let program = folder.join(TARGET).join("debug").join(&target);
        let grown = folder.join("corpus").join(&target);
        fs::create_dir_all(&grown).map_err(|error| format!("{}: {error}", grown.display()))?;
        let arguments = [
            &*grown.to_string_lossy(),
            &format!("fuzz/corpus/{target}"),
            &format!("-max_total_time={seconds}"),
            &found,
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-verbosity=0",
            "-print_final_stats=1",
        ];
        run(&program.to_string_lossy(), &arguments)?;
    }
    Ok(())
}

/// Installs what the tests need, from locks.
fn setup() -> Result<(), String> {
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

fn node() -> Result<(), String> {
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
fn packages(folder: &str) -> Result<(), String> {
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
fn python(folder: &str, lock: &str, of: &str) -> Result<(), String> {
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

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    eprintln!("==> {program} {}", arguments.join(" "));
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "{program} {} failed: {status}",
            arguments.join(" ")
        )),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    cargo_with(arguments, &[("RUSTDOCFLAGS", "-D warnings")])
}

#[expect(
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]
fn cargo_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    eprintln!("==> cargo {}", arguments.join(" "));
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed", arguments.join(" ")))
    }
}
