//! `nb run`: real notebooks in real kernels, beside papermill's own; what is left when something ends in the middle.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::front::Home;
use crate::gateway::wait_for;
use crate::processes::{ended, signal};

/// The kernelspec of the tests.
const KERNEL: &str = "books";

fn cell(id: &str, source: &str, tags: &[&str]) -> Value {
    json!({"cell_type": "code", "id": id, "source": source, "metadata": {"tags": tags}, "outputs": [],
           "execution_count": null})
}

fn put(home: &Home, cells: &[Value]) {
    let notebook = json!({
        "cells": cells,
        "metadata": {"kernelspec": {"name": KERNEL, "language": "python", "display_name": "x"},
                     "language_info": {"name": "python"}},
        "nbformat": 4, "nbformat_minor": 5,
    });
    fs::write(home.root().join("in.ipynb"), notebook.to_string()).unwrap();
}

fn run(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    command
        .args(["run", "in.ipynb"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    home.set_environment(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn runs(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    ended(run(home, arguments).spawn().unwrap()).await
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text_of(cell: &Value) -> String {
    let outputs = cell["outputs"].as_array().unwrap().iter();
    let texts = outputs.filter_map(|output| output["text"].as_array());
    texts.flatten().filter_map(Value::as_str).collect()
}

/// What of a cell does not differ from run to run.
fn lasting(cell: &Value) -> Value {
    let metadata = &cell["metadata"];
    let run = &metadata["papermill"];
    let source = match &cell["source"] {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        source => source.as_str().unwrap().to_owned(),
    };
    json!({
        "kind": cell["cell_type"], "source": source.trim_end(), "outputs": cell["outputs"], "tags": metadata["tags"], "page": metadata["jupyter"],
        "count": cell["execution_count"], "status": run["status"], "exception": run["exception"],
        "times": [run["start_time"].is_string(), run["end_time"].is_string(), run["duration"].is_number()],
    })
}

#[tokio::test]
async fn a_notebook_comes_out_as_papermill_writes_it() {
    let home = Home::of_clients().await;
    let cells = [
        cell("a", "n = 1\nname = 'x'\nitems = []", &["parameters"]),
        cell("b", "print(n * n, name, items)\nn", &[]),
        cell(
            "c",
            "from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))",
            &[],
        ),
        cell(
            "d",
            "import sys\nprint('é', file=sys.stderr)\nprint('2')",
            &[],
        ),
        cell("e", "print('after', PAPERMILL_INPUT_PATH)", &[]),
    ];
    put(&home, &cells);
    let given = [
        "-p",
        "n",
        "7",
        "-r",
        "name",
        "7",
        "-y",
        "{items: [1, null, \"é\\\"\"]}",
        "-b",
        // {more: 1, n: 2}
        "e21vcmU6IDEsIG46IDJ9",
        "--inject-input-path",
        "--report-mode",
        "--no-log-output",
        "--autosave-cell-every",
        "5",
        "--log-level",
        "ERROR",
        "--stdout-file",
        "said.txt",
        "--stderr-file",
        "problems.txt",
    ];
    let read_said = || {
        ["said.txt", "problems.txt"].map(|name| {
            let path = home.root().join(name);
            let said = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            said
        })
    };
    let (code, stdout, stderr) = runs(&home, &[&["ours.ipynb"][..], &given].concat()).await;
    let we_said = read_said();
    assert_eq!((code, &*stdout, &*stderr), (0, "", ""));
    let mut papermill = home.python();
    papermill
        .args([
            "-m",
            "papermill",
            "in.ipynb",
            "theirs.ipynb",
            "-k",
            "nb-books",
        ])
        .args(given);
    crate::driver::runs(papermill).await;
    assert_eq!(we_said, read_said());
    let [ours, theirs] = ["ours.ipynb", "theirs.ipynb"].map(|name| read(home.root().join(name)));
    let cells = |notebook: &Value| -> Vec<Value> {
        let cells = notebook["cells"].as_array().unwrap().iter();
        cells.map(lasting).collect()
    };
    let (ours_cells, theirs_cells) = (cells(&ours), cells(&theirs));
    assert_eq!(ours_cells.len(), theirs_cells.len());
    for (n, (our, their)) in ours_cells.iter().zip(&theirs_cells).enumerate() {
        // They escape what is no ASCII.
        if n == 1 {
            continue;
        }
        assert_eq!(our, their, "cell {n}");
    }
    assert_eq!(text_of(&ours["cells"][2]), text_of(&theirs["cells"][2]));
    let about = |notebook: &Value| {
        let run = notebook["metadata"]["papermill"].clone();
        json!([
            run["parameters"],
            run["input_path"],
            run["exception"],
            run["duration"].is_number()
        ])
    };
    assert_eq!(about(&ours), about(&theirs));
    // Once more, over its own output: parameters take the place of those before.
    fs::copy(home.root().join("ours.ipynb"), home.root().join("in.ipynb")).unwrap();
    let given = ["again.ipynb", "-p", "n", "3", "--inject-paths"];
    let (code, _, stderr) = runs(&home, &given).await;
    assert_eq!((code, &*stderr), (0, ""));
    let again = read(home.root().join("again.ipynb"));
    assert_eq!(again["cells"].as_array().unwrap().len(), 6);
    assert_eq!(text_of(&again["cells"][2]), "9 x []\n");
    assert!(home.kernels().await.is_empty());
}

#[tokio::test]
async fn how_it_ended_is_told_by_the_exit_code_and_what_was_said_is_in_the_file() {
    let home = Home::of_clients().await;
    let cells = [
        cell("a", "how = None", &["parameters"]),
        cell("b", "import os, time\nprint('before', flush=True)", &[]),
        cell(
            "c",
            "print('in it', flush=True)\n\
             if how == 'fail': 1/0\n\
             if how == 'die': os.kill(os.getpid(), 9)\n\
             if how == 'hang': time.sleep(1000)\n\
             if how == 'ask': input('who?')",
            &[],
        ),
        cell("d", "print('after')", &[]),
    ];
    put(&home, &cells);
    for (arguments, expected, told) in [
        (["-p", "how", "None"].as_slice(), 0, ""),
        (&["-p", "how", "fail"], 1, "cell 4 failed"),
        (&["-p", "how", "ask"], 1, "cell 4 failed"),
        (&["-p", "how", "fail", "--allow-errors"], 0, ""),
        (&["-p", "how", "die"], 2, "the kernel died in cell 4: "),
        (
            &["-p", "how", "hang", "--execution-timeout", "1"],
            3,
            "--cell-timeout",
        ),
        (
            &["-p", "how", "hang", "--timeout", "5s"],
            3,
            "--timeout was over in cell 4",
        ),
        (
            &["--gateway", "http://127.0.0.1:1"],
            4,
            "the gateway at 127.0.0.1:1",
        ),
        (&["-k", "none"], 64, "there is no kernelspec \"none\""),
        (&["-p", "a-b", "1"], 64, "cannot be the name of a parameter"),
        (&["-y", "[1]"], 64, "no mapping"),
        (&["--cwd", "none"], 64, "there is no folder"),
        (&["--bogus"], 64, "--bogus"),
    ] {
        let out = home.root().join("out.ipynb");
        let _not_there = fs::remove_file(&out);
        let (code, _, stderr) = runs(&home, &[&["out.ipynb"], arguments].concat()).await;
        assert_eq!(code, expected, "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
        assert_eq!(
            stderr.is_empty(),
            told.is_empty(),
            "{arguments:?}: {stderr}"
        );
        assert!(!stderr.contains("panicked"), "{stderr}");
        if expected < 4 {
            let cells = read(out)["cells"].clone();
            assert_eq!(text_of(&cells[2]), "before\n", "{arguments:?}");
            // What a kernel has not sent when it is killed is nowhere.
            if expected != 2 {
                assert_eq!(text_of(&cells[3]), "in it\n", "{arguments:?}");
            }
            let after = if expected == 0 { "after\n" } else { "" };
            assert_eq!(text_of(&cells[4]), after, "{arguments:?}");
            let status = cells[3]["metadata"]["papermill"]["status"].as_str();
            let failed = told.is_empty() && !arguments.contains(&"--allow-errors");
            assert_eq!(status, Some(if failed { "completed" } else { "failed" }));
        } else {
            assert!(!out.exists(), "{arguments:?}");
        }
        let (_, listed) = home.gateway.rest("GET", "/api/kernels", "").await;
        assert_eq!(listed, json!([]), "{arguments:?}");
    }
    for odd in ["/dev/zero", "/dev", "none.ipynb", "/dev/null"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
        command.args(["run", odd, "out.ipynb"]).env_clear();
        home.set_environment(&mut command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (ended, _, stderr) = ended(command.spawn().unwrap()).await;
        assert_eq!(ended, 64, "{odd}: {stderr}");
        assert!(stderr.contains(odd), "{stderr}");
    }
    // What would be replaced, and what cannot be there.
    let pipe = home.root().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for odd in ["pipe", ".", "none/out.ipynb"] {
        let (ended, _, stderr) = runs(&home, &[odd]).await;
        assert_eq!(ended, 64, "{odd}: {stderr}");
        assert!(stderr.contains(odd), "{stderr}");
    }
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    let (code, _, stderr) = runs(&home, &["-"]).await;
    assert!(
        code == 64 && stderr.contains("stdin and stdout"),
        "{stderr}"
    );
    let (ended, stdout, _) = runs(&home, &["-p", "how", "fail", "--json"]).await;
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (ended, &told["status"], &told["cell"]),
        (1, &json!("cell_failed"), &json!(4))
    );
    // Where no output is named it is beside the notebook.
    assert_eq!(told["output"], json!(home.root().join("in-out.ipynb")));
    let cells = [
        cell("a", "1/0", &["raises-exception"]),
        cell("b", "print('no')", &["skip-execution"]),
        cell("c", "print('after')", &[]),
    ];
    let whole = fs::read(home.root().join("in.ipynb")).unwrap();
    put(&home, &cells);
    let (ended, _, stderr) = runs(&home, &["out.ipynb"]).await;
    assert_eq!((ended, &*stderr), (0, ""));
    let out = read(home.root().join("out.ipynb"));
    assert_eq!(out["cells"][0]["outputs"][0]["ename"], "ZeroDivisionError");
    assert_eq!(
        (text_of(&out["cells"][1]), text_of(&out["cells"][2])),
        (String::new(), "after\n".to_owned())
    );
    fs::write(home.root().join("in.ipynb"), whole).unwrap();
    let (ended, stdout, stderr) = runs(&home, &["out.ipynb", "--log-output"]).await;
    assert_eq!(
        (ended, &*stdout, &*stderr),
        (0, "before\nin it\nafter\n", "")
    );
}

/// Prints a line, then waits until there is a file.
fn put_waiting(home: &Home) {
    let wait = "import os, time\nprint('first', flush=True)\nwhile not os.path.exists('go-on'): time.sleep(0.05)\nprint('last')";
    put(
        home,
        &[
            cell("a", "x = 1", &[]),
            cell("b", wait, &[]),
            cell("c", "print('end')", &[]),
        ],
    );
}

async fn first_is_written(home: &Home) {
    let out = home.root().join("out.ipynb");
    wait_for("the first line is in the file", || {
        // It is whole whenever one looks.
        let text = fs::read(&out).ok()?;
        let notebook: Value = serde_json::from_slice(&text).expect("it is written whole");
        (text_of(&notebook["cells"][1]) == "first\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_cell_says_is_in_the_file_while_it_runs_and_stays_when_the_run_is_killed() {
    let home = Home::of_clients().await;
    put_waiting(&home);
    let mut child = run(&home, &["out.ipynb"]).spawn().unwrap();
    first_is_written(&home).await;
    child.kill().await.unwrap();
    let out = read(home.root().join("out.ipynb"));
    assert_eq!(text_of(&out["cells"][1]), "first\n");
    assert_eq!(
        out["cells"][1]["metadata"]["papermill"]["status"],
        "running"
    );
    let kernels = home.kernels().await;
    let id = kernels[0]["id"].as_str().unwrap();
    // Nobody comes back to it.
    let start = home.root().join("run/kernels").join(id).join("start.json");
    assert_eq!(read(start)["linger_ms"], 60_000);
    home.gateway.delete(id).await;

    for (kind, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let _not_there = fs::remove_file(home.root().join("out.ipynb"));
        let child = run(&home, &["out.ipynb"]).spawn().unwrap();
        first_is_written(&home).await;
        signal(child.id().unwrap(), kind);
        let (code, _, stderr) = ended(child).await;
        assert_eq!((code, &*stderr), (expected, "nb: stopped in cell 2\n"));
        let out = read(home.root().join("out.ipynb"));
        assert_eq!(out["cells"][1]["outputs"][1]["ename"], "KeyboardInterrupt");
        assert_eq!(
            out["cells"][2]["metadata"]["papermill"]["status"],
            "pending"
        );
        assert!(home.kernels().await.is_empty());
    }
}

#[tokio::test]
async fn the_gateway_may_be_killed_in_the_middle_and_nothing_is_lost() {
    let mut home = Home::of_clients().await;
    put_waiting(&home);
    let url = format!("http://127.0.0.1:{}", home.gateway.port);
    let child = run(&home, &["out.ipynb", "--gateway", &url])
        .spawn()
        .unwrap();
    first_is_written(&home).await;
    home.gateway.kill().await;
    fs::write(home.root().join("go-on"), "").unwrap();
    let port = home.gateway.port.to_string();
    let (gateway, _) = home.gateway.beside(&["--port", &port]).await;
    home.gateway.succeed(gateway);
    let (code, _, stderr) = ended(child).await;
    assert_eq!((code, &*stderr), (0, ""));
    let out = read(home.root().join("out.ipynb"));
    assert_eq!(text_of(&out["cells"][1]), "first\nlast\n");
    assert_eq!(text_of(&out["cells"][2]), "end\n");
    assert!(home.kernels().await.is_empty());
}

#[tokio::test]
async fn what_somebody_else_writes_meanwhile_stays() {
    let home = Home::of_clients().await;
    put_waiting(&home);
    let child = run(&home, &["out.ipynb"]).spawn().unwrap();
    first_is_written(&home).await;
    fs::write(home.root().join("out.ipynb"), "theirs").unwrap();
    fs::write(home.root().join("go-on"), "").unwrap();
    let pid = child.id().unwrap();
    let (code, _, stderr) = ended(child).await;
    assert_eq!(code, 0, "{stderr}");
    let ours = home.root().join(format!("out-{pid}.ipynb"));
    assert!(stderr.contains(&ours.display().to_string()), "{stderr}");
    assert_eq!(text_of(&read(ours)["cells"][2]), "end\n");
    let theirs = fs::read_to_string(home.root().join("out.ipynb")).unwrap();
    assert_eq!(theirs, "theirs");
}
