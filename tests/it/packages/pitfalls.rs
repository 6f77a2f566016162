//! What is around a notebook and must not lead its packages astray.

use std::fs;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::{SIX, SIX_ELSEWHERE, fail, notebook, own_package, restart, run, with_pycx, with_uv};

#[tokio::test]
async fn a_projects_settings_for_uv_are_not_an_environments() {
    let gateway = with_uv().await;
    let settings =
        "[tool.uv]\nrequired-version = \"==0.0.1\"\n[tool.uv.pip]\ntarget = \"elsewhere\"\n";
    fs::write(gateway.root().join("pyproject.toml"), settings).unwrap();
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
    assert!(!gateway.root().join("elsewhere").exists());
}

#[tokio::test]
async fn a_file_of_requirements_is_read_as_pip_reads_it() {
    let gateway = with_pycx().await;
    let root = gateway.root();
    own_package(&root, "1");
    let asked = "# siehe „https://h.example/“\n-e ./source\n";
    fs::write(root.join("r.txt"), asked).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    for spec in ["pip", "pycx"] {
        let kernel = notebook(&gateway, &format!("{spec}.ipynb"), spec).await;
        let mut a = gateway.connect(&kernel, "a").await;
        // Nobody writes into it.
        let waits = fail(&mut a, "%pip install -r pipe").await;
        assert!(
            waits.ends_with("/pipe cannot be read: it is no plain file."),
            "{waits}"
        );
        let own = "%pip install -q -r r.txt\nimport own; print(own.VALUE)";
        assert!(run(&mut a, own).await.ends_with("1\n"), "{spec}");
        // The folder that a kernel is in may be gone.
        let gone = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')";
        run(&mut a, &format!("{gone}\n%pip install -q six==1.16.0")).await;
        assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
    }
}

#[tokio::test]
async fn requirements_that_take_long_do_not_stop_a_kernel() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let python = run(&mut a, "import sys; print(sys.executable)").await;
    gateway.delete(&kernel).await;
    let folder = own_package(&gateway.root(), "1");
    fs::write(folder.join("setup.py"), "import time\ntime.sleep(600)\n").unwrap();
    let asked = format!("{}\n", folder.display());
    fs::write(gateway.root().join("requirements.txt"), asked).unwrap();
    let notebook = gateway.root().join("a.ipynb");
    let env = json!({"JPY_SESSION_NAME": notebook, "KERNEL_LAUNCH_TIMEOUT": "30"});
    let kernel = gateway
        .kernel(&json!({"name": "pip", "env": env}).to_string())
        .await;
    let mut a = gateway.connect(&kernel, "a").await;
    let first = run(
        &mut a,
        "print(sys.executable) if 'sys' in dir() else exec('import sys; print(sys.executable)')",
    )
    .await;
    assert!(
        first.contains("requirements.txt") && first.contains("took too long"),
        "{first}"
    );
    assert!(first.ends_with(&python), "{first} {python}");
}

#[tokio::test]
async fn a_build_that_calls_pip_and_a_pip_that_replaces_ours_do_no_harm() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let folder = own_package(&gateway.root(), "1");
    let calls = "import subprocess, sys\nfrom setuptools import setup\n\
                 done = subprocess.run(['pip', 'install', 'six'], capture_output=True, text=True)\n\
                 sys.exit('it said: ' + done.stderr) if done.returncode else setup()\n";
    fs::write(folder.join("setup.py"), calls).unwrap();
    let said = a
        .run(&format!("!pip install {}", folder.display()))
        .await
        .text;
    assert!(
        said.contains("pip is at work in this environment"),
        "{said}"
    );
    run(&mut a, "%pip install -q pip").await;
    run(&mut a, "!python -m pip install -q six==1.16.0").await;
    assert!(
        run(&mut a, "!python -m pip --version")
            .await
            .contains("pip of nb")
    );
    assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
}

#[tokio::test]
async fn what_is_for_all_notebooks_lies_below_what_is_for_one() {
    let gateway = with_pycx().await;
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    run(&mut a, "%pip install -q --user iniconfig six==1.17.0").await;
    run(&mut a, "import iniconfig").await;
    for _ in 0..2 {
        assert_eq!(run(&mut a, SIX_ELSEWHERE).await, "1.16.0\n");
        assert_eq!(run(&mut a, SIX).await, "1.16.0\n");
        restart(&mut a, &gateway, &kernel).await;
    }
    let refused = fail(&mut a, "%pip install --require-hashes six==1.16.0").await;
    assert!(refused.contains("hashes cannot be required"), "{refused}");
}

#[tokio::test]
async fn a_layer_that_was_half_made_is_made_again() {
    let gateway = with_pycx().await;
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q six==1.16.0").await;
    let layer = run(
        &mut a,
        "import six, os; print(os.path.dirname(six.__file__))",
    )
    .await;
    let path_file = std::path::Path::new(layer.trim()).join("_nb_below.pth");
    fs::remove_file(&path_file).unwrap();
    run(&mut a, "%pip install -q iniconfig").await;
    assert!(path_file.exists());
    restart(&mut a, &gateway, &kernel).await;
    run(&mut a, "import six, iniconfig, ipykernel").await;
}

#[tokio::test]
async fn a_block_is_followed_again_when_what_it_asks_for_was_removed() {
    let gateway = with_pycx().await;
    let block = format!("# /// script\n# dependencies = [\"six==1.16.0\"]\n# ///\n{SIX_ELSEWHERE}");
    for spec in ["pip", "pycx"] {
        let kernel = notebook(&gateway, &format!("{spec}.ipynb"), spec).await;
        let mut a = gateway.connect(&kernel, "a").await;
        assert!(run(&mut a, &block).await.ends_with("\n1.16.0\n"), "{spec}");
        // Nothing is to be done, and nothing said.
        assert_eq!(run(&mut a, &block).await, "1.16.0\n", "{spec}");
        for gone in ["%pip uninstall -y six", "%nb reset"] {
            run(&mut a, gone).await;
            let again = run(&mut a, &block).await;
            assert!(again.ends_with("\n1.16.0\n"), "{spec} {gone}: {again}");
        }
        let option =
            "# /// script\n# dependencies = [\"--index-url=http://localhost:9\"]\n# ///\n1";
        let said = fail(&mut a, option).await;
        assert!(said.contains("which is no requirement"), "{said}");
    }
}

#[tokio::test]
async fn what_came_from_a_folder_is_uninstalled_by_its_name() {
    let gateway = with_pycx().await;
    let kernel = notebook(&gateway, "a.ipynb", "pycx").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let folder = own_package(&gateway.root(), "1");
    let gone = "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import own'], capture_output=True).returncode)";
    for how in ["", "-e ", "--user "] {
        run(
            &mut a,
            &format!("%pip install -q {how}{} six", folder.display()),
        )
        .await;
        assert_eq!(run(&mut a, gone).await, "0\n", "{how}");
        let said = run(&mut a, "%pip uninstall -y own").await;
        assert!(
            said.contains("Successfully uninstalled own-0.1"),
            "{how}: {said}"
        );
        restart(&mut a, &gateway, &kernel).await;
        assert_eq!(run(&mut a, gone).await, "1\n", "{how}");
        run(&mut a, "import six").await;
    }
}
