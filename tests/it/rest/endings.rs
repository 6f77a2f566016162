//! What becomes of a start when its client or somebody else puts an end to it.

use std::path::{Path, PathBuf};

use tokio::time::{Instant, sleep};

use super::*;
use crate::gateway::wait_for;

/// Starts of this kernelspec take until their deadline of a minute; the kernel's pid is in the file `pid`.
pub(crate) const ENDLESS: &str = "echo $$ >pid; exec sleep 600";

pub(super) fn body(route: &str, spec: &str) -> String {
    match route {
        "/api/kernels" => json!({"name": spec}),
        _ => json!({"path": "a.ipynb", "type": "notebook", "kernel": {"name": spec}}),
    }
    .to_string()
}

/// Sends a POST and does not wait for its answer.
pub(crate) async fn post(gateway: &Gateway, route: &str, body: &str) -> TcpStream {
    let credential = format!("Authorization: token {TOKEN}\r\n");
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))
        .await
        .unwrap();
    let request = request("POST", route, &credential, body);
    stream.write_all(&request).await.unwrap();
    stream
}

/// The folders of the kernels that there are.
pub(super) fn kernels(gateway: &Gateway) -> Vec<PathBuf> {
    let folders = fs::read_dir(gateway.root().join("run/kernels")).unwrap();
    folders.flatten().map(|entry| entry.path()).collect()
}

pub(super) async fn no_kernel(gateway: &Gateway) {
    wait_for("no kernel", || kernels(gateway).is_empty().then_some(())).await;
}

/// Waits for the process of the spec [`ENDLESS`].
pub(crate) async fn process(gateway: &Gateway) -> PathBuf {
    let file = gateway.root().join("pid");
    let pid = wait_for("a kernel process", || {
        let text = fs::read_to_string(&file).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    })
    .await;
    fs::remove_file(file).unwrap();
    Path::new("/proc").join(pid)
}

/// Waits until that process has ended.
pub(super) async fn gone(process: &Path) {
    wait_for("the end of the kernel", || {
        (!process.exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_kernel_starts_leaves_nothing_behind() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("endless", ENDLESS);
    for route in ["/api/kernels", "/api/sessions"] {
        let client = post(&gateway, route, &body(route, "endless")).await;
        let process = process(&gateway).await;
        assert!(process.exists());
        drop(client);
        no_kernel(&gateway).await;
        gone(&process).await;
    }
    let sessions = ask(&gateway, "GET", "/api/sessions", "").await;
    assert_eq!(sessions.json(), json!([]));
}

/// At whatever moment it leaves: what it was told of is there, and nothing else.
#[tokio::test]
async fn a_client_that_leaves_at_any_moment_leaves_what_it_was_told_of() {
    let gateway = Gateway::start("auto").await;
    for route in ["/api/kernels", "/api/sessions"] {
        let sent = Instant::now();
        let mut client = post(&gateway, route, &body(route, "python3")).await;
        let made = timeout(LIMIT, receive(&mut client)).await.unwrap();
        assert_eq!(made.status, 201);
        let whole = sent.elapsed();
        drop(client);
        remove(&gateway, route, &made).await;
        for tenth in 0..12 {
            let mut client = post(&gateway, route, &body(route, "python3")).await;
            // The moments differ; none of them is waited for.
            sleep(whole * tenth / 10).await;
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let read = timeout(LIMIT, client.read_to_end(&mut answer)).await;
            read.unwrap().unwrap();
            if !answer.is_empty() {
                remove(&gateway, route, &reply(&answer)).await;
            }
        }
        no_kernel(&gateway).await;
    }
}

/// Deletes what a POST has made.
async fn remove(gateway: &Gateway, route: &str, made: &Reply) {
    let path = format!("{route}/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(ask(gateway, "GET", &path, "").await.status, 200);
    assert_eq!(ask(gateway, "DELETE", &path, "").await.status, 204);
}

#[tokio::test]
async fn a_kernel_deleted_while_it_starts_is_a_conflict_and_never_a_500() {
    let gateway = Gateway::start("auto").await;
    gateway.put_shell_spec("endless", ENDLESS);
    for route in ["/api/kernels", "/api/sessions"] {
        let mut client = post(&gateway, route, &body(route, "endless")).await;
        let process = process(&gateway).await;
        let folder = kernels(&gateway).pop().unwrap();
        let id = folder.file_name().unwrap().to_str().unwrap();
        let path = format!("/api/kernels/{id}");
        let reply = ask(&gateway, "GET", &path, "").await;
        assert_eq!(reply.json()["execution_state"], "starting");
        assert_eq!(ask(&gateway, "DELETE", &path, "").await.status, 204);
        let reply = timeout(LIMIT, receive(&mut client)).await.unwrap();
        assert_eq!(reply.status, 409, "{reply:?}");
        assert!(reply.is_error() && !folder.exists());
        gone(&process).await;
        assert_eq!(ask(&gateway, "DELETE", &path, "").await.status, 404);
    }
}

/// The id is the client's own, so it can delete what it has only just asked for.
#[tokio::test]
async fn a_delete_at_the_very_beginning_of_a_start_is_answered_cleanly() {
    let gateway = Gateway::start("auto").await;
    for _ in 0..5 {
        let id = Uuid::new_v4().to_string();
        let start = json!({"name": "python3", "env": {"KERNEL_ID": id}}).to_string();
        let mut client = post(&gateway, "/api/kernels", &start).await;
        let path = format!("/api/kernels/{id}");
        let mut statuses = Vec::new();
        let deleted = async {
            while statuses.last() != Some(&204) {
                statuses.push(ask(&gateway, "DELETE", &path, "").await.status);
            }
        };
        timeout(LIMIT, deleted).await.expect("it is never deleted");
        // Not there yet, there and not listening yet, ended.
        let other = statuses
            .iter()
            .find(|status| ![404, 503, 204].contains(*status));
        assert_eq!(other, None, "{statuses:?}");
        let reply = timeout(LIMIT, receive(&mut client)).await.unwrap();
        assert_eq!(reply.status, 409, "{reply:?}");
        assert!(reply.is_error());
    }
    no_kernel(&gateway).await;
}

/// Whatever comes between: nothing stays, no id is lost, and nobody is told of a bug.
#[tokio::test]
async fn starts_restarts_and_ends_of_one_id_at_once_leave_nothing_behind() {
    const ROUNDS: usize = 100;
    let gateway = Gateway::start("auto").await;
    gateway.put_peer_spec("instant");
    let id = Uuid::new_v4().to_string();
    let path = format!("/api/kernels/{id}");
    let restart = format!("{path}/restart");
    let start = json!({"name": "instant", "env": {"KERNEL_ID": id}}).to_string();
    let starts = async {
        for _ in 0..ROUNDS {
            let reply = ask(&gateway, "POST", "/api/kernels", &start).await;
            // The last: it was ended before it could be looked at.
            assert!([201, 409, 404].contains(&reply.status), "{reply:?}");
        }
    };
    let restarts = async {
        for _ in 0..ROUNDS {
            let reply = ask(&gateway, "POST", &restart, "").await;
            assert!([200, 404, 503].contains(&reply.status), "{reply:?}");
        }
    };
    let ends = async {
        for _ in 0..ROUNDS {
            let reply = ask(&gateway, "DELETE", &path, "").await;
            assert!([204, 404, 503].contains(&reply.status), "{reply:?}");
        }
    };
    let more_starts = async {
        for _ in 0..ROUNDS {
            let reply = ask(&gateway, "POST", "/api/kernels", &start).await;
            assert!([201, 409, 404].contains(&reply.status), "{reply:?}");
        }
    };
    tokio::join!(starts, more_starts, restarts, ends);
    ask(&gateway, "DELETE", &path, "").await;
    no_kernel(&gateway).await;
    assert_eq!(
        ask(&gateway, "POST", "/api/kernels", &start).await.status,
        201
    );
}
