//! A pex that takes over: a new interpreter behind the same kernel id.

use std::fs;
use std::path::Path;

use nb::env::interpreters::{Interpreter, Interpreters};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{NEW, Workshop, load, print, put_tool, refusal};
use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, project};
use crate::packages::{nb, notebook, with_uv};
use crate::processes::{pid_of, signal};

/// What its process is, and what it has of the pex.
const WHO: &str =
    "import sys, os; print('CPython', '.'.join(map(str, sys.version_info[:3])), os.getpid())";

async fn kernel() -> (Gateway, String, Client) {
    let gateway = with_uv().await;
    let kernel = gateway.kernel("{}").await;
    let client = gateway.connect(&kernel, "a").await;
    (gateway, kernel, client)
}

/// The Pythons of this machine that a kernel may be of, each version once.
async fn pythons(shop: &Workshop) -> Vec<Interpreter> {
    let variable = |name: &str| std::env::var_os(name);
    let mut all = Interpreters::look(&shop.path("data"), variable, LIMIT)
        .await
        .0;
    all.retain(|it| {
        let version = &it.about.version;
        it.about.implementation == "CPython" && (version.number(0), version.number(1)) >= (3, 8)
    });
    all.dedup_by(|one, other| one.about == other.about);
    assert!(!all.is_empty(), "there is no Python");
    all
}

/// Says for which Python a pex that is a folder is.
fn constrain(pex: &Path, constraint: &str) {
    let file = pex.join("PEX-INFO");
    let mut info: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    info["interpreter_constraints"] = json!([constraint]);
    fs::write(file, info.to_string()).unwrap();
}

fn rebase(pex: &Path) -> String {
    format!("%pex_load --rebase {}", pex.display())
}

/// Runs a cell after which the kernel is another process, and waits for that; what it printed.
pub(super) async fn replaced(
    gateway: &Gateway,
    kernel: &str,
    client: &mut Client,
    code: &str,
) -> String {
    let before = gateway.model(kernel).await["nb"]["epoch"].as_u64().unwrap();
    let said = print(client, code).await;
    came_back(gateway, kernel, before).await;
    said
}

async fn came_back(gateway: &Gateway, kernel: &str, epoch: u64) {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let model = gateway.model(kernel).await;
        if model["nb"]["epoch"].as_u64() > Some(epoch) && model["execution_state"] == "idle" {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{model}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pex_takes_over_with_every_python_that_it_is_for() {
    let shop = Workshop::new();
    shop.put(
        "src/corp/__init__.py",
        "NAME = 'corp'\ndef main(): print('runs', __import__('sys').version_info[1])\n",
    );
    let entry = json!({"tool_of_corp.py": "from corp import main\n",
        "corp_tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ncorp-tool = tool_of_corp:main\n",
        "corp_tool.pth": "import sys; sys.by_pth = True\n"});
    let wheel = shop.wheel("corp_tool", "1.0", &entry).await;
    let pex = ["six", &wheel, "-D", "src", "--layout", "loose"];
    let pex = shop.pex(NEW, "app.pex", &pex).await;
    let (gateway, kernel, mut client) = kernel().await;
    let first = print(&mut client, WHO).await;
    let start = print(&mut client, "import sys; print(sys.executable)").await;
    for python in pythons(&shop).await {
        let about = python.about.to_string();
        constrain(&pex, &format!("CPython=={}", python.about.version));
        print(&mut client, "x = 41").await;
        let said = replaced(&gateway, &kernel, &mut client, &rebase(&pex)).await;
        let expected = format!(
            "app.pex is this kernel's environment from now on, with {about}: corp; corp-tool 1.0, six 1.16.0. \
             The kernel is restarted, its variables are lost.\n"
        );
        assert!(said.ends_with(&expected), "{said}");
        let now = print(&mut client, WHO).await;
        assert!(now.starts_with(&format!("{about} ")), "{now}");
        let gone = client.run("x").await;
        assert_eq!(gone.reply["ename"], "NameError", "{gone:?}");
        let here = "import corp, six; print(corp.NAME, six.__version__, sys.by_pth, 'mounts' in six.__file__)";
        assert_eq!(
            print(&mut client, here).await,
            "corp 1.16.0 True True\n",
            "{about}"
        );
        // What is started from here has it too, and the programs of the pex are on the path.
        let minor = python.about.version.number(1);
        let elsewhere = "!corp-tool\n!python -c 'import corp; corp.main()'";
        let said = print(&mut client, elsewhere).await.replace('\r', "");
        assert_eq!(said, format!("runs {minor}\nruns {minor}\n"), "{about}");
        let status = print(&mut client, "%pex status").await;
        assert!(
            status.starts_with(&format!(
                "app.pex is this kernel's environment, with {about}: /"
            )),
            "{status}"
        );
        let status = print(&mut client, "x = %nb status\nprint(x)").await;
        assert!(
            status.contains("environment  app.pex, ") && status.contains(&about[8..]),
            "{status}"
        );
        // The same once more is nothing new: a notebook may have it in its first cell.
        let again = print(&mut client, &rebase(&pex)).await;
        assert!(
            again.starts_with("app.pex is this kernel's environment, with "),
            "{again}"
        );
        assert_eq!(print(&mut client, WHO).await, now);
    }
    let back = replaced(&gateway, &kernel, &mut client, "%clean_path").await;
    assert!(
        back.starts_with("app.pex is this kernel's environment no longer."),
        "{back}"
    );
    let second = print(&mut client, WHO).await;
    let version = |who: &str| who.rsplit_once(' ').unwrap().0.to_owned();
    assert_eq!(version(&first), version(&second));
    assert_eq!(print(&mut client, "print(sys.executable)").await, start);
    assert_eq!(
        client.run("import corp").await.reply["ename"],
        "ModuleNotFoundError"
    );
    assert_eq!(print(&mut client, "%pex").await, "No pex is loaded.\n");
    let base = gateway
        .root()
        .join("run/kernels")
        .join(&kernel)
        .join("base.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(base).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_rebase_outlives_restarts_deaths_and_supervisors() {
    let shop = Workshop::new();
    shop.put("src/corp/__init__.py", "NAME = 'corp'\n");
    // Native code that the kernel has imported from elsewhere.
    let pex = shop
        .pex(NEW, "solver.pex", &["kiwisolver", "-D", "src"])
        .await;
    let (gateway, kernel, mut client) = kernel().await;
    print(&mut client, "import kiwisolver").await;
    let why = refusal(&mut client, &load(&pex)).await;
    assert!(
        why.ends_with("`--rebase` restarts the kernel with it, without its variables."),
        "{why}"
    );
    replaced(&gateway, &kernel, &mut client, &rebase(&pex)).await;
    let has = "import corp, kiwisolver; print(corp.NAME, kiwisolver.__version__)";
    let expected = "corp 1.4.8\n";
    assert_eq!(print(&mut client, has).await, expected);

    // An asked restart, by a cell and by a client.
    replaced(&gateway, &kernel, &mut client, "%nb restart").await;
    assert_eq!(print(&mut client, has).await, expected);
    let (status, _) = gateway
        .rest("POST", &format!("/api/kernels/{kernel}/restart"), "")
        .await;
    assert_eq!(status, 200);
    assert_eq!(print(&mut client, has).await, expected);
    // A death.
    let before = gateway.model(&kernel).await["nb"]["epoch"]
        .as_u64()
        .unwrap();
    let died = client.run("import os; os.kill(os.getpid(), 9)").await;
    assert_eq!(died.reply["status"], "error", "{died:?}");
    came_back(&gateway, &kernel, before).await;
    assert_eq!(print(&mut client, has).await, expected);
    // Another supervisor, which starts the next process too.
    print(&mut client, "x = 41").await;
    let supervisor = pid_of(&gateway.model(&kernel).await, "supervisor_pid");
    signal(supervisor, Signal::KILL);
    client.gone().await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(
        print(&mut client, &format!("print(x)\n{has}")).await,
        "41\ncorp 1.4.8\n"
    );
    let status = print(&mut client, "%pex status").await;
    assert!(
        status.starts_with("solver.pex is this kernel's environment, with "),
        "{status}"
    );
    replaced(&gateway, &kernel, &mut client, "%nb restart").await;
    assert_eq!(print(&mut client, has).await, expected);
    replaced(&gateway, &kernel, &mut client, "%clean_path").await;
    let gone = client.run("import corp").await;
    assert_eq!(gone.reply["ename"], "ModuleNotFoundError", "{gone:?}");
    replaced(&gateway, &kernel, &mut client, "%nb restart").await;
    assert_eq!(
        client.run("import corp").await.reply["ename"],
        "ModuleNotFoundError"
    );
}

#[tokio::test]
async fn a_rebase_that_fails_leaves_the_kernel_as_it_was() {
    let shop = Workshop::new();
    let (gateway, kernel, mut client) = kernel().await;
    print(&mut client, "x = 41").await;
    let who = print(&mut client, WHO).await;
    let same = async |client: &mut Client| {
        assert_eq!(
            print(client, &format!("{WHO}\nprint(x)")).await,
            format!("{who}41\n")
        );
    };
    let pex = shop
        .pex(NEW, "app.pex", &["six", "--layout", "loose"])
        .await;
    constrain(&pex, "CPython<3.4");
    let why = refusal(&mut client, &rebase(&pex)).await;
    assert!(
        why.ends_with("no interpreter of this machine fits."),
        "{why}"
    );
    let named = format!("{} --python 3.8", rebase(&pex));
    let why = refusal(&mut client, &named).await;
    assert!(
        why.contains("app.pex needs CPython<3.4, and CPython 3.8.")
            || why.contains("There is no Python 3.8 on this machine; there is: "),
        "{why}"
    );
    let why = refusal(&mut client, "%requirements_load --rebase --python 3.2 six").await;
    assert!(
        why.starts_with("There is no Python 3.2 on this machine; there is: "),
        "{why}"
    );
    let missing = refusal(&mut client, "%pex_load --rebase nothing.pex").await;
    assert!(missing.contains("there is no such file"), "{missing}");
    // Its own ipykernel, and no kernel.
    let broken = json!({"ipykernel/__init__.py": "", "ipykernel_launcher.py": "raise RuntimeError('of the pex')\n"});
    let wheel = shop.wheel("ipykernel", "0.1", &broken).await;
    let pex = shop.pex(NEW, "own.pex", &[&wheel]).await;
    let why = refusal(&mut client, &rebase(&pex)).await;
    assert_eq!(
        why,
        "A kernel cannot be started with own.pex in it: RuntimeError: of the pex"
    );
    same(&mut client).await;

    // One that only ends where a kernel is started: it comes back in what it was in, twice.
    let leaves = "import os; b'.json' in open('/proc/self/cmdline', 'rb').read() and os._exit(7)\n";
    let wheel = shop
        .wheel("leaver", "1.0", &json!({"leaver.pth": leaves}))
        .await;
    let leaver = shop.pex(NEW, "leaver.pex", &[&wheel]).await;
    let mut of_first = who.rsplit_once(' ').unwrap().0.to_owned();
    for based in [false, true] {
        if based {
            let pex = shop.pex(NEW, "fine.pex", &["six"]).await;
            replaced(&gateway, &kernel, &mut client, &rebase(&pex)).await;
            of_first = print(&mut client, "%pex status").await;
        }
        replaced(&gateway, &kernel, &mut client, &rebase(&leaver)).await;
        let said = print(&mut client, WHO).await;
        assert!(
            said.contains("The kernel did not come up with leaver.pex as its environment and is again in the one that it was in: ")
                && said.contains("exited with code 7"),
            "{said}"
        );
        let now = match based {
            false => print(&mut client, WHO).await,
            true => print(&mut client, "%pex status").await,
        };
        assert!(now.starts_with(&of_first), "{now}");
    }
    // What is gone from the disk.
    fs::remove_dir_all(gateway.root().join("data/pex/mounts")).unwrap();
    replaced(&gateway, &kernel, &mut client, "%nb restart").await;
    let said = print(&mut client, "print(1)").await;
    assert!(
        said.contains("The environment of fine.pex is gone"),
        "{said}"
    );
    assert_eq!(print(&mut client, "%pex").await, "No pex is loaded.\n");
    // What breaks once a kernel runs in it.
    let pex = shop.pex(NEW, "later.pex", &["six"]).await;
    replaced(&gateway, &kernel, &mut client, &rebase(&pex)).await;
    let front = print(&mut client, "import _nb_front; print(_nb_front.__file__)").await;
    fs::write(front.trim(), leaves).unwrap();
    replaced(&gateway, &kernel, &mut client, "%nb restart").await;
    let said = print(&mut client, WHO).await;
    assert!(
        said.contains("The kernel did not come up with later.pex as its environment and is in the one that it was started with first: ")
            && said.contains("exited with code 7"),
        "{said}"
    );
    replaced(&gateway, &kernel, &mut client, "%nb restart").await;
    assert_eq!(print(&mut client, "print(1)").await, "1\n");
    // The same pex again has one that is made anew, whether a kernel does not come up in the old one or it cannot be tried.
    for _ in 0..2 {
        replaced(&gateway, &kernel, &mut client, &rebase(&pex)).await;
        let status = print(&mut client, "%pex status").await;
        assert!(status.starts_with("later.pex is this kernel's"), "{status}");
        replaced(&gateway, &kernel, &mut client, "%clean_path").await;
        print(&mut client, "1").await;
        fs::write(front.trim(), "raise RuntimeError('of the base')\n").unwrap();
    }
}

#[tokio::test]
async fn what_is_made_first_takes_over_too_and_pip_is_not_for_it() {
    let shop = Workshop::new();
    shop.put("repo/src/corp/__init__.py", "NAME = 'corp'\n");
    shop.put("repo/pants.toml", "");
    put_tool(
        &shop,
        "repo/pants",
        "out=${1#--pants-distdir=}; mkdir -p $out/app; make six platformdirs -D src -o $out/app/bin.pex",
    );
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let wheels = project("target/pex-wheels");
    let own = format!("%pip install -q --no-index -f {} six", wheels.display());
    print(&mut client, &own).await;
    let code = format!(
        "%pants_repo {}\n%pants_load --rebase src/app:bin",
        shop.path("repo").display()
    );
    let said = replaced(&gateway, &kernel, &mut client, &code).await;
    assert!(
        said.contains("bin.pex is this kernel's environment from now on, with "),
        "{said}"
    );
    // What a kernel needs goes with what the pex has of it.
    let has = "import corp, six, platformdirs, ipykernel; print(corp.NAME, platformdirs.__version__, 'mounts' in six.__file__)";
    assert_eq!(print(&mut client, has).await, "corp 4.2.2 True\n");
    let closed = "This kernel has bin.pex as its environment, which stays as it is; `%clean_path` restarts the kernel in its own.";
    for code in ["%pip install iniconfig", "%nb reset"] {
        assert_eq!(client.run(code).await.reply["evalue"], closed, "{code}");
    }
    let said = print(&mut client, "!pip install iniconfig").await;
    assert!(
        said.contains("this kernel has bin.pex as its environment"),
        "{said}"
    );
    let said = print(&mut client, "!python -m pip install iniconfig").await;
    assert!(
        said.contains("this kernel has bin.pex as its environment"),
        "{said}"
    );

    // It may come back to its own, which stays, though nothing runs in it and its notebook is no file.
    let collected =
        async |how: &str| nb(&gateway, "env", &["gc", "notebooks", "--json", how]).await;
    assert_eq!(collected("--yes").await.trim(), "[]");

    // Another Python, where there is one.
    let own = print(&mut client, WHO).await;
    let pythons = pythons(&shop).await;
    let other = pythons
        .iter()
        .find(|it| !own.starts_with(&format!("{} ", it.about)));
    let about = &other.unwrap_or(&pythons[0]).about;
    let code = format!(
        "%requirements_load --rebase --python {} --no-index -f {} six",
        about.version,
        wheels.display()
    );
    let said = replaced(&gateway, &kernel, &mut client, &code).await;
    let with = format!("What is required is this kernel's environment from now on, with {about}");
    assert!(said.contains(&with), "{said}");
    let now = print(&mut client, &format!("import six\n{WHO}")).await;
    assert!(now.starts_with(&format!("{about} ")), "{now}");
    replaced(&gateway, &kernel, &mut client, "%pex reset").await;
    let own = "import six, sys; print('venvs' in six.__file__, 'venvs' in sys.executable)";
    assert_eq!(print(&mut client, own).await, "True True\n");
    let said = print(&mut client, "%pip list").await;
    assert!(said.contains("six"), "{said}");
    gateway.delete(&kernel).await;
    // Its own, and the two that it was rebased onto.
    let gone = collected("--dry-run").await;
    assert_eq!(gone.matches('"').count(), 6, "{gone}");
    assert_eq!(gone.matches("pex/bases/").count(), 2, "{gone}");
    assert_eq!(collected("--yes").await, gone);
    assert_eq!(collected("--dry-run").await.trim(), "[]");
}
