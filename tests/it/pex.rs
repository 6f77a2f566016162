//! Pexes that pex itself has made, in a real kernel.

mod pants;
mod rebase;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nb::env::interpreters::{Interpreter, Interpreters};
use nb::protocol::message::Channel;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{Client, Outcome};
use crate::gateway::{Gateway, LIMIT, project, wait_for};
use crate::packages::{notebook, with_uv};

/// The pex of today, and the one that pants 2.17 uses.
const NEW: &str = "target/pex-env";
const OLD: &str = "target/pex-old-env";

/// A folder in which pexes are made.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes one, without a network.
    async fn pex(&self, pex: &str, name: &str, arguments: &[&str]) -> PathBuf {
        let program = project(pex).join("bin/pex");
        assert!(program.exists(), "run cargo xtask setup");
        let output = self.path(name);
        let mut command = Command::new(program);
        command.args(["--no-index", "--python", "python3.11", "-f"]);
        command.arg(project("target/pex-wheels"));
        command.args(arguments).arg("-o").arg(&output);
        command.current_dir(self.folder.path());
        command.env("PEX_ROOT", self.path("root"));
        let made = timeout(LIMIT, command.kill_on_drop(true).output()).await;
        let made = made.expect("pex hangs").unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        output
    }

    async fn wheel(&self, name: &str, version: &str, files: &Value) -> String {
        let mut child = Command::new(project(NEW).join("bin/python"))
            .arg(project("tests/python/wheel.py"))
            .arg(self.folder.path())
            .args([name, version])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(files.to_string().as_bytes()).await.unwrap();
        drop(stdin);
        let made = timeout(LIMIT, child.wait_with_output()).await.unwrap();
        String::from_utf8(made.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    }
}

async fn kernel() -> (Gateway, Client) {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let client = gateway.connect(&kernel, "a").await;
    (gateway, client)
}

fn load(pex: &Path) -> String {
    format!("%pex_load {}", pex.display())
}

/// What a cell prints; it has to succeed.
async fn print(client: &mut Client, code: &str) -> String {
    let outcome = client.run(code).await;
    assert_eq!(outcome.reply["status"], "ok", "{code}: {outcome:?}");
    outcome.text
}

/// The sentence of a cell that fails.
async fn refusal(client: &mut Client, code: &str) -> String {
    let Outcome { reply, text, .. } = client.run(code).await;
    assert_eq!(reply["ename"], "PexError", "{code}: {reply} {text}");
    reply["evalue"].as_str().unwrap().to_owned()
}

/// A pure package that every kernel has loaded when it starts, of another version than the one put into pexes.
const DIRS: &str =
    "import platformdirs; print(platformdirs.__version__, platformdirs.unix.__name__)";
const THEIRS: &str = "4.14.7 platformdirs.unix\n";
const OURS: &str = "4.2.2 platformdirs.unix\n";

#[tokio::test]
async fn a_pex_swaps_what_was_imported_and_clean_path_brings_it_back() {
    let shop = Workshop::new();
    shop.put("src/corp/__init__.py", "NAME = 'corp'\n");
    let pex = shop
        .pex(NEW, "app.pex", &["platformdirs", "-D", "src"])
        .await;
    let (gateway, mut client) = kernel().await;
    fs::copy(&pex, gateway.root().join("my app.pex")).unwrap();
    assert_eq!(print(&mut client, DIRS).await, THEIRS);
    let note = "import sys; path, first, names = list(sys.path), platformdirs, set(dir())";
    print(&mut client, note).await;

    let said = print(&mut client, "%pex_load '~/my app.pex'").await;
    let expected = "my app.pex is on the path: corp; platformdirs 4.2.2.\nImport again, it was imported from elsewhere: platformdirs.\n";
    assert_eq!(said, expected);
    assert_eq!(print(&mut client, DIRS).await, OURS);
    let said = print(
        &mut client,
        "import corp; print(corp.NAME, '/site-packages' in sys.path[0], sys.path[1:] == path)",
    )
    .await;
    assert_eq!(said, "corp True True\n");
    let left = print(
        &mut client,
        "print(sorted(n for n in set(dir()) - names if n[0] != '_'))",
    )
    .await;
    assert_eq!(
        left, "['corp', 'first', 'names', 'path']\n",
        "names are left behind"
    );
    let said = print(&mut client, "%pex status").await;
    assert!(said.starts_with("my app.pex is on the path: /"), "{said}");
    let frame = print(
        &mut client,
        "import inspect; print(inspect.getsource(corp))",
    )
    .await;
    assert_eq!(frame, "NAME = 'corp'\n\n");

    let said = print(&mut client, "%clean_path").await;
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("Removed from the path: /"), "{said}");
    assert!(
        lines[1].starts_with("Removed ") && lines[1].ends_with(": corp, platformdirs"),
        "{said}"
    );
    assert_eq!(
        lines[2..],
        ["As at the start of the kernel again: platformdirs."],
        "{said}"
    );
    assert_eq!(print(&mut client, DIRS).await, THEIRS);
    let said = print(
        &mut client,
        "print(platformdirs is first, sys.path == path)",
    )
    .await;
    assert_eq!(said, "True True\n");
    let gone = client.run("import corp").await;
    assert_eq!(gone.reply["ename"], "ModuleNotFoundError", "{gone:?}");
    let again = print(&mut client, "%pex reset").await;
    assert_eq!(again, "The path is as it was at the start of the kernel.\n");
    assert_eq!(print(&mut client, "%pex").await, "No pex is loaded.\n");

    // What the user has put there goes too, and what was taken away comes back.
    let odd =
        "sys.path.append('/odd'); gone = sys.path.pop(1)\n%clean_path\nprint(sys.path == path)";
    let said = print(&mut client, odd).await;
    assert!(
        said.contains("Removed from the path: /odd\nPut back on the path: /"),
        "{said}"
    );
    assert!(said.ends_with("True\n"), "{said}");
}

#[tokio::test]
async fn what_pex_makes_is_loaded_whatever_its_layout() {
    let shop = Workshop::new();
    shop.put("src/corp/__init__.py", "");
    let (_gateway, mut client) = kernel().await;
    let base: &[&str] = &["six", "kiwisolver", "-D", "src"];
    for (number, (pex, more)) in [
        (NEW, &[][..]),
        (NEW, &["--layout", "packed"]),
        (NEW, &["--layout", "loose"]),
        (NEW, &["--sh-boot", "--no-pre-install-wheels"]),
        (NEW, &["--layout", "packed", "--no-pre-install-wheels"]),
        (OLD, &[]),
        (OLD, &["--layout", "packed"]),
        (OLD, &["--layout", "loose"]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number}.pex");
        let pex = shop.pex(pex, &name, &[base, more].concat()).await;
        let said = print(&mut client, &load(&pex)).await;
        assert!(
            said.starts_with(&format!(
                "{name} is on the path: corp; kiwisolver 1.4.8, six 1.16.0."
            )),
            "{said}"
        );
        // In a process of its own, since native code is imported once.
        let code = "import subprocess, os; env = dict(os.environ, PYTHONPATH=sys.path[0])\n\
            print(subprocess.check_output([sys.executable, '-c', 'import six, kiwisolver, corp; \
            print(six.__version__, kiwisolver.__version__, kiwisolver.Variable)'], env=env).decode())";
        let said = print(&mut client, &format!("import sys\n{code}")).await;
        assert_eq!(
            said, "1.16.0 1.4.8 <class 'kiwisolver.Variable'>\n\n",
            "{name}"
        );
    }
}

#[tokio::test]
async fn native_code_that_is_in_use_is_not_swapped() {
    let shop = Workshop::new();
    let pex = shop.pex(NEW, "solver.pex", &["kiwisolver", "six"]).await;
    let (_gateway, mut client) = kernel().await;
    let note = "import sys, kiwisolver; path = list(sys.path); modules = dict(sys.modules)";
    print(&mut client, note).await;
    let why = refusal(&mut client, &load(&pex)).await;
    assert_eq!(
        why,
        "solver.pex has another kiwisolver than this kernel has imported, and native code cannot be swapped in a running \
         process: `--rebase` restarts the kernel with it, without its variables."
    );
    let same =
        "print(sys.path == path, [n for n in modules if sys.modules.get(n) is not modules[n]])";
    assert_eq!(print(&mut client, same).await, "True []\n");

    // What was not imported before is the pex's, stays through another load of the same, and cannot come back by cleaning.
    let (_gateway, mut client) = kernel().await;
    print(&mut client, &load(&pex)).await;
    let version = "import kiwisolver; print(kiwisolver.__version__, kiwisolver.Variable)";
    assert_eq!(
        print(&mut client, version).await,
        "1.4.8 <class 'kiwisolver.Variable'>\n"
    );
    print(&mut client, "first = kiwisolver").await;
    shop.put("src/corp/__init__.py", "");
    let other = shop
        .pex(NEW, "other.pex", &["kiwisolver", "-D", "src"])
        .await;
    let said = print(&mut client, &load(&other)).await;
    assert_eq!(said, "other.pex is on the path: corp; kiwisolver 1.4.8.\n");
    let same = "import corp, kiwisolver, sys; print(kiwisolver is first, sum('mounts' in path for path in sys.path))";
    assert_eq!(print(&mut client, same).await, "True 1\n");
    let said = print(&mut client, "%clean_path").await;
    let warned =
        "Restart the kernel before you import again, native code stays loaded: kiwisolver.\n";
    assert!(said.ends_with(warned), "{said}");
}

#[tokio::test]
async fn namespaces_and_entry_points_are_those_of_both() {
    let shop = Workshop::new();
    let old = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n";
    let files = json!({
        "space/greeting.py": "HERE = 'pex'\n",
        "joined/__init__.py": old,
        "joined/greeting.py": "HERE = 'pex'\n",
        "joined/both.py": "HERE = 'pex'\n",
        "greeting-2.0.dist-info/entry_points.txt": "[corp.greetings]\nhello = space.greeting:HERE\n",
        "greeting.pth": "import sys; sys.greeted = True\nextra\n",
        "extra/only_by_pth.py": "",
    });
    let wheel = shop.wheel("greeting", "2.0", &files).await;
    shop.put("src/space/code.py", "HERE = 'code'\n");
    let pex = shop.pex(NEW, "ns.pex", &[&wheel, "-D", "src"]).await;
    shop.put("notebook/space/local.py", "HERE = 'local'\n");
    shop.put("notebook/joined/__init__.py", old);
    shop.put("notebook/joined/local.py", "HERE = 'local'\n");
    shop.put("notebook/joined/both.py", "HERE = 'local'\n");
    let (_gateway, mut client) = kernel().await;
    let folder = shop.path("notebook");
    let before = format!(
        "import sys; sys.path.append({:?})\nimport space.local, joined.local, joined.both\nprint(joined.both.HERE)",
        folder.to_str().unwrap()
    );
    assert_eq!(print(&mut client, &before).await, "local\n");
    let said = print(&mut client, &load(&pex)).await;
    assert!(
        said.contains("Import again, it was imported from elsewhere: joined.both.\n"),
        "{said}"
    );
    let after = "import space.greeting, space.code, joined.greeting, joined.both, only_by_pth\n\
        print(space.local.HERE, space.greeting.HERE, space.code.HERE, joined.local.HERE, joined.greeting.HERE, joined.both.HERE)\n\
        from importlib.metadata import entry_points, version\n\
        print([e.load() for e in entry_points(group='corp.greetings')], version('greeting'), sys.greeted)";
    let said = print(&mut client, after).await;
    assert_eq!(said, "local pex code local pex pex\n['pex'] 2.0 True\n");
    print(&mut client, "%clean_path").await;
    let gone = "print(list(entry_points(group='corp.greetings')), [n for n in sys.modules if 'greeting' in n])";
    assert_eq!(print(&mut client, gone).await, "[] []\n");
}

#[tokio::test]
async fn what_cannot_be_loaded_is_one_sentence_and_changes_nothing() {
    let shop = Workshop::new();
    let pex = shop
        .pex(NEW, "app.pex", &["six", "--layout", "loose"])
        .await;
    let whole = shop.pex(NEW, "whole.pex", &["six"]).await;
    let (_gateway, mut client) = kernel().await;
    print(
        &mut client,
        "import sys, platform; path, count = list(sys.path), len(sys.modules)",
    )
    .await;
    let info = fs::read_to_string(pex.join("PEX-INFO")).unwrap();
    let changed = |field: &str, value: Value| {
        let mut info: Value = serde_json::from_str(&info).unwrap();
        info[field] = value;
        fs::write(pex.join("PEX-INFO"), info.to_string()).unwrap();
    };
    changed("interpreter_constraints", json!(["CPython<3.4"]));
    let why = refusal(&mut client, &load(&pex)).await;
    let kernel = print(
        &mut client,
        "import platform; print('CPython', platform.python_version())",
    )
    .await;
    let expected = format!(
        "app.pex needs CPython<3.4, and this kernel runs {}; no interpreter of this machine fits.",
        kernel.trim()
    );
    assert_eq!(why, expected);
    changed(
        "interpreter_constraints",
        json!([format!("!={}", &kernel.trim()["CPython ".len()..]), "<3"]),
    );
    let why = refusal(&mut client, &load(&pex)).await;
    assert!(why.starts_with("app.pex needs !=3."), "{why}");
    changed(
        "distributions",
        json!({"six-1.16.0-cp27-cp27m-manylinux1_x86_64.whl": "5"}),
    );
    changed("interpreter_constraints", json!(["what?"]));
    let why = refusal(&mut client, &load(&pex)).await;
    assert!(why.contains("\"what?\" cannot be understood"), "{why}");

    let missing = refusal(&mut client, "%pex_load nothing.pex").await;
    assert!(
        missing.ends_with("/nothing.pex cannot be read as a pex: there is no such file."),
        "{missing}"
    );
    let bytes = fs::read(&whole).unwrap();
    fs::write(&whole, &bytes[..bytes.len() - 100]).unwrap();
    let cut = refusal(&mut client, &load(&whole)).await;
    assert!(
        cut.ends_with("it is no zip archive, or was cut off."),
        "{cut}"
    );
    let usage = client.run("%pex_load").await.reply;
    assert_eq!(usage["ename"], "UsageError", "{usage}");
    // An error stops what comes after it in the cell.
    let both = client.run("%pex_load nothing.pex\nprint('after')").await;
    assert_eq!(
        (both.text.as_str(), &both.reply["ename"]),
        ("", &json!("PexError"))
    );
    let same = "print(sys.path == path, len(sys.modules) - count, sys.modules['platformdirs'].__version__)";
    assert_eq!(print(&mut client, same).await, "True 0 4.14.7\n");

    // One that leaves in the middle.
    let wheel = shop
        .wheel(
            "leaver",
            "1.0",
            &json!({"leaver.pth": "import sys; sys.exit(3)\n"}),
        )
        .await;
    let leaver = shop.pex(NEW, "leaver.pex", &[&wheel, "platformdirs"]).await;
    let why = refusal(&mut client, &load(&leaver)).await;
    assert!(why.contains("SystemExit: 3"), "{why}");
    assert_eq!(print(&mut client, same).await, "True 0 4.14.7\n");
    // A cell like any other: in a block, under a magic of IPython's.
    fs::write(&whole, bytes).unwrap();
    let composed = format!(
        "%%time\nfor _ in range(2):\n    {}\nimport six; print(six.__version__)",
        load(&whole)
    );
    let said = print(&mut client, &composed).await;
    assert!(
        said.contains("1.16.0\n") && said.contains("Wall time"),
        "{said}"
    );
    let captured = format!("%%capture out\n{}", load(&whole));
    assert_eq!(print(&mut client, &captured).await, "");
}

/// What runs in a kernel runs in every Python of this machine that a kernel may be of.
#[tokio::test]
async fn every_python_of_this_machine_takes_it() {
    let shop = Workshop::new();
    for (name, files) in [
        ("first", &["corp"][..]),
        ("second", &["corp", "space/theirs"]),
    ] {
        for file in files {
            shop.put(&format!("{name}/{file}.py"), &format!("HERE = '{name}'\n"));
        }
    }
    let variable = |name: &str| std::env::var_os(name);
    let all = Interpreters::look(&shop.path("data"), variable, LIMIT).await;
    let is_of_a_kernel =
        |it: &&Interpreter| (it.about.version.number(0), it.about.version.number(1)) >= (3, 8);
    let mut count = 0;
    for interpreter in all.0.iter().filter(is_of_a_kernel) {
        let mut command = Command::new(&interpreter.path);
        command.arg("-B").arg(project("tests/python/pex_kernel.py"));
        command.arg(project("src/env/interpreters/about.py"));
        command.arg(project("src/magics/pex/kernel.py"));
        command.args([shop.path("first"), shop.path("second")]);
        let said = timeout(LIMIT, command.kill_on_drop(true).output()).await;
        let said = said.expect("Python hangs").unwrap();
        let errors = String::from_utf8_lossy(&said.stderr);
        assert!(
            said.status.success(),
            "{}: {errors}",
            interpreter.path.display()
        );
        count += 1;
    }
    assert!(count > 0, "there is no Python");
}

/// A build tool that makes real pexes: it stands in for bazel, which is not to be had, and for what pants rarely does.
fn put_tool(shop: &Workshop, name: &str, script: &str) {
    let (pex, wheels) = (project(NEW).join("bin/pex"), project("target/pex-wheels"));
    let make = format!(
        "PEX_ROOT={:?} {pex:?} --no-index --python python3.11 -f {wheels:?}",
        shop.path("root")
    );
    shop.put(
        name,
        &format!("#!/bin/sh -e\nmake() {{ {make} \"$@\"; }}\n{script}\n"),
    );
    fs::set_permissions(shop.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_target_is_built_by_the_repositorys_own_tool_and_loaded() {
    let shop = Workshop::new();
    shop.put("repo/src/corp/__init__.py", "NAME = 'corp'\n");
    shop.put("repo/MODULE.bazel", "");
    shop.put("repo/pants.toml", "");
    put_tool(
        &shop,
        "repo/bazel",
        "case $1 in\n\
         build) echo \"INFO: analyses $2\" >&2; case $2 in *bad) echo 'ERROR: no such target' >&2; exit 7;;\n\
         *slow) trap '' INT; echo \"$$\" > pid; echo slow; sleep 600 & wait; esac\n\
         mkdir -p bazel-bin; make platformdirs -D src -o bazel-bin/app.pex;;\n\
         cquery) echo bazel-bin/app.pex; echo bazel-bin/app;; esac",
    );
    // As pants puts it.
    put_tool(
        &shop,
        "repo/pants",
        "out=${1#--pants-distdir=}; [ \"$2\" = package ]; echo 'Wrote it' >&2\n\
         case $3 in *many) mkdir -p $out/a; touch $out/a/one.pex $out/two.pex;; *none) ;;\n\
         *) mkdir -p $out/app; make six -D src -o $out/app/bin.pex;; esac",
    );
    let (_gateway, mut client) = kernel().await;
    let outside = refusal(&mut client, "%bazel_load //app:bin").await;
    assert!(
        outside.contains("is in no repository of bazel"),
        "{outside}"
    );
    let outside = refusal(&mut client, "%pants_load //app:bin").await;
    assert!(
        outside.contains("say which with `%pants_repo FOLDER`"),
        "{outside}"
    );
    let wrong = refusal(&mut client, "%pants_repo /").await;
    assert_eq!(wrong, "/ is no repository of pants: it has no pants.toml.");

    let repo = shop.path("repo");
    let said = print(&mut client, &format!("%pants_repo {}", repo.display())).await;
    assert_eq!(
        said,
        format!("Targets of pants are those of {}.\n", repo.display())
    );
    let said = print(&mut client, "%pants_load src/app:bin").await;
    assert!(said.starts_with("Wrote it\n"), "{said}");
    assert!(
        said.ends_with("\nbin.pex is on the path: corp; six 1.16.0.\n"),
        "{said}"
    );
    let none = refusal(&mut client, "%pants_load src/app:none").await;
    assert_eq!(
        none,
        "No pex came of src/app:none: is it a target that is packaged as one?"
    );
    let many = refusal(&mut client, "%pants_load src/app:many").await;
    assert_eq!(
        many,
        "2 pexes came of src/app:many: name the target of one."
    );
    assert_eq!(fs::read_dir(repo.join("dist")).unwrap().count(), 0);
    // What was loaded before is still there.
    assert_eq!(
        print(&mut client, "import corp, six; print(corp.NAME)").await,
        "corp\n"
    );

    print(
        &mut client,
        &format!("%cd -q {}", repo.join("src").display()),
    )
    .await;
    let said = print(&mut client, "%bazel_load //app:bin").await;
    assert!(said.starts_with("INFO: analyses //app:bin\n"), "{said}");
    assert!(
        said.contains("app.pex is on the path: corp; platformdirs 4.2.2.\n"),
        "{said}"
    );
    assert!(
        said.contains("Gone with what was loaded before: six.\n"),
        "{said}"
    );
    let bad = client.run("%bazel_load //app:bad").await;
    assert!(bad.text.ends_with("ERROR: no such target\n"), "{bad:?}");
    assert_eq!(
        bad.reply["evalue"],
        "bazel could not do it; what it said is above."
    );
    let request = client.submit("%bazel_load //app:slow").await;
    client.wait_for(&request, "slow").await;
    let written = || {
        let pid = fs::read_to_string(repo.join("pid")).ok()?;
        pid.ends_with('\n').then_some(pid)
    };
    let pid = wait_for("its pid", written).await;
    client
        .send(Channel::Control, "interrupt_request", json!({}))
        .await;
    let stopped = client.outcome(&request, "").await;
    assert_eq!(stopped.reply["ename"], "KeyboardInterrupt", "{stopped:?}");
    let status = PathBuf::from(format!("/proc/{}/status", pid.trim()));
    let is_gone = || fs::read_to_string(&status).map_or(true, |it| it.contains("State:\tZ"));
    wait_for("the end of the tool", || is_gone().then_some(())).await;
    let said = print(&mut client, "%clean_path").await;
    let back = "Removed 1 module: corp\nAs at the start of the kernel again: platformdirs.\n";
    assert!(said.ends_with(back), "{said}");
}

#[tokio::test]
async fn requirements_are_installed_into_a_folder_of_their_own() {
    let (gateway, mut client) = kernel().await;
    let wheels = project("target/pex-wheels");
    let from = format!("--no-index -f {}", wheels.display());
    let code = format!("%requirements_load {from} platformdirs==4.2.2 six==1.16.0");
    let said = print(&mut client, &code).await;
    let expected = "What is required is on the path: platformdirs 4.2.2, six 1.16.0.\n";
    assert!(said.contains(expected), "{said}");
    assert_eq!(print(&mut client, DIRS).await, OURS);
    let again = print(&mut client, &code).await;
    assert_eq!(again, expected);
    let missing = client
        .run(&format!("%requirements_load {from} nothing-of-this-name"))
        .await;
    let why = missing.reply["evalue"].as_str().unwrap();
    assert!(
        why.starts_with("No versions fit together: Because nothing-of-this-name was not found"),
        "{missing:?}"
    );
    print(&mut client, "%clean_path").await;
    assert_eq!(print(&mut client, DIRS).await, THEIRS);
    let mounts = fs::read_dir(gateway.root().join("data/pex/mounts")).unwrap();
    assert_eq!(mounts.count(), 1);
}

/// Nothing but a kernel, until a pex comes.
#[tokio::test]
async fn the_kernel_of_pexes_has_what_comes_from_them() {
    let shop = Workshop::new();
    let pex = shop.pex(NEW, "six.pex", &["six"]).await;
    let gateway = with_uv().await;
    let (_, specs) = gateway.rest("GET", "/api/kernelspecs", "").await;
    let spec = &specs["kernelspecs"]["pex"];
    assert_eq!(spec["spec"]["display_name"], "Python (pex)");
    assert!(spec["resources"]["logo-64x64"].is_string(), "{spec}");
    let kernel = notebook(&gateway, "a.ipynb", "pex").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let missing = client.run("import six").await;
    assert_eq!(missing.reply["ename"], "ModuleNotFoundError");
    let code = format!("{}\nimport six; print(six.__version__)", load(&pex));
    let said = print(&mut client, &code).await;
    assert!(said.ends_with("1.16.0\n"), "{said}");
}
