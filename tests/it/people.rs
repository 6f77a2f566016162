//! Several people at one gateway: named tokens, whose kernels are whose, how many there may be.

use std::fs;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::Client;
use crate::gateway::{Gateway, LIMIT, TOKEN, page, wait_for};

const INSTANT: &str = r#"{"name":"instant"}"#;

/// `nb token` on the gateway's machine.
pub(crate) async fn token_command(gateway: &Gateway, arguments: &[&str]) -> Value {
    let root = gateway.root();
    let command = Command::new(env!("CARGO_BIN_EXE_nb"))
        .arg("token")
        .args(arguments)
        .arg("--json")
        .env_clear()
        .env("HOME", &root)
        .env("NB_STATE_DIR", root.join("state"))
        .env("NB_RUNTIME_DIR", root.join("run"))
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, command).await.expect("nb hangs").unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Somebody with a token.
pub(crate) struct Person<'a> {
    gateway: &'a Gateway,
    pub(crate) token: String,
}

impl<'a> Person<'a> {
    pub(crate) async fn new(gateway: &'a Gateway, arguments: &[&str]) -> Self {
        let made = token_command(gateway, &[&["add"], arguments].concat()).await;
        Self {
            gateway,
            token: made["token"].as_str().unwrap().to_owned(),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = page(self.gateway.port, &self.token, method, path, body).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn kernel(&self, body: &str) -> String {
        let (status, kernel) = self.ask("POST", "/api/kernels", body).await;
        assert_eq!(status, 201, "{kernel}");
        kernel["id"].as_str().unwrap().to_owned()
    }

    /// The ids of the kernels that this one sees.
    pub(crate) async fn kernels(&self) -> Vec<String> {
        let (status, kernels) = self.ask("GET", "/api/kernels", "").await;
        assert_eq!(status, 200, "{kernels}");
        let ids = kernels.as_array().unwrap().iter();
        ids.map(|kernel| kernel["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_kernel_is_there_for_its_owner_and_for_nobody_else() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let ada = Person::new(&gateway, &["ada", "--expires-in", "1h"]).await;
    let bob = Person::new(&gateway, &["bob"]).await;
    let kernel = ada.kernel(INSTANT).await;
    let path = format!("/api/kernels/{kernel}");
    assert_eq!(ada.kernels().await, [kernel.as_str()]);
    assert_eq!(bob.kernels().await, Vec::<String>::new());
    let (_, all) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!(all[0]["id"], kernel);
    for (method, verb) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/interrupt"),
        ("GET", "/logs"),
        ("GET", "/journal"),
        ("POST", "/restart"),
        ("GET", "/channels"),
    ] {
        let (status, error) = bob.ask(method, &format!("{path}{verb}"), "").await;
        assert_eq!(status, 404, "{method} {verb}: {error}");
    }
    let (_, status) = bob.ask("GET", "/api/status", "").await;
    assert_eq!(status["kernels"], 0);
    assert_eq!(
        ada.ask("GET", "/api/me", "").await.1["identity"]["username"],
        "ada"
    );

    // One path, two people, two sessions.
    let body = r#"{"path":"a.ipynb","type":"notebook","kernel":{"name":"instant"}}"#;
    let mut sessions = Vec::new();
    for person in [&ada, &bob] {
        let (status, session) = person.ask("POST", "/api/sessions", body).await;
        assert_eq!(status, 201, "{session}");
        let (_, seen) = person.ask("GET", "/api/sessions", "").await;
        assert_eq!((seen.as_array().unwrap().len(), &seen[0]), (1, &session));
        sessions.push(session);
    }
    assert_ne!(sessions[0]["kernel"]["id"], sessions[1]["kernel"]["id"]);
    let adas = format!("/api/sessions/{}", sessions[0]["id"].as_str().unwrap());
    let bobs = format!("/api/sessions/{}", sessions[1]["id"].as_str().unwrap());
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(bob.ask(method, &adas, "{}").await.0, 404, "{method}");
    }
    let steal = json!({"kernel": {"id": kernel}}).to_string();
    assert_eq!(bob.ask("PATCH", &bobs, &steal).await.0, 400);
    assert_eq!(ada.ask("DELETE", &path, "").await.0, 204);
}

#[tokio::test]
async fn only_a_token_that_acts_for_others_names_another_user() {
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let ada = Person::new(&gateway, &["ada"]).await;
    let bob = Person::new(&gateway, &["bob"]).await;
    let hub = Person::new(&gateway, &["hub", "--acts-for"]).await;
    let for_ada = r#"{"name":"instant","env":{"KERNEL_USERNAME":"ada"}}"#;
    let (status, error) = bob.ask("POST", "/api/kernels", for_ada).await;
    assert_eq!((status, error["fault"].as_str()), (403, Some("user")));
    let own = ada.kernel(for_ada).await;
    let started = hub.kernel(for_ada).await;
    let mut adas = ada.kernels().await;
    let mut expected = vec![own, started.clone()];
    adas.sort();
    expected.sort();
    assert_eq!(adas, expected);
    assert_eq!(hub.kernels().await, [started]);
    assert!(bob.kernels().await.is_empty());
}

#[tokio::test]
async fn revoking_a_token_ends_what_it_opened_and_nothing_else() {
    for handover in ["auto", "never"] {
        let gateway = Gateway::start(handover).await;
        gateway.put_peer_spec("instant");
        let ada = Person::new(&gateway, &["ada"]).await;
        let tablet = Person::new(&gateway, &["ada"]).await;
        let kernel = ada.kernel(INSTANT).await;
        let mut first = Client::connect(gateway.port, &ada.token, &kernel, "a").await;
        let mut second = Client::connect(gateway.port, &tablet.token, &kernel, "b").await;
        first.run("x").await;
        let id = ada.token.split('_').nth(1).unwrap();
        let revoked = token_command(&gateway, &["revoke", id]).await;
        assert_eq!(revoked, json!({"revoked": [id], "connections_ended": 1}));
        let code = loop {
            if let Err(code) = first.next().await {
                break code;
            }
        };
        assert_eq!(code, 4401);
        assert_eq!(ada.ask("GET", "/api/kernels", "").await.0, 401);
        second.run("x").await;
        assert_eq!(tablet.kernels().await, [kernel]);
        let left = token_command(&gateway, &["list"]).await;
        assert_eq!(left.as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn quotas_and_users_hold_however_many_ask_at_once() {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    gateway.put_peer_spec("closed");
    let config = gateway.root().join(".config/nb");
    fs::create_dir_all(&config).unwrap();
    let settings = "[auth]\nusers_denied = [\"eve\"]\n[kernels]\nmax_per_user = 2\nmax = 3\n\
                    [kernels.closed]\nusers_allowed = [\"bob\"]\n";
    fs::write(config.join("nb.toml"), settings).unwrap();
    gateway.replace().await;
    let gateway = &gateway;
    let ada = Person::new(gateway, &["ada"]).await;
    let bob = Person::new(gateway, &["bob"]).await;
    let eve = Person::new(gateway, &["eve"]).await;
    let starts = join_all((0..10).map(|_| ada.ask("POST", "/api/kernels", INSTANT))).await;
    let count = |status| starts.iter().filter(|(given, _)| *given == status).count();
    assert_eq!((count(201), count(429)), (2, 8), "{starts:?}");
    assert_eq!(bob.ask("POST", "/api/kernels", INSTANT).await.0, 201);
    let (status, error) = bob.ask("POST", "/api/kernels", INSTANT).await;
    assert_eq!(status, 429, "{error}");
    // One that has ended makes room.
    let ended = format!("/api/kernels/{}", ada.kernels().await[0]);
    assert_eq!(ada.ask("DELETE", &ended, "").await.0, 204);
    ada.kernel(INSTANT).await;

    assert_eq!(eve.ask("POST", "/api/kernels", INSTANT).await.0, 403);
    let closed = r#"{"name":"closed"}"#;
    assert_eq!(ada.ask("POST", "/api/kernels", closed).await.0, 403);
    assert_eq!(bob.ask("POST", "/api/kernels", closed).await.0, 429);
    let shown = async |person: &Person<'_>| {
        let (_, specs) = person.ask("GET", "/api/kernelspecs", "").await;
        specs["kernelspecs"].get("closed").is_some()
    };
    assert_eq!((shown(&ada).await, shown(&bob).await), (false, true));
    let (status, _) = page(gateway.port, TOKEN, "GET", "/api/kernelspecs/closed", "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_people_do_with_kernels_is_noted_without_what_is_theirs() {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let config = gateway.root().join(".config/nb");
    fs::create_dir_all(&config).unwrap();
    let file = gateway.root().join("audit.jsonl");
    let settings = json!({"server": {"audit_file": file}});
    let settings = format!("server.audit_file = {}\n", settings["server"]["audit_file"]);
    fs::write(config.join("nb.toml"), settings).unwrap();
    gateway.replace().await;
    let gateway = &gateway;
    let ada = Person::new(gateway, &["ada"]).await;
    let bob = Person::new(gateway, &["bob"]).await;
    let kernel = ada.kernel(INSTANT).await;
    let path = format!("/api/kernels/{kernel}");
    let mut client = Client::connect(gateway.port, &ada.token, &kernel, "a").await;
    client.run("a secret of hers").await;
    assert_eq!(bob.ask("DELETE", &path, "").await.0, 404);
    let (status, _) = page(
        gateway.port,
        "no token",
        "GET",
        "/api/kernels?token=guess",
        "",
    )
    .await;
    assert_eq!(status, 401);
    assert_eq!(ada.ask("DELETE", &path, "").await.0, 204);
    let lines = wait_for("the last line", || {
        let text = fs::read_to_string(&file).ok()?;
        text.contains("\"stop\"").then_some(text)
    });
    let lines = lines.await;
    for secret in ["secret of hers", "guess", &ada.token, &bob.token] {
        assert!(!lines.contains(secret), "{lines}");
    }
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let noted = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        assert!(text("peer").starts_with("127.0.0.1:"), "{line}");
        (
            text("event"),
            text("user"),
            text("kernel") == kernel,
            line["status"].as_u64(),
        )
    };
    let expected = [
        ("start", "ada", true, None),
        ("connect", "ada", true, None),
        ("refuse", "bob", true, Some(404)),
        ("refuse", "", false, Some(401)),
        ("stop", "ada", true, None),
    ];
    let expected = expected
        .map(|(event, user, kernel, status)| (event.to_owned(), user.to_owned(), kernel, status));
    assert_eq!(lines.iter().map(noted).collect::<Vec<_>>(), expected);
    assert_eq!(lines[3]["request"], "GET /api/kernels");
}
