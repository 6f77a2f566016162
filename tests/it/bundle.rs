//! `nb bundle`: what is made of it on a machine without a network.

use std::fs;

use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::project;
use crate::up::{SET_UP_LIMIT, Up, nothing_yet};

#[tokio::test]
async fn lab_and_pycx_are_set_up_from_a_bundle_with_the_network_cut() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("nb-bundle");
    let making = Command::new(env!("CARGO_BIN_EXE_nb"))
        .arg("bundle")
        .arg(&bundle)
        .arg("--json")
        .env("HOME", folder.path())
        .env("NB_DATA_DIR", project("target/nb-data"))
        .kill_on_drop(true)
        .output();
    let made = timeout(SET_UP_LIMIT, making)
        .await
        .expect("nb hangs")
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let about: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let wheels = fs::read_dir(bundle.join("wheels")).unwrap().count();
    assert_eq!(about["bundle"]["wheels"], wheels, "{about}");
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(&bundle)
        .output()
        .await
        .unwrap();
    assert!(check.status.success(), "{check:?}");

    // Elsewhere, where nothing of it is known and no cache has anything.
    let home = folder.path().join("elsewhere");
    let moved = folder.path().join("moved");
    fs::create_dir(&home).unwrap();
    fs::rename(&bundle, &moved).unwrap();
    let up = Up::start_offline(&moved.join("nb"), &home, &nothing_yet(&home)).await;
    up.shows_lab().await;
    up.start_kernel(up.lab().0).await;
    let said = up.interrupt().await;
    assert!(said.contains("making PyCX"), "{said}");
    // uv was there: none was installed.
    assert!(home.join("data/envs").exists() && !home.join("data/tools").exists());
}
