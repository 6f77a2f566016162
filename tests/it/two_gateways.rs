//! Two gateways on one runtime folder, and a kernel whose supervisor does not answer.

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, TOKEN, page};
use crate::processes::{pid_of, signal};
use crate::rest::{ask, receive, request};

#[tokio::test]
async fn what_one_starts_the_other_lists_connects_interrupts_restarts_and_ends() {
    let one = Gateway::start("auto").await;
    let (_other, other) = one.beside(&["--port", "0"]).await;
    let kernel = one.kernel("{}").await;
    let path = format!("/api/kernels/{kernel}");
    let (status, list) = page(other, TOKEN, "GET", "/api/kernels", "").await;
    assert!(status == 200 && list.contains(&kernel), "{list}");
    let mut here = one.connect(&kernel, "here").await;
    let mut there = Client::connect(other, TOKEN, &kernel, "there").await;
    assert_eq!(here.run("x = 6").await.reply["status"], "ok");
    assert_eq!(there.run("print(x * 7)").await.text, "42\n");

    let cell = there
        .submit("import time\nprint('begun', flush=True)\ntime.sleep(600)")
        .await;
    there.wait_for(&cell, "begun").await;
    let interrupt = format!("{path}/interrupt");
    assert_eq!(page(other, TOKEN, "POST", &interrupt, "").await.0, 204);
    assert_eq!(
        there.outcome(&cell, "").await.reply["ename"],
        "KeyboardInterrupt"
    );
    let restart = format!("{path}/restart");
    assert_eq!(page(other, TOKEN, "POST", &restart, "").await.0, 200);
    assert_eq!(here.run("x").await.reply["ename"], "NameError");
    // A session that one makes is the other's too.
    let session =
        json!({"path": "a.ipynb", "type": "notebook", "kernel": {"id": kernel}}).to_string();
    let (status, made) = one.rest("POST", "/api/sessions", &session).await;
    assert_eq!(status, 201);
    let (_, sessions) = page(other, TOKEN, "GET", "/api/sessions", "").await;
    assert!(
        sessions.contains(made["id"].as_str().unwrap()),
        "{sessions}"
    );
    assert_eq!(page(other, TOKEN, "DELETE", &path, "").await.0, 204);
    assert_eq!(here.close_code().await, 1000);
    assert_eq!(one.rest("GET", &path, "").await.0, 404);
}

#[tokio::test]
async fn a_quota_holds_across_both() {
    const QUOTA: usize = 5;
    let mut one = Gateway::start("auto").await;
    one.replace_set(&format!("[kernels]\nmax = {QUOTA}\n"))
        .await;
    one.put_peer_spec("instant");
    let (_other, other) = one.beside(&["--port", "0"]).await;
    let body = r#"{"name":"instant"}"#;
    let starts = (0..4 * QUOTA).map(|n| {
        let port = if n % 2 == 0 { one.port } else { other };
        page(port, TOKEN, "POST", "/api/kernels", body)
    });
    let statuses: Vec<_> = join_all(starts)
        .await
        .into_iter()
        .map(|(status, _)| status)
        .collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(429)), (QUOTA, 3 * QUOTA), "{statuses:?}");
}

#[tokio::test]
async fn a_kernel_whose_supervisor_does_not_answer_is_never_a_404() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let supervisor = pid_of(&gateway.model(&kernel).await, "supervisor_pid");
    signal(supervisor, Signal::STOP);
    let path = format!("/api/kernels/{kernel}");
    let model = ask(&gateway, "GET", &path, "").await;
    assert_eq!(
        (model.status, &model.json()["nb"]["stale"]),
        (200, &json!(true))
    );
    let list = ask(&gateway, "GET", "/api/kernels", "").await;
    assert_eq!(list.json()[0]["id"], kernel);
    let credential = format!(
        "Authorization: token {TOKEN}\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    let upgrade = request("GET", &format!("{path}/channels"), &credential, "");
    let upgrade = String::from_utf8(upgrade).unwrap();
    let upgrade = upgrade.replace("Connection: close", "Connection: Upgrade");
    let log = format!("{path}/logs?stream=stdout");
    let mut dialled = TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    dialled.write_all(upgrade.as_bytes()).await.unwrap();
    let refused = timeout(LIMIT, receive(&mut dialled)).await.unwrap();
    for reply in [ask(&gateway, "GET", &log, "").await, refused] {
        assert_eq!(reply.status, 503, "{reply:?}");
        let seconds = reply.header("retry-after").unwrap().parse::<u64>();
        assert!(seconds.is_ok_and(|seconds| seconds < 60), "{reply:?}");
        assert_eq!(reply.json()["retry"], true);
    }
    signal(supervisor, Signal::CONT);
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
}
