//! `nb env`, as somebody types it: releases of a tiny lock.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::up::SET_UP_LIMIT;

const SIX: [(&str, &str); 2] = [
    (
        "1.16.0",
        "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254",
    ),
    (
        "1.17.0",
        "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
    ),
];

/// Whether it succeeded, and what it printed.
async fn env(home: &Path, arguments: &[&str]) -> (bool, String, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_nb"))
        .arg("env")
        .args(arguments)
        .env("HOME", home)
        .env("NB_DATA_DIR", home.join("data"))
        .kill_on_drop(true)
        .output();
    let output = timeout(SET_UP_LIMIT, command).await.expect("nb hangs");
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn releases_are_made_listed_compared_and_rolled_back() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = |name: &str, text: &str| {
        fs::write(home.join(name), text).unwrap();
        home.join(name).to_str().unwrap().to_owned()
    };
    let release = async |manifest: &str, (version, hash): (&str, &str)| {
        let manifest = file("own.in", manifest);
        let lock = file(
            "own.txt",
            &format!("six=={version} \\\n    --hash=sha256:{hash}\n"),
        );
        let arguments = ["release", "pycx", "--manifest", &manifest, "--lock", &lock];
        env(home, &arguments).await
    };
    for six in SIX {
        let (made, told, progress) = release("six", six).await;
        assert!(made && told.contains("the current one"), "{told}{progress}");
        assert!(progress.contains("imports six"), "{progress}");
    }
    let (again, told, _) = release("six", SIX[1]).await;
    assert!(again && told.contains("was there"), "{told}");

    let (failed, _, why) = release("six\nnothing", ("1.15.0", &"0".repeat(64))).await;
    assert!(!failed && why.contains("six"), "{why}");

    let (_, shown, _) = env(home, &["releases", "pycx", "--json"]).await;
    let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let current: Vec<_> = shown.iter().map(|release| &release["current"]).collect();
    assert_eq!(current, [true, false]);
    let (_, table, _) = env(home, &["releases", "pycx"]).await;
    assert_eq!(
        (table.lines().count(), table.matches("current").count()),
        (3, 1)
    );
    let (_, changes, _) = env(home, &["diff", "pycx"]).await;
    let change = changes.lines().nth(1).unwrap().split_whitespace();
    assert_eq!(change.collect::<Vec<_>>(), ["six", "1.16.0", "1.17.0"]);

    let older = shown[1]["name"].as_str().unwrap();
    let (_, told, _) = env(home, &["rollback", "pycx"]).await;
    assert!(told.starts_with(older), "{told}");
    let (done, _, why) = env(home, &["rollback", "pycx"]).await;
    assert!(!done && why.contains("no older release"), "{why}");
    // The current one stays, and so does the newest.
    let (_, removed, _) = env(home, &["gc", "pycx", "--keep", "1", "--json"]).await;
    assert_eq!(removed.trim(), "[]");
    let (_, _, _) = env(
        home,
        &["rollback", "pycx", shown[0]["name"].as_str().unwrap()],
    )
    .await;
    let (_, removed, _) = env(home, &["gc", "pycx", "--keep", "1", "--json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&removed).unwrap(),
        serde_json::json!([older])
    );
}
