//! REST: statuses and shapes as clients check them.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use super::Front;
use super::fake::FakeSupervisor;
use crate::config::Handover;
use crate::kernels::contract::file;
use crate::kernels::registry::{Registry, Standing};

const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);

/// A wait that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn only_what_is_open_is_answered_without_the_token() {
    let front = Front::new(Handover::Auto).await;
    for (path, status) in [
        ("/", 200),
        ("/api", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        // Probed by clients that look for other servers.
        ("/hub/api", 404),
        ("/tree?", 404),
        ("/api/status", 401),
        ("/api/me", 401),
        ("/api/kernels", 401),
        ("/api/kernels/x/channels", 401),
        ("/api/sessions", 401),
        ("/api/kernelspecs", 401),
        ("/kernelspecs/echo/logo-svg.svg", 401),
        ("/api/kernels?token=s3cret", 200),
    ] {
        let answer = front.ask_as("token wrong", "GET", path, "").await;
        assert_eq!(answer.status, status, "{path}");
    }
    let refused = front.ask_as("", "GET", "/api/me", "").await.body;
    assert_eq!(
        (&refused["fault"], &refused["retry"]),
        (&json!("user"), &json!(false))
    );
    let me = front
        .ask_as("bearer s3cret", "GET", "/api/me", "")
        .await
        .body;
    assert_eq!(me["identity"]["username"], "me");
}

#[tokio::test]
async fn nonsense_is_answered_with_json_and_never_with_a_500() {
    let front = Front::new(Handover::Auto).await;
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(2 << 20));
    for (method, path, body, status) in [
        ("GET", "/nothing", "", 404),
        ("PUT", "/api/kernels", "", 405),
        ("POST", "/api", "", 405),
        ("OPTIONS", "/api/kernels", "", 405),
        ("POST", "/api/kernels", "{", 400),
        ("POST", "/api/kernels", "[]", 400),
        ("POST", "/api/kernels", r#"{"env":{"KERNEL_A":1}}"#, 400),
        ("POST", "/api/kernels", r#"{"env":{"KERNEL_ID":"x"}}"#, 400),
        ("POST", "/api/kernels", r#"{"name":"none"}"#, 400),
        ("POST", "/api/kernels", &long, 413),
        ("POST", "/api/sessions", "", 400),
        (
            "POST",
            "/api/sessions",
            r#"{"path":"a","type":"x","kernel":{"name":"none"}}"#,
            501,
        ),
        (
            "POST",
            "/api/sessions",
            r#"{"path":"a","type":"x","kernel":{"id":"none"}}"#,
            400,
        ),
        ("GET", "/api/kernels/not-an-id", "", 404),
        ("GET", "/api/kernels/%ff", "", 404),
        (
            "DELETE",
            "/api/kernels/00000000-0000-4000-8000-000000000001",
            "",
            404,
        ),
        (
            "POST",
            "/api/kernels/00000000-0000-4000-8000-000000000001/interrupt",
            "{}",
            404,
        ),
        (
            "POST",
            "/api/kernels/00000000-0000-4000-8000-000000000001/restart",
            "{}",
            404,
        ),
        (
            "PATCH",
            "/api/sessions/00000000-0000-4000-8000-000000000001",
            "",
            404,
        ),
        (
            "DELETE",
            "/api/sessions/00000000-0000-4000-8000-000000000001",
            "",
            404,
        ),
        ("GET", "/api/kernelspecs/none", "", 404),
        ("GET", "/kernelspecs/echo/none", "", 404),
        ("GET", "/kernelspecs/echo/..%2f..%2fsupervisor", "", 404),
        ("GET", "/kernelspecs/..%2f/kernel.json", "", 404),
        (
            "GET",
            "/api/kernels/00000000-0000-4000-8000-000000000001/channels",
            "",
            426,
        ),
    ] {
        let answer = front.ask(method, path, body).await;
        let start = &body[..body.len().min(60)];
        assert_eq!(
            answer.status, status,
            "{method} {path} {start}: {}",
            answer.body
        );
        assert!(
            answer.body["message"].is_string(),
            "{method} {path} {start}"
        );
    }
}

#[tokio::test]
async fn kernelspecs_have_the_shape_that_clients_check() {
    let front = Front::new(Handover::Auto).await;
    let all = front
        .ask("GET", "/api/kernelspecs?1732443949", "")
        .await
        .body;
    assert_eq!(all["default"], "echo");
    let one = front.ask("GET", "/api/kernelspecs/Echo", "").await.body;
    assert_eq!(all["kernelspecs"]["echo"], one);
    let expected = json!({
        "name": "echo",
        "spec": {
            "argv": ["echo"], "env": {}, "display_name": "echo", "language": "x",
            "interrupt_mode": "signal", "metadata": {},
        },
        "resources": {"logo-svg": "/kernelspecs/echo/logo-svg.svg"},
    });
    assert_eq!(one, expected);
    let logo = front.ask("GET", "/kernelspecs/echo/logo-svg.svg", "").await;
    assert_eq!(
        (logo.status.as_u16(), &logo.headers["content-type"]),
        (200, &"image/svg+xml".parse().unwrap())
    );
}

#[tokio::test]
async fn a_kernel_is_listed_interrupted_restarted_and_deleted_once() {
    let front = Front::new(Handover::Auto).await;
    let _fake = FakeSupervisor::start(&front.registry, FIRST);
    let path = format!("/api/kernels/{FIRST}");
    let model = json!({
        "id": FIRST.to_string(), "name": "echo", "execution_state": "idle", "connections": 1,
        "last_activity": "2026-01-01T00:00:00.000000Z",
    });
    assert_eq!(
        front.ask("GET", "/api/kernels?17", "").await.body,
        json!([model])
    );
    assert_eq!(front.ask("GET", &path, "").await.body, model);
    let interrupt = front.ask("POST", &format!("{path}/interrupt?17"), "").await;
    assert_eq!(interrupt.status, 204);
    let restart = front.ask("POST", &format!("{path}/restart"), "{}").await;
    assert_eq!((restart.status.as_u16(), restart.body), (200, model));
    let status = front.ask("GET", "/api/status", "").await.body;
    assert_eq!(
        (&status["kernels"], &status["connections"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(front.ask("DELETE", &path, "").await.status, 204);
    assert_eq!(front.ask("DELETE", &path, "").await.status, 404);
    assert_eq!(front.ask("GET", &path, "").await.status, 404);
}

#[tokio::test]
async fn a_silent_supervisor_is_shown_as_it_last_was_and_remains_are_not() {
    let front = Front::with(Handover::Auto, Duration::from_millis(100)).await;
    let (silent, listener) = FakeSupervisor::start_silent(&front.registry, FIRST);
    let list = front.ask("GET", "/api/kernels", "").await.body;
    assert_eq!(
        (&list[0]["id"], &list[0]["nb"]["stale"]),
        (&json!(FIRST.to_string()), &json!(true))
    );

    drop((silent, listener));
    let path = format!("/api/kernels/{FIRST}");
    until_free(&front.registry, FIRST).await;
    let restart = front.ask("POST", &format!("{path}/restart"), "").await;
    assert_eq!(restart.status, 503);
    assert!(restart.headers.contains_key("retry-after"));
    // Somebody is to take it over.
    assert_eq!(front.ask("GET", &path, "").await.body["nb"]["stale"], true);
    assert_eq!(front.ask("DELETE", &path, "").await.status, 204);
    assert!(!front.registry.folder(FIRST).exists());
    for method in ["GET", "DELETE"] {
        assert_eq!(front.ask(method, &path, "").await.status, 404);
    }

    // Of one that was never ready nobody knows: the first look at what is left ends it.
    let (silent, listener) = FakeSupervisor::start_silent(&front.registry, SECOND);
    let state = front.registry.folder(SECOND).join(file::STATE);
    let mut kernel = front.registry.last_known(SECOND).unwrap();
    kernel.execution_state = "starting".to_owned();
    fs::write(state, json!(kernel).to_string()).unwrap();
    drop((silent, listener));
    until_free(&front.registry, SECOND).await;
    assert_eq!(front.ask("GET", "/api/kernels", "").await.body, json!([]));
    assert!(!front.registry.folder(SECOND).exists());
}

/// A child that another test starts holds our lock for a moment, between its fork and its exec.
async fn until_free(registry: &Registry, id: Uuid) {
    let free = async {
        while registry.standing(id) == Standing::Held {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, free).await.expect("the lock stays taken");
}

#[tokio::test]
async fn listings_at_once_share_their_pulls() {
    let front = Front::new(Handover::Auto).await;
    let fake = FakeSupervisor::start(&front.registry, FIRST);
    let paths = ["/api/kernels", "/api/sessions", "/api/status"];
    let listings = paths.iter().cycle().take(50);
    let listings = listings.map(|path| front.ask("GET", path, ""));
    for answer in join_all(listings).await {
        assert_eq!(answer.status, 200);
    }
    assert!((1..=10).contains(&fake.pulls()), "{}", fake.pulls());
}

/// Waits until the front has started a supervisor, takes its kernel and lets it announce the start.
async fn supervise(front: &Front) -> FakeSupervisor {
    let (asked, go) = (
        front.folder.path().join("asked"),
        front.folder.path().join("go"),
    );
    let folder = spawn_blocking(move || fs::read_to_string(asked))
        .await
        .unwrap()
        .unwrap();
    let id = folder.trim().rsplit('/').next().unwrap().parse().unwrap();
    let fake = FakeSupervisor::adopt(&front.registry, id);
    spawn_blocking(move || fs::write(go, "go\n"))
        .await
        .unwrap()
        .unwrap();
    fake
}

#[tokio::test]
async fn a_start_is_answered_once_the_kernel_is_ready() {
    let front = Front::new(Handover::Auto).await;
    for pipe in ["asked", "go"] {
        let path = front.folder.path().join(pipe);
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    let pipes = front.folder.path().display();
    front.supervisors_are(&format!(
        "echo $2 >{pipes}/asked; read go <{pipes}/go; echo '{{\"start\":\"ready\"}}'"
    ));
    let body = json!({"name": "echo", "path": null, "env": {"KERNEL_ID": FIRST.to_string()}});
    let body = body.to_string();
    let (started, _first) =
        tokio::join!(front.ask("POST", "/api/kernels", &body), supervise(&front));
    assert_eq!(started.status, 201);
    assert_eq!(started.headers["location"], format!("/api/kernels/{FIRST}"));
    assert_eq!(started.body["execution_state"], "idle");

    let body = r#"{"path":"x-jvsc-1.ipynb","type":"notebook","name":"x","kernel":{"name":"echo"}}"#;
    let (made, _second) = tokio::join!(front.ask("POST", "/api/sessions", body), supervise(&front));
    assert_eq!(made.status, 201);
    assert_ne!(made.body["kernel"]["id"], FIRST.to_string());
    let sessions = front.ask("GET", "/api/sessions", "").await.body;
    assert_eq!(sessions, json!([made.body]));
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let front = Front::new(Handover::Auto).await;
    let body = json!({"env": {"KERNEL_ID": FIRST.to_string(), "KERNEL_SECRET": "x"}}).to_string();

    let failed =
        r#"{"start":"failed","kind":"died","message":"It ended.","stderr_tail":"no ipykernel"}"#;
    front.supervisors_are(&format!(
        "cp $2/start.json $2/../../seen; rm -r $2; echo '{failed}'"
    ));
    let answer = front.ask("POST", "/api/kernels", &body).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.body["message"], "It ended.\nno ipykernel");
    assert_eq!(answer.body["fault"], "kernel");
    let start = fs::read(front.folder.path().join("run/seen")).unwrap();
    let start: serde_json::Value = serde_json::from_slice(&start).unwrap();
    let who = json!({"KERNEL_ID": FIRST.to_string(), "KERNEL_SECRET": "x", "USER": "me", "LOGNAME": "me"});
    assert_eq!(start["env"], who);
    assert_eq!(start["argv"], json!(["echo"]));

    front.supervisors_are("echo it broke >&2");
    let answer = front.ask("POST", "/api/kernels", &body).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body["message"]
            .as_str()
            .unwrap()
            .contains("it broke")
    );
    assert!(!front.registry.folder(FIRST).exists());

    let _fake = FakeSupervisor::start(&front.registry, FIRST);
    let answer = front.ask("POST", "/api/kernels", &body).await;
    assert_eq!(answer.status, 409);
}

#[tokio::test]
async fn a_session_is_made_once_for_a_path_moved_and_deleted_with_its_kernel() {
    let front = Front::new(Handover::Auto).await;
    let _first = FakeSupervisor::start(&front.registry, FIRST);
    let _second = FakeSupervisor::start(&front.registry, SECOND);
    let wanted = json!({"path": "a/b.ipynb", "type": "notebook", "name": "", "kernel": {"id": FIRST.to_string()}});
    let made = front
        .ask("POST", "/api/sessions?17", &wanted.to_string())
        .await;
    assert_eq!(made.status, 201);
    let path = format!("/api/sessions/{}", made.body["id"].as_str().unwrap());
    assert_eq!(made.headers["location"], path);
    assert_eq!(made.body["kernel"]["id"], json!(FIRST.to_string()));
    assert_eq!(
        made.body["notebook"],
        json!({"path": "a/b.ipynb", "name": ""})
    );

    let wanted =
        json!({"path": "a/b.ipynb", "type": "notebook", "kernel": {"id": SECOND.to_string()}});
    let again = front
        .ask("POST", "/api/sessions", &wanted.to_string())
        .await;
    assert_eq!(
        (again.status.as_u16(), &again.body["id"]),
        (201, &made.body["id"])
    );
    assert_eq!(
        front.ask("GET", "/api/sessions", "").await.body,
        json!([again.body])
    );
    assert_eq!(front.ask("GET", &path, "").await.body, again.body);

    let renamed = front
        .ask("PATCH", &path, r#"{"path":"c.ipynb","name":"c"}"#)
        .await;
    assert_eq!(
        (renamed.status.as_u16(), &renamed.body["path"]),
        (200, &json!("c.ipynb"))
    );
    let change = json!({"kernel": {"id": SECOND.to_string()}}).to_string();
    let moved = front.ask("PATCH", &path, &change).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.body["kernel"]["id"]),
        (200, &json!(SECOND.to_string()))
    );
    assert_eq!(moved.body["path"], "c.ipynb");
    // Nothing used the first kernel any more.
    let kernels = front.ask("GET", "/api/kernels", "").await.body;
    assert_eq!(
        (kernels.as_array().unwrap().len(), &kernels[0]["id"]),
        (1, &json!(SECOND.to_string()))
    );

    assert_eq!(front.ask("DELETE", &path, "").await.status, 204);
    assert_eq!(front.ask("DELETE", &path, "").await.status, 404);
    assert_eq!(front.ask("GET", "/api/kernels", "").await.body, json!([]));
    assert!(!front.registry.folder(SECOND).join(file::STATE).exists());
}

#[tokio::test]
async fn two_requests_for_one_path_at_once_give_one_session() {
    let front = Front::new(Handover::Auto).await;
    let _first = FakeSupervisor::start(&front.registry, FIRST);
    let _second = FakeSupervisor::start(&front.registry, SECOND);
    let body = |id: Uuid| {
        json!({"path": "a.ipynb", "type": "notebook", "kernel": {"id": id.to_string()}}).to_string()
    };
    let (one, other) = (body(FIRST), body(SECOND));
    let (one, other) = tokio::join!(
        front.ask("POST", "/api/sessions", &one),
        front.ask("POST", "/api/sessions", &other)
    );
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (201, 201));
    assert_eq!(one.body, other.body);
}
