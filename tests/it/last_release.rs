//! The last release's supervisors under today's gateway: an upgrade as people do it.

use serde_json::json;

use crate::gateway::Gateway;

#[tokio::test]
async fn kernels_of_the_last_release_are_used_restarted_and_ended_by_todays_gateway() {
    for handover in ["auto", "never"] {
        let mut gateway = Gateway::start_last_release(handover).await;
        let kernel = gateway.kernel("{}").await;
        let path = format!("/api/kernels/{kernel}");
        let session = gateway.notebook_session(&kernel).await;
        let mut before = gateway.connect(&kernel, "before").await;
        assert_eq!(before.run("x = 6").await.reply["status"], "ok");

        gateway.replace().await;
        let (_, kernels) = gateway.rest("GET", "/api/kernels", "").await;
        assert_eq!(kernels[0]["id"], *kernel, "{kernels}");
        assert_eq!(kernels[0]["execution_state"], "idle", "{kernels}");
        gateway.assert_only_session(&session).await;
        if handover == "auto" {
            assert_eq!(before.run("print(x)").await.text, "6\n");
        }
        let mut client = gateway.connect(&kernel, "after").await;
        assert_eq!(client.run("print(x * 7)").await.text, "42\n");
        let cell = client
            .submit("import time\nprint('begun', flush=True)\ntime.sleep(600)")
            .await;
        client.wait_for(&cell, "begun").await;
        let interrupt = format!("{path}/interrupt");
        assert_eq!(gateway.rest("POST", &interrupt, "").await.0, 204);
        let interrupted = client.outcome(&cell, "").await.reply;
        assert_eq!(interrupted["ename"], "KeyboardInterrupt");
        // What its supervisor cannot do is nobody's bug.
        let logs = format!("{path}/logs?stream=stderr");
        let (status, error) = gateway.rest("GET", &logs, "").await;
        assert_eq!(status, 404, "{error}");
        let restart = format!("{path}/restart");
        assert_eq!(gateway.rest("POST", &restart, "").await.0, 200);
        assert_eq!(client.run("x").await.reply["ename"], "NameError");
        assert_eq!(gateway.rest("DELETE", &path, "").await.0, 204);
        assert_eq!(client.close_code().await, 1000);
        assert_eq!(gateway.rest("GET", &path, "").await.0, 404);
        assert_eq!(gateway.rest("GET", "/api/sessions", "").await.1, json!([]));
    }
}
