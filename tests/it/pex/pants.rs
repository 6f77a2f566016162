//! `%pants_load` with the real pants.
//!
//! It starts slowly, so that its four runs are in two tests. It needs no network: what it takes from an index is here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nb::protocol::message::Channel;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::rebase::replaced;
use super::{OLD, Workshop, print};
use crate::gateway::{Gateway, project, wait_for};
use crate::packages::with_uv;

const BUILD: &str = r#"
python_requirement(name="six", requirements=["six==1.16.0"])
python_requirement(name="endless", requirements=["endless==1.0"])
python_sources(sources=["corp/*.py"])
pex_binary(name="bin", dependencies=[":app", ":six"])
pex_binary(name="slow", dependencies=[":endless"])
"#;

/// A repository whose `./pants` is the real one. It finds what it keeps in the home of the kernel, which is the gateway's
/// folder; where it works is here.
fn repository() -> Workshop {
    let shop = Workshop::new();
    let pants = project("target/pants-env/bin/pants");
    let pex = project(OLD).join("pex");
    assert!(pants.exists() && pex.exists(), "run cargo xtask setup");
    let content = fs::read(&pex).unwrap();
    let known = |system: &str| {
        format!(
            "v2.1.137|{system}|{:x}|{}",
            Sha256::digest(&content),
            content.len()
        )
    };
    let settings = format!(
        r#"
[GLOBAL]
pants_version = "2.17.1"
backend_packages = ["pants.backend.python"]
pantsd = false
local_execution_root_dir = {work:?}
[anonymous-telemetry]
enabled = false
[subprocess-environment]
env_vars.add = ["HOME"]
[source]
root_patterns = ["/app"]
[python]
interpreter_constraints = ["==3.11.*"]
pip_version = "20.3.4-patched"
[python-infer]
use_rust_parser = true
[python-bootstrap]
search_path = [{pythons:?}]
[python-repos]
indexes = []
find_links = ["file://{wheels}", "file://{links}"]
[pex-cli]
version = "v2.1.137"
known_versions = {known:?}
url_template = "file://{pex}"
"#,
        work = shop.path("work"),
        pythons = project("target/test-env/bin"),
        wheels = project("target/pex-wheels").display(),
        links = shop.path("links").display(),
        known = [known("linux_x86_64"), known("linux_arm64")],
        pex = pex.display(),
    );
    shop.put("work/.keep", "");
    shop.put("links/.keep", "");
    shop.put("repo/pants.toml", &settings);
    shop.put("repo/app/BUILD", BUILD);
    shop.put(
        "repo/app/corp/__init__.py",
        "import six\nNAME = six.ensure_str('corp')\n",
    );
    shop.put("repo/pants", &format!("#!/bin/sh\nexec {pants:?} \"$@\"\n"));
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(shop.path("repo/pants"), executable).unwrap();
    shop
}

#[tokio::test]
async fn a_target_of_pants_is_loaded_and_takes_over() {
    let shop = repository();
    let gateway = with_uv().await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cd = format!("%cd -q {}", shop.path("repo/app").display());
    print(&mut client, &cd).await;
    let said = print(&mut client, "%pants_load //app:bin").await;
    let building = "[INFO] Completed: Building app/bin.pex with 1 requirement: six==1.16.0\n";
    assert!(said.contains(building), "{said}");
    assert!(
        said.ends_with("\nbin.pex is on the path: corp; six 1.16.0.\n"),
        "{said}"
    );
    let who = "import corp, six; print(corp.NAME, six.__version__)";
    assert_eq!(print(&mut client, who).await, "corp 1.16.0\n");
    let left = fs::read_dir(shop.path("repo/dist")).unwrap().count();
    assert_eq!(left, 0);

    let rebase = "%pants_load --rebase //app:bin";
    let said = replaced(&gateway, &kernel, &mut client, rebase).await;
    let taken = "bin.pex is this kernel's environment from now on, with CPython 3.11.";
    assert!(said.contains(taken), "{said}");
    assert_eq!(print(&mut client, who).await, "corp 1.16.0\n");
}

#[tokio::test]
async fn what_pants_cannot_build_is_a_failed_cell_and_an_interrupt_ends_it() {
    let shop = repository();
    // An archive of sources, whose metadata takes for ever.
    let pid = shop.path("pid");
    let setup = format!(
        "import os, time\nwith open({pid:?}, 'w') as f: f.write(f'{{os.getpid()}}\\n')\ntime.sleep(600)\n"
    );
    shop.put("endless-1.0/setup.py", &setup);
    shop.put(
        "endless-1.0/PKG-INFO",
        "Metadata-Version: 1.0\nName: endless\nVersion: 1.0\n",
    );
    let mut tar = Command::new("tar");
    tar.args(["-czf", "links/endless-1.0.tar.gz", "endless-1.0"]);
    let status = tar.current_dir(shop.folder.path()).status().await;
    assert!(status.unwrap().success());
    shop.put("repo/bad/BUILD", "pex_binry(name='bin')\n");

    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let there = format!("%pants_repo {}", shop.path("repo").display());
    print(&mut client, &there).await;
    let bad = client.run("%pants_load //bad:bin").await;
    let sentence = "MappingError: Failed to parse ./bad/BUILD:\nParseError: Name 'pex_binry' is not defined.\n";
    assert!(bad.text.contains(sentence), "{bad:?}");
    assert_eq!(
        (&bad.reply["ename"], &bad.reply["evalue"]),
        (
            &json!("PexError"),
            &json!("pants could not do it; what it said is above.")
        )
    );
    fs::remove_dir_all(shop.path("repo/bad")).unwrap();

    let request = client.submit("%pants_load //app:slow").await;
    client
        .wait_for(&request, "Starting: Building app/slow.pex")
        .await;
    let written = || {
        let written = fs::read_to_string(&pid).ok()?;
        written.strip_suffix('\n').map(ToOwned::to_owned)
    };
    let innermost = wait_for("the endless build", written).await;
    // It, pants, and the processes between them.
    let of_it = || processes_in(shop.folder.path());
    assert!(of_it().len() > 2, "{:?}", of_it());
    client
        .send(Channel::Control, "interrupt_request", json!({}))
        .await;
    let stopped = client.outcome(&request, "").await;
    assert_eq!(stopped.reply["ename"], "KeyboardInterrupt", "{stopped:?}");
    let is_gone = || !is_running(&innermost) && of_it().is_empty();
    wait_for("the end of all of pants", || is_gone().then_some(())).await;
    assert_eq!(print(&mut client, "print(1)").await, "1\n");
    let is_empty = || fs::read_dir(shop.path("repo/dist")).unwrap().count() == 0;
    wait_for("the end of the folder for its pex", || {
        is_empty().then_some(())
    })
    .await;
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|it| !it.contains("State:\tZ"))
}

/// The processes that work in this folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let here = all.filter(|process| {
        let works_in = fs::read_link(process.path().join("cwd"));
        works_in.is_ok_and(|it| it.starts_with(folder))
    });
    here.map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}
