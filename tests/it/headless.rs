//! Jobs through HTTP: jupyter_kernel_client, and nbclient and papermill with jupyter_server's client, whose
//! WebSocket brings no header, so that the token is in the path. All real and unmodified.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::driver::{SUITE_LIMIT, runs};
use crate::front::Home;
use crate::gateway::{Gateway, TOKEN, page, project, wait_for};
use crate::people::Person;

/// The Python that clients run with, and kernels that need what clients have.
pub(crate) fn clients_python() -> PathBuf {
    let python = project("target/clients-env/bin/python");
    assert!(python.exists(), "run cargo xtask setup");
    python
}

/// A Python program that has the gateway's address, a token for HTTP and the same token in the path.
pub(crate) fn python(gateway: &Gateway, token: &str) -> Command {
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let mut command = Command::new(clients_python());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", gateway.root())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", project("tests/python"))
        .env("IT_URL", &url)
        .env("IT_TOKEN", token)
        .env("IT_KERNEL", "python3")
        .env("JUPYTER_GATEWAY_URL", &url)
        .env(
            "JUPYTER_GATEWAY_KERNELS_ENDPOINT",
            format!("/t/{token}/api/kernels"),
        )
        .current_dir(gateway.root())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn case(gateway: &Gateway, token: &str, name: &str) -> Command {
    let mut command = python(gateway, token);
    command.arg(project("tests/python/headless.py")).arg(name);
    command
}

async fn passes(name: &str) {
    let gateway = Gateway::start("auto").await;
    runs(case(&gateway, TOKEN, name)).await;
}

#[tokio::test]
async fn jupyter_kernel_client_does_what_its_readme_shows() {
    let gateway = Gateway::start("auto").await;
    // Its variables need a package of its own beside the kernel.
    let argv = json!([
        clients_python(),
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}"
    ]);
    gateway.put_spec("python3", &json!({"argv": argv, "language": "python"}));
    runs(case(&gateway, TOKEN, "kernel_client")).await;
}

#[tokio::test]
async fn nbclient_runs_notebooks_through_http() {
    passes("nbclient").await;
}

#[tokio::test]
async fn a_reply_does_not_overtake_its_output() {
    passes("much_output").await;
}

#[tokio::test]
async fn four_papermills_at_once() {
    passes("papermills").await;
}

#[tokio::test]
async fn a_job_ends_with_its_kernel() {
    passes("deaths").await;
}

#[tokio::test]
async fn a_job_ends_when_its_kernel_is_dead_for_good() {
    passes("mortal").await;
}

#[tokio::test]
async fn jupyter_kernel_test_passes_over_rest_and_websocket() {
    let gateway = Gateway::start("auto").await;
    let mut suite = python(&gateway, TOKEN);
    suite.args(["-m", "unittest", "kernel_tests_http"]);
    runs(suite).await;
    assert_eq!(gateway.rest("GET", "/api/kernels", "").await.1, json!([]));
}

/// A job of somebody whose access ends meanwhile.
async fn ends_when(gateway: &Gateway, person: &Person<'_>, end: impl AsyncFnOnce(&str)) {
    let mut job = case(gateway, &person.token, "ended_from_outside");
    let job = tokio::spawn(async move { timeout(SUITE_LIMIT, job.output()).await.unwrap() });
    let begun = gateway.root().join("begun");
    wait_for("the cell runs", || begun.exists().then_some(())).await;
    end(&person.kernels().await[0]).await;
    fs::write(gateway.root().join("done"), "").unwrap();
    let done = job.await.unwrap().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test]
async fn a_job_ends_when_its_token_is_revoked() {
    let gateway = Gateway::start("auto").await;
    let ada = Person::new(&gateway, &["ada"]).await;
    ends_when(&gateway, &ada, async |_| {
        crate::people::token_command(&gateway, &["revoke", "ada"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_ends_when_its_token_expires() {
    let gateway = Gateway::start("auto").await;
    let ada = Person::new(&gateway, &["ada", "--expires-in", "15s"]).await;
    ends_when(&gateway, &ada, async |kernel| {
        let is_away = async || {
            let (_, sessions) = gateway
                .ask_supervisor(kernel, "GET", "/v1/connections", "")
                .await;
            sessions.as_array().unwrap().is_empty()
        };
        let gone = async {
            while !is_away().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SUITE_LIMIT, gone).await.unwrap();
    })
    .await;
}

/// It is a token as in a header: whose it is counts, and it is nowhere told.
#[tokio::test]
async fn a_token_in_the_path_is_a_token_and_is_told_nowhere() {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let file = gateway.root().join("audit.jsonl");
    let config = gateway.root().join(".config/nb");
    fs::create_dir_all(&config).unwrap();
    fs::write(
        config.join("nb.toml"),
        format!("server.audit_file = {:?}\n", file),
    )
    .unwrap();
    let log = gateway.replace_and_log("trace").await;
    let gateway = &gateway;
    let ada = Person::new(gateway, &["ada"]).await;
    let bob = Person::new(gateway, &["bob"]).await;
    let ask = async |token: &str, method, path: &str, body| {
        let path = format!("/t/{token}{path}");
        let (status, head, body) = crate::gateway::whole(gateway.port, method, &path, body).await;
        for secret in [&ada.token, &bob.token, "wrong-guess"] {
            assert!(
                !head.contains(secret) && !body.contains(secret),
                "{head}\n{body}"
            );
        }
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        (status, body)
    };
    let (status, kernel) = ask(&ada.token, "POST", "/api/kernels", r#"{"name":"instant"}"#).await;
    assert_eq!(status, 201, "{kernel}");
    let path = format!("/api/kernels/{}", kernel["id"].as_str().unwrap());
    assert_eq!(
        ask(&ada.token, "GET", "/api/me", "").await.1["identity"]["username"],
        "ada"
    );
    assert_eq!(ask(&ada.token, "GET", &path, "").await.0, 200);
    assert_eq!(ask(&bob.token, "GET", &path, "").await.0, 404);
    assert_eq!(ask("wrong-guess", "GET", &path, "").await.0, 401);
    assert_eq!(ask(&ada.token, "GET", "/nothing", "").await.0, 404);
    assert_eq!(ask(&ada.token, "GET", "/api/kernelspecs", "").await.0, 200);
    assert_eq!(ask(&ada.token, "GET", "/metrics", "").await.0, 200);
    assert_eq!(ask(&ada.token, "POST", "/metrics", "").await.0, 405);
    assert_eq!(ask(&ada.token, "DELETE", &path, "").await.0, 204);
    assert_eq!(page(gateway.port, TOKEN, "GET", &path, "").await.0, 404);
    let audit = wait_for("the last line", || {
        let text = fs::read_to_string(&file).ok()?;
        text.contains("\"stop\"").then_some(text)
    })
    .await;
    let told = audit + &fs::read_to_string(log).unwrap();
    assert!(
        told.contains(&format!("GET {path}")) && told.contains("answered"),
        "{told}"
    );
    for secret in [&ada.token, &bob.token, "wrong-guess"] {
        assert!(!told.contains(secret), "{told}");
    }
}

/// 30 notebooks, directly, by `nb launch` and through HTTP: nothing that is shown differs.
#[tokio::test]
async fn notebooks_show_the_same_directly_and_through_nb() {
    let home = Home::of_clients().await;
    let mut suite = python(&home.gateway, TOKEN);
    home.set_environment(&mut suite);
    suite.env("IT_DIRECT", "books").env("IT_LAUNCH", "nb-books");
    suite
        .arg(project("tests/notebooks/suite.py"))
        .arg(home.root().join("books"));
    runs(suite).await;
}
