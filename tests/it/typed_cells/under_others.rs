//! Cells as they were typed: in `In`, in histories and in tracebacks, and ours under the magics of others.

use std::fs;

use nb::protocol::message::Channel;
use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::Gateway;
use crate::packages::{notebook, run, with_uv};

/// Cells in which ours stand in every way; those that fail are part of it.
const TYPED: [&str; 9] = [
    "%nb help",
    "x = %nb status\nif x:\n    %nb help",
    "%%capture out\n%nb help",
    "\n\n  %nb help\n  y = '%nb help'",
    "%%nb help\nbody %nb",
    "%%time\nz = %nb status",
    "%nb nonsense",
    "nb help",
    "# %nb\n'''\n%%nb\n'''",
];

/// What is in the history by a request, as Lab's console and others ask for it.
async fn history(client: &mut Client, asked: Value) -> Vec<String> {
    let mut content = json!({"output": false, "raw": true, "session": 0, "start": 1, "stop": null});
    content
        .as_object_mut()
        .unwrap()
        .extend(asked.as_object().unwrap().clone());
    let request = client
        .send(Channel::Shell, "history_request", content)
        .await;
    loop {
        let said = client.next().await.unwrap();
        if said.parent == request && said.msg_type == "history_reply" {
            let entries: Vec<(i64, i64, String)> =
                serde_json::from_value(said.content["history"].clone()).unwrap();
            return entries.into_iter().map(|(_, _, source)| source).collect();
        }
    }
}

#[tokio::test]
async fn in_and_history_are_the_cells_as_typed() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    for (at, typed) in TYPED.iter().enumerate() {
        let reply = client.run(typed).await.reply;
        assert_eq!(reply["execution_count"], at + 1, "{typed}: {reply}");
        let fails = typed.contains("nonsense");
        assert_eq!(
            reply["status"],
            if fails { "error" } else { "ok" },
            "{typed}: {reply}"
        );
        while client.run("").await.reply["status"] == "aborted" {}
    }
    let count = TYPED.len();
    // `In` has what IPython made of them.
    let code = "import json; print(json.dumps([[get_ipython().transform_cell(eval(f'_i{n}')).rstrip() for n in \
        range(1, 10)], In[1:-1], _ih[1:-1], _i4, _iii]))";
    let listed = run(&mut client, code).await;
    let [made, input, ih, fourth, seventh]: [Value; 5] = serde_json::from_str(&listed).unwrap();
    assert_eq!((&input, &ih), (&made, &made));
    assert_eq!(input[8], TYPED[8]);
    assert_eq!((fourth, seventh), (json!(TYPED[3]), json!(TYPED[6])));
    // What stands behind a number, in one line or from the next one on.
    let numbered = |n: usize| {
        let text = TYPED[n - 1];
        let gap = if text.contains('\n') { ":\n" } else { ": " };
        format!("{n:>4}{gap}{text}\n")
    };
    for (range, cells) in [
        ("1-4", vec![1, 2, 3, 4]),
        ("7 2", vec![7, 2]),
        ("5:7", vec![5, 6]),
    ] {
        let shown = run(&mut client, &format!("%history -n {range}")).await;
        let expected: String = cells.into_iter().map(numbered).collect();
        assert_eq!(shown, expected, "{range}");
    }
    let found = run(&mut client, "%history -g *help* -l 3").await;
    assert!(found.contains("nb help"), "{found}");
    let range = history(
        &mut client,
        json!({"hist_access_type": "range", "stop": count + 1}),
    )
    .await;
    assert_eq!(range, TYPED);
    let searched =
        json!({"hist_access_type": "search", "pattern": "*%nb nonsense*", "n": 1, "unique": true});
    assert_eq!(history(&mut client, searched).await, [TYPED[6]]);
    // The same from the next process.
    let path = format!("/api/kernels/{kernel}/restart");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 200);
    let before = run(&mut client, "%history ~1/1-~1/9").await;
    assert_eq!(before, TYPED.map(|typed| typed.to_owned() + "\n").concat());
}

/// The line that a failed cell's traceback points at.
async fn failed_line(client: &mut Client, code: &str) -> String {
    let reply = client.run(code).await.reply;
    assert_eq!(reply["status"], "error", "{code}: {reply}");
    let frames = reply["traceback"].as_array().unwrap();
    let mut text: String = frames.iter().filter_map(Value::as_str).collect();
    // Without colours.
    while let Some(at) = text.find('\u{1b}') {
        let end = text[at..].find('m').unwrap();
        text.replace_range(at..=at + end, "");
    }
    let count = reply["execution_count"].as_u64().unwrap();
    let place = format!("Cell In[{count}], line ");
    let (_, line) = text.rsplit_once(&place).unwrap_or_else(|| panic!("{text}"));
    line.chars().take_while(char::is_ascii_digit).collect()
}

#[tokio::test]
async fn an_error_is_in_the_line_in_which_it_was_typed() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    for (code, line) in [
        ("%nb status\na = 1\n\n1/0", "4"),
        ("x = %nb status\nif x:\n    %nb help\n    1/0\n", "4"),
        ("def f():\n    %nb help\n    1/0\nf()", "3"),
        ("%nb help\nx = (1 +\n  2) / 0", "2"),
        ("%nb help\n\nx = = 1", "3"),
    ] {
        assert_eq!(failed_line(&mut client, code).await, line, "{code}");
        while client.run("").await.reply["status"] == "aborted" {}
    }
}

#[tokio::test]
async fn an_error_behind_packages_is_in_the_line_in_which_it_was_typed() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let block = "# /// script\n# dependencies = []\n# ///\n1/0";
    for code in [
        "%pip list\na = 1\n\n1/0",
        "x = %pip freeze\n!pip list\n\n1/0",
        block,
    ] {
        assert_eq!(failed_line(&mut client, code).await, "4", "{code}");
        while client.run("").await.reply["status"] == "aborted" {}
    }
    let listed = run(&mut client, "print(In[3])").await;
    assert_eq!(listed.trim_end(), block);
}

#[tokio::test]
async fn ours_run_under_the_magics_of_others() {
    let gateway = Gateway::start("auto").await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    for timed in ["%%time\nx = %nb status", "%time x = %nb status"] {
        let said = run(&mut client, &format!("{timed}\n")).await;
        assert!(said.contains("Wall time"), "{said}");
        let taken = run(&mut client, "print(x); del x").await;
        assert!(taken.contains(&kernel), "{timed}: {taken}");
    }
    let code = "%%capture out\nprint('before')\n%nb help\nprint('after')";
    let captured = client.run(code).await;
    assert_eq!((captured.text.as_str(), captured.shown.as_str()), ("", ""));
    let again = client
        .run("print(out.stdout, end='')\nout.outputs[0]")
        .await;
    assert_eq!(again.text, "before\nafter\n", "{again:?}");
    let code = "for asked in (False, True):\n    if asked:\n        %nb help\n    else:\n        print('not asked')";
    let asked = client.run(code).await;
    assert_eq!(asked.text, "not asked\n");
    assert!(asked.shown.starts_with("%nb help"), "{asked:?}");
    assert_eq!(asked.shown.matches("%nb help").count(), 1, "{asked:?}");
    let said = run(&mut client, "%%bash\necho '%nb nonsense'\n# %%nb").await;
    assert_eq!(said, "%nb nonsense\n");
    let failed = client.run("%%time\n%nb nonsense").await.reply;
    assert_eq!(failed["ename"], "UsageError", "{failed}");
}

/// Another library's magics: those of its own names, and one of ours that it takes over.
const LIBRARY: &str = "
def load_ipython_extension(shell):
    shell.register_magic_function(lambda line, cell=None: print('theirs', line, cell), 'line_cell', 'shout')
    shell.register_magic_function(lambda line: print('their pex', line), 'line', 'pex')
    shell.register_magic_function(lambda line: print('their nb', line), 'line', 'nb')
";

#[tokio::test]
async fn another_librarys_magics_are_its_own_but_for_nb() {
    let gateway = Gateway::start("auto").await;
    fs::write(gateway.root().join("shouting.py"), LIBRARY).unwrap();
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let said = run(&mut client, "%load_ext shouting").await;
    assert!(said.contains("%pex is yours from here on"), "{said}");
    assert!(said.contains("%nb is always nb's own"), "{said}");
    assert_eq!(run(&mut client, "%shout a").await, "theirs a None\n");
    assert_eq!(run(&mut client, "%%shout a\nb").await, "theirs a b\n\n");
    for _restarted in [false, true] {
        assert_eq!(run(&mut client, "%pex status").await, "their pex status\n");
        let ours = client.run("%nb pex status").await;
        assert_eq!(ours.reply["status"], "ok", "{ours:?}");
        assert!(!ours.text.contains("their"), "{ours:?}");
        let status = run(&mut client, "x = %nb status\nprint(x)").await;
        assert!(status.contains(&kernel), "{status}");
        let path = format!("/api/kernels/{kernel}/restart");
        assert_eq!(gateway.rest("POST", &path, "").await.0, 200);
        // The next process has it when it is loaded there.
        let said = run(&mut client, "%load_ext shouting").await;
        assert!(said.contains("%pex is yours from here on"), "{said}");
    }
}
