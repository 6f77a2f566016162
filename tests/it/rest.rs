//! REST from the outside: every route of the real binary with the statuses and shapes that clients check.
//!
//! Owns the raw HTTP of these tests, which ordinary clients would not let one write.

mod bad_input;
pub(crate) mod drain;
pub(crate) mod endings;
mod generated;
mod shape;

use std::fs;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use self::shape::{Shape, assert_spec};
use crate::gateway::{Gateway, LIMIT, TOKEN};

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Whether it is an error as all of ours are.
    fn is_error(&self) -> bool {
        let body = self.json();
        self.header("content-type") == Some("application/json")
            && body["reason"].is_string()
            && body["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
            && body["fault"].is_string()
            && body["retry"].is_boolean()
    }
}

/// Sends these bytes and reads until the other side closes.
pub(crate) async fn send(port: u16, bytes: &[u8]) -> Reply {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // One that has seen enough closes before it has read all.
        let _refused = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = timeout(LIMIT, exchange).await.expect("the gateway hangs");
    reply(&answer)
}

/// Reads one answer of a connection that may stay open.
pub(crate) async fn receive(stream: &mut TcpStream) -> Reply {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let mut reply = reply(&answer);
    let length = reply.header("content-length");
    reply.body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut reply.body).await.unwrap();
    reply
}

fn reply(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: answer[end + 4..].to_vec(),
    }
}

/// A request as clients send it: JSON is claimed even of an empty body.
pub(crate) fn request(method: &str, path: &str, credential: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{credential}Connection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) async fn ask(gateway: &Gateway, method: &str, path: &str, body: &str) -> Reply {
    let credential = format!("Authorization: token {TOKEN}\r\n");
    send(gateway.port, &request(method, path, &credential, body)).await
}

#[tokio::test]
async fn every_route_answers_as_clients_check() {
    use Shape::{Error, Kernel, Kernels, Keys, Nothing, Session, Sessions, Spec};
    const SESSION: &str =
        r#"{"path":"no/such-jvsc-1.ipynb","type":"notebook","name":"","kernel":{"id":"{kernel}"}}"#;
    let gateway = Gateway::start("auto").await;
    // {kernel} and {session} are what the last POST of their kind has made.
    let steps = [
        ("GET", "/api", "", 200, Keys(&["version"])),
        (
            "GET",
            "/api/status",
            "",
            200,
            Keys(&["started", "last_activity", "kernels", "connections"]),
        ),
        (
            "GET",
            "/api/me",
            "",
            200,
            Keys(&["identity", "permissions"]),
        ),
        ("GET", "/healthz", "", 200, Keys(&["status"])),
        ("GET", "/readyz", "", 200, Keys(&["status"])),
        (
            "GET",
            "/api/kernelspecs",
            "",
            200,
            Keys(&["default", "kernelspecs"]),
        ),
        ("GET", "/api/kernelspecs/python3", "", 200, Spec),
        ("GET", "/api/kernels", "", 200, Kernels(0)),
        ("GET", "/api/sessions", "", 200, Sessions(0)),
        (
            "POST",
            "/api/kernels",
            r#"{"name":"python3","path":null}"#,
            201,
            Kernel,
        ),
        ("GET", "/api/kernels", "", 200, Kernels(1)),
        ("GET", "/api/kernels/{kernel}", "", 200, Kernel),
        ("POST", "/api/kernels/{kernel}/interrupt", "", 204, Nothing),
        (
            "POST",
            "/api/kernels/{kernel}/interrupt",
            "{}",
            204,
            Nothing,
        ),
        ("POST", "/api/kernels/{kernel}/restart", "", 200, Kernel),
        ("GET", "/api/kernels/{kernel}/channels", "", 426, Error),
        ("POST", "/api/sessions", SESSION, 201, Session),
        ("POST", "/api/sessions", SESSION, 201, Session),
        ("GET", "/api/sessions", "", 200, Sessions(1)),
        ("GET", "/api/sessions/{session}", "", 200, Session),
        ("PATCH", "/api/sessions/{session}", "", 200, Session),
        (
            "PATCH",
            "/api/sessions/{session}",
            r#"{"path":"b.ipynb","name":"b"}"#,
            200,
            Session,
        ),
        (
            "PATCH",
            "/api/sessions/{session}",
            r#"{"kernel":{"name":"none"}}"#,
            501,
            Error,
        ),
        // The kernel that it leaves has no other session and ends.
        (
            "PATCH",
            "/api/sessions/{session}",
            r#"{"kernel":{"name":"python3"}}"#,
            200,
            Session,
        ),
        ("GET", "/api/kernels/{kernel}", "", 404, Error),
        ("POST", "/api/kernels", "", 201, Kernel),
        (
            "PATCH",
            "/api/sessions/{session}",
            r#"{"kernel":{"id":"{kernel}"}}"#,
            200,
            Session,
        ),
        ("GET", "/api/kernels", "", 200, Kernels(1)),
        ("DELETE", "/api/sessions/{session}", "", 204, Nothing),
        ("DELETE", "/api/sessions/{session}", "", 404, Error),
        ("GET", "/api/sessions/{session}", "", 404, Error),
        ("GET", "/api/kernels/{kernel}", "", 404, Error),
        ("POST", "/api/kernels", "{}", 201, Kernel),
        ("DELETE", "/api/kernels/{kernel}", "", 204, Nothing),
        ("DELETE", "/api/kernels/{kernel}", "", 404, Error),
        ("POST", "/api/kernels/{kernel}/interrupt", "", 404, Error),
        ("POST", "/api/kernels/{kernel}/restart", "", 404, Error),
        ("GET", "/api/kernels/{kernel}/channels", "", 426, Error),
        ("GET", "/api/kernels", "", 200, Kernels(0)),
        ("GET", "/api/sessions", "", 200, Sessions(0)),
    ];
    let (mut kernel, mut session) = (String::new(), String::new());
    for (method, path, body, status, shape) in steps {
        let fill = |text: &str| {
            text.replace("{kernel}", &kernel)
                .replace("{session}", &session)
        };
        // As @jupyterlab/services does, so that nothing is taken from a cache.
        let full = format!("{}?1700000000", fill(path));
        let reply = ask(&gateway, method, &full, &fill(body)).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {reply:?}");
        shape.check(&reply);
        if !reply.body.is_empty() {
            assert_eq!(reply.header("content-type"), Some("application/json"));
        }
        if status == 201 {
            let made = reply.json()["id"].as_str().unwrap().to_owned();
            assert_eq!(reply.header("location"), Some(&*format!("{path}/{made}")));
            match shape {
                Kernel => kernel = made,
                _ => session = made,
            }
        }
    }
}

#[tokio::test]
async fn a_session_keeps_its_id_when_it_moves_and_two_share_a_kernel() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let body =
        |path: &str| json!({"path": path, "type": "console", "kernel": {"id": kernel}}).to_string();
    let first = ask(&gateway, "POST", "/api/sessions", &body("a"))
        .await
        .json();
    let second = ask(&gateway, "POST", "/api/sessions", &body("b"))
        .await
        .json();
    assert_eq!(first["kernel"]["id"], second["kernel"]["id"]);
    assert!(first.get("notebook").is_none(), "{first}");
    let path = format!("/api/sessions/{}", first["id"].as_str().unwrap());
    let change = r#"{"name":"c","kernel":{"name":"python3"}}"#;
    let moved = ask(&gateway, "PATCH", &path, change).await.json();
    assert_eq!((&moved["id"], &moved["name"]), (&first["id"], &json!("c")));
    assert_ne!(moved["kernel"]["id"], kernel);
    assert_eq!(ask(&gateway, "GET", &path, "").await.json(), moved);
    // The other session still has it.
    let kernels = ask(&gateway, "GET", "/api/kernels", "").await.json();
    assert_eq!(kernels.as_array().unwrap().len(), 2);
    let path = format!("/api/kernels/{kernel}");
    assert_eq!(ask(&gateway, "DELETE", &path, "").await.status, 204);
    let sessions = ask(&gateway, "GET", "/api/sessions", "").await.json();
    assert_eq!(sessions, json!([moved]));
}

#[tokio::test]
async fn a_token_is_taken_in_every_form_and_asked_for_where_it_is_needed() {
    let gateway = Gateway::start("auto").await;
    let id = Uuid::nil();
    let closed = [
        ("GET", "/api/status".to_owned(), 200),
        ("GET", "/api/me".to_owned(), 200),
        ("GET", "/api/kernelspecs".to_owned(), 200),
        ("GET", "/api/kernelspecs/python3".to_owned(), 200),
        ("GET", "/kernelspecs/python3/logo-64x64.png".to_owned(), 200),
        ("GET", "/api/kernels".to_owned(), 200),
        ("POST", "/api/kernels".to_owned(), 400),
        ("GET", format!("/api/kernels/{id}"), 404),
        ("DELETE", format!("/api/kernels/{id}"), 404),
        ("POST", format!("/api/kernels/{id}/interrupt"), 404),
        ("POST", format!("/api/kernels/{id}/restart"), 404),
        ("GET", format!("/api/kernels/{id}/channels"), 426),
        ("GET", "/api/sessions".to_owned(), 200),
        ("POST", "/api/sessions".to_owned(), 400),
        ("GET", format!("/api/sessions/{id}"), 404),
        ("PATCH", format!("/api/sessions/{id}"), 404),
        ("DELETE", format!("/api/sessions/{id}"), 404),
    ];
    let body = r#"{"name":"none"}"#;
    let header = |scheme: &str| format!("Authorization: {scheme}{TOKEN}\r\n");
    for (method, path, status) in closed {
        for credential in [header("token "), header("Bearer ")] {
            let reply = send(gateway.port, &request(method, &path, &credential, body)).await;
            assert_eq!(reply.status, status, "{method} {path} {credential}");
        }
        let query = format!("{path}?1700000000&token={TOKEN}");
        for credential in ["", "Authorization: token \r\n"] {
            let reply = send(gateway.port, &request(method, &query, credential, body)).await;
            assert_eq!(reply.status, status, "{method} {query} {credential}");
        }
        for credential in [
            "",
            "Authorization: token x\r\n",
            &header("Basic "),
            &header(""),
        ] {
            let reply = send(gateway.port, &request(method, &path, credential, body)).await;
            assert_eq!(reply.status, 401, "{method} {path} {credential}");
            assert!(reply.is_error() && reply.header("www-authenticate").is_some());
            assert!(!reply.json()["message"].as_str().unwrap().contains(TOKEN));
        }
    }
    for path in ["/api", "/healthz", "/readyz", "/"] {
        let reply = send(gateway.port, &request("GET", path, "", "")).await;
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[tokio::test]
async fn kernelspecs_on_disk_are_seen_as_they_are_now() {
    let gateway = Gateway::start("auto").await;
    let folder = gateway.root().join("jupyter/kernels");
    let names = async || {
        let all = ask(&gateway, "GET", "/api/kernelspecs", "").await.json();
        let specs = all["kernelspecs"].as_object().unwrap();
        specs.values().for_each(assert_spec);
        (specs.contains_key("mine"), specs.contains_key("python3"))
    };
    assert_eq!(names().await, (false, true));
    gateway.put_shell_spec("mine", "exec sleep 600");
    fs::write(folder.join("mine/logo-svg.svg"), "<svg/>").unwrap();
    assert_eq!(names().await, (true, true));
    let logo = ask(&gateway, "GET", "/kernelspecs/mine/logo-svg.svg", "").await;
    assert_eq!((logo.status, &*logo.body), (200, &b"<svg/>"[..]));
    assert_eq!(logo.header("content-type"), Some("image/svg+xml"));

    for (broken, why) in [
        ("{", "broken"),
        ("[]", "broken"),
        (r#"{"argv":[]}"#, "broken"),
    ] {
        fs::write(folder.join("mine/kernel.json"), broken).unwrap();
        assert_eq!(names().await, (false, true), "{broken}");
        let reply = ask(&gateway, "POST", "/api/kernels", r#"{"name":"mine"}"#).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(
            reply.json()["message"].as_str().unwrap().contains(why),
            "{reply:?}"
        );
        let reply = ask(&gateway, "GET", "/kernelspecs/mine/logo-svg.svg", "").await;
        assert_eq!(reply.status, 404);
    }
    gateway.put_shell_spec("mine", "exec sleep 600");
    assert_eq!(names().await, (true, true));
    fs::remove_dir_all(folder.join("mine")).unwrap();
    assert_eq!(names().await, (false, true));
    let reply = ask(&gateway, "GET", "/api/kernelspecs/mine", "").await;
    assert!(reply.status == 404 && reply.is_error());
}
