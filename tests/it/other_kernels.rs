//! Several kernels in one notebook: cells in other environments and of other kernelspecs, and what goes between them.

mod frames;
mod survival;

use std::path::Path;

use nb::protocol::message::Channel;
use serde_json::{Value, json};

use crate::client::{Client, Said};
use crate::gateway::{Gateway, project, wait_for};
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
    &said
        .unwrap_or_else(|| panic!("no {msg_type} in {:?}", types(all)))
        .content
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
    assert!(
        said.contains(&format!("1.16.0 {}", prefix.display())),
        "{said}"
    );

    // It is the cell as it was typed, counted with the others.
    let typed = "%%venv old\nprint('out')\nx + 1";
    let all = whole(&mut a, typed, "").await;
    let input = content(&all, "execute_input");
    assert_eq!(
        (&input["code"], &input["execution_count"]),
        (&json!(typed), &json!(3))
    );
    let result = content(&all, "execute_result");
    assert_eq!(
        (&result["data"]["text/plain"], &result["execution_count"]),
        (&json!("42"), &json!(3))
    );
    assert_eq!(content(&all, "execute_reply")["execution_count"], 3);
    assert_eq!(content(&all, "stream")["text"], "out\n");
    let states = [
        "status",
        "execute_input",
        "stream",
        "execute_result",
        "execute_reply",
        "status",
    ];
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
    assert_eq!(
        (&reply["status"], &reply["traceback"]),
        (&json!("error"), &error["traceback"])
    );

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

    // What it says later is still the cell's.
    let late = "import threading; threading.Timer(0.5, print, ['late']).start()";
    let request = a.submit(&format!("%%time\n%%venv old\n{late}")).await;
    a.wait_for(&request, "late").await;

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

#[tokio::test]
async fn interrupts_completion_and_comms_reach_the_kernel_they_are_for() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%%venv other\nlong_name_there = 1").await;

    // The interrupt is that of the cell that runs, and costs nothing but that.
    let request = a
        .submit("%%venv other\nprint('begun', flush=True)\nimport time\ntime.sleep(600)")
        .await;
    a.wait_for(&request, "begun").await;
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    let outcome = a.outcome(&request, "").await;
    assert_eq!(outcome.reply["ename"], "KeyboardInterrupt");
    let traceback = outcome.reply["traceback"].to_string();
    assert!(traceback.contains("time.sleep"), "{traceback}");
    assert_eq!(
        run(&mut a, "%%venv other\nprint(long_name_there)").await,
        "1\n"
    );
    // It does not overtake a cell that is on its way there.
    for _ in 0..5 {
        let request = a.submit("%%venv other\nwhile True: pass").await;
        while a.next().await.unwrap().msg_type != "execute_input" {}
        assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
        let outcome = a.outcome(&request, "").await;
        let reply = outcome.reply;
        assert_eq!(reply["ename"], "KeyboardInterrupt", "{reply}");
        let said = reply["evalue"].as_str().unwrap_or_default();
        assert!(!said.contains("does not stop"), "{reply}");
    }
    // From inside a cell of the kernel too.
    let request = a
        .submit("%%time\n%%venv other\nprint('begun', flush=True)\nimport time\ntime.sleep(600)")
        .await;
    a.wait_for(&request, "begun").await;
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    let outcome = a.outcome(&request, "").await;
    assert_eq!(outcome.reply["ename"], "KeyboardInterrupt");
    assert_eq!(
        run(&mut a, "%%venv other\nprint(long_name_there)").await,
        "1\n"
    );

    // What fits at a cursor is what that kernel knows.
    let code = "%%venv other\nlong_na";
    let ask = json!({"code": code, "cursor_pos": code.len()});
    let reply = ask_for(&mut a, "complete_request", ask).await;
    assert_eq!(reply["matches"], json!(["long_name_there"]), "{reply}");
    assert_eq!(
        (&reply["cursor_start"], &reply["cursor_end"]),
        (&json!(13), &json!(20))
    );
    let ask = json!({"code": "%%venv ot", "cursor_pos": 9});
    let reply = ask_for(&mut a, "complete_request", ask).await;
    assert_eq!(reply["matches"], json!(["other"]), "{reply}");
    let ask = json!({"code": "%%venv other\nlong_name_there", "cursor_pos": 20, "detail_level": 0});
    let reply = ask_for(&mut a, "inspect_request", ask).await;
    assert_eq!(reply["found"], true, "{reply}");
    assert!(
        reply["data"]["text/plain"].to_string().contains("int"),
        "{reply}"
    );

    // A comm belongs to the kernel that opened it.
    let open = "from ipykernel.comm import Comm
heard = []
c = Comm(target_name='t', data={'hello': 1})
c.on_msg(lambda m: (heard.append(m['content']['data']), c.send({'heard': m['content']['data']})))";
    let all = whole(&mut a, &format!("%%venv other\n{open}"), "").await;
    let there = content(&all, "comm_open")["comm_id"].clone();
    let all = whole(&mut a, open, "").await;
    let here = content(&all, "comm_open")["comm_id"].clone();
    let comms = ask_for(&mut a, "comm_info_request", json!({"target_name": "t"})).await;
    let comms = &comms["comms"];
    for id in [&here, &there] {
        assert_eq!(comms[id.as_str().unwrap()]["target_name"], "t", "{comms}");
    }
    let none = ask_for(&mut a, "comm_info_request", json!({"target_name": "other"})).await;
    assert_eq!(none["comms"], json!({}));
    for (id, word) in [(&there, "there"), (&here, "here")] {
        let content = json!({"comm_id": id, "data": word});
        let request = a.send(Channel::Shell, "comm_msg", content).await;
        let answer = loop {
            let said = a.next().await.unwrap();
            if said.msg_type == "comm_msg" && said.parent == request {
                break said.content;
            }
        };
        assert_eq!(answer, json!({"comm_id": id, "data": {"heard": word}}));
    }
    assert_eq!(
        run(&mut a, "%%venv other\nprint(heard)").await,
        "['there']\n"
    );
    assert_eq!(run(&mut a, "print(heard)").await, "['here']\n");
}

/// Asks on the shell channel; the content of the reply.
async fn ask_for(client: &mut Client, msg_type: &str, content: Value) -> Value {
    let request = client.send(Channel::Shell, msg_type, content).await;
    loop {
        let said = client.next().await.unwrap();
        if said.parent == request && said.msg_type.ends_with("_reply") {
            return said.content;
        }
    }
}

#[tokio::test]
async fn environments_of_a_notebook_are_made_listed_and_deleted() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let none = whole(&mut a, "%venv", "").await;
    let none = content(&none, "execute_result")["data"]["text/plain"].to_string();
    assert!(none.contains("No environment has a name yet"), "{none}");
    let refused = fail(&mut a, "%%venv old --python 2.7\n1").await;
    assert!(
        refused.contains("There is no Python 2.7 on this machine; there is: CPython 3"),
        "{refused}"
    );
    for (code, why) in [
        ("%%venv\n1", "The name is missing"),
        ("%%venv ../x\n1", "cannot be a name"),
        ("%%venv a --wiht b\n1", "There is no option --wiht"),
        ("%venv frobnicate", "There is no `%venv frobnicate`"),
        ("%venv stop a", "No kernel runs in a"),
        ("%venv delete a", "There is no environment a"),
        ("%get x --from a", "No kernel a runs in this notebook"),
        (
            "%%kernel nothing\n1",
            "there is no kernelspec \"nothing\". There is: ",
        ),
    ] {
        let said = fail(&mut a, code).await;
        assert!(said.contains(why), "{code}: {said}");
    }

    run(&mut a, "%venv create old --with six==1.16.0").await;
    run(&mut a, "%%venv new --with six\nimport six\nx = 1").await;
    let list = run(
        &mut a,
        "v = %venv list\nprint([(one['name'], one['state']) for one in v['environments']])",
    )
    .await;
    assert_eq!(list, "[('new', 'idle'), ('old', None)]\n");
    let version = run(&mut a, "%%venv old\nimport six; print(six.__version__)").await;
    assert_eq!(version, "1.16.0\n");
    // What is installed in it, is there alone.
    let said = run(&mut a, "%%venv new\n%pip install six==1.15.0").await;
    assert!(said.contains("Successfully installed six-1.15.0"), "{said}");
    assert!(said.contains("restart"), "{said}");
    run(&mut a, "%venv restart new").await;
    let version = run(
        &mut a,
        "%%venv new\nimport six; print(six.__version__, 'x' in globals())",
    )
    .await;
    assert_eq!(version, "1.15.0 False\n");
    assert!(fail(&mut a, "import six").await.contains("six"));
    let version = run(&mut a, "%%venv old\nprint(six.__version__)").await;
    assert_eq!(version, "1.16.0\n");
    let refused = fail(&mut a, "%%venv old --with six==0.0.0.1\n1").await;
    assert!(
        refused.contains("No versions fit together") || refused.contains("six"),
        "{refused}"
    );
    assert_eq!(
        run(&mut a, "%%venv old\nprint(six.__version__)").await,
        "1.16.0\n"
    );

    // Another notebook has the same environments, with kernels of its own.
    let second = notebook(&gateway, "b.ipynb", "pip").await;
    let mut b = gateway.connect(&second, "b").await;
    assert_eq!(
        run(
            &mut b,
            "%%venv old\nimport six; print(six.__version__, 'x' in globals())"
        )
        .await,
        "1.16.0 False\n"
    );
    let refused = fail(&mut a, "%venv delete old").await;
    assert!(refused.contains("A process runs in old"), "{refused}");
    run(&mut b, "%venv stop old").await;
    run(&mut a, "%venv delete old").await;
    let list = run(
        &mut a,
        "v = %venv list\nprint([one['name'] for one in v['environments']])",
    )
    .await;
    assert_eq!(list, "['new']\n");
}

/// A kernelspec of the test environment's Python.
fn put_spec(gateway: &Gateway, name: &str, env: &Value) {
    let python = project("target/test-env/bin/python");
    let argv = json!([
        python,
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}"
    ]);
    gateway.put_spec(
        name,
        &json!({"argv": argv, "language": "python", "env": env}),
    );
}

#[tokio::test]
async fn cells_of_other_kernelspecs_run_there() {
    let gateway = Gateway::start("auto").await;
    gateway.put_plain_spec();
    put_spec(&gateway, "second", &json!({"MINE": "second"}));
    let kernel = gateway.kernel("{}").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let said = run(
        &mut a,
        "%%kernel second\nimport os; x = 5; print(os.environ['MINE'])",
    )
    .await;
    assert_eq!(said, "second\n");
    run(
        &mut a,
        "y = [1, {'b': None}]\n%put y --to second\n%get x --from second\nassert x == 5",
    )
    .await;
    assert_eq!(
        run(&mut a, "%%kernel second --put z\nprint(y)\nz = y + [x]").await,
        "[1, {'b': None}]\n"
    );
    assert_eq!(run(&mut a, "print(z)").await, "[1, {'b': None}, 5]\n");
    // One that is no Python: as it is, and its own words for what it cannot do.
    let said = run(&mut a, "%%kernel plain\nhello").await;
    assert!(said.contains("hello"), "{said}");
    let refused = fail(&mut a, "%put y --to plain").await;
    assert!(
        refused.contains("Values go to kernels of Python, and frames to those of Scala"),
        "{refused}"
    );
    let status = run(
        &mut a,
        "s = %nb status\nprint(s)\nprint([one['name'] for one in s['others']])",
    )
    .await;
    assert!(
        status.contains("%%kernel second (python), idle"),
        "{status}"
    );
    assert!(status.ends_with("['plain', 'second']\n"), "{status}");
    let list = run(
        &mut a,
        "k = %kernel\nprint([(one['name'], one['state']) for one in k['kernels']])",
    )
    .await;
    assert_eq!(list, "[('plain', 'idle'), ('second', 'idle')]\n");
    run(&mut a, "%kernel restart second").await;
    assert!(fail(&mut a, "%%kernel second\nx").await.contains("'x'"));
    run(&mut a, "%kernel stop second").await;
    assert!(
        fail(&mut a, "%get x --from second")
            .await
            .contains("No kernel second runs")
    );
    // `exit` ends that kernel and no other, unless its user has called something so.
    run(&mut a, "kept = 1").await;
    for exit in ["exit", "quit()"] {
        run(&mut a, "%%kernel second\nx = 5").await;
        let said = run(&mut a, &format!("%%kernel second --put x\n{exit}")).await;
        assert_eq!(
            said,
            "The kernel in second has ended; the next `%%kernel second` cell starts it anew.\n"
        );
        let left = run(
            &mut a,
            "k = %kernel\nprint(kept, x, [one['name'] for one in k['kernels']])",
        );
        assert_eq!(left.await, "1 5 ['plain']\n");
    }
    let said = run(&mut a, "%%kernel second\nquit = 'x' in globals()").await;
    assert_eq!(said, "");
    let mine = whole(&mut a, "%%kernel second\nquit", "").await;
    let result = content(&mine, "execute_result");
    assert_eq!(result["data"]["text/plain"], "False");
    // A kernel that ends in the middle of a cell fails that cell and is there for the next.
    let ended = fail(&mut a, "%%kernel second\nimport os; os._exit(3)").await;
    assert!(
        ended.contains("exit code 3") || ended.contains("exited"),
        "{ended}"
    );
    assert_eq!(
        run(&mut a, "%%kernel second\nprint('x' in globals())").await,
        "False\n"
    );

    // What a kernelspec sets is its own kernel's.
    put_spec(
        &gateway,
        "first",
        &json!({"MINE": "first", "ONLY": "first"}),
    );
    let kernel = gateway.kernel(r#"{"name":"first"}"#).await;
    let mut b = gateway.connect(&kernel, "b").await;
    let asked = "import os; print(os.environ.get('MINE'), os.environ.get('ONLY'))";
    assert_eq!(run(&mut b, asked).await, "first first\n");
    let there = run(&mut b, &format!("%%kernel second\n{asked}")).await;
    assert_eq!(there, "second None\n");

    // The cells of a notebook whose kernel is no IPython go there too.
    let kernel = gateway.kernel(r#"{"name":"plain"}"#).await;
    let mut b = gateway.connect(&kernel, "b").await;
    assert_eq!(run(&mut b, "%%kernel second\nprint(6 * 7)").await, "42\n");
    let refused = fail(&mut b, "%%kernel second --get y\n1").await;
    assert!(
        refused.contains("Values come from kernels of Python only"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_start_under_way_goes_with_the_kernel_of_its_notebook() {
    let gateway = Gateway::start("auto").await;
    // It says that it is there, and is never ready.
    let begun = gateway.root().join("begun");
    let script = format!(
        "echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 600",
        begun.display()
    );
    gateway.put_shell_spec("slow", &script);
    let folders = || {
        let folders = std::fs::read_dir(gateway.root().join("run/kernels"));
        folders.map_or(0, Iterator::count)
    };
    let kernel = gateway.kernel("{}").await;
    let mut a = gateway.connect(&kernel, "a").await;
    for is_restart in [true, false] {
        a.submit("%%kernel slow\n1").await;
        let pid = wait_for("the start", || std::fs::read_to_string(&begun).ok()).await;
        std::fs::remove_file(&begun).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        assert!(process.exists());
        match is_restart {
            true => {
                restart(&mut a, &gateway, &kernel).await;
                wait_for("its end", || (folders() == 1).then_some(())).await;
            }
            false => {
                gateway.delete(&kernel).await;
                assert_eq!(folders(), 0);
            }
        }
        assert!(!process.exists());
    }
}

#[tokio::test]
async fn run_all_stops_where_the_error_is_and_what_is_the_users_stays_theirs() {
    let gateway = Gateway::start("auto").await;
    put_spec(&gateway, "second", &json!({}));
    let kernel = gateway.kernel("{}").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let cells = [
        "ran = 1",
        "%%kernel second\nran = 2",
        "ran += 2",
        "%%kernel second\nprint(ran)",
    ];
    for fails in 0..cells.len() {
        let mut requests = Vec::new();
        for (at, code) in cells.iter().enumerate() {
            let code = if at == fails {
                format!("{code}\n1 / 0")
            } else {
                (*code).to_owned()
            };
            requests.push(a.submit(&code).await);
        }
        // What is aborted may be told before the cell that failed is idle, and until then IPython aborts what comes.
        let (mut ends, mut idle) = (vec![String::new(); requests.len()], 0);
        while ends.iter().any(String::is_empty) || idle < requests.len() {
            let said = a.next().await.unwrap();
            let Some(at) = requests.iter().position(|request| *request == said.parent) else {
                continue;
            };
            idle += usize::from(said.content["execution_state"] == "idle");
            if said.msg_type == "execute_reply" {
                said.content["status"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut ends[at]);
            }
        }
        let expected: Vec<_> = (0..cells.len())
            .map(|at| match at.cmp(&fails) {
                std::cmp::Ordering::Less => "ok",
                std::cmp::Ordering::Equal => "error",
                std::cmp::Ordering::Greater => "aborted",
            })
            .collect();
        assert_eq!(ends, expected, "{fails}");
    }
    // A name that the user registers is the user's.
    run(&mut a, "from IPython.core.magic import register_cell_magic\n@register_cell_magic\ndef kernel(line, cell):\n    print('mine', line, repr(cell))").await;
    assert_eq!(
        run(&mut a, "%%kernel second\nprint(1)").await,
        "mine second 'print(1)\\n'\n"
    );
    assert_eq!(
        run(&mut a, "%%nb kernel second\nprint('ours')").await,
        "ours\n"
    );
}
