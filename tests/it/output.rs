//! `nb output fetch` and the journal behind it: what cells said while nobody watched, in a notebook's file.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::gateway::{Gateway, TOKEN, page};
use crate::jupyter_server::{JupyterServer, OWN_TOKEN};

/// Exit code, stdout and stderr of `nb output fetch`.
async fn fetch(gateway: &Gateway, notebook: &Path, more: &[&str]) -> (i32, String, String) {
    let arguments = [OsStr::new("output"), "fetch".as_ref(), notebook.as_os_str()];
    let more = more.iter().map(OsStr::new);
    let arguments: Vec<_> = arguments.into_iter().chain(more).collect();
    gateway.nb(TOKEN, &arguments).await
}

async fn fetched(gateway: &Gateway, notebook: &Path) -> Value {
    let (code, stdout, stderr) = fetch(gateway, notebook, &["--json"]).await;
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

/// A notebook whose one code cell remembers a request.
fn notebook(gateway: &Gateway, running: &Value) -> PathBuf {
    notebook_of(gateway, std::slice::from_ref(running))
}

/// A notebook with a code cell for each of these marks.
fn notebook_of(gateway: &Gateway, marks: &[Value]) -> PathBuf {
    let path = gateway.root().join("a.ipynb");
    let mut cells =
        vec![json!({"cell_type": "markdown", "id": "m", "metadata": {}, "source": ["# kept"]})];
    cells.extend(marks.iter().map(|running| {
        json!({
            "cell_type": "code", "id": "c", "execution_count": null, "source": [], "outputs": [],
            "metadata": {"nb": {"running": running}, "tags": ["kept"]},
        })
    }));
    let file = json!({
        "cells": cells, "metadata": {"kept": 1.5}, "nbformat": 4, "nbformat_minor": 5,
    });
    fs::write(&path, format!("{file:#}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    path
}

fn cell(path: &Path) -> Value {
    let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(file["metadata"]["kept"], 1.5);
    file["cells"][1].clone()
}

fn text(output: &Value) -> String {
    let lines = output["text"].as_array().unwrap().iter();
    lines.map(|line| line.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_cell_is_fetched_while_it_runs_and_when_it_is_over() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let gate = gateway.root().join("gate");
    let code = format!(
        "import os, time
print('begun', flush=True)
while not os.path.exists({gate:?}):
    time.sleep(0.05)
for percent in 0, 50, 100:
    print(f'\\r{{percent}}%', end='', flush=True)
print()
shown = display('first', display_id=True)
shown.update('second')
6 * 7"
    );
    let request = client.submit(&code).await;
    client.wait_for(&request, "begun\n").await;
    // The page is closed.
    drop(client);
    let mark = json!({"msg_id": request, "kernel_id": kernel, "started": "then"});
    let path = notebook(&gateway, &mark);
    let told = fetched(&gateway, &path).await;
    assert_eq!(told["cells"][0]["state"], "running", "{told}");
    let running = cell(&path);
    assert_eq!(text(&running["outputs"][0]), "begun\n");
    assert!(running["execution_count"].is_null());
    let left = &running["metadata"]["nb"]["running"];
    assert_eq!(
        (&left["msg_id"], &left["started"]),
        (&mark["msg_id"], &mark["started"])
    );
    assert!(left["last"].is_string(), "{left}");

    fs::write(&gate, "").unwrap();
    gateway.wait_for_state(&kernel, "idle").await;
    let (code, table, _) = fetch(&gateway, &path, &[]).await;
    assert_eq!(code, 0);
    assert!(table.starts_with("CELL  KERNEL"), "{table}");
    assert!(table.contains(&format!("2     {kernel}  over")), "{table}");
    let over = cell(&path);
    let outputs = over["outputs"].as_array().unwrap();
    assert_eq!(text(&outputs[0]), "begun\n100%\n");
    assert_eq!(outputs[1]["data"]["text/plain"], json!(["'second'"]));
    assert_eq!(outputs[2]["data"]["text/plain"], json!(["42"]));
    assert_eq!(
        (outputs.len(), &outputs[2]["execution_count"]),
        (3, &json!(1))
    );
    assert_eq!(over["execution_count"], 1);
    assert_eq!(over["metadata"]["tags"], json!(["kept"]));
    assert!(over["metadata"].get("nb").is_none());
    let times = &over["metadata"]["execution"];
    let times = [
        "iopub.status.busy",
        "iopub.execute_input",
        "shell.execute_reply",
    ]
    .map(|name| {
        times[name]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    });
    assert!(times.is_sorted(), "{times:?}");
    for name in ["iopub.status.idle", "shell.execute_reply.started"] {
        assert!(over["metadata"]["execution"][name].is_string(), "{name}");
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    // There is nothing more to do.
    let before = fs::read(&path).unwrap();
    assert_eq!(fetched(&gateway, &path).await["cells"], json!([]));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn all_of_a_long_cell_comes_also_when_its_client_has_it_already() {
    const MESSAGES: usize = 2500;
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let request = client.submit(&format!("burst {MESSAGES} 100")).await;
    let outcome = client.outcome(&request, "execute_reply").await;
    // What came before the next cell is acknowledged with it.
    client.run("here").await;
    drop(client);
    // What is said from now on is written down for it.
    gateway.connect(&kernel, "b").await.run("here").await;
    let path = notebook(&gateway, &json!({"msg_id": request, "kernel_id": kernel}));
    let told = fetched(&gateway, &path).await;
    assert_eq!(
        (&told["cells"][0]["state"], &told["cells"][0]["whole"]),
        (&json!("over"), &json!(true)),
        "{told}"
    );
    let outputs = cell(&path)["outputs"].clone();
    assert_eq!(
        (outputs.as_array().unwrap().len(), text(&outputs[0])),
        (1, outcome.text)
    );
}

#[tokio::test]
async fn what_is_not_held_any_more_is_told_and_what_the_file_has_stays() {
    let mut gateway = Gateway::start("auto").await;
    gateway.replace_set("journal.bytes_max = 1048576").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let request = client.submit("burst 3000 1000").await;
    client.outcome(&request, "execute_reply").await;
    client.run("here").await;
    let mark = json!({"msg_id": request, "kernel_id": kernel, "last": "of long ago"});
    let path = notebook(&gateway, &mark);
    let told = fetched(&gateway, &path).await;
    assert_eq!(
        (&told["cells"][0]["state"], &told["cells"][0]["whole"]),
        (&json!("over"), &json!(false)),
        "{told}"
    );
    let outputs = cell(&path)["outputs"].clone();
    let note = text(&outputs[0]);
    assert!(note.contains("not kept any more"), "{note}");
    // Somebody has run the cell since.
    let run_since = fs::read_to_string(notebook(&gateway, &mark)).unwrap();
    let run_since = run_since.replace("\"execution_count\": null", "\"execution_count\": 7");
    fs::write(&path, run_since).unwrap();
    let told = fetched(&gateway, &path).await;
    assert_eq!(told["cells"][0]["state"], "superseded", "{told}");
    let kept = cell(&path);
    assert_eq!(
        (&kept["execution_count"], &kept["outputs"]),
        (&json!(7), &json!([]))
    );
    assert!(kept["metadata"].get("nb").is_none());
    // A request that never came there.
    let path = notebook(&gateway, &json!({"msg_id": "never", "kernel_id": kernel}));
    let told = fetched(&gateway, &path).await;
    assert_eq!(told["cells"][0]["state"], "unknown", "{told}");
    assert!(cell(&path)["metadata"].get("nb").is_none());
}

#[tokio::test]
async fn a_mark_without_a_kernel_means_that_of_the_files_session() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let body = json!({"path": "a.ipynb", "type": "notebook", "kernel": {"name": "instant"}});
    let (status, session) = gateway
        .rest("POST", "/api/sessions", &body.to_string())
        .await;
    assert_eq!(status, 201, "{session}");
    let kernel = session["kernel"]["id"].as_str().unwrap();
    let mut client = gateway.connect(kernel, "a").await;
    let request = client.submit("here").await;
    client.outcome(&request, "execute_reply").await;
    let path = notebook(&gateway, &json!({"msg_id": request}));
    let told = fetched(&gateway, &path).await;
    assert_eq!(told["cells"][0]["kernel_id"], *kernel, "{told}");
    assert_eq!(text(&cell(&path)["outputs"][0]), "here");

    // The kernel goes, and so what it said.
    gateway.delete(kernel).await;
    for mark in [
        json!({"msg_id": request}),
        json!({"msg_id": request, "kernel_id": kernel}),
    ] {
        let path = notebook(&gateway, &mark);
        let before = fs::read(&path).unwrap();
        let (code, table, stderr) = fetch(&gateway, &path, &[]).await;
        assert_eq!((code, &*stderr), (1, ""), "{table}");
        assert!(table.contains("gone"), "{table}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_mark_that_is_no_id_harms_no_other_cell() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let request = client.submit("here").await;
    client.outcome(&request, "execute_reply").await;
    let mark = |msg_id: &str, kernel: &str| json!({"msg_id": msg_id, "kernel_id": kernel});
    let marks = [
        mark("", &kernel),
        mark("what/ever", &kernel),
        mark("é", &kernel),
        mark("a b\r\nX: y", &kernel),
        mark(&"x".repeat(257), &kernel),
        mark(&request, ""),
        mark(&request, "../sessions"),
        mark(&request, &kernel.to_uppercase()),
        mark(&"x".repeat(256), &kernel),
        mark(&request, &kernel),
    ];
    let path = notebook_of(&gateway, &marks);
    let told = fetched(&gateway, &path).await;
    let cells = told["cells"].as_array().unwrap();
    let states: Vec<_> = cells.iter().map(|cell| &cell["state"]).collect();
    assert_eq!(states[..9], ["unknown"; 9], "{told}");
    assert_eq!((states.len(), states[9]), (10, &json!("over")), "{told}");
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for n in 1..=10 {
        let cell = &file["cells"][n];
        assert!(cell["metadata"].get("nb").is_none(), "{cell}");
        match n {
            10 => assert_eq!(text(&cell["outputs"][0]), "here"),
            _ => assert_eq!(cell["outputs"], json!([]), "{cell}"),
        }
    }
    // Nor is it taken for no id at all, which asks for everything.
    for query in ["msg_id=", "msg_id", "msg_id=a%2Fb"] {
        let path = format!("/api/kernels/{kernel}/journal?{query}");
        let (status, body) = gateway.rest("GET", &path, "").await;
        assert_eq!(status, 400, "{query}: {body}");
    }
}

#[tokio::test]
async fn a_page_asks_its_own_server() {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let request = client.submit("here").await;
    client.outcome(&request, "execute_reply").await;
    let server = JupyterServer::start_with_companion("jupyter_server", gateway.port).await;
    let ask = async |kernel: &str, token: &str, query: &str| {
        let path = format!("/nb/kernels/{kernel}/journal?{query}");
        page(server.port, token, "GET", &path, "").await
    };
    let of_request = format!("msg_id={request}&limit=1000");
    let (status, body) = ask(&kernel, OWN_TOKEN, &of_request).await;
    let journal: Value = serde_json::from_str(&body).expect(&body);
    assert_eq!(
        (status, &journal["request"]["state"]),
        (200, &json!("over"))
    );
    assert!(body.contains("\"here\""), "{body}");
    for no_id in ["msg_id=a%2Fb", "msg_id="] {
        assert_eq!(ask(&kernel, OWN_TOKEN, no_id).await.0, 400, "{no_id}");
    }
    let unknown = "00000000-0000-4000-8000-000000000001";
    assert_eq!(ask(unknown, OWN_TOKEN, &of_request).await.0, 404);
    assert_eq!(ask(&kernel, "wrong", &of_request).await.0, 403);
    // Lab's server is no gateway.
    let path = notebook(&gateway, &json!({"msg_id": request, "kernel_id": kernel}));
    let lab = format!("--gateway=http://127.0.0.1:{}", server.port);
    let arguments = ["output", "fetch", path.to_str().unwrap(), &lab];
    let (code, _, stderr) = gateway.nb(OWN_TOKEN, &arguments).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("has no journals of kernels"), "{stderr}");
    gateway.kill().await;
    assert_eq!(ask(&kernel, OWN_TOKEN, &of_request).await.0, 503);
}

#[tokio::test]
async fn what_is_no_notebook_and_what_is_no_gateway_is_told() {
    let gateway = Gateway::start("auto").await;
    let unknown = "00000000-0000-4000-8000-000000000001";
    let path = notebook(&gateway, &json!({"msg_id": "m", "kernel_id": unknown}));
    let missing = gateway.root().join("missing.ipynb");
    let (code, _, stderr) = fetch(&gateway, &missing, &[]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("No such file"), "{stderr}");
    let (code, _, stderr) = fetch(&gateway, &path, &["--gateway=127.0.0.1:1"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("the gateway at 127.0.0.1:1: "), "{stderr}");
    let old = gateway.root().join("old.ipynb");
    fs::write(&old, "{\"nbformat\": 3}").unwrap();
    let (code, _, stderr) = fetch(&gateway, &old, &[]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("a notebook of format 3"), "{stderr}");
}
