//! Real clients, in programs of their own: @jupyterlab/services from Node and JupyterLab in Chromium,
//! directly and through a stock jupyter_server, over lines that hold and lines that are cut.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_tungstenite::client_async;

use crate::client::Client;
use crate::cutter::Cutter;
use crate::gateway::{Gateway, LIMIT, TOKEN, page, project};
use crate::jupyter_server::{self, JupyterServer, OWN_TOKEN};
use crate::up::Up;

/// A suite that takes longer hangs; its own steps have deadlines of a minute.
const SUITE_LIMIT: Duration = Duration::from_secs(300);

/// What the suite says is shown when its test fails.
#[expect(clippy::print_stderr, reason = "a failing test shows what it wrote")]
pub(crate) async fn node(script: &str, arguments: &[&str]) {
    let suite = Command::new("node")
        .arg(project("tests/js").join(script))
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = timeout(SUITE_LIMIT, suite)
        .await
        .expect("the suite hangs")
        .unwrap();
    for said in [&output.stdout, &output.stderr] {
        eprint!("{}", String::from_utf8_lossy(said));
    }
    assert!(output.status.success(), "{script} failed");
}

#[tokio::test]
async fn jupyterlab_services_from_node() {
    let gateway = Gateway::start("auto").await;
    let url = format!("http://127.0.0.1:{}/", gateway.port);
    node("services.mjs", &[&url, TOKEN]).await;
}

#[tokio::test]
async fn vs_code_as_its_source_has_it() {
    let gateway = Gateway::start("auto").await;
    let url = format!("http://127.0.0.1:{}/", gateway.port);
    node("vscode.mjs", &[&url, TOKEN]).await;
}

#[tokio::test]
async fn the_debugger_as_jupyterlab_drives_it() {
    let gateway = Gateway::start("auto").await;
    let url = format!("http://127.0.0.1:{}/", gateway.port);
    node("debugger.mjs", &[&url, TOKEN]).await;
}

#[tokio::test]
async fn subshells_and_comms_as_jupyterlab_uses_them() {
    let gateway = Gateway::start("auto").await;
    let url = format!("http://127.0.0.1:{}/", gateway.port);
    node("subshells.mjs", &[&url, TOKEN]).await;
}

#[tokio::test]
async fn jupyterlab_services_through_a_stock_jupyter_server() {
    let gateway = Gateway::start("auto").await;
    let server = JupyterServer::start("jupyter_server", gateway.port).await;
    node("services.mjs", &[&server.url, OWN_TOKEN, "stock"]).await;
}

#[tokio::test]
async fn jupyterlab_services_through_a_jupyter_server_with_the_companion() {
    let gateway = Gateway::start("auto").await;
    let server = JupyterServer::start_with_companion("jupyter_server", gateway.port).await;
    node("services.mjs", &[&server.url, OWN_TOKEN]).await;
    node("services.mjs", &[&server.url, OWN_TOKEN, "legacy"]).await;
}

/// What a page asks when its kernel is silent: whether its server still has its connection.
#[tokio::test]
async fn a_page_with_a_token_is_told_whether_it_is_connected() {
    let gateway = Gateway::start("auto").await;
    let server = JupyterServer::start_with_companion("jupyter_server", gateway.port).await;
    let (_, kernel) = page(server.port, OWN_TOKEN, "POST", "/api/kernels", "{}").await;
    let kernel: Value = serde_json::from_str(&kernel).unwrap();
    let kernel = kernel["id"].as_str().unwrap();
    let ask = async |session: &str, token: &str| {
        let at = ("127.0.0.1", server.port);
        let stream = TcpStream::connect(at).await.unwrap();
        let path = format!("nb/kernels/{kernel}/line?session_id={session}{token}");
        let url = format!("ws://127.0.0.1:{}/{path}", server.port);
        let (mut socket, _) = client_async(url, stream)
            .await
            .map_err(|error| error.to_string())?;
        let answer = timeout(LIMIT, socket.next()).await.expect("no answer");
        Ok::<_, String>(answer.unwrap().unwrap().into_text().unwrap().to_string())
    };
    let refused = ask("here", "").await.unwrap_err();
    assert!(refused.contains("403"), "{refused}");
    let token = format!("&token={OWN_TOKEN}");
    assert_eq!(ask("here", &token).await.as_deref(), Ok("no"));
    let client = Client::connect(server.port, OWN_TOKEN, kernel, "here").await;
    assert_eq!(ask("here", &token).await.as_deref(), Ok("yes"));
    assert_eq!(ask("away", &token).await.as_deref(), Ok("no"));
    drop(client);
    let gone = async { while ask("here", &token).await.as_deref() == Ok("yes") {} };
    timeout(LIMIT, gone).await.expect("it is still connected");
}

#[tokio::test]
async fn the_companions_framings_are_those_of_jupyter_server_and_it_acknowledges_what_it_was_asked()
{
    let python = jupyter_server::python().await;
    for test in ["tests/test_framing.py", "tests/test_acks.py"] {
        let test = Command::new(&python)
            .args(["-B", test])
            .current_dir(project("extensions/nb-jupyter"))
            .env("PYTHONPATH", ".")
            .kill_on_drop(true)
            .output();
        let output = timeout(SUITE_LIMIT, test).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

#[tokio::test]
async fn a_companion_comes_back_after_cuts_on_either_side() {
    let gateway = Gateway::start("auto").await;
    let behind = async {
        let cutter = Cutter::start(gateway.port).await;
        let server = JupyterServer::start_with_companion("jupyter_server", cutter.port).await;
        let control = cutter.control.to_string();
        node("cut.mjs", &[&server.url, OWN_TOKEN, &control, "fin", "rst"]).await;
    };
    let before = async {
        let server = JupyterServer::start_with_companion("jupyter_server", gateway.port).await;
        let cutter = Cutter::start(server.port).await;
        let (url, control) = (
            format!("http://127.0.0.1:{}/", cutter.port),
            cutter.control.to_string(),
        );
        node("cut.mjs", &[&url, OWN_TOKEN, &control, "fin", "rst"]).await;
    };
    tokio::join!(behind, before);
}

#[tokio::test]
async fn jupyterlab_services_come_back_after_a_cut() {
    let gateway = Gateway::start("auto").await;
    let cut = async |how| {
        let cutter = Cutter::start(gateway.port).await;
        let url = format!("http://127.0.0.1:{}/", cutter.port);
        node("cut.mjs", &[&url, TOKEN, &cutter.control.to_string(), how]).await;
    };
    tokio::join!(cut("fin"), cut("rst"));
}

#[tokio::test]
async fn a_stock_jupyter_server_comes_back_after_a_cut() {
    let gateway = Gateway::start("auto").await;
    let cutter = Cutter::start(gateway.port).await;
    let server = JupyterServer::start("jupyter_server", cutter.port).await;
    let control = cutter.control.to_string();
    node("cut.mjs", &[&server.url, OWN_TOKEN, &control, "fin", "rst"]).await;
}

#[tokio::test]
async fn another_jupyterlab_comes_back_after_a_cut() {
    let gateway = Gateway::start("auto").await;
    let cutter = Cutter::start(gateway.port).await;
    let server = JupyterServer::start("jupyterlab", cutter.port).await;
    let url = format!("{}lab?token={OWN_TOKEN}", server.url);
    let shots = project("target/screenshots");
    let control = cutter.control.to_string();
    node("lab_cut.mjs", &[&url, shots.to_str().unwrap(), &control]).await;
}

#[tokio::test]
async fn jupyterlab_of_up_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    // Made once and kept: what a second `up` on this machine finds.
    let data = ("NB_DATA_DIR", project("target/nb-data"));
    let up = Up::start(folder.path(), &[data]).await;
    let shots = project("target/screenshots");
    node("lab.mjs", &[&up.url, shots.to_str().unwrap()]).await;
    up.interrupt().await;
}

/// What the browser has not got is not acknowledged, though Lab's server had taken it.
#[tokio::test]
async fn jupyterlab_of_up_comes_back_when_the_browser_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let data = ("NB_DATA_DIR", project("target/nb-data"));
    let up = Up::start(folder.path(), &[data]).await;
    let (port, token) = up.lab();
    let cutter = Cutter::start(port).await;
    let url = format!("http://127.0.0.1:{}/lab?token={token}", cutter.port);
    let shots = project("target/screenshots");
    let control = cutter.control.to_string();
    let arguments = [&url, shots.to_str().unwrap(), &control, "browser"];
    node("lab_cut.mjs", &arguments).await;
    up.interrupt().await;
}

#[tokio::test]
async fn a_page_goes_on_when_its_server_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = ("NB_DATA_DIR", project("target/nb-data"));
    let up = Up::start(folder.path(), &[data]).await;
    let shots = project("target/screenshots");
    let home = folder.path().to_str().unwrap();
    node("lab_killed.mjs", &[&up.url, shots.to_str().unwrap(), home]).await;
    up.interrupt().await;
}

#[tokio::test]
async fn a_page_that_was_closed_shows_all_that_its_cells_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = ("NB_DATA_DIR", project("target/nb-data"));
    let up = Up::start(folder.path(), &[data]).await;
    let shots = project("target/screenshots");
    let root = folder.path().join("notebooks");
    node(
        "lab_closed.mjs",
        &[&up.url, shots.to_str().unwrap(), root.to_str().unwrap()],
    )
    .await;
    up.interrupt().await;
}

/// Measures, and asserts nothing: `cargo xtask bench lab` prints what it takes on this machine.
#[cfg(feature = "measure")]
#[tokio::test]
async fn shift_enter_to_text_with_and_without_the_companion() {
    let gateway = Gateway::start("auto").await;
    let shots = project("target/screenshots");
    for round in 1..=2 {
        let stock = JupyterServer::start("jupyterlab", gateway.port).await;
        let with = JupyterServer::start_with_companion("jupyterlab", gateway.port).await;
        for (server, what) in [(stock, "stock"), (with, "with the companion")] {
            let url = format!("{}lab?token={OWN_TOKEN}", server.url);
            let what = format!("round {round}, {what}");
            node("round_trip.mjs", &[&server.url, OWN_TOKEN, &what]).await;
            node("latency.mjs", &[&url, shots.to_str().unwrap(), &what]).await;
        }
    }
}
