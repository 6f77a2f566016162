//! `nb kernel exec` and `nb kernel logs` against a real gateway and real kernels: what comes out where, and
//! how they end.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::gateway::{Gateway, LIMIT, TOKEN, peer, project};
use crate::processes::{ended, signal};

fn nb(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nb"));
    let url = format!("http://127.0.0.1:{}", gateway.port);
    command
        .arg("kernel")
        .args(arguments)
        .env_clear()
        .env("HOME", gateway.root())
        .env("NB_GATEWAY_URL", url)
        .env("NB_TOKEN", TOKEN)
        .current_dir(gateway.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn exec(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["exec"], arguments].concat();
    ended(nb(gateway, &arguments).spawn().unwrap()).await
}

async fn kernels(gateway: &Gateway) -> Value {
    gateway.rest("GET", "/api/kernels", "").await.1
}

#[tokio::test]
async fn output_goes_where_it_belongs_and_errors_end_with_one() {
    let gateway = Gateway::start("auto").await;
    let id = gateway.kernel(r#"{"name":"python3"}"#).await;
    let code = "import sys; print('out'); print('err', file=sys.stderr); 6 * 7";
    let (code, stdout, stderr) = exec(&gateway, &[&id[..8], code]).await;
    assert_eq!((code, &*stderr), (0, "err\n"), "{stdout}");
    assert_eq!(stdout, "out\n42\n");
    // It is one kernel, which keeps what it knows.
    assert_eq!(exec(&gateway, &[&id, "x = 5"]).await.0, 0);
    fs::write(gateway.root().join("code.py"), "print(x)\n1 / 0").unwrap();
    let (code, stdout, stderr) = exec(&gateway, &[&id, "-f", "code.py"]).await;
    assert_eq!((code, &*stdout), (1, "5\n"), "{stderr}");
    assert!(
        stderr.contains("ZeroDivisionError: division by zero"),
        "{stderr}"
    );
    assert!(!stderr.contains('\u{1b}'), "{stderr}");

    let mut child = nb(&gateway, &["exec", &id, "-"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"print('from stdin', x)").await.unwrap();
    drop(stdin);
    let (code, stdout, stderr) = ended(child).await;
    assert_eq!((code, &*stdout), (0, "from stdin 5\n"), "{stderr}");
    // Of what it does not understand itself IPython says so without an error, once.
    let (code, _, stderr) = exec(&gateway, &[&id, "%no_such_magic"]).await;
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(stderr.matches("no_such_magic").count(), 1, "{stderr}");
    assert!(!stderr.contains("did not run"), "{stderr}");
    // Without a terminal nobody could answer.
    let (code, _, stderr) = exec(&gateway, &[&id, "input('name? ')"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("StdinNotImplementedError"), "{stderr}");
}

#[tokio::test]
async fn programs_get_every_message_as_a_line() {
    let gateway = Gateway::start("auto").await;
    let arguments = ["--spec", "python3", "--json", "print('a')\nb'\\n'"];
    let (code, stdout, stderr) = exec(&gateway, &arguments).await;
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let lines = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let types = lines
        .iter()
        .map(|line| line["header"]["msg_type"].as_str().unwrap());
    let types: Vec<_> = types.collect();
    for expected in [
        "status",
        "execute_input",
        "stream",
        "execute_result",
        "execute_reply",
    ] {
        assert!(types.contains(&expected), "{types:?}");
    }
    let reply = lines
        .iter()
        .find(|line| line["channel"] == "shell")
        .unwrap();
    assert_eq!(reply["content"]["status"], "ok");
    let parents = lines.iter().map(|line| &line["parent_header"]["msg_id"]);
    assert!(
        parents
            .clone()
            .all(|id| id == &lines[0]["parent_header"]["msg_id"])
    );
    // The kernel went with the code.
    assert_eq!(kernels(&gateway).await, json!([]));
}

#[tokio::test]
async fn a_kernel_of_a_spec_goes_however_the_code_ends() {
    let gateway = Gateway::start("auto").await;
    let (code, _, stderr) = exec(&gateway, &["--spec", "python3", "1 / 0"]).await;
    assert_eq!(code, 1, "{stderr}");
    let slow = [
        "--spec",
        "python3",
        "--timeout",
        "1s",
        "import time; time.sleep(600)",
    ];
    let (code, _, stderr) = exec(&gateway, &slow).await;
    assert_eq!(code, 124);
    assert!(stderr.contains("KeyboardInterrupt"), "{stderr}");
    let dies = ["--spec", "python3", "import os; os.kill(os.getpid(), 9)"];
    let (code, _, stderr) = exec(&gateway, &dies).await;
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(kernels(&gateway).await, json!([]));
    for (arguments, expected, told) in [
        (
            vec!["--spec", "none", "1"],
            3,
            "there is no kernelspec \"none\"",
        ),
        (
            vec!["00000000-0000-4000-8000-000000000001", "1"],
            3,
            "there is no kernel",
        ),
        (vec!["abcdef"], 2, "say what to run"),
        (vec![], 2, "say which kernel"),
        (
            vec!["--spec", "python3", "1", "2"],
            2,
            "one argument too many",
        ),
        (vec!["abcdef", "-f", "none.py"], 3, "none.py"),
        (
            vec!["abcdef", "1", "--timeout=-1s"],
            2,
            "it is a time in hours",
        ),
    ] {
        let (code, stdout, stderr) = exec(&gateway, &arguments).await;
        assert_eq!((code, &*stdout), (expected, ""), "{arguments:?} {stderr}");
        assert!(stderr.contains(told), "{arguments:?} {stderr}");
    }
}

/// A cell that prints `begun`, waits for a file and goes on; its process and the rest of its output.
async fn begun(gateway: &Gateway, id: &str, code: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = nb(gateway, &["exec", id, code]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let read = timeout(LIMIT, stdout.read_line(&mut line)).await;
    read.expect("no output comes before the end").unwrap();
    assert_eq!(line, "begun\n");
    (child, stdout)
}

#[tokio::test]
async fn ctrl_c_interrupts_the_kernel_which_lives_on() {
    let gateway = Gateway::start("auto").await;
    let id = gateway.kernel(r#"{"name":"python3"}"#).await;
    let code = "import time\nx = 1\nprint('begun', flush=True)\ntime.sleep(600)";
    let (child, _stdout) = begun(&gateway, &id, code).await;
    signal(child.id().unwrap(), Signal::INT);
    let (code, _, stderr) = ended(child).await;
    assert_eq!(code, 130, "{stderr}");
    assert!(stderr.contains("KeyboardInterrupt"), "{stderr}");
    let (code, stdout, _) = exec(&gateway, &[&id, "x"]).await;
    assert_eq!((code, &*stdout), (0, "1\n"));
}

/// A cell that counts until `go` is there.
fn counts(go: &Path) -> String {
    format!(
        "import os, time\nprint('begun', flush=True)\nn = 0\nwhile not os.path.exists({go:?}):\n    \
         print(n, flush=True)\n    n += 1\n    time.sleep(0.0005)"
    )
}

/// Lets the cell end; all that it counted has come, once and in order.
async fn counted(
    gateway: &Gateway,
    id: &str,
    (child, mut stdout): (Child, BufReader<ChildStdout>),
    go: &Path,
    at_least: usize,
) {
    fs::write(go, "").unwrap();
    let mut rest = String::new();
    let read = timeout(LIMIT, stdout.read_to_string(&mut rest)).await;
    read.expect("it hangs").unwrap();
    let (code, _, stderr) = ended(child).await;
    assert_eq!(code, 0, "{stderr}");
    let mut client = gateway.connect(id, "asks").await;
    let sent = client.run("print(n)").await.text.trim().parse();
    let sent: usize = sent.unwrap();
    let expected: String = (0..sent).map(|n| format!("{n}\n")).collect();
    assert_eq!(rest, expected);
    assert!(sent >= at_least, "{sent}");
}

#[tokio::test]
async fn a_broken_line_loses_and_repeats_nothing() {
    const THEFTS: usize = 10;
    let gateway = Gateway::start("auto").await;
    let id = gateway.kernel(r#"{"name":"python3"}"#).await;
    let go = gateway.root().join("go");
    let counting = begun(&gateway, &id, &counts(&go)).await;
    let session = async || {
        let path = "/v1/connections";
        gateway.ask_supervisor(&id, "GET", path, "").await.1[0].clone()
    };
    for _ in 0..THEFTS {
        let before = session().await;
        // Takes its place. It reads nothing, so it acknowledges nothing.
        let name = before["session_id"].as_str().unwrap();
        let thief = gateway.connect(&id, name).await;
        let deadline = Instant::now() + LIMIT;
        while session().await["cursor"].as_u64() <= before["cursor"].as_u64() {
            assert!(Instant::now() < deadline, "it does not come back");
        }
        drop(thief);
    }
    counted(&gateway, &id, counting, &go, THEFTS).await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_goes_unnoticed() {
    let mut gateway = Gateway::start("auto").await;
    let id = gateway.kernel(r#"{"name":"python3"}"#).await;
    let go = gateway.root().join("go");
    let counting = begun(&gateway, &id, &counts(&go)).await;
    gateway.replace().await;
    counted(&gateway, &id, counting, &go, 1).await;
}

/// Runs `nb` on a terminal, as a person would: answers what is asked.
const ON_A_TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
def wait_for(text):
    global said
    while text not in said:
        said += os.read(terminal, 1024)
wait_for(b"name? ")
os.write(terminal, b"ada\n")
wait_for(b"secret? ")
os.write(terminal, b"hush\n")
wait_for(b"4 ada")
try:
    while more := os.read(terminal, 1024):
        said += more
except OSError:
    pass
_, status = os.waitpid(pid, 0)
assert b"hush" not in said, said
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[tokio::test]
async fn input_is_asked_for_on_a_terminal_and_a_password_is_not_shown() {
    let gateway = Gateway::start("auto").await;
    let id = gateway.kernel(r#"{"name":"python3"}"#).await;
    let code =
        "import getpass\nn = input('name? ')\np = getpass.getpass('secret? ')\nprint(len(p), n)";
    let mut command = Command::new(project("target/test-env/bin/python"));
    let nb = nb(&gateway, &["exec", &id, code]);
    let nb = nb.as_std();
    command
        .args(["-c", ON_A_TERMINAL])
        .arg(nb.get_program())
        .args(nb.get_args())
        .env_clear();
    for (name, value) in nb.get_envs() {
        command.env(name, value.unwrap());
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (code, _, stderr) = ended(child.kill_on_drop(true).spawn().unwrap()).await;
    assert_eq!(code, 0, "{stderr}");
}

#[tokio::test]
async fn logs_are_what_the_kernels_process_wrote_itself() {
    let gateway = Gateway::start("auto").await;
    let go = gateway.root().join("go");
    let script = format!(
        "echo one; echo oops >&2; (until test -e {}; do sleep 0.02; done; echo later) & \
         exec \"$0\" instant \"$1\"",
        go.display()
    );
    let argv = json!(["/bin/sh", "-c", script, peer(), "{connection_file}"]);
    gateway.put_spec("talks", &json!({"argv": argv, "language": "x"}));
    let id = gateway.kernel(r#"{"name":"talks"}"#).await;
    let logs = nb(&gateway, &["logs", &id[..6]]).spawn().unwrap();
    let (code, stdout, stderr) = ended(logs).await;
    assert_eq!((code, &*stdout, &*stderr), (0, "one\n", "oops\n"));

    let mut follow = nb(&gateway, &["logs", &id, "--follow", "--json"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(LIMIT, lines.next_line())
            .await
            .expect("nothing comes");
        let line: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        line
    };
    assert_eq!(next().await, json!({"stream": "stdout", "text": "one\n"}));
    assert_eq!(next().await, json!({"stream": "stderr", "text": "oops\n"}));
    fs::write(go, "").unwrap();
    assert_eq!(next().await, json!({"stream": "stdout", "text": "later\n"}));
    gateway.delete(&id).await;
    let (code, _, stderr) = ended(follow).await;
    assert_eq!((code, &*stderr), (0, ""));

    let gone = nb(&gateway, &["logs", &id]).spawn().unwrap();
    let (code, _, stderr) = ended(gone).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("there is no kernel"), "{stderr}");
    for query in ["stream=other", "after=x", "bytes=-1"] {
        let path = format!("/api/kernels/{id}/logs?{query}");
        assert_eq!(gateway.rest("GET", &path, "").await.0, 400, "{query}");
    }
}
