//! Kernels that are ended by themselves, in the real supervisor.

use tokio::time::timeout;

use crate::gateway::{Gateway, LIMIT};

/// A gateway with these settings, and the kernelspec `instant`.
async fn gateway(settings: &str) -> Gateway {
    let mut gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    gateway.replace_set(settings).await;
    gateway
}

#[tokio::test]
async fn an_unused_kernel_goes_with_a_reason_and_can_come_back() {
    let gateway = gateway("kernels.cull_idle_s = 1").await;
    let kept = gateway.kernel(r#"{"name":"instant"}"#).await;
    let client = gateway.connect(&kept, "a").await;
    let unused = gateway.kernel(r#"{"name":"instant"}"#).await;
    let model = gateway.wait_for_state(&unused, "dead").await;
    let reason = model["reason"].as_str().unwrap();
    assert!(reason.contains("not used for 1 s"), "{reason}");
    assert_eq!(gateway.model(&kept).await["execution_state"], "idle");

    let restart = format!("/api/kernels/{unused}/restart");
    let (status, model) = gateway.rest("POST", &restart, "{}").await;
    assert_eq!(
        (status, model["execution_state"].as_str()),
        (200, Some("idle"))
    );
    gateway.connect(&unused, "b").await.run("x").await;
    drop(client);
    gateway.wait_for_state(&kept, "dead").await;
}

#[tokio::test]
async fn clients_of_a_kernel_that_is_culled_are_told() {
    let settings =
        "kernels.cull_idle_s = 100\n[kernels.instant]\ncull_idle_s = 1\ncull_connected = true";
    let gateway = gateway(settings).await;
    let kernel = gateway.kernel(r#"{"name":"instant"}"#).await;
    let mut client = gateway.connect(&kernel, "a").await;
    let (mut told, mut state) = (String::new(), String::new());
    let code = loop {
        match client.next().await {
            Err(code) => break code,
            Ok(said) if said.msg_type == "stream" => {
                told += said.content["text"].as_str().unwrap();
            }
            Ok(said) if said.msg_type == "status" => {
                state = said.content["execution_state"].as_str().unwrap().to_owned();
            }
            Ok(_) => {}
        }
    };
    assert_eq!((code, state.as_str()), (1000, "dead"));
    assert!(told.contains("not used for 1 s"), "{told}");
}

#[tokio::test]
async fn a_kernel_ends_when_it_has_been_alone_for_as_long_as_was_asked_for() {
    let gateway = gateway("").await;
    let body = r#"{"name":"instant","env":{"KERNEL_LINGER":"0.5"}}"#;
    let kernel = gateway.kernel(body).await;
    let mut client = gateway.connect(&kernel, "a").await;
    assert_eq!(client.run("here").await.text, "here");
    let path = format!("/api/kernels/{kernel}");
    drop(client);
    let gone = async { while gateway.rest("GET", &path, "").await.0 != 404 {} };
    timeout(LIMIT, gone).await.expect("it stays");
}
