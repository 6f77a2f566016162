//! How kernels start, and how a start fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use futures_util::future::join_all;
use serde_json::json;

use crate::gateway::Gateway;

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("broken", "echo no luck today >&2; exit 3");
    gateway.put_shell_spec("silent", "exec sleep 600");
    let (status, error) = gateway
        .rest("POST", "/api/kernels", r#"{"name":"broken"}"#)
        .await;
    let message = error["message"].as_str().unwrap();
    assert_eq!((status, error["fault"].as_str()), (502, Some("kernel")));
    assert!(
        message.contains("code 3") && message.contains("no luck today"),
        "{message}"
    );
    let body = r#"{"name":"silent","env":{"KERNEL_LAUNCH_TIMEOUT":"1"}}"#;
    let (status, error) = gateway.rest("POST", "/api/kernels", body).await;
    assert_eq!(status, 504, "{error}");
    assert_eq!(
        gateway
            .rest("POST", "/api/kernels", r#"{"name":"none"}"#)
            .await
            .0,
        400
    );
    let (status, kernels) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!((status, kernels), (200, json!([])));
}

#[tokio::test]
async fn a_kernelspec_for_a_cluster_is_listed_and_never_run_here() {
    let gateway = Gateway::start("auto").await;
    let ran = gateway.root().join("ran");
    let class = "enterprise_gateway.services.processproxies.k8s.KubernetesProcessProxy";
    let script = format!("touch {}", ran.display());
    let spec = json!({"argv": ["/bin/sh", "-c", script], "language": "sh",
        "metadata": {"process_proxy": {"class_name": class, "config": {"image_name": "x"}}}});
    gateway.put_spec("far", &spec);
    let (_, listed) = gateway.rest("GET", "/api/kernelspecs", "").await;
    let metadata = &listed["kernelspecs"]["far"]["spec"]["metadata"];
    assert_eq!(metadata["process_proxy"]["class_name"], class, "{listed}");
    for (path, body) in [
        ("/api/kernels", json!({"name": "far"})),
        (
            "/api/sessions",
            json!({"path": "x.ipynb", "type": "notebook", "kernel": {"name": "far"}}),
        ),
    ] {
        let (status, error) = gateway.rest("POST", path, &body.to_string()).await;
        assert_eq!((status, &error["fault"]), (501, &json!("user")), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(class), "{message}");
    }
    let (_, kernels) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!(kernels, json!([]));
    assert!(!ran.exists());
}

/// What a running kernel works with: its environment as the operating system has it.
async fn environment(gateway: &Gateway, kernel: &str) -> BTreeMap<String, String> {
    let pid = &gateway.model(kernel).await["nb"]["kernel_pid"];
    let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let pairs = environ.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Each start has a secret under a name that all have, and one under a name of its own.
#[tokio::test]
async fn fifty_starts_at_once_do_not_see_each_others_environment() {
    const STARTS: usize = 50;
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let gateway = &gateway;
    let starts = (0..STARTS).map(|n| async move {
        let secret = format!("s{n}");
        let own = format!("KERNEL_SECRET_{n}");
        let env = json!({"KERNEL_SECRET": secret, &own: secret, "PATH": "/evil"});
        let kernel = gateway
            .kernel(&json!({"name": "instant", "env": env}).to_string())
            .await;
        let mut client = gateway.connect(&kernel, "a").await;
        assert_eq!(client.run("env KERNEL_SECRET").await.text, secret);
        let environment = environment(gateway, &kernel).await;
        let names = environment
            .keys()
            .filter(|name| name.starts_with("KERNEL_"));
        let expected = ["KERNEL_ID", "KERNEL_SECRET", &own];
        assert_eq!(names.collect::<Vec<_>>(), expected);
        assert_eq!(
            (&environment[&own], &environment["KERNEL_ID"]),
            (&secret, &kernel)
        );
        assert_ne!(environment["PATH"], "/evil");
        // The gateway itself has all of them; the last one is no secret, but nobody has allowed it.
        for withheld in ["JPY_PARENT_PID", "NB_TOKEN", "NB_LOG"] {
            assert!(!environment.contains_key(withheld), "{withheld}");
        }
        kernel
    });
    let kernels: BTreeSet<_> = join_all(starts).await.into_iter().collect();
    assert_eq!(kernels.len(), STARTS);
}

/// The same with kernels that are heavier to start.
#[tokio::test]
async fn ipython_kernels_started_at_once_do_not_see_each_others_environment() {
    const STARTS: usize = 4;
    let gateway = Gateway::start("auto").await;
    let gateway = &gateway;
    let secrets = (0..STARTS).map(|n| async move {
        let body = format!(r#"{{"name":"python3","env":{{"KERNEL_SECRET_{n}":"s{n}"}}}}"#);
        let kernel = gateway.kernel(&body).await;
        let mut client = gateway.connect(&kernel, "a").await;
        let code = "import os; print(*(v for k, v in os.environ.items() if 'KERNEL_SECRET' in k))";
        client.run(code).await.text
    });
    let seen: BTreeSet<_> = join_all(secrets).await.into_iter().collect();
    let expected: BTreeSet<_> = (0..STARTS).map(|n| format!("s{n}\n")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_kernel_works_where_it_was_asked_to_and_says_once_when_it_does_not() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let root = gateway.root().canonicalize().unwrap();
    let folder = root.join("a folder");
    fs::create_dir(&folder).unwrap();
    let kernels = "/api/kernels";
    let session =
        |path: &str| json!({"path": path, "type": "notebook", "kernel": {"name": "instant"}});
    for (route, body, expected, asked) in [
        (kernels, json!({"name": "instant"}), &root, None),
        (
            kernels,
            json!({"name": "instant", "path": "a folder"}),
            &folder,
            None,
        ),
        (
            kernels,
            json!({"name": "instant", "path": "none", "env": {"KERNEL_WORKING_DIR": folder}}),
            &folder,
            None,
        ),
        (
            kernels,
            json!({"name": "instant", "path": "a folder", "env": {"KERNEL_WORKING_DIR": "/on/the/laptop"}}),
            &folder,
            Some("/on/the/laptop"),
        ),
        (
            kernels,
            json!({"name": "instant", "env": {"KERNEL_WORKING_DIR": "/on/the/laptop"}}),
            &root,
            Some("/on/the/laptop"),
        ),
        ("/api/sessions", session("a folder/x.ipynb"), &folder, None),
        // As VS Code names them: there is no such file.
        ("/api/sessions", session("x-jvsc-1.ipynb"), &root, None),
        (
            "/api/sessions",
            session("none/x.ipynb"),
            &root,
            Some("none"),
        ),
    ] {
        let (status, made) = gateway.rest("POST", route, &body.to_string()).await;
        assert_eq!(status, 201, "{made}");
        let kernel = made.get("kernel").unwrap_or(&made)["id"].as_str().unwrap();
        let pid = &gateway.model(kernel).await["nb"]["kernel_pid"];
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        assert_eq!(works_in, *expected, "{body}");

        let mut client = gateway.connect(kernel, "a").await;
        let first = client.run("first").await.text;
        match asked {
            None => assert_eq!(first, "first", "{body}"),
            Some(asked) => {
                let (note, rest) = first.split_once('\n').unwrap();
                assert_eq!(rest, "first");
                let expected = expected.to_str().unwrap();
                assert!(note.contains(asked) && note.contains(expected), "{note}");
            }
        }
        assert_eq!(client.run("second").await.text, "second");
        let restart = format!("/api/kernels/{kernel}/restart");
        assert_eq!(gateway.rest("POST", &restart, "").await.0, 200);
        assert_eq!(client.run("third").await.text, "third");
        gateway.delete(kernel).await;
    }
}

#[tokio::test]
async fn a_kernel_has_the_id_that_was_asked_for_and_nobody_else_gets_it() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let id = "00000000-0000-4000-8000-00000000000b";
    let body = json!({"name": "instant", "env": {"KERNEL_ID": id}}).to_string();
    // Of several at once one gets it too.
    let starts = (0..5).map(|_| gateway.rest("POST", "/api/kernels", &body));
    let mut answers = join_all(starts).await;
    answers.sort_by_key(|(status, _)| *status);
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [201, 409, 409, 409, 409]);
    assert_eq!(answers[0].1["id"], id);
    let mut client = gateway.connect(id, "a").await;
    assert_eq!(client.run("env KERNEL_ID").await.text, id);
    gateway.delete(id).await;
    assert_eq!(gateway.kernel(&body).await, id);
}

#[tokio::test]
async fn a_session_path_that_names_no_file_is_normal() {
    let gateway = Gateway::start("auto").await;
    let body = r#"{"path":"a/b.ipynb","name":"b","type":"notebook","kernel":{"name":"python3"}}"#;
    let (status, session) = gateway.rest("POST", "/api/sessions", body).await;
    assert_eq!(status, 201, "{session}");
    let (status, again) = gateway.rest("POST", "/api/sessions", body).await;
    assert_eq!((status, &again["id"]), (201, &session["id"]));
    let path = format!("/api/sessions/{}", session["id"].as_str().unwrap());
    let (status, moved) = gateway.rest("PATCH", &path, r#"{"path":"c.ipynb"}"#).await;
    assert_eq!((status, moved["path"].as_str()), (200, Some("c.ipynb")));
    assert_eq!(gateway.rest("DELETE", &path, "").await.0, 204);
    assert_eq!(gateway.rest("DELETE", &path, "").await.0, 404);
    assert_eq!(gateway.rest("GET", "/api/kernels", "").await.1, json!([]));
}
