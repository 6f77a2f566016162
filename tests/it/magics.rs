//! Our magics in a real IPython kernel.

use crate::gateway::Gateway;

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
    assert_eq!(client.run("%unknown").await.text, "%unknown");
}
