//! The supervisor's own API on its Unix socket, as a gateway of another release or curl uses it.

use serde_json::{Value, json};

use crate::gateway::{Gateway, peer, wait_for};

#[tokio::test]
async fn every_route_of_the_first_version_answers() {
    let gateway = Gateway::start("auto").await;
    // A signal would end this kernel.
    let argv = [peer().to_str().unwrap(), "instant", "{connection_file}"].map(str::to_owned);
    gateway.put_spec("peer", &json!({"argv": argv, "interrupt_mode": "message"}));
    let kernel = gateway.kernel(r#"{"name":"peer"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let session = json!({
        "id": "s", "path": "x.ipynb", "name": "x", "type": "notebook", "owner": "me",
        "updated": "2026-01-01T00:00:00.000000Z", "of a later version": 1,
    })
    .to_string();
    let put = "/v1/notebook-sessions/s";
    let is_ours = |about: &Value| about["api"] == 1 && about["kernel_id"] == *kernel;
    let is_idle = |kernel: &Value| kernel["execution_state"] == "idle";
    let is_known = |kernel: &Value| kernel["notebook_sessions"][0]["path"] == "x.ipynb";
    let is_unknown = |kernel: &Value| kernel["notebook_sessions"] == json!([]);
    let is_error = |error: &Value| {
        let texts = ["reason", "message", "fault"].iter();
        texts.clone().all(|key| error[*key].is_string()) && error["retry"].is_boolean()
    };
    let nothing = Value::is_null;
    let is_page = |page: &Value| page["entries"].is_array() && page["after"].is_u64();
    let is_list = |list: &Value| list[0]["session_id"] == "a" && list[0]["connected"] == true;
    let none_ended = |ended: &Value| ended["ended"] == 0;
    type Check<'a> = &'a dyn Fn(&Value) -> bool;
    let steps: [(&str, &str, &str, u16, Check<'_>); 19] = [
        ("GET", "/v1/about", "", 200, &is_ours),
        ("GET", "/v1/kernel", "", 200, &is_idle),
        ("GET", "/v1/kernel?wait_ms=60000", "", 200, &is_idle),
        ("POST", "/v1/interrupt", "", 204, &nothing),
        ("PUT", put, &session, 204, &nothing),
        ("GET", "/v1/kernel", "", 200, &is_known),
        ("PUT", "/v1/notebook-sessions/t", &session, 400, &is_error),
        ("PUT", put, "{", 400, &is_error),
        ("DELETE", put, "", 204, &nothing),
        ("DELETE", put, "", 404, &is_error),
        ("GET", "/v1/kernel", "", 200, &is_unknown),
        ("GET", "/v1/journal?limit=5", "", 200, &is_page),
        ("GET", "/v1/journal?after=x", "", 400, &is_error),
        ("GET", "/v1/connections", "", 200, &is_list),
        ("DELETE", "/v1/connections", "", 400, &is_error),
        (
            "DELETE",
            "/v1/connections?identity=nobody",
            "",
            200,
            &none_ended,
        ),
        ("POST", "/v1/attach", "", 426, &is_error),
        ("GET", "/v2/about", "", 404, &is_error),
        ("POST", "/v1/about", "", 404, &is_error),
    ];
    for (method, path, body, status, check) in steps {
        let (answered, body) = gateway.ask_supervisor(&kernel, method, path, body).await;
        assert_eq!(answered, status, "{method} {path}: {body}");
        assert!(check(&body), "{method} {path}: {body}");
    }
    // Access can be ended.
    let (_, listed) = gateway
        .ask_supervisor(&kernel, "GET", "/v1/connections", "")
        .await;
    let path = format!(
        "/v1/connections?identity={}",
        listed[0]["identity"].as_str().unwrap()
    );
    let (_, ended) = gateway.ask_supervisor(&kernel, "DELETE", &path, "").await;
    assert_eq!(ended, json!({"ended": 1}));
    assert_eq!(client.close_code().await, 4401);
    drop(client);
    let (status, restarted) = gateway
        .ask_supervisor(&kernel, "POST", "/v1/restart", "")
        .await;
    assert_eq!(
        (status, &restarted["execution_state"]),
        (200, &json!("idle"))
    );
    assert_eq!(
        gateway
            .ask_supervisor(&kernel, "POST", "/v1/shutdown", "")
            .await
            .0,
        204
    );
    let folder = gateway.root().join("run/kernels").join(&kernel);
    wait_for("the end of its folder", || (!folder.exists()).then_some(())).await;
}
