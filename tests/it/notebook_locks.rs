//! What a notebook needs, kept in its file: locked, brought back elsewhere, exported for the real pip, followed by its kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::Gateway;
use crate::packages::{SIX, fail, notebook, restart, run, spare, with_uv};
use crate::up::SET_UP_LIMIT;

const BLOCK: &str = "# /// script\n# dependencies = [\"six==1.16.0\"]\n# ///\nimport six";

/// Whether `nb env` succeeded, what it printed, and what it said.
pub(crate) async fn env(
    gateway: &Gateway,
    data: &str,
    arguments: &[&str],
) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    command.arg("env").args(arguments);
    command.env("NB_DATA_DIR", gateway.root().join(data));
    output(gateway, &mut command).await
}

/// The same, which has to succeed; its JSON.
pub(crate) async fn env_json(gateway: &Gateway, data: &str, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let (done, printed, said) = env(gateway, data, &arguments).await;
    assert!(done, "{arguments:?}: {said}");
    serde_json::from_str(&printed).unwrap()
}

/// The same, which has to fail; why it did.
pub(crate) async fn env_fails(gateway: &Gateway, arguments: &[&str]) -> String {
    let (done, printed, said) = env(gateway, "data", arguments).await;
    assert!(!done, "{arguments:?}: {printed}");
    said
}

pub(crate) async fn output(gateway: &Gateway, command: &mut Command) -> (bool, String, String) {
    let command = command
        .env("HOME", gateway.root())
        .current_dir(gateway.root())
        .kill_on_drop(true)
        .output();
    let output = timeout(SET_UP_LIMIT, command).await.expect("it hangs");
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A notebook in the gateway's folder, with this cell.
fn put(gateway: &Gateway, name: &str, cell: &str) -> PathBuf {
    let cell = json!({"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": null, "source": cell});
    let text = json!({
        "cells": [cell], "metadata": {"kernelspec": {"name": "pip"}, "uv.lock": "theirs"}, "nbformat": 4, "nbformat_minor": 5,
    });
    let path = gateway.root().join(name);
    // As no JSON library writes it.
    let text = format!("{text:#}\n")
        .replace(": 4", ":  4")
        .replace("null", "null ");
    fs::write(&path, text).unwrap();
    path
}

fn lock_of(notebook: &Path) -> String {
    let text = fs::read_to_string(notebook).unwrap();
    let notebook: Value = serde_json::from_str(&text).unwrap();
    notebook["metadata"]["nb"]["lock"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Another folder of data with the same tools.
fn other_data(gateway: &Gateway) -> &'static str {
    let root = gateway.root();
    fs::create_dir(root.join("other")).unwrap();
    std::os::unix::fs::symlink(root.join("data/tools"), root.join("other/tools")).unwrap();
    "other"
}

#[tokio::test]
async fn a_notebook_is_locked_and_brought_back_elsewhere() {
    let gateway = with_uv().await;
    let path = put(&gateway, "a.ipynb", BLOCK);
    let before = fs::read_to_string(&path).unwrap();
    let locked = env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    assert_eq!(
        (&locked["changed"], &locked["packages"], &locked["asked"]),
        (&json!(true), &json!(1), &json!(["six==1.16.0"])),
        "{locked}"
    );
    // One piece was put in.
    let after = fs::read_to_string(&path).unwrap();
    let at = after
        .bytes()
        .zip(before.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    assert!(
        after.ends_with(&before[at..]) && after.len() > before.len(),
        "{after}"
    );
    assert!(lock_of(&path).contains("six==1.16.0 \\\n    --hash=sha256:"));
    let again = env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    assert_eq!(again["changed"], false, "{again}");

    let other = other_data(&gateway);
    let made = env_json(&gateway, other, &["sync", "a.ipynb"]).await;
    let six = json!([{"package": "six", "from": null, "to": "1.16.0"}]);
    assert_eq!(
        (&made["made"], contains(&made["changes"], &six[0])),
        (&json!(true), true),
        "{made}"
    );
    let (done, told, said) = env(&gateway, other, &["sync", "a.ipynb"]).await;
    assert!(done && told.contains("as the lock says"), "{told}{said}");
    // What is not in the lock goes, and kernels that run are told.
    let python = made["python"].as_str().unwrap();
    let mut install = Command::new(env!("CARGO_BIN_EXE_nb"));
    install.args(["pip", "--python", python, "install", "iniconfig"]);
    let (installed, _, said) = output(
        &gateway,
        install.env("NB_DATA_DIR", gateway.root().join(other)),
    )
    .await;
    assert!(installed, "{said}");
    let synced = env_json(&gateway, other, &["sync", "a.ipynb"]).await;
    assert_eq!(synced["changes"].as_array().unwrap().len(), 1, "{synced}");
    assert_eq!(synced["changes"][0]["to"], Value::Null, "{synced}");
    let folder = Path::new(python).ancestors().nth(3).unwrap();
    let changes = fs::read_to_string(folder.join("nb-changes.json")).unwrap();
    assert!(changes.contains("iniconfig"), "{changes}");

    let listed = env_json(&gateway, other, &["list"]).await;
    assert_eq!(listed[0]["kind"], "notebook", "{listed}");
    assert!(listed[0]["bytes"].as_u64().unwrap() > 1 << 20, "{listed}");
    assert_eq!(listed[0]["of"], path.to_str().unwrap(), "{listed}");
    // Its notebook goes.
    assert_eq!(
        env_json(&gateway, other, &["gc", "notebooks", "--yes"]).await,
        json!([])
    );
    fs::remove_file(&path).unwrap();
    let (done, _, asked) = env(&gateway, other, &["gc", "notebooks"]).await;
    assert!(
        !done && asked.contains("--yes") && asked.contains("a.ipynb"),
        "{asked}"
    );
    let removed = env_json(&gateway, other, &["gc", "notebooks", "--yes"]).await;
    assert_eq!(removed, json!([listed[0]["name"]]));
    assert!(!folder.exists());
}

fn contains(changes: &Value, one: &Value) -> bool {
    changes.as_array().unwrap().contains(one)
}

#[tokio::test]
async fn a_colleague_without_nb_installs_the_export() {
    let gateway = with_uv().await;
    put(&gateway, "a.ipynb", BLOCK);
    let none = env_fails(&gateway, &["export", "a.ipynb"]).await;
    assert!(none.contains("nb env lock"), "{none}");
    env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    let (done, _, said) = env(
        &gateway,
        "data",
        &["export", "a.ipynb", "--output", "all.txt"],
    )
    .await;
    assert!(done, "{said}");
    let mut venv = Command::new("python3");
    let (made, _, said) = output(&gateway, venv.args(["-m", "venv", "x"])).await;
    assert!(made, "{said}");
    let mut pip = Command::new(gateway.root().join("x/bin/pip"));
    let (installed, told, said) = output(&gateway, pip.args(["install", "-r", "all.txt"])).await;
    assert!(installed, "{told}{said}");
    let mut python = Command::new(gateway.root().join("x/bin/python"));
    let (_, six, _) = output(&gateway, python.args(["-c", SIX])).await;
    assert_eq!(six, "1.16.0\n");

    let (_, kernel, _) = env(&gateway, "data", &["export", "a.ipynb", "--kernel"]).await;
    assert!(
        kernel.contains("\nsix==1.16.0") && kernel.contains("\nipykernel=="),
        "{kernel}"
    );
    for (format, package) in [
        ("pylock", "name = \"six\""),
        ("pyproject", "\"six==1.16.0\""),
    ] {
        let (done, text, said) =
            env(&gateway, "data", &["export", "a.ipynb", "--format", format]).await;
        assert!(done && text.contains(package), "{text}{said}");
        let _sound: toml::Value = toml::from_str(&text).unwrap();
    }
}

#[tokio::test]
async fn a_kernel_starts_from_its_notebooks_lock_and_a_lock_that_is_wrong_changes_nothing() {
    let gateway = with_uv().await;
    let path = put(&gateway, "a.ipynb", "import six");
    // The lock wins over the file.
    fs::write(gateway.root().join("requirements.txt"), "six==1.16.0\n").unwrap();
    env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    fs::write(gateway.root().join("requirements.txt"), "six==1.17.0\n").unwrap();
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
    // What is installed by hand outlives a restart, and a sync takes it away.
    run(&mut a, "%pip install -q iniconfig").await;
    restart(&mut a, &gateway, &kernel).await;
    run(&mut a, "import iniconfig").await;
    env_json(&gateway, "data", &["sync", "a.ipynb"]).await;
    let told = run(&mut a, "1").await;
    assert!(
        told.contains("iniconfig") && told.contains("now gone"),
        "{told}"
    );

    let before = run(&mut a, "%pip freeze").await;
    let sound = fs::read_to_string(&path).unwrap();
    let (head, tail) = sound.split_once("sha256:").unwrap();
    let wrong =
        format!("{head}sha256:{}{}", "0".repeat(64), &tail[64..]).replace("1.16.0", "1.17.0");
    // Of both files, so that none is right.
    let (head, tail) = wrong.rsplit_once("sha256:").unwrap();
    let wrong = format!("{head}sha256:{}{}", "1".repeat(64), &tail[64..]);
    fs::write(&path, &wrong).unwrap();
    let refused = env_fails(&gateway, &["sync", "a.ipynb"]).await;
    assert!(refused.to_lowercase().contains("hash"), "{refused}");
    assert_eq!(run(&mut a, "%pip freeze").await, before);
    fs::write(gateway.root().join("b.ipynb"), &wrong).unwrap();
    let kernel = notebook(&gateway, "b.ipynb", "pip").await;
    let mut b = gateway.connect(&kernel, "b").await;
    let first = b.run("1").await.text;
    assert!(
        first.contains("lock") && first.contains("could not be installed"),
        "{first}"
    );
    assert!(fail(&mut b, "import six").await.contains("six"));
}

#[tokio::test]
async fn a_python_that_the_cell_does_not_ask_for_is_refused() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let block = "# /// script\n# requires-python = \"<3.4\"\n# ///\nprint('not reached')";
    let outcome = a.run(block).await;
    assert!(!outcome.text.contains("not reached"), "{outcome:?}");
    assert_eq!(outcome.reply["ename"], "PythonVersionError", "{outcome:?}");
    let why = outcome.reply["evalue"].as_str().unwrap();
    assert!(why.contains("Python 3.") && why.contains("<3.4"), "{why}");
    let python = run(&mut a, "import sys; print('%d.%d' % sys.version_info[:2])").await;
    let fits = block.replace("<3.4", &format!("=={}.*", python.trim()));
    assert_eq!(run(&mut a, &fits).await, "not reached\n");
}

#[tokio::test]
async fn what_cannot_be_locked_leaves_the_file_as_it_is() {
    let gateway = with_uv().await;
    fs::write(gateway.root().join("broken.ipynb"), "{\"nbformat\": 4,").unwrap();
    for (name, cell, why) in [
        ("nothing.ipynb", "1", "asks for no packages"),
        (
            "none.ipynb",
            "# /// script\n# dependencies = [\"no-such-package-of-anybody\"]\n# ///",
            "No versions fit together",
        ),
        (
            "toml.ipynb",
            "# /// script\n# dependencies = [\n# ///",
            "not understood",
        ),
        (
            "python.ipynb",
            "# /// script\n# requires-python = \"<3.4\"\n# dependencies = [\"six\"]\n# ///",
            "no Python",
        ),
        ("broken.ipynb", "", "no notebook"),
    ] {
        if !cell.is_empty() {
            put(&gateway, name, cell);
        }
        let path = gateway.root().join(name);
        let before = fs::read(&path).unwrap();
        let said = env_fails(&gateway, &["lock", name]).await;
        assert!(said.contains(why), "{name}: {said}");
        assert_eq!(fs::read(&path).unwrap(), before, "{name}");
    }
    let login =
        "# /// script\n# dependencies = [\"six @ https://ada:SECRET@host.invalid/six.whl\"]\n# ///";
    put(&gateway, "login.ipynb", login);
    let said = env_fails(&gateway, &["lock", "login.ipynb"]).await;
    assert!(!said.contains("SECRET"), "{said}");
}

#[tokio::test]
async fn what_was_installed_by_hand_is_locked_and_a_kernel_goes_with_what_is_asked() {
    let gateway = with_uv().await;
    let path = put(&gateway, "a.ipynb", "import iniconfig");
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q iniconfig==2.0.0").await;
    let locked = env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    assert_eq!(locked["packages"], 1, "{locked}");
    assert!(lock_of(&path).contains("iniconfig==2.0.0"));
    // It stays as it was locked, until somebody wants more.
    put_cell(
        &path,
        "# /// script\n# dependencies = [\"iniconfig\"]\n# ///",
    );
    env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    assert!(lock_of(&path).contains("iniconfig==2.0.0"));
    env_json(&gateway, "data", &["lock", "--upgrade", "a.ipynb"]).await;
    assert!(!lock_of(&path).contains("iniconfig==2.0.0"));

    // What the kernel is pinned to is another one.
    put(
        &gateway,
        "b.ipynb",
        "# /// script\n# dependencies = [\"traitlets==5.14.0\"]\n# ///",
    );
    env_json(&gateway, "data", &["lock", "b.ipynb"]).await;
    assert!(lock_of(&gateway.root().join("b.ipynb")).contains("\nipykernel=="));
    let kernel = notebook(&gateway, "b.ipynb", "pip").await;
    let mut b = gateway.connect(&kernel, "b").await;
    let version = "import traitlets; print(traitlets.__version__)";
    assert_eq!(run(&mut b, version).await, "5.14.0\n");
}

/// The same notebook, and its lock, with another cell.
fn put_cell(notebook: &Path, cell: &str) {
    let text = fs::read_to_string(notebook).unwrap();
    let mut content: Value = serde_json::from_str(&text).unwrap();
    content["cells"][0]["source"] = json!(cell);
    fs::write(notebook, content.to_string()).unwrap();
}

#[tokio::test]
async fn the_next_notebook_with_a_lock_gets_an_environment_of_it_that_is_there_already() {
    let gateway = with_uv().await;
    put(&gateway, "a.ipynb", BLOCK);
    env_json(&gateway, "data", &["lock", "a.ipynb"]).await;
    let locked = fs::read_to_string(gateway.root().join("a.ipynb")).unwrap();
    notebook(&gateway, "a.ipynb", "pip").await;
    let has_six = |spare: &Path| {
        let mut pythons = fs::read_dir(spare.join("env/lib")).unwrap().flatten();
        pythons.any(|python| python.path().join("site-packages/six.py").exists())
    };
    for (other, way) in [("b.ipynb", "a sync"), ("c.ipynb", "a start")] {
        fs::write(gateway.root().join(other), &locked).unwrap();
        let spare = spare(&gateway, has_six).await;
        let made = inode(&spare.join("env/bin/python"));
        if way == "a sync" {
            let synced = env_json(&gateway, "data", &["sync", other]).await;
            assert_eq!(synced["made"], true, "{synced}");
            assert_eq!(synced["changes"][0]["package"], "six", "{synced}");
        }
        let kernel = notebook(&gateway, other, "pip").await;
        let mut client = gateway.connect(&kernel, "a").await;
        let prefix = run(&mut client, "import sys; print(sys.prefix)").await;
        assert_eq!(
            inode(&Path::new(prefix.trim()).join("bin/python")),
            made,
            "{way}"
        );
        assert_eq!(run(&mut client, SIX).await, "1.16.0\n");
        let compiled =
            "import os; print(os.path.exists(six.__cached__), os.stat(six.__file__).st_nlink)";
        assert_eq!(run(&mut client, compiled).await, "True 1\n", "{way}");
        run(&mut client, "%pip install -q six==1.17.0").await;
    }
}

fn inode(path: &Path) -> (u64, u64) {
    let about = fs::symlink_metadata(path).unwrap();
    (about.dev(), about.ino())
}
