//! The command line as people meet it: help, configuration, the address that is printed.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::gateway::LIMIT;
use crate::processes::signal;

async fn output(arguments: &[&str]) -> (bool, String, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_nb"))
        .args(arguments)
        .env_clear()
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, command).await.expect("nb hangs").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A log on a full disk is a reason to say nothing, and none to die of: it is where a server in the background says all it does.
#[tokio::test]
async fn who_cannot_be_told_ends_nothing() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (&["workspace", "status", "none"][..], 1),
        (&["workspace", "create", "file:///none", "--name", "x"], 1),
        (&["run", "none.ipynb"], 64),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stderr(full)
            .kill_on_drop(true);
        let ended = timeout(LIMIT, command.status()).await.expect("nb hangs");
        assert_eq!(ended.unwrap().code(), Some(code), "{arguments:?}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let env = [("NB_LOG", "debug"), ("NB_TOKEN", "x")];
    let mut command = serves(&home, &["--port", "0"], &env);
    let (gateway, url) = listens(command.stderr(full)).await;
    // Refused, which is written down.
    for _each in 0..2 {
        assert_eq!(get(&format!("{url}api/kernels")).await, 401);
    }
    drop(gateway);
}

/// `nb serve` in a home of its own, and the line that it prints.
pub(crate) async fn serve(
    home: &TempDir,
    arguments: &[&str],
    env: &[(&str, &str)],
) -> (tokio::process::Child, String) {
    listens(&mut serves(home, arguments, env)).await
}

fn serves(home: &TempDir, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    command
        .arg("serve")
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("NB_RUNTIME_DIR", home.path().join("run"))
        .envs(env.iter().copied())
        .kill_on_drop(true);
    command
}

async fn listens(command: &mut Command) -> (tokio::process::Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let read = timeout(LIMIT, stdout.read_line(&mut line)).await;
    read.expect("nb serve says nothing").unwrap();
    (child, line.trim_end().to_owned())
}

/// The status of a GET of this URL.
async fn get(url: &str) -> u16 {
    let (address, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    };
    timeout(LIMIT, exchange).await.expect("the gateway hangs")
}

#[tokio::test]
async fn help_shows_what_is_for_people_and_hides_the_rest() {
    let (ok, help, _) = output(&["--help"]).await;
    assert!(ok);
    for shown in ["serve", "up"] {
        assert!(help.contains(&format!("\n  {shown} ")), "{help}");
    }
    assert!(!help.contains("supervise"), "{help}");
    let (ok, help, _) = output(&["serve", "--help"]).await;
    assert!(ok);
    for flag in [
        "--ip",
        "--port",
        "--token-file",
        "--runtime-dir",
        "--root",
        "--handover",
    ] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
    assert!(help.contains("NB_TOKEN"), "{help}");
    let (ok, help, _) = output(&["up", "--help"]).await;
    assert!(ok && !help.contains("child-of"), "{help}");
    let (ok, _, errors) = output(&["serve", "--port", "many"]).await;
    assert!(!ok && errors.contains("--port"), "{errors}");
    let (ok, version, _) = output(&["--version"]).await;
    assert!(ok && version.starts_with("nb "), "{version}");
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("token"), "from-file").unwrap();
    let file = home.path().join("token").display().to_string();
    let env = [
        ("NB_SERVER_PORT", "1"),
        ("NB_SERVER_IP", "not an address"),
        ("NB_SERVER_HANDOVER", "never"),
        ("NB_TOKEN", "from-variable"),
    ];
    let flags = ["--port", "0", "--ip", "127.0.0.1", "--token-file", &file];
    let (_serving, url) = serve(&home, &flags, &env).await;
    assert!(
        url.starts_with("http://127.0.0.1:") && !url.contains("token"),
        "{url}"
    );
    assert_eq!(get(&format!("{url}api/me?token=from-file")).await, 200);
    assert_eq!(get(&format!("{url}api/me?token=from-variable")).await, 401);
    // Without flags the variables count.
    let env = [("NB_SERVER_PORT", "0"), ("NB_TOKEN", "from-variable")];
    let (_serving, url) = serve(&home, &[], &env).await;
    assert_eq!(get(&format!("{url}api/me?token=from-variable")).await, 200);
    // And no secret is among the arguments, where all could read it.
    let (mut serving, _) = serve(&home, &["--port", "0"], &env).await;
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", serving.id().unwrap()));
    assert!(!arguments.unwrap().contains("from-variable"));
    signal(serving.id().unwrap(), Signal::TERM);
    let ended = timeout(LIMIT, serving.wait()).await;
    assert!(ended.expect("nb serve does not end").unwrap().success());
}

#[tokio::test]
async fn a_generated_token_is_printed_as_an_address_that_works_and_stays() {
    let home = tempfile::tempdir().unwrap();
    let (serving, first) = serve(&home, &["--port", "0"], &[]).await;
    let (address, token) = first.split_once("?token=").unwrap();
    assert_eq!(token.len(), 64, "{first}");
    assert_eq!(get(&format!("{address}api/me?token={token}")).await, 200);
    assert_eq!(get(&format!("{address}api/me?token=x")).await, 401);
    drop(serving);
    let (serving, second) = serve(&home, &["--port", "0"], &[]).await;
    assert!(second.ends_with(token), "{second}");
    drop(serving);
    // What a service prints is in the system's log.
    let journal = ("JOURNAL_STREAM", "9:12345");
    let (_serving, third) = serve(&home, &["--port", "0"], &[journal]).await;
    assert!(!third.contains("token"), "{third}");
    let kept = fs::read_to_string(home.path().join(".local/state/nb/token")).unwrap();
    assert_eq!(kept.trim(), token);
}

#[tokio::test]
async fn no_gateway_is_without_a_token_on_whatever_address() {
    let home = tempfile::tempdir().unwrap();
    for ip in ["127.0.0.1", "0.0.0.0"] {
        // Nothing is said of a token: there is one all the same.
        let (_serving, line) = serve(&home, &["--port", "0", "--ip", ip], &[]).await;
        let (address, token) = line.split_once("?token=").expect(&line);
        for path in ["api/kernels", "api/sessions", "api/me", "metrics"] {
            for query in ["", "?token=", "?token=%20"] {
                assert_eq!(get(&format!("{address}{path}{query}")).await, 401, "{path}");
            }
            assert_eq!(get(&format!("{address}{path}?token={token}")).await, 200);
        }
    }
    let empty = home.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.display().to_string();
    for ip in ["127.0.0.1", "0.0.0.0"] {
        for (token, more, told) in [
            (
                Some(""),
                vec![],
                "NB_TOKEN is empty, and nb does not run without a token",
            ),
            (Some(" "), vec![], "Unset it"),
            (None, vec!["--token-file", &empty], "it is empty"),
            (None, vec!["--token", ""], "unexpected argument '--token'"),
        ] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
            command
                .args(["serve", "--port", "0", "--ip", ip])
                .args(more);
            command
                .env_clear()
                .env("HOME", home.path())
                .kill_on_drop(true);
            command.env("NB_RUNTIME_DIR", home.path().join("run"));
            command.envs(token.map(|token| ("NB_TOKEN", token)));
            let ended = timeout(LIMIT, command.output()).await;
            let ended = ended.expect("it serves without a token").unwrap();
            let stderr = String::from_utf8(ended.stderr).unwrap();
            assert!(!ended.status.success() && stderr.contains(told), "{stderr}");
        }
    }
}

#[tokio::test]
async fn kernelspecs_of_jupyters_folders_and_of_nbs_own_are_found() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    for (folder, name, argv) in [
        ("listed/kernels", "listed", "a"),
        (".local/share/jupyter/kernels", "user", "b"),
        ("env/share/jupyter/kernels", "environment", "c"),
        (".local/share/nb/kernels", "own", "d"),
        // Of one name: the environment is active, so it comes before the user.
        ("env/share/jupyter/kernels", "python3", "environment"),
        (".local/share/jupyter/kernels", "python3", "user"),
        (".local/share/nb/kernels", "python3", "own"),
    ] {
        let folder = home.path().join(folder).join(name);
        fs::create_dir_all(&folder).unwrap();
        let spec = serde_json::json!({"argv": [argv]}).to_string();
        fs::write(folder.join("kernel.json"), spec).unwrap();
    }
    let (listed, env) = (path("listed"), path("env"));
    let variables = [
        ("JUPYTER_PATH", &*listed),
        ("VIRTUAL_ENV", &*env),
        ("NB_TOKEN", "t"),
    ];
    let (_serving, url) = serve(&home, &["--port", "0"], &variables).await;
    for name in ["listed", "user", "environment", "own", "python3"] {
        let status = get(&format!("{url}api/kernelspecs/{name}?token=t")).await;
        assert_eq!(status, 200, "{name}");
    }
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let argv = async |name: &str| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "GET /api/kernelspecs/{name}?token=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let spec: serde_json::Value = serde_json::from_str(body).unwrap();
        spec["spec"]["argv"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(argv("python3").await, "environment");
    fs::remove_dir_all(home.path().join("env")).unwrap();
    assert_eq!(argv("python3").await, "user");
}
