//! `nb doctor` on a machine of a test's own: what it finds, and its exit code.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::{Gateway, LIMIT, wait_for};
use crate::processes::{pid_of, signal};

/// The doctor on a gateway's folders; its exit code and findings.
async fn findings(gateway: &Gateway, port: u16) -> (i32, Vec<Value>) {
    let (code, stdout) = doctor(gateway, port, &["--json"]).await;
    (code, serde_json::from_str(&stdout).unwrap())
}

async fn doctor(gateway: &Gateway, port: u16, arguments: &[&str]) -> (i32, String) {
    let root = gateway.root();
    let doctor = Command::new(env!("CARGO_BIN_EXE_nb"))
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", &root)
        .env("NB_RUNTIME_DIR", root.join("run"))
        .env("NB_DATA_DIR", root.join("data"))
        .env("NB_STATE_DIR", root.join("state"))
        .env("NB_SERVER_PORT", port.to_string())
        .env("JUPYTER_PATH", root.join("jupyter"))
        .kill_on_drop(true)
        .output();
    let done = timeout(LIMIT, doctor).await.expect("it hangs").unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    let stdout = String::from_utf8(done.stdout).unwrap();
    (done.status.code().unwrap(), stdout)
}

/// The finding about a subject that ends so.
fn about<'a>(findings: &'a [Value], area: &str, subject: &str) -> &'a Value {
    let found = findings
        .iter()
        .find(|one| one["area"] == area && one["subject"].as_str().unwrap().ends_with(subject));
    found.unwrap_or_else(|| panic!("nothing of {area} {subject}: {findings:#?}"))
}

#[tokio::test]
async fn what_is_wrong_with_a_machine_is_told_with_its_fix() {
    let mut gateway = Gateway::start("auto").await;
    for folder in ["data", "state"] {
        let folder = gateway.root().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    gateway.put_plain_spec();
    let kernel = gateway.kernel(r#"{"name":"plain"}"#).await;
    let (code, well) = findings(&gateway, gateway.port).await;
    let faults: Vec<_> = well.iter().filter(|one| one["level"] == "fault").collect();
    assert_eq!((code, faults), (0, vec![]));
    let port = about(&well, "port", &gateway.port.to_string());
    let listens = format!("a gateway of nb listens (pid {})", gateway.pid());
    assert_eq!(port["what"], listens);
    assert_eq!(about(&well, "kernel", &kernel)["level"], "ok");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let broken = gateway.root().join("jupyter/kernels/broken");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("kernel.json"), "{").unwrap();
    gateway.put_spec("lost", &json!({"argv": ["/none/kernel"]}));
    let far = json!({"kernel_provisioner": {"provisioner_name": "far-away"}});
    gateway.put_spec("far", &json!({"argv": ["x"], "metadata": far}));
    let state = gateway.root().join("state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let model = gateway.model(&kernel).await;
    let supervisor = pid_of(&model, "supervisor_pid");
    // Or it would be taken over.
    gateway.kill().await;
    signal(supervisor, Signal::KILL);
    let stat = format!("/proc/{}/stat", supervisor);
    let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    wait_for("the supervisor's end", || is_gone().then_some(())).await;

    let (code, found) = findings(&gateway, taken_port).await;
    assert_eq!(code, 1);
    let (pid, chmod) = (std::process::id(), format!("chmod 700 {}", state.display()));
    for (area, subject, level, what, fix) in [
        (
            "port",
            &*taken_port.to_string(),
            "fault",
            &*format!("(pid {pid})"),
            "--port",
        ),
        ("folder", "/state", "fault", "by others (777)", &*chmod),
        (
            "kernelspec",
            "broken",
            "fault",
            "EOF while parsing",
            "broken/kernel.json",
        ),
        (
            "kernelspec",
            "lost",
            "fault",
            "/none/kernel",
            "lost/kernel.json",
        ),
        ("kernelspec", "far", "note", "far-away", "far/kernel.json"),
        ("kernelspec", "plain", "ok", "can be started", ""),
        (
            "kernel",
            &*kernel,
            "fault",
            "lost its supervisor",
            "nb serve",
        ),
    ] {
        let finding = about(&found, area, subject);
        assert_eq!(finding["level"], level, "{finding}");
        assert!(
            finding["what"].as_str().unwrap().contains(what),
            "{finding}"
        );
        assert!(finding["fix"].as_str().unwrap().contains(fix), "{finding}");
    }
    // For people the same, and quietly only what is wrong.
    let (code, table) = doctor(&gateway, taken_port, &["--quiet"]).await;
    assert_eq!(code, 1);
    assert!(
        table.starts_with("LEVEL  AREA ") && table.contains(&chmod),
        "{table}"
    );
    assert!(!table.contains("\nok "), "{table}");
    // It has changed nothing.
    assert!(gateway.root().join("run/kernels").join(&kernel).exists());
}

#[tokio::test]
async fn settings_that_are_not_understood_are_a_finding_and_no_end() {
    let gateway = Gateway::start("auto").await;
    let config = gateway.root().join(".config/nb");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("nb.toml"), "[server]\nprot = 1\n").unwrap();
    let (code, found) = findings(&gateway, 0).await;
    let finding = about(&found, "settings", "environment");
    assert_eq!((code, &finding["level"]), (1, &json!("fault")));
    let what = finding["what"].as_str().unwrap();
    assert!(what.contains("did you mean server.port?"), "{what}");
    assert_eq!(about(&found, "folder", ".config/nb")["level"], "ok");
}
