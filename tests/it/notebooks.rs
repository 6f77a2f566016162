//! What a notebook does all day: cells, output, errors, input, interrupt, restart.

use crate::gateway::Gateway;

async fn a_day(handover: &'static str) {
    let gateway = Gateway::start(handover).await;
    let kernel = gateway
        .kernel(r#"{"name":"python3","env":{"KERNEL_FOO":"bar"}}"#)
        .await;
    let mut client = gateway.connect(&kernel, "a").await;

    assert_eq!(client.run("print(6*7)").await.text, "42\n");
    let code = "import os; print(os.environ['KERNEL_FOO'], os.getcwd(), \
                'NB_TOKEN' in os.environ, 'JPY_PARENT_PID' in os.environ)";
    let root = gateway.root().canonicalize().unwrap();
    let expected = format!("bar {} False False\n", root.display());
    assert_eq!(client.run(code).await.text, expected);
    assert_eq!(
        client.run("print('x' * 5_000_000)").await.text.len(),
        5_000_001
    );
    let failed = client.run("1/0").await.reply;
    assert_eq!(failed["ename"], "ZeroDivisionError");
    let asked = client.submit("print(input('name?'))").await;
    assert_eq!(client.outcome(&asked, "Ada").await.text, "Ada\n");

    let (status, models) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!((status, &models[0]["connections"]), (200, &1.into()));
    assert_eq!(models[0]["execution_state"], "idle");
}

#[tokio::test]
async fn a_day_with_the_socket_handed_over() {
    a_day("auto").await;
}

#[tokio::test]
async fn a_day_through_a_splice() {
    a_day("never").await;
}

#[tokio::test]
async fn an_interrupt_reaches_the_running_cell() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let cell = client
        .submit("print('begun', flush=True)\nimport time\ntime.sleep(600)")
        .await;
    client.wait_for(&cell, "begun").await;
    let (status, models) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!(
        (status, models[0]["execution_state"].as_str()),
        (200, Some("busy"))
    );
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    let reply = client.outcome(&cell, "").await.reply;
    assert_eq!(reply["ename"], "KeyboardInterrupt");
}

#[tokio::test]
async fn a_restart_keeps_id_and_clients_and_answers_what_ran() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    client.run("x = 1").await;
    let cell = client
        .submit("print('begun', flush=True)\nimport time\ntime.sleep(600)")
        .await;
    client.wait_for(&cell, "begun").await;
    let path = format!("/api/kernels/{kernel}/restart");
    let (status, model) = gateway.rest("POST", &path, "").await;
    assert_eq!((status, model["id"].as_str()), (200, Some(kernel.as_str())));
    assert_eq!(client.outcome(&cell, "").await.reply["status"], "error");
    assert_eq!(client.run("x").await.reply["ename"], "NameError");
}

#[tokio::test]
async fn replies_and_questions_go_to_their_own_session() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut asker = gateway.connect(&kernel, "asker").await;
    let mut other = gateway.connect(&kernel, "other").await;
    // One that came while the cell runs would be caught up on it, reply included.
    other.arrived().await;
    let asked = asker.submit("print(input('name?'))").await;
    assert_eq!(asker.outcome(&asked, "Ada").await.text, "Ada\n");
    let own = other.submit("print('own')").await;
    let mut replies = 0;
    loop {
        let said = other.next().await.unwrap();
        assert_ne!(said.msg_type, "input_request");
        if said.msg_type == "execute_reply" {
            replies += 1;
            assert_eq!(said.parent, own);
            break;
        }
    }
    assert_eq!(replies, 1);
}
