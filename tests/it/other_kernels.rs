//! Several kernels in one notebook: cells in other environments and of other kernelspecs, and what goes between them.

use std::time::Duration;

use nb::protocol::message::Channel;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{Client, Outcome, Said};
use crate::gateway::LIMIT;
use crate::packages::{fail, notebook, restart, run, with_uv};

/// All that is said for a cell, to its end; questions are answered with `answer`.
async fn whole(client: &mut Client, code: &str, answer: &str) -> Vec<Said> {
    let request = client.submit(code).await;
    let (mut all, mut idle, mut replied) = (Vec::new(), false, false);
    while !idle || !replied {
        let said = client.next().await.unwrap();
        if said.parent != request {
            continue;
        }
        idle |= said.content["execution_state"] == "idle";
        replied |= said.msg_type == "execute_reply";
        if said.msg_type == "input_request" {
            let content = json!({"value": answer});
            client.send(Channel::Stdin, "input_reply", content).await;
        }
        all.push(said);
    }
    all
}

fn types(all: &[Said]) -> Vec<&str> {
    all.iter().map(|said| said.msg_type.as_str()).collect()
}

fn content<'a>(all: &'a [Said], msg_type: &str) -> &'a Value {
    let said = all.iter().find(|said| said.msg_type == msg_type);
    &said.unwrap_or_else(|| panic!("no {msg_type} in {:?}", types(all))).content
}

#[tokio::test]
async fn a_cell_runs_in_another_environment_of_the_notebook() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "mine = 1").await;
    let said = run(
        &mut a,
        "%%venv old --with six==1.16.0\nimport six, sys\nprint(six.__version__, sys.prefix)\nx = 41",
    )
    .await;
    let prefix = gateway.root().join("data/venvs/old/env");
    assert!(said.contains(&format!("1.16.0 {}", prefix.display())), "{said}");

    // It is the cell as it was typed, counted with the others.
    let typed = "%%venv old\nprint('out')\nx + 1";
    let all = whole(&mut a, typed, "").await;
    let input = content(&all, "execute_input");
    assert_eq!((&input["code"], &input["execution_count"]), (&json!(typed), &json!(3)));
    let result = content(&all, "execute_result");
    assert_eq!((&result["data"]["text/plain"], &result["execution_count"]), (&json!("42"), &json!(3)));
    assert_eq!(content(&all, "execute_reply")["execution_count"], 3);
    assert_eq!(content(&all, "stream")["text"], "out\n");
    let states = ["status", "execute_input", "stream", "execute_result", "execute_reply", "status"];
    assert_eq!(types(&all), states);

    // Each has its own names, and the notebook's history has all.
    assert!(fail(&mut a, "x").await.contains("'x'"));
    assert!(fail(&mut a, "%%venv old\nmine").await.contains("'mine'"));
    let inputs = run(&mut a, "print(In[3])").await;
    assert_eq!(inputs, "# %%venv old\n# print('out')\n# x + 1\n");

    // Errors are those of the lines as they were typed.
    let all = whole(&mut a, "%%venv old\na = 1\n\n1 / 0\n", "").await;
    let error = content(&all, "error");
    assert_eq!(error["ename"], "ZeroDivisionError");
    let traceback = error["traceback"].to_string();
    assert!(traceback.contains("line 4"), "{traceback}");
    let reply = content(&all, "execute_reply");
    assert_eq!((&reply["status"], &reply["traceback"]), (&json!("error"), &error["traceback"]));

    // It asks whoever ran it.
    let all = whole(&mut a, "%%venv old\nprint(input('who? ') + '!')", "Ada").await;
    assert_eq!(content(&all, "input_request")["prompt"], "who? ");
    assert_eq!(content(&all, "stream")["text"], "Ada!\n");

    // In an expression of a cell of the kernel too.
    let said = run(&mut a, "%%capture captured\n%%venv old\nprint('seen', x)").await;
    assert_eq!(said, "");
    assert_eq!(run(&mut a, "print(captured.stdout)").await, "seen 41\n\n");
    let failed = fail(&mut a, "%%time\n%%venv old\n1 / 0").await;
    assert_eq!(failed, "division by zero");

    // Its kernel is not listed, and goes with the notebook's.
    let (_, kernels) = gateway.rest("GET", "/api/kernels", "").await;
    assert_eq!(kernels.as_array().unwrap().len(), 1, "{kernels}");
    let pid = run(&mut a, "%%venv old\nimport os; print(os.getpid())").await;
    restart(&mut a, &gateway, &kernel).await;
    let gone = fail(&mut a, "%%venv old\nx").await;
    assert!(gone.contains("'x'"), "{gone}");
    let other = run(&mut a, "%%venv old\nimport os; print(os.getpid())").await;
    assert_ne!(pid, other);
    gateway.delete(&kernel).await;
    let folders = std::fs::read_dir(gateway.root().join("run/kernels")).map(Iterator::count);
    assert_eq!(folders.unwrap_or(0), 0);
}
