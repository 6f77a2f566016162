//! Our magics in a real IPython kernel, and in one that is none.

use nb::protocol::message::Channel;
use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::Gateway;

/// What a client is told of the end of `code`.
async fn hint(client: &mut Client, msg_type: &str, code: &str) -> Value {
    let content = json!({"code": code, "cursor_pos": code.chars().count(), "detail_level": 0});
    let request = client.send(Channel::Shell, msg_type, content).await;
    loop {
        let said = client.next().await.unwrap();
        if said.parent == request && said.msg_type.ends_with("_reply") {
            return said.content;
        }
    }
}

/// `%nb` is completed and explained.
async fn hints(client: &mut Client) {
    let completed = hint(client, "complete_request", "é = 1\n%nb sta").await;
    let (start, end) = (&completed["cursor_start"], &completed["cursor_end"]);
    assert_eq!(completed["matches"], json!(["status"]), "{completed}");
    assert_eq!((start, end), (&json!(10), &json!(13)), "{completed}");
    let arguments = hint(client, "complete_request", "%nb status --").await;
    assert_eq!(arguments["matches"], json!(["--json"]), "{arguments}");
    let explained = hint(client, "inspect_request", "%nb status ").await;
    let text = explained["data"]["text/plain"].as_str().unwrap_or_default();
    assert!(text.starts_with("%nb status: "), "{explained}");
}

#[tokio::test]
async fn a_magic_is_part_of_a_python_cell() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let before = client
        .run("print(sorted(n for n in dir() if not n.startswith('_')))")
        .await;
    assert_eq!(
        before.text,
        "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']\n"
    );
    let taken = client.run("x = %nb status\nprint(x)").await;
    assert!(taken.text.contains(&kernel), "{taken:?}");
    let captured = client.run("%%capture out\n%nb status").await;
    assert_eq!(
        (captured.text.as_str(), captured.reply["status"].as_str()),
        ("", Some("ok"))
    );
    let failed = client.run("%nb nonsense").await.reply;
    assert_eq!(failed["ename"], "UsageError", "{failed}");
    hints(&mut client).await;
    let theirs = hint(&mut client, "complete_request", "client_nam = 1; prin").await;
    assert_eq!(theirs["matches"], json!(["print"]), "{theirs}");
    // After a restart the new process knows it too.
    let path = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 200);
    let again = client.run("x = %nb status\nprint(x)").await;
    assert!(again.text.contains(&kernel), "{again:?}");
}

#[tokio::test]
async fn a_kernel_that_is_not_ipython_has_our_magics_by_the_queue() {
    let gateway = Gateway::start("auto").await;
    gateway.put_plain_spec();
    let kernel = gateway.kernel(r#"{"name":"plain"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("100 % 7").await.text, "100 % 7");
    let status = client.run("%nb status").await;
    assert!(status.shown.contains(&kernel), "{status:?}");
    assert_eq!(
        (status.text.as_str(), status.reply["status"].as_str()),
        ("", Some("ok"))
    );
    let both = client.run("%nb status\nthe rest").await;
    assert!(both.shown.contains(&kernel), "{both:?}");
    assert_eq!(both.text, "\nthe rest");
    assert_eq!(
        client.run("%nb nonsense").await.reply["ename"],
        "UsageError"
    );
    hints(&mut client).await;
    assert_eq!(client.run("%unknown").await.text, "%unknown");
}
