//! The fuzz targets: built so that the fuzzer sees its way, and run on their corpus.

use std::fs;
use std::path::Path;

use super::run::{cargo_with, run};

/// What the fuzz targets are built for.
#[cfg(target_arch = "x86_64")]
const TARGET: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What libFuzzer sees its way by; cargo-fuzz sets the same, and a sanitizer that needs a nightly compiler.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table";

/// Feeds the decoders what the fuzzer makes of their corpus, for so many seconds each. What makes one fail is
/// written to `target/fuzz/found`.
pub(crate) fn fuzz(only: Option<&str>, seconds: u32) -> Result<(), String> {
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
