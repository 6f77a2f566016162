//! `nb kernel` against a real gateway: what it prints, and what it answers to what cannot be done.

use serde_json::Value;

use crate::gateway::{Gateway, TOKEN};

/// The exit code and what was printed on stdout and stderr.
async fn nb(gateway: &Gateway, token: &str, arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["kernel"], arguments].concat();
    gateway.nb(token, &arguments).await
}

#[tokio::test]
async fn kernels_are_listed_started_interrupted_restarted_and_stopped() {
    let gateway = Gateway::start("auto").await;
    gateway.put_plain_spec();
    let good = async |arguments: &[&str]| {
        let (code, stdout, stderr) = nb(&gateway, TOKEN, arguments).await;
        assert_eq!((code, &*stderr), (0, ""), "{arguments:?}");
        stdout
    };
    let id = good(&["start", "plain"]).await.trim().to_owned();
    let table = good(&["list"]).await;
    let (heads, row) = table.trim_end().split_once('\n').unwrap();
    assert!(heads.starts_with("ID "), "{table}");
    assert!(
        row.starts_with(&format!("{id}  plain   idle   0 ")),
        "{table}"
    );
    let before = gateway.model(&id).await["nb"]["kernel_pid"].clone();
    assert_eq!(
        good(&["restart", &id[..8]]).await,
        format!("{id} restarted\n")
    );
    assert_ne!(gateway.model(&id).await["nb"]["kernel_pid"], before);
    assert_eq!(
        good(&["interrupt", &id]).await,
        format!("{id} interrupted\n")
    );
    let stopped = good(&["stop", &id, "--json"]).await;
    let stopped: Value = serde_json::from_str(&stopped).unwrap();
    assert_eq!(stopped["outcome"], "stopped");
    assert_eq!(good(&["list", "--json"]).await, "[]\n");
}

#[tokio::test]
async fn what_cannot_be_done_is_told_with_an_exit_code() {
    let gateway = Gateway::start("auto").await;
    let unknown = "00000000-0000-4000-8000-000000000001";
    for (token, arguments, told) in [
        (TOKEN, ["stop", unknown], "there is no kernel"),
        (TOKEN, ["stop", "abcdef"], "see `nb kernel list`"),
        (TOKEN, ["restart", "x"], "is no id of a kernel"),
        (TOKEN, ["start", "none"], "there is no kernelspec \"none\""),
        (
            "wrong",
            ["list", "--json"],
            "the gateway wants another token",
        ),
        (
            TOKEN,
            ["list", "--gateway=https://h"],
            "nb speaks no TLS yet",
        ),
        (
            TOKEN,
            ["list", "--gateway=127.0.0.1:1"],
            "the gateway at 127.0.0.1:1: ",
        ),
    ] {
        let (code, stdout, stderr) = nb(&gateway, token, &arguments).await;
        assert_eq!((code, &*stdout), (1, ""), "{arguments:?} {stderr}");
        assert!(stderr.contains(told), "{arguments:?} {stderr}");
    }
    let (code, _, _) = nb(&gateway, TOKEN, &["stop"]).await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn the_one_gateway_that_its_user_runs_needs_no_name() {
    let gateway = Gateway::start("auto").await;
    let list = async |runtime: &str| {
        let runtime = gateway.root().join(runtime);
        let known = ("NB_RUNTIME_DIR", runtime.as_os_str());
        gateway
            .nb_that_knows(known, TOKEN, &["kernel", "list", "--json"])
            .await
    };
    // That of `nb up` has a folder below.
    for runtime in ["run", ""] {
        let (code, stdout, stderr) = list(runtime).await;
        assert_eq!((code, &*stdout, &*stderr), (0, "[]\n", ""), "{runtime:?}");
    }
    let (code, _, stderr) = list("data").await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("the gateway at 127.0.0.1:8888: "),
        "{stderr}"
    );
    let (_other, port) = gateway.beside(&["--port", "0"]).await;
    let (code, _, stderr) = list("run").await;
    assert_eq!(code, 1);
    let names = |port: u16| stderr.contains(&format!("127.0.0.1:{port}"));
    assert!(names(gateway.port) && names(port), "{stderr}");
    assert!(stderr.contains("say which with --gateway"), "{stderr}");
}
