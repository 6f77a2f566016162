//! An environment that somebody has becomes a kernel, and goes as one without being touched.

use std::fs;

use serde_json::json;
use tokio::process::Command;

use crate::gateway::Gateway;
use crate::notebook_locks::{env, env_fails, env_json, output};
use crate::packages::{KERNEL_LOCK, SIX, fail, notebook, run, with_uv};

async fn uv(gateway: &Gateway, arguments: &[&str]) {
    let uv = gateway.root().join("data/tools/uv/bin/uv");
    let program = if uv.exists() { uv } else { "uv".into() };
    let (done, _, said) = output(gateway, Command::new(program).args(arguments)).await;
    assert!(done, "{arguments:?}: {said}");
}

#[tokio::test]
async fn an_environment_of_ones_own_becomes_a_kernel() {
    let gateway = with_uv().await;
    let own = gateway.root().join("Own/.venv");
    uv(&gateway, &["venv", "--quiet", "Own/.venv"]).await;
    let refused = env_fails(&gateway, &["add", "Own/.venv"]).await;
    assert!(refused.contains("ipykernel"), "{refused}");
    fs::write(gateway.root().join("kernel.txt"), KERNEL_LOCK).unwrap();
    let install = [
        "pip",
        "install",
        "--quiet",
        "--python",
        "Own/.venv",
        "-r",
        "kernel.txt",
    ];
    uv(&gateway, &install).await;
    for (path, why) in [
        ("none", "not there"),
        ("data", "no Python environment"),
        ("/usr", "of the system"),
    ] {
        let refused = env_fails(&gateway, &["add", path]).await;
        assert!(refused.contains(why), "{path}: {refused}");
    }
    let taken = env_fails(&gateway, &["add", "Own/.venv", "--name", "pip"]).await;
    assert!(taken.contains("already"), "{taken}");
    let added = env_json(
        &gateway,
        "data",
        &["add", "Own/.venv", "--display-name", "Mine"],
    )
    .await;
    assert_eq!(
        (&added["name"], &added["display_name"]),
        (&json!("own"), &json!("Mine")),
        "{added}"
    );
    let (done, told, said) = env(&gateway, "data", &["add", "Own/.venv/bin/python"]).await;
    assert!(done && told.contains("kernel own"), "{told}{said}");

    let kernel = notebook(&gateway, "a.ipynb", "own").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let prefix = run(&mut a, "import sys; print(sys.prefix)").await;
    assert_eq!(prefix.trim(), own.to_str().unwrap());
    let said = run(&mut a, "%pip install six==1.16.0").await;
    assert!(said.contains("Successfully installed six-1.16.0"), "{said}");
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
    let mut python = Command::new(own.join("bin/python"));
    let (_, six, _) = output(&gateway, python.args(["-c", SIX])).await;
    assert_eq!(six, "1.16.0\n");
    let failed = fail(
        &mut a,
        "%pip install six==1.17.0 no-such-package-of-anybody",
    )
    .await;
    assert!(failed.contains("No versions fit together"), "{failed}");
    let refused = fail(&mut a, "%nb reset").await;
    assert!(refused.contains("your own"), "{refused}");
    // What is beside it is as it was.
    assert_eq!(fs::read_dir(own.parent().unwrap()).unwrap().count(), 1);

    let (_, table, _) = env(&gateway, "data", &["list"]).await;
    assert!(
        table.contains("added") && table.contains(own.to_str().unwrap()),
        "{table}"
    );
    let refused = env_fails(&gateway, &["remove", "own"]).await;
    assert!(refused.contains("A process runs in own"), "{refused}");
    gateway.delete(&kernel).await;
    let removed = env_json(&gateway, "data", &["remove", "own"]).await;
    assert_eq!(removed, json!({"removed": ["own"]}));
    assert!(own.join("bin/python").exists());
    assert!(!gateway.root().join("data/kernels/own").exists());
    let gone = env_fails(&gateway, &["remove", "own"]).await;
    assert!(gone.contains("no environment own"), "{gone}");
}
