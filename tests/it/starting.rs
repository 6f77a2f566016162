//! What others see of a kernel while it starts, and that they can join it already.

use std::fs;

use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::gateway::{Gateway, peer};

/// Starts that come at once.
const AT_ONCE: usize = 10;

/// A kernelspec whose kernels start when there is a file `go-ID`.
fn put_gated(gateway: &Gateway) {
    let script = format!(
        "until test -e go-$KERNEL_ID; do sleep 0.02; done; exec {} instant {{connection_file}}",
        peer().display()
    );
    gateway.put_shell_spec("gated", &script);
}

/// As JupyterLab does behind jupyter_server: a handshake that it does not like, and at once another.
async fn dial_twice(gateway: &Gateway) {
    let id = Uuid::new_v4().to_string();
    let body = json!({"name": "gated", "env": {"KERNEL_ID": id}}).to_string();
    let dial = async {
        gateway.wait_for_state(&id, "starting").await;
        let mut older = gateway.connect(&id, "lab").await;
        let mut newer = gateway.connect(&id, "lab").await;
        assert_eq!(older.close_code().await, 4000);
        let state = newer.next().await.unwrap();
        assert_eq!(state.content, json!({"execution_state": "starting"}));
        let cell = newer.submit("here").await;
        fs::write(gateway.root().join(format!("go-{id}")), "").unwrap();
        assert_eq!(newer.outcome(&cell, "").await.text, "here");
    };
    let (started, ()) = tokio::join!(gateway.rest("POST", "/api/kernels", &body), dial);
    assert_eq!(started.0, 201, "{}", started.1);
    gateway.delete(&id).await;
}

#[tokio::test]
async fn of_two_upgrades_while_the_kernel_starts_the_second_wins_and_nobody_hangs() {
    let gateway = Gateway::start("auto").await;
    put_gated(&gateway);
    for _ in 0..100 / AT_ONCE {
        join_all((0..AT_ONCE).map(|_| dial_twice(&gateway))).await;
    }
}

#[tokio::test]
async fn of_two_spliced_upgrades_while_the_kernel_starts_the_second_wins_too() {
    let gateway = Gateway::start("never").await;
    put_gated(&gateway);
    join_all((0..AT_ONCE).map(|_| dial_twice(&gateway))).await;
}

#[tokio::test]
async fn a_kernel_that_starts_is_listed_as_starting_and_its_requests_are_answered_later() {
    let gateway = Gateway::start("auto").await;
    put_gated(&gateway);
    let id = "00000000-0000-4000-8000-00000000000c";
    let path = format!("/api/kernels/{id}");
    // Before anybody has asked for it.
    assert_eq!(gateway.rest("GET", &path, "").await.0, 404);
    let body = json!({"name": "gated", "env": {"KERNEL_ID": id}}).to_string();
    let look = async {
        let model = gateway.wait_for_state(id, "starting").await;
        assert_eq!(
            (&model["id"], &model["name"]),
            (&json!(id), &json!("gated"))
        );
        let (_, kernels) = gateway.rest("GET", "/api/kernels", "").await;
        assert_eq!(kernels[0]["execution_state"], "starting");
        // There is nothing to interrupt, and that is no fault of whoever asks.
        assert_eq!(
            gateway
                .rest("POST", &format!("{path}/interrupt"), "")
                .await
                .0,
            204
        );
        fs::write(gateway.root().join(format!("go-{id}")), "").unwrap();
    };
    let restart = async {
        gateway.wait_for_state(id, "starting").await;
        gateway.rest("POST", &format!("{path}/restart"), "").await
    };
    let (started, restarted, ()) =
        tokio::join!(gateway.rest("POST", "/api/kernels", &body), restart, look);
    assert_eq!((started.0, restarted.0), (201, 200), "{restarted:?}");
    assert_eq!(gateway.model(id).await["execution_state"], "idle");
}
