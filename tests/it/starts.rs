//! How kernels start, and how a start fails.

use std::collections::BTreeSet;

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
async fn starts_at_once_do_not_see_each_others_environment() {
    const STARTS: usize = 8;
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
