//! Packages of a notebook: `%pip` and its other spellings in kernels of PyCX and of pip, with the real uv.

mod adversity;
mod pitfalls;
mod waits;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nb::protocol::message::Channel;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Outcome, cell};
use crate::gateway::{Gateway, project, wait_for};
use crate::up::SET_UP_LIMIT;

/// How often it is looked for what comes in the background.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a kernel needs, as nb has it for `pip`.
pub(crate) const KERNEL_LOCK: &str = include_str!("../../src/env/locks/pip.txt");

/// A gateway that has uv, with one release of PyCX that has nothing but a kernel.
pub(crate) async fn with_pycx() -> Gateway {
    let gateway = with_uv().await;
    release(&gateway, "").await;
    gateway
}

pub(crate) async fn with_uv() -> Gateway {
    let gateway = Gateway::start("auto").await;
    // uv itself is not what is tested: the one that is there is taken, and what it has fetched.
    let data = project("target/nb-data");
    nb::env::Uv::find(&data, &|_| ()).await.unwrap();
    let (root, cache) = (gateway.root(), project("target/uv-cache"));
    for (from, to) in [
        (data.join("tools"), root.join("data/tools")),
        (cache, root.join(".cache/uv")),
    ] {
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        symlink(from, to).unwrap();
    }
    gateway
}

/// Makes the next release; `more` are lines of a lock.
async fn release(gateway: &Gateway, more: &str) -> String {
    let file = |name: &str, text: String| {
        let path = gateway.root().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let manifest = file("own.in", "ipykernel\n".to_owned());
    let lock = file("own.txt", format!("{KERNEL_LOCK}{more}"));
    let arguments = [
        "release",
        "pycx",
        "--json",
        "--manifest",
        &manifest,
        "--lock",
        &lock,
    ];
    let made = nb(gateway, "env", &arguments).await;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    made["name"].as_str().unwrap().to_owned()
}

/// What a command of nb prints, which has to succeed.
pub(crate) async fn nb(gateway: &Gateway, group: &str, arguments: &[&str]) -> String {
    let command = Command::new(env!("CARGO_BIN_EXE_nb"))
        .arg(group)
        .args(arguments)
        .env("HOME", gateway.root())
        .env("NB_DATA_DIR", gateway.root().join("data"))
        .kill_on_drop(true)
        .output();
    let output = timeout(SET_UP_LIMIT, command)
        .await
        .expect("nb hangs")
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The kernel of a notebook, of this spec.
pub(crate) async fn notebook(gateway: &Gateway, path: &str, spec: &str) -> String {
    let body = json!({"path": path, "name": path, "type": "notebook", "kernel": {"name": spec}});
    let (status, session) = gateway
        .rest("POST", "/api/sessions", &body.to_string())
        .await;
    assert_eq!(status, 201, "{session}");
    session["kernel"]["id"].as_str().unwrap().to_owned()
}

/// A cell that has to succeed; what it printed.
pub(crate) async fn run(client: &mut Client, code: &str) -> String {
    let outcome = client.run(code).await;
    assert_eq!(outcome.reply["status"], "ok", "{code}: {outcome:?}");
    outcome.text
}

/// A cell that has to fail; why it did.
pub(crate) async fn fail(client: &mut Client, code: &str) -> String {
    let Outcome { reply, text, .. } = client.run(code).await;
    assert_eq!(reply["status"], "error", "{code}: {text}");
    reply["evalue"].as_str().unwrap().to_owned()
}

pub(crate) async fn restart(client: &mut Client, gateway: &Gateway, kernel: &str) {
    let path = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 200);
    run(client, "1").await;
}

pub(crate) const SIX: &str = "import six; print(six.__version__)";

/// As [`SIX`], in another process.
const SIX_ELSEWHERE: &str = "import subprocess, sys
print(subprocess.run([sys.executable, '-c', 'import six; print(six.__version__)'], capture_output=True, text=True).stdout.strip())";

#[tokio::test]
async fn what_a_notebook_adds_to_pycx_lies_on_top_and_goes_with_it() {
    let gateway = with_pycx().await;
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    assert!(fail(&mut a, "import six").await.contains("six"));
    let said = run(&mut a, "%pip install six==1.16.0").await;
    assert!(said.contains("Successfully installed six-1.16.0"), "{said}");
    // At once, here and in what is started from here.
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
    assert_eq!(run(&mut a, SIX_ELSEWHERE).await, "1.16.0\n");
    let said = run(&mut a, "%uv pip install -U six").await;
    assert!(said.contains("six 1.16.0 (now 1.17.0)"), "{said}");
    let shown = run(&mut a, "x = %nb status\nprint(x)").await;
    assert!(shown.contains("PyCX") && shown.contains("six"), "{shown}");
    // Another process of this kernel has it, and another notebook has not.
    run(&mut a, "%nb restart").await;
    wait_for_restart(&gateway, &kernel, 1).await;
    assert_eq!(run(&mut a, SIX).await, "1.17.0\n");
    let other = notebook(&gateway, "b.ipynb", "pycx").await;
    let mut b = gateway.connect(&other, "b").await;
    assert!(fail(&mut b, "import six").await.contains("six"));
    // The user's own is under all of them.
    run(&mut b, "%pip install --user iniconfig -q").await;
    restart(&mut a, &gateway, &kernel).await;
    run(&mut a, "import iniconfig, six").await;
    // The release stays as it is.
    let refused = fail(&mut a, "%pip uninstall -y ipykernel").await;
    assert!(refused.contains("never changes"), "{refused}");
    run(&mut a, "%pip uninstall -y six").await;
    restart(&mut a, &gateway, &kernel).await;
    assert!(fail(&mut a, "import six").await.contains("six"));
    run(&mut a, "import iniconfig").await;
    assert!(run(&mut a, "%nb reset --user").await.contains("iniconfig"));
    restart(&mut a, &gateway, &kernel).await;
    assert!(fail(&mut a, "import iniconfig").await.contains("iniconfig"));
}

async fn wait_for_restart(gateway: &Gateway, kernel: &str, restarts: u64) {
    let path = format!("/api/kernels/{kernel}");
    let deadline = tokio::time::Instant::now() + SET_UP_LIMIT;
    loop {
        let (_, model) = gateway.rest("GET", &path, "").await;
        if model["nb"]["restarts"] == restarts && model["execution_state"] == "idle" {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{model}");
        sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test]
async fn a_new_release_takes_what_goes_with_it_and_names_what_does_not() {
    let gateway = with_pycx().await;
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let packages = own_package(&gateway.root(), "1");
    run(
        &mut a,
        &format!("%pip install -q six==1.16.0 {}", packages.display()),
    )
    .await;
    gateway.delete(&kernel).await;
    let six = "six==1.17.0 \\\n    \
        --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n";
    let next = release(&gateway, six).await;
    let again = notebook(&gateway, "a.ipynb", "pycx").await;
    assert_eq!(gateway.model(&again).await["nb"]["release"], next);
    let mut a = gateway.connect(&again, "a").await;
    assert_eq!(
        run(&mut a, &format!("import own; print(own.VALUE)\n{SIX}")).await,
        "1\n1.16.0\n"
    );
    gateway.delete(&again).await;
    // Now it breaks on the next one, and the kernel starts without.
    own_package(&gateway.root(), "1 / 0");
    release(
        &gateway,
        &six.replace("1.17.0", "1.16.0").replace(
            "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
            "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254",
        ),
    )
    .await;
    let broken = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&broken, "a").await;
    let first = a.run("1").await;
    assert!(
        first.text.contains("does not go with the release") && first.text.contains("source"),
        "{first:?}"
    );
    assert!(fail(&mut a, "import own").await.contains("own"));
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
}

/// A package with this value in a folder.
fn own_package(root: &Path, value: &str) -> PathBuf {
    let folder = root.join("source");
    fs::create_dir_all(&folder).unwrap();
    let about = "[project]\nname = \"own\"\nversion = \"0.1\"\n[build-system]\nrequires = [\"setuptools\"]\n\
                 build-backend = \"setuptools.build_meta\"\n[tool.setuptools]\npy-modules = [\"own\"]\n";
    fs::write(folder.join("pyproject.toml"), about).unwrap();
    fs::write(folder.join("own.py"), format!("VALUE = {value}\n")).unwrap();
    folder
}

#[tokio::test]
async fn every_spelling_of_pip_has_one_effect() {
    let gateway = with_uv().await;
    fs::write(
        gateway.root().join("requirements.txt"),
        "iniconfig==2.0.0 # beside it\n",
    )
    .unwrap();
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let all = run(&mut a, "import iniconfig\n%pip freeze").await;
    assert!(
        all.contains("iniconfig==2.0.0\n") && all.contains("ipykernel=="),
        "{all}"
    );
    for (install, uninstall) in [
        ("%pip install six==1.16.0", "!pip uninstall -y six"),
        ("!pip install six==1.16.0", "%pip uninstall -y six"),
        (
            "!python -m pip install six==1.16.0",
            "%uv pip uninstall six",
        ),
        (
            "import subprocess; assert subprocess.run(['pip', 'install', 'six==1.16.0']).returncode == 0",
            "!pip3 uninstall -y six",
        ),
    ] {
        run(&mut a, install).await;
        assert_eq!(run(&mut a, SIX_ELSEWHERE).await, "1.16.0\n", "{install}");
        run(&mut a, "import six; del six").await;
        let said = run(&mut a, uninstall).await;
        assert!(
            said.contains("six 1.16.0 (now gone)"),
            "{uninstall}: {said}"
        );
        run(&mut a, "import sys; del sys.modules['six']").await;
        assert!(
            fail(&mut a, "import six").await.contains("six"),
            "{uninstall}"
        );
    }
    let failed = run(
        &mut a,
        "!pip install no-such-package-of-anybody; echo ended with $?",
    )
    .await;
    assert!(
        failed.contains("No versions fit together") && failed.contains("ended with 1"),
        "{failed}"
    );
    // What a cell says of itself.
    let script = "# /// script\n# dependencies = [\"six==1.17.0\"]\n# ///\nimport six; print(six.__version__); 1/0";
    let Outcome { reply, text, .. } = a.run(script).await;
    assert!(
        text.ends_with("1.17.0\n") && reply["ename"] == "ZeroDivisionError",
        "{text} {reply}"
    );
    let traceback = reply["traceback"].to_string();
    assert!(traceback.contains("line 4"), "{traceback}");
    let wrong = "# /// script\n# dependencies = [\"no-such-package-of-anybody\"]\n# ///\nprint('not reached')";
    let Outcome { reply, text, .. } = a.run(wrong).await;
    assert!(
        !text.contains("not reached") && reply["ename"] == "PipError",
        "{text} {reply}"
    );
    let block = "# /// script\n# dependencies = []\n# ///\n";
    let several = fail(&mut a, &format!("{block}\n{block}print('not reached')")).await;
    assert!(
        several.contains("several `# /// script` blocks"),
        "{several}"
    );
    let inner = "# /// script\n# x = '''\n# ///\n# '''\n# requires-python = '<3.4'\n# ///\n1";
    let refused = fail(&mut a, inner).await;
    assert!(refused.contains("asks for <3.4"), "{refused}");
    let string =
        "x = '''\n# /// script\n# dependencies = [\"no-such\"]\n# ///\n'''\nprint(len(x.split()))";
    assert_eq!(run(&mut a, string).await, "9\n");
}

#[tokio::test]
async fn an_install_that_fails_is_interrupted_or_killed_leaves_the_environment_as_it_was() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    let before = run(&mut a, "%pip freeze").await;
    for (code, part) in [
        (
            "%pip install six==1.17.0 no-such-package-of-anybody",
            "No versions fit together",
        ),
        ("%pip install --frobnicate x", "no option `--frobnicate`"),
        ("%pip install --target /tmp x", "elsewhere"),
        ("%pip install -r none.txt", "none.txt"),
        ("%pip frobnicate", "no `pip frobnicate`"),
        ("%pip install 'six", "not closed"),
        ("%pip show no-such", "not found"),
    ] {
        let said = fail(&mut a, code).await;
        assert!(said.contains(part), "{code}: {said}");
        assert_eq!(run(&mut a, "%pip freeze").await, before, "{code}");
    }
    // A package whose build does not end.
    let folder = own_package(&gateway.root(), "1");
    let marker = gateway.root().join("builds");
    let slow = format!("import pathlib, time\npathlib.Path({marker:?}).touch()\ntime.sleep(600)\n");
    fs::write(folder.join("setup.py"), slow).unwrap();
    let install = format!("%pip install six==1.17.0 {}", folder.display());
    let request = a.submit(&install).await;
    wait_for("the build", || marker.exists().then_some(())).await;
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    let interrupted = a.outcome(&request, "").await;
    assert_eq!(
        interrupted.reply["ename"], "KeyboardInterrupt",
        "{interrupted:?}"
    );
    assert_eq!(run(&mut a, "%pip freeze").await, before);
    assert_eq!(builds(&marker), Vec::<i32>::new());
    // The supervisor is killed in the middle: the next one takes it back before anything else.
    fs::remove_file(&marker).unwrap();
    a.send(Channel::Shell, "execute_request", cell(&install))
        .await;
    wait_for("the build", || marker.exists().then_some(())).await;
    let supervisor = gateway.supervisor(&kernel, "/v1/about").await["pid"]
        .as_i64()
        .unwrap();
    kill_process(
        Pid::from_raw(supervisor.try_into().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    wait_for("the end of the build", || {
        builds(&marker).is_empty().then_some(())
    })
    .await;
    let mut again = gateway.connect(&kernel, "b").await;
    assert_eq!(run(&mut again, "%pip freeze").await, before);
    assert_eq!(run(&mut again, SIX).await, "1.16.0\n");
}

/// Processes that work in the folder of the package that waits.
fn builds(marker: &Path) -> Vec<i32> {
    let folder = marker.with_file_name("source");
    let works_there =
        |pid: &str| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    let all = fs::read_dir("/proc").unwrap().flatten();
    let names = all.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|pid| works_there(pid))
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[tokio::test]
async fn an_edit_in_place_stays_in_its_environment() {
    let gateway = with_uv().await;
    let mut clients = Vec::new();
    for name in ["a", "b"] {
        let kernel = notebook(&gateway, &format!("{name}.ipynb"), "pip").await;
        let mut client = gateway.connect(&kernel, name).await;
        run(&mut client, "%pip install -q six==1.16.0").await;
        clients.push(client);
    }
    let [a, b] = &mut clients[..] else {
        unreachable!()
    };
    let edit =
        "import six\nwith open(six.__file__, 'a') as file: file.write('\\nEDITED = True\\n')";
    run(a, edit).await;
    assert_eq!(
        run(b, "import six; print(hasattr(six, 'EDITED'))").await,
        "False\n"
    );
    let third = notebook(&gateway, "c.ipynb", "pip").await;
    let mut c = gateway.connect(&third, "c").await;
    run(&mut c, "%pip install -q six==1.16.0").await;
    assert_eq!(
        run(&mut c, "import six; print(hasattr(six, 'EDITED'))").await,
        "False\n"
    );
}

/// Waits for a spare environment that is like this.
pub(crate) async fn spare(gateway: &Gateway, is_it: impl Fn(&Path) -> bool) -> PathBuf {
    let spares = gateway.root().join("data/spares");
    let look = || {
        let all = fs::read_dir(&spares).ok()?.flatten();
        let mut all = all.map(|entry| entry.path());
        all.find(|spare| spare.join("nb-spare").exists() && is_it(spare))
    };
    // It is made at the lowest priority.
    let made = timeout(SET_UP_LIMIT, async {
        loop {
            if let Some(spare) = look() {
                break spare;
            }
            sleep(LOOK_AGAIN).await;
        }
    });
    made.await.expect("no spare environment")
}

#[tokio::test]
async fn the_next_notebook_gets_an_environment_that_is_there_already() {
    let gateway = with_uv().await;
    notebook(&gateway, "a.ipynb", "pip").await;
    let spare = spare(&gateway, |_| true).await;
    let python = |environment: &Path| {
        let about = fs::symlink_metadata(environment.join("bin/python")).unwrap();
        (about.dev(), about.ino())
    };
    let made = python(&spare.join("env"));
    let kernel = notebook(&gateway, "b.ipynb", "pip").await;
    let mut b = gateway.connect(&kernel, "b").await;
    let prefix = run(&mut b, "import sys; print(sys.prefix)").await;
    let prefix = Path::new(prefix.trim());
    assert_eq!(python(prefix), made);
    // It is compiled, shares no file, its programs know where they are, and it can be changed.
    let shared = "import pathlib, ipykernel
files = [f for f in pathlib.Path(sys.prefix).rglob('*') if f.is_file() and not f.is_symlink()]
print([f for f in files if f.stat().st_nlink > 1], ipykernel.__cached__ in map(str, files))";
    assert_eq!(run(&mut b, shared).await, "[] True\n");
    let program = run(&mut b, "!head -1 $(which ipython); ipython --version").await;
    assert!(
        !program.contains("spares") && program.lines().count() == 2,
        "{program}"
    );
    run(&mut b, "%pip install -q six==1.16.0").await;
    assert_eq!(run(&mut b, SIX_ELSEWHERE).await, "1.16.0\n");
}
