//! What no sound client sends: answered with 4xx and a reason, and the gateway goes on.

use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;
use crate::gateway::wait_for;

#[tokio::test]
async fn nonsense_is_answered_with_a_reason_and_never_with_a_500() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("mine", "exit 3");
    let spec = gateway.root().join("jupyter/kernels/mine");
    fs::write(gateway.root().join("secret"), "secret").unwrap();
    symlink(gateway.root().join("secret"), spec.join("logo-32x32.png")).unwrap();
    fs::create_dir(spec.join("logo-64x64.png")).unwrap();

    let id = Uuid::nil();
    let (nested, huge) = ("[".repeat(100_000), "x".repeat(2 << 20));
    let inside = format!(r#"{{"name":{nested}"#);
    // What is not known is passed over, however deep it is.
    let deep = format!(
        r#"{{"name":"none","x":{}{}}}"#,
        "[".repeat(9999),
        "]".repeat(9999)
    );
    for (body, status) in [
        ("{", 400),
        ("[]", 400),
        (r#"["mine",null,null]"#, 400),
        (r#"["a","b","notebook",null,null]"#, 400),
        ("7", 400),
        (r#""x""#, 400),
        ("{}{}", 400),
        (r#"{"name":1}"#, 400),
        (r#"{"name":"a","name":"b"}"#, 400),
        (r#"{"path":[]}"#, 400),
        ("\0", 400),
        (&nested, 400),
        (&inside, 400),
        (&deep, 400),
        (&huge, 413),
    ] {
        check(&gateway, "POST", "/api/kernels", body, status).await;
        check(&gateway, "POST", "/api/sessions", body, status).await;
    }

    let large = json!({"name": "mine", "env": {"KERNEL_X": "x".repeat(200_000)}});
    let long = json!({"name": "mine", "path": "x/".repeat(10_000)});
    for body in [
        r#"{"name":"none"}"#,
        r#"{"name":"../mine"}"#,
        r#"{"env":[]}"#,
        r#"{"env":{"KERNEL_A":null}}"#,
        r#"{"env":{"KERNEL_A":"\u0000"}}"#,
        r#"{"env":{"KERNEL_A=":"x"}}"#,
        r#"{"env":{"KERNEL_ID":"../x"}}"#,
        r#"{"env":{"KERNEL_LAUNCH_TIMEOUT":"x"}}"#,
        r#"{"name":"mine","path":"\u0000"}"#,
        &json!({"name": "x".repeat(500_000)}).to_string(),
        &large.to_string(),
        &long.to_string(),
    ] {
        check(&gateway, "POST", "/api/kernels", body, 400).await;
    }

    let session = |path: &str, kernel: Value| {
        json!({"path": path, "type": "notebook", "kernel": kernel}).to_string()
    };
    for (body, status) in [
        ("", 400),
        (r#"{"path":"a"}"#, 400),
        (r#"{"type":"notebook"}"#, 400),
        (r#"{"path":"","type":""}"#, 400),
        (r#"{"path":"a","type":"notebook","kernel":7}"#, 400),
        (
            r#"{"path":"a","type":"notebook","kernel":[null,"mine"]}"#,
            400,
        ),
        (r#"{"notebook":["a"],"kernel":{"name":"mine"}}"#, 400),
        (&session(&"x".repeat(5000), json!({"name": "mine"})), 400),
        (&session("a\0b", json!({"name": "mine"})), 400),
        (&session("a", json!({"id": "none"})), 400),
        (&session("a", json!({"id": id.to_string()})), 400),
        (&session("a", json!({"name": "none"})), 501),
    ] {
        check(&gateway, "POST", "/api/sessions", body, status).await;
    }

    for path in [
        "/none".to_owned(),
        "/api/".to_owned(),
        "/api/kernels/".to_owned(),
        "//api".to_owned(),
        "/api/../api".to_owned(),
        "/%ff".to_owned(),
        "/%00".to_owned(),
        "/api/kernels/x".to_owned(),
        "/api/kernels/%ff".to_owned(),
        "/api/kernels/%2e%2e%2fx".to_owned(),
        format!("/api/kernels/{id}"),
        format!("/api/kernels/{{{id}}}"),
        format!("/api/kernels/{}", id.simple()),
        "/api/sessions/x".to_owned(),
        "/api/sessions/%ff".to_owned(),
        format!("/api/sessions/{id}"),
        "/api/kernelspecs/none".to_owned(),
        "/api/kernelspecs/%ff".to_owned(),
        "/api/kernelspecs/..".to_owned(),
        "/kernelspecs/mine".to_owned(),
        "/kernelspecs/mine/none".to_owned(),
        "/kernelspecs/mine/.".to_owned(),
        "/kernelspecs/mine/..".to_owned(),
        "/kernelspecs/mine/../mine/kernel.json".to_owned(),
        "/kernelspecs/mine/..%2fmine%2fkernel.json".to_owned(),
        "/kernelspecs/mine/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret".to_owned(),
        "/kernelspecs/mine/%2fetc%2fpasswd".to_owned(),
        "/kernelspecs/mine/kernel.json%00.png".to_owned(),
        "/kernelspecs/mine/%ff".to_owned(),
        // A link, which could lead anywhere, and a folder.
        "/kernelspecs/mine/logo-32x32.png".to_owned(),
        "/kernelspecs/mine/logo-64x64.png".to_owned(),
        "/kernelspecs/../mine/kernel.json".to_owned(),
        "/kernelspecs/..%2fkernels%2fmine/kernel.json".to_owned(),
    ] {
        check(&gateway, "GET", &path, "", 404).await;
    }

    for (path, methods) in [
        ("/api", "POST PUT PATCH DELETE OPTIONS TRACE BREW"),
        ("/api/status", "POST PUT PATCH DELETE OPTIONS"),
        ("/api/me", "POST PUT"),
        ("/healthz", "POST"),
        ("/api/kernelspecs", "POST PUT PATCH DELETE"),
        ("/api/kernelspecs/mine", "POST PUT PATCH DELETE"),
        ("/kernelspecs/mine/kernel.json", "POST PUT"),
        ("/api/kernels", "PUT PATCH DELETE OPTIONS BREW"),
        ("/api/kernels/x", "POST PUT PATCH"),
        ("/api/kernels/x/interrupt", "GET PUT DELETE"),
        ("/api/kernels/x/restart", "GET PUT DELETE"),
        ("/api/kernels/x/channels", "POST PUT DELETE"),
        ("/api/sessions", "PUT PATCH DELETE"),
        ("/api/sessions/x", "POST PUT"),
    ] {
        for method in methods.split(' ') {
            check(&gateway, method, path, "", 405).await;
        }
    }
    assert_eq!(
        ask(&gateway, "GET", "/api/kernels", "").await.json(),
        json!([])
    );
}

async fn check(gateway: &Gateway, method: &str, path: &str, body: &str, status: u16) {
    let reply = ask(gateway, method, path, body).await;
    let body: String = body.chars().take(60).collect();
    assert_eq!(
        reply.status,
        status,
        "{method} {path} {body}: {}",
        reply.json()
    );
    assert!(reply.is_error(), "{method} {path} {body}: {reply:?}");
    assert!(
        reply.body.len() < 4096,
        "{method} {path} {body}: the answer is long"
    );
}

/// Whoever announces too much is answered at once: nothing of it is waited for.
#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_refused_before_it_comes() {
    let gateway = Gateway::start("auto").await;
    let session = format!("/api/sessions/{}", Uuid::nil());
    for (method, path) in [
        ("POST", "/api/kernels"),
        ("POST", "/api/sessions"),
        ("PATCH", &*session),
    ] {
        for (announced, expects) in [
            ("1048577", ""),
            ("1048577", "Expect: 100-continue\r\n"),
            ("18446744073709551613", ""),
        ] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\n\
                 {expects}Content-Length: {announced}\r\n\r\n"
            );
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))
                .await
                .unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let reply = timeout(LIMIT, receive(&mut stream)).await;
            let reply = reply.expect("the body is waited for");
            assert_eq!(reply.status, 413, "{method} {path} {announced}: {reply:?}");
            assert!(reply.is_error(), "{method} {path} {announced}: {reply:?}");
        }
    }
}

/// What is not even HTTP. hyper itself answers these, without a body, or closes.
#[tokio::test]
async fn heads_that_are_none_are_refused_and_the_gateway_goes_on() {
    let gateway = Gateway::start("auto").await;
    let credential = format!("Authorization: token {TOKEN}\r\n");
    let with = |more: &str| {
        let head = format!("GET /api/me HTTP/1.1\r\nHost: x\r\n{credential}{more}\r\n\r\n");
        head.into_bytes()
    };
    for (bytes, status) in [
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
        ),
        (b"GET /api HTTP/7.0\r\n\r\n".to_vec(), 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400),
        (b"GET  HTTP/1.1\r\n\r\n".to_vec(), 400),
        (with("no colon"), 400),
        (with("Content-Length: x"), 400),
        (with("Content-Length: 1\r\nContent-Length: 2"), 400),
        (with(&format!("X: {}", "x".repeat(1 << 20))), 431),
        (with(&"X: x\r\n".repeat(1000)), 431),
        (with("Transfer-Encoding: x"), 400),
    ] {
        let reply = send(gateway.port, &bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        assert_eq!(reply.status, status, "{shown:?}");
    }
    for (bytes, status) in [
        (
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            404,
        ),
        (
            b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nConnection: close\r\n\r\n".to_vec(),
            404,
        ),
        (
            b"GET http://else/api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            200,
        ),
        (b"GET /api HTTP/1.0\r\n\r\n".to_vec(), 200),
    ] {
        let reply = send(gateway.port, &bytes).await;
        assert_eq!(
            reply.status,
            status,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let chunked = |body: &str| {
        format!(
            "POST /api/kernels HTTP/1.1\r\nHost: x\r\n{credential}Connection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    for (body, status) in [
        ("x\r\n", 400),
        ("f\r\n{\"name\":\"none\"}\r\n0\r\n\r\n", 400),
        ("ffffffffffffffffff\r\n", 400),
    ] {
        let reply = send(gateway.port, chunked(body).as_bytes()).await;
        assert_eq!(reply.status, status, "{body:?}");
        assert!(reply.is_error(), "{body:?}: {reply:?}");
    }
    assert_eq!(ask(&gateway, "GET", "/api/me", "").await.status, 200);
}

#[tokio::test]
async fn a_handshake_that_is_none_is_an_http_error() {
    let gateway = Gateway::start("auto").await;
    let id = Uuid::nil();
    const SOUND: [&str; 4] = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let long = format!("session_id={}", "x".repeat(300));
    for (headers, query, status) in [
        (SOUND, "", 404),
        (SOUND, &*long, 400),
        (SOUND, "session_id=a%0a%1b%5b31m", 400),
        (SOUND, "session_id=%00", 400),
        (["X: x", SOUND[1], SOUND[2], SOUND[3]], "", 426),
        ([SOUND[0], "Connection: close", SOUND[2], SOUND[3]], "", 426),
        (
            [SOUND[0], SOUND[1], "Sec-WebSocket-Version: 8", SOUND[3]],
            "",
            426,
        ),
        (
            [SOUND[0], SOUND[1], SOUND[2], "Sec-WebSocket-Key: x"],
            "",
            400,
        ),
    ] {
        let head = format!(
            "GET /api/kernels/{id}/channels?token={TOKEN}&{query} HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n",
            headers.join("\r\n")
        );
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))
            .await
            .unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let reply = timeout(LIMIT, receive(&mut stream)).await;
        let reply = reply.expect("the gateway hangs");
        assert_eq!(reply.status, status, "{headers:?}: {reply:?}");
        assert!(reply.is_error(), "{headers:?}: {reply:?}");
    }
}

/// Whoever takes connections and says nothing on them takes none of what requests need.
#[tokio::test]
async fn more_connections_than_there_are_descriptors_break_no_request() {
    let gateway = Gateway::start_with("auto", 128).await;
    gateway.put_peer_spec("instant");
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", gateway.pid()))
            .unwrap()
            .count()
    };
    let mut own = TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    let mut asked = async |method: &str, path: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        own.write_all(request.as_bytes()).await.unwrap();
        let reply = timeout(LIMIT, receive(&mut own)).await;
        reply.expect("the gateway hangs")
    };
    assert_eq!(asked("GET", "/api/kernels", "").await.status, 200);
    let mut others = Vec::new();
    for _ in 0..200 {
        let (address, full) = (("127.0.0.1", gateway.port), descriptors() >= 64);
        match timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            Ok(other) => others.push(other.unwrap()),
            // The system's own queue is full too.
            Err(_) if full => break,
            Err(_) => {}
        }
    }
    wait_for("a full gateway", || (descriptors() >= 64).then_some(())).await;
    for round in 0..10 {
        assert_eq!(asked("GET", "/readyz", "").await.status, 200);
        let specs = asked("GET", "/api/kernelspecs", "").await.json();
        assert!(specs["kernelspecs"]["instant"].is_object(), "{specs}");
        let started = asked("POST", "/api/kernels", r#"{"name":"instant"}"#).await;
        assert_eq!(started.status, 201, "{started:?}");
        let kernels = asked("GET", "/api/kernels", "").await;
        assert_eq!(
            kernels.json().as_array().unwrap().len(),
            round + 1,
            "{kernels:?}"
        );
    }
    drop(others);
    assert_eq!(ask(&gateway, "GET", "/api/me", "").await.status, 200);
}

#[tokio::test]
async fn more_spliced_connections_than_there_are_descriptors_break_no_request() {
    let gateway = Gateway::start_with("never", 128).await;
    gateway.put_peer_spec("instant");
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut own = TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    let mut asked = async |method: &str, path: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        own.write_all(request.as_bytes()).await.unwrap();
        let reply = timeout(LIMIT, receive(&mut own)).await;
        reply.expect("the gateway hangs")
    };
    assert_eq!(asked("GET", "/readyz", "").await.status, 200);
    let mut clients = Vec::new();
    while clients.len() < 100 {
        let session = clients.len().to_string();
        let connected = gateway.connect(&kernel, &session);
        match timeout(Duration::from_secs(2), connected).await {
            Ok(client) => clients.push(client),
            // It waits for its place.
            Err(_) => break,
        }
    }
    assert!((20..100).contains(&clients.len()), "{}", clients.len());
    for client in &mut clients[..3] {
        assert_eq!(client.run("here").await.text, "here");
    }
    let started = asked("POST", "/api/kernels", r#"{"name":"instant"}"#).await;
    assert_eq!(started.status, 201, "{started:?}");
    // A place that is free again is given to the next.
    drop(clients);
    let mut client = gateway.connect(&kernel, "next").await;
    assert_eq!(client.run("here").await.text, "here");
}
