//! A disk without room, and an index that is not there.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde_json::json;
use tokio::net::TcpListener;

use super::{SIX, fail, notebook, own_package, run, with_pycx, with_uv};
use crate::gateway::Gateway;
use crate::journal::disk::SmallDisk;

/// Room for two environments.
const ENVIRONMENTS: u64 = 160 << 20;

/// What the disk keeps free, in turn: nothing, and less than is needed.
const FREE: [u64; 2] = [0, 2 << 20];

/// A disk of its own for this folder of nb's data.
fn disk_for(gateway: &Gateway, folder: &str) -> SmallDisk {
    let folder = gateway.root().join("data").join(folder);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&folder).unwrap();
    SmallDisk::mount_large_over(&folder, ENVIRONMENTS)
}

/// A package that needs more room than there is.
fn large_package(root: &Path) -> String {
    let folder = own_package(root, "1");
    let code = "VALUE = 1\n".to_owned() + &"# large\n".repeat(1 << 19);
    fs::write(folder.join("own.py"), code).unwrap();
    folder.display().to_string()
}

#[tokio::test]
async fn a_full_disk_is_said_and_changes_nothing() {
    let gateway = with_uv().await;
    let disk = disk_for(&gateway, "venvs");
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    let before = run(&mut a, "%pip freeze").await;
    let package = large_package(&gateway.root());
    for free in FREE {
        disk.fill();
        disk.free(free);
        let why = fail(&mut a, &format!("%pip install {package} six==1.17.0")).await;
        assert!(why.contains("disk is full"), "{free}: {why}");
        assert_eq!(run(&mut a, "%pip freeze").await, before, "{free}");
        assert_eq!(run(&mut a, SIX).await, "1.16.0\n", "{free}");
        // A kernel whose environment finds no room does not start, and says why.
        let body =
            json!({"path": "b.ipynb", "name": "b", "type": "notebook", "kernel": {"name": "pip"}});
        let (status, said) = gateway
            .rest("POST", "/api/sessions", &body.to_string())
            .await;
        assert!(
            status >= 500 && said.to_string().contains("disk is full"),
            "{free}: {said}"
        );
        disk.empty();
    }
    run(&mut a, &format!("%pip install -q {package} six==1.17.0")).await;
    assert_eq!(run(&mut a, "import own; print(own.VALUE)").await, "1\n");
    let kernel = notebook(&gateway, "b.ipynb", "pip").await;
    let mut b = gateway.connect(&kernel, "b").await;
    assert_eq!(run(&mut b, "print(1)").await, "1\n");
}

#[tokio::test]
async fn a_full_disk_leaves_an_overlay_as_it_was() {
    let gateway = with_pycx().await;
    let disk = disk_for(&gateway, "overlays");
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    let before = run(&mut a, "%pip freeze").await;
    let package = large_package(&gateway.root());
    for free in FREE {
        disk.fill();
        disk.free(free);
        let why = fail(&mut a, &format!("%pip install {package}")).await;
        assert!(why.contains("disk is full"), "{free}: {why}");
        assert_eq!(run(&mut a, "%pip freeze").await, before, "{free}");
        assert_eq!(run(&mut a, SIX).await, "1.16.0\n", "{free}");
        disk.empty();
    }
    run(&mut a, &format!("%pip install -q {package}")).await;
    assert_eq!(run(&mut a, "import own; print(own.VALUE)").await, "1\n");
}

#[tokio::test]
async fn an_index_that_is_not_there_is_one_sentence() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let before = run(&mut a, "%pip freeze").await;
    // One that takes a connection and says nothing, and then one that takes none.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let index = format!("http://{}/simple", silent.local_addr().unwrap());
    let install = format!("%pip install --index-url {index} nothing-that-is-cached");
    let holds = async {
        let mut held = Vec::new();
        loop {
            held.push(silent.accept().await.unwrap());
        }
    };
    let sentence =
        "The package index cannot be reached, and the cache does not have what is needed.";
    let why = tokio::select! {
        why = fail(&mut a, &install) => why,
        () = holds => unreachable!("it goes on for ever"),
    };
    assert_eq!(why, sentence);
    drop(silent);
    assert_eq!(fail(&mut a, &install).await, sentence);
    assert_eq!(run(&mut a, "%pip freeze").await, before);
}
