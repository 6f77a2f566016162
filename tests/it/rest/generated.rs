//! What schemathesis makes of `/api/openapi.json`: requests with every kind of value at every place of every
//! route, each answered with a status, a type and a shape that the document names. A 500 it does not name.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::{Gateway, TOKEN, project};

const SUITE_LIMIT: Duration = Duration::from_secs(120);

/// Not among them: `not_a_server_error`, since 501 is Jupyter's answer to an unknown kernelspec in a session, and
/// whether every request that fits the document is accepted, since ids and names have to exist.
const CHECKS: &str = "status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,missing_required_header,unsupported_method,ignored_auth,use_after_free,\
    ensure_resource_availability";

#[tokio::test]
async fn what_is_made_of_the_document_is_answered_as_it_says() {
    let gateway = Gateway::start("auto").await;
    // A kernel that starts at once: a request that is good starts one.
    gateway.put_peer_spec("instant");
    let suite = Command::new(project("target/api-env/bin/schemathesis"))
        .args([
            "run",
            &format!("http://127.0.0.1:{}/api/openapi.json", gateway.port),
        ])
        .args(["--header", &format!("Authorization: token {TOKEN}")])
        .args(["--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--seed", "1", "--max-examples", "10", "--no-color"])
        .current_dir(gateway.root())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SUITE_LIMIT, suite)
        .await
        .expect("schemathesis hangs")
        .expect("run cargo xtask setup");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let (_, document) = gateway.rest("GET", "/api/openapi.json", "").await;
    let paths = document["paths"].as_object().expect("paths");
    let operations: usize = paths
        .values()
        .map(|path| path.as_object().expect("a path").len())
        .sum();
    // All but the document itself, which it has read, and not a document that it could not read.
    let selected = operations - 1;
    assert!(
        said.contains(&format!("Selected: {selected}/{selected}")),
        "{said}"
    );
}
