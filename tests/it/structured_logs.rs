//! Logs for programs: every line of a gateway and of a supervisor is JSON, and none has a secret.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::Client;
use crate::gateway::{LIMIT, TOKEN, end_kernels, page, peer, wait_for};
use crate::processes::signal;

const SECRET: &str = "hush-hush";

/// Ends the kernels of a runtime folder, also when the test fails.
struct Kernels(PathBuf);

impl Drop for Kernels {
    fn drop(&mut self) {
        end_kernels(&self.0);
    }
}

fn lines(log: &str) -> Vec<Value> {
    let line = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    log.lines().map(line).collect()
}

#[tokio::test]
async fn every_line_of_a_session_is_json_and_none_has_a_secret() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let _kernels = Kernels(path("run"));
    for (name, json) in [
        (
            "peer",
            json!({"argv": [peer(), "instant", "{connection_file}"], "interrupt_mode": "message"}),
        ),
        (
            "bad",
            json!({"argv": ["/bin/sh", "-c", "echo 'two\nlines' >&2; exit 3"]}),
        ),
    ] {
        let folder = path("jupyter/kernels").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("kernel.json"), json.to_string()).unwrap();
    }
    let broken = path("jupyter/kernels/broken");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("kernel.json"), "{").unwrap();
    let serve = |port: &str, log: &str| {
        Command::new(env!("CARGO_BIN_EXE_nb"))
            .args(["serve", "--port", port])
            .env_clear()
            .env("HOME", home.path())
            .env("NB_RUNTIME_DIR", path("run"))
            .env("JUPYTER_PATH", path("jupyter"))
            .env("NB_SERVER_LOG_FORMAT", "json")
            .env("NB_LOG", "debug")
            .env("NB_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .stderr(File::create(path(log)).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let mut serving = serve("0", "log");
    let mut line = String::new();
    let mut stdout = BufReader::new(serving.stdout.take().unwrap());
    timeout(LIMIT, stdout.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let port = line.trim_end_matches("/\n").rsplit(':').next().unwrap();
    let port: u16 = port.parse().unwrap();

    let start = json!({"name": "peer", "env": {"KERNEL_SECRET": SECRET}}).to_string();
    let (status, kernel) = page(port, TOKEN, "POST", "/api/kernels", &start).await;
    assert_eq!(status, 201, "{kernel}");
    let kernel: Value = serde_json::from_str(&kernel).unwrap();
    let id = kernel["id"].as_str().unwrap().to_owned();
    let mut client = Client::connect(port, TOKEN, &id, "a").await;
    assert_eq!(client.run(SECRET).await.text, SECRET);
    for (token, method, route, body, expected) in [
        (
            "wrong",
            "GET",
            format!("/api/kernels?token={SECRET}"),
            "",
            401,
        ),
        (
            TOKEN,
            "POST",
            "/api/kernels".to_owned(),
            r#"{"name":"bad"}"#,
            502,
        ),
        (TOKEN, "POST", "/api/kernels".to_owned(), "{", 400),
        (TOKEN, "POST", format!("/api/kernels/{id}/restart"), "", 200),
        (
            TOKEN,
            "GET",
            "/no\u{7f}where".replace('\u{7f}', "%0a"),
            "",
            404,
        ),
    ] {
        let (status, answer) = page(port, token, method, &route, body).await;
        assert_eq!(status, expected, "{route}: {answer}");
    }
    // A second one has to say that it cannot listen there, as JSON too.
    let mut second = serve(&port.to_string(), "second");
    let ended = timeout(LIMIT, second.wait()).await.expect("it serves");
    assert_eq!(ended.unwrap().code(), Some(1));
    let told = fs::read_to_string(path("second")).unwrap();
    let told = lines(&told);
    let last = told.last().unwrap();
    assert_eq!(last["level"], "ERROR");
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .contains("cannot be listened on"),
        "{last}"
    );

    let supervisor = fs::read_to_string(path("run/kernels").join(&id).join("log")).unwrap();
    drop(client);
    let (status, _) = page(port, TOKEN, "DELETE", &format!("/api/kernels/{id}"), "").await;
    assert_eq!(status, 204);
    signal(serving.id().unwrap(), Signal::TERM);
    let ended = timeout(LIMIT, serving.wait()).await;
    assert!(ended.expect("it does not end").unwrap().success());
    wait_for("no kernel is left", || {
        let mut kernels = fs::read_dir(path("run/kernels")).unwrap();
        kernels.next().is_none().then_some(())
    })
    .await;

    let gateway = fs::read_to_string(path("log")).unwrap();
    for (log, least) in [(&gateway, 10), (&supervisor, 2)] {
        let lines = lines(log);
        assert!(lines.len() >= least, "{log}");
        for line in &lines {
            for key in ["timestamp", "level", "target", "message"] {
                assert!(line[key].is_string(), "{key}: {line}");
            }
        }
        assert!(!log.contains(SECRET) && !log.contains(TOKEN), "{log}");
    }
    let started = lines(&gateway);
    let started = started
        .iter()
        .find(|line| line["message"] == "started")
        .unwrap();
    assert_eq!(
        (&started["kernel"], &started["spec"]),
        (&json!(id), &json!("peer"))
    );
}
