//! Cells put together from what may stand in one. `NB_CELLS_SEED` makes those of another run again.

use std::fs;

use futures_util::future::{self, LocalBoxFuture};
use nb::magics::{Answer, Call, Cell, Failure, Front, Magic, Registry, Runs};
use nb::protocol::message::Channel;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::ipython::{runs_without_nb, sees};
use crate::client::Client;
use crate::gateway::Gateway;

/// Calls of ours that say the same each time.
const OURS: [&str; 6] = [
    "nb help",
    "nb help status",
    "nb",
    "nb nonsense",
    "nb pex status",
    "pex status",
];

/// Where one of ours may stand, as `@` without its sigil: where it is called, and where it is only text.
const PLACES: [&str; 31] = [
    "%@",
    "x = %@",
    "if True:\n    %@",
    "if True:\n    x = %@\n    print(type(x).__name__)",
    "for _ in [1]:\n    %@",
    "def f():\n    %@\nf()",
    "def f():\n    # %@\n    return 1\nf()",
    "try:\n    %@\nexcept Exception as e:\n    print(type(e).__name__, e)",
    "%time %@",
    "  %@",
    "\t%@",
    "@",
    "x = '%@'",
    "x = '%%@'\nprint(x)",
    "x = '''\n%@\n'''",
    "x = \"\"\"\n%%@\n\"\"\"\nprint(x)",
    "x = f'''{1 + 1}\n%@\n'''\nprint(x)",
    "# %@",
    "#\n# %%@",
    "x = [1,\n%@\n]",
    "x = 1 + \\\n%@",
    "y = 7\ny \\\n%@",
    "1; %@",
    "7 %@",
    "x = y = %@",
    "print(%@)",
    "%%@",
    "% @",
    "!echo %@",
    "lambda: 1 # %@",
    "class C:\n    '''\n    %@\n    '''\n    x = %@",
];

/// What is the kernel's.
const THEIRS: [&str; 31] = [
    "print('a')",
    "1 + 1",
    "x = 2",
    "x",
    "1/0",
    "raise ValueError('v')",
    "",
    "   ",
    "# a comment",
    "!echo hi",
    "!ls",
    "x = !echo hi",
    "if True:\n    !echo there",
    "len?",
    "?len",
    "%load_ext autoreload",
    "%env TYPED=1",
    "%pwd",
    "%precision 3",
    "%unknown",
    "%%unknown",
    "x = %pwd\nprint(x)",
    "%time 1 + 1",
    "import os; print(os.getcwd())",
    "100 % 7",
    "nb = 8",
    "7 % nb",
    "pwd",
    "x = (",
    "'''",
    "\\",
];

/// What a cell may begin with; `@` as above.
const HEADS: [&str; 19] = [
    "",
    "\n \n",
    "%%time\n",
    "%%time %@\n",
    "%%capture out\n",
    "%%capture\n%%time\n",
    "%%bash\n",
    "%%bash\n%%time\n",
    "%%script cat\n",
    "%%html\n",
    "%%@\n",
    "\n\n%%@\n",
    "%%@ more\n",
    "%%@?\n",
    "%%time?\n",
    "  %%@\n  ",
    "%%time\n%%@\n",
    ">>> %@\n",
    "In [3]: %@\n",
];

/// A strategy for cells whose calls of ours are these.
fn cells(ours: &'static [&'static str]) -> impl Strategy<Value = String> {
    let ours = prop::sample::select(ours);
    let place = (prop::sample::select(&PLACES[..]), ours.clone());
    let piece = prop_oneof![
        place.prop_map(|(place, call)| place.replace('@', call)),
        prop::sample::select(&THEIRS[..]).prop_map(str::to_owned),
    ];
    // Most cells begin with nothing special.
    let head = prop_oneof![2 => Just(""), 3 => prop::sample::select(&HEADS[..])];
    let pieces = prop::collection::vec(piece, 0..4);
    let end = prop::sample::select(vec!["", "\n", ";", "\n\n  "]);
    (head, ours, pieces, end)
        .prop_map(|(head, call, pieces, end)| head.replace('@', call) + &pieces.join("\n") + end)
}

/// So many of them, no two the same; the seed is said.
#[expect(clippy::print_stdout, reason = "a failing test shows its seed")]
fn some(count: usize, ours: &'static [&'static str]) -> Vec<String> {
    let seed = std::env::var("NB_CELLS_SEED").unwrap_or_else(|_| any_seed());
    println!("NB_CELLS_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.parse::<u64>().unwrap().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = cells(ours);
    let mut cells = Vec::new();
    while cells.len() < count {
        let cell = strategy.new_tree(&mut runner).unwrap().current();
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    cells
}

fn any_seed() -> String {
    let mut runner = TestRunner::new(Config::default());
    let seed = any::<u64>().new_tree(&mut runner).unwrap().current();
    seed.to_string()
}

/// Written into the kernel: every call that reaches our helper is noted with its cell, and with what the supervisor said of it.
const NOTE_CALLS: &str = "(lambda shell, helper: (
    setattr(shell, 'typed_calls', []), setattr(shell, 'typed_said', []),
    setattr(helper, 'run', (lambda run: lambda *call: (
        shell.typed_calls.append([shell.kernel.get_parent('shell')['content']['code'], *call]), run(*call))[1])(helper.run)),
    setattr(helper.supervisor, 'lines', (lambda lines: lambda path, body: (
        shell.typed_said.append([[body['magic'], body['line'], body['cell']], []]),
        (shell.typed_said[-1][1].append(item) or item for item in lines(path, body)))[1])(helper.supervisor.lines)),
    None)[-1])(get_ipython(), get_ipython()._nb_helper)";

const NAMES: &str = "__import__('json').dumps([[name, not magic._ipython_magic_no_var_expand] \
    for name, magic in get_ipython()._nb_helper.ours.items()])";

/// What is printed as JSON.
const CALLS: &str = "print(__import__('json').dumps(get_ipython().typed_calls))";

const SAID: &str = "print(__import__('json').dumps(get_ipython().typed_said))";

/// All that is said of a cell, as type and content, the reply last.
async fn heard(client: &mut Client, code: &str) -> Vec<(String, Value)> {
    let content = json!({
        "code": code, "silent": false, "store_history": true, "user_expressions": {}, "allow_stdin": false,
        "stop_on_error": false,
    });
    let request = client
        .send(Channel::Shell, "execute_request", content)
        .await;
    let (mut said, mut reply, mut idle) = (Vec::new(), None, false);
    while !idle || reply.is_none() {
        let message = client.next().await.unwrap();
        if message.parent != request {
            continue;
        }
        idle |= message.content["execution_state"] == "idle";
        match message.msg_type == "execute_reply" {
            true => reply = Some((message.msg_type, message.content)),
            false => said.push((message.msg_type, message.content)),
        }
    }
    said.extend(reply);
    said
}

/// What is said, without what differs from one run to the next, and streams as one. A page on one of ours is its own.
fn steady(said: &[(String, Value)], asks_of_ours: bool) -> Vec<String> {
    let mut steady = Vec::new();
    let mut streams = [String::new(), String::new()];
    for (msg_type, content) in said {
        match (msg_type.as_str(), content["name"].as_str()) {
            ("status", _) => {}
            ("stream", Some(name)) => {
                streams[usize::from(name == "stderr")] += content["text"].as_str().unwrap();
            }
            _ => {
                let mut content = content.clone();
                // Who the kernel is.
                content["engine_info"].take();
                if asks_of_ours {
                    content["payload"].take();
                }
                steady.push(format!(
                    "{msg_type} {}",
                    without_varying(&content.to_string())
                ));
            }
        }
    }
    let timed = |line: &&str| !line.starts_with("CPU times:") && !line.starts_with("Wall time:");
    steady.extend(streams.map(|text| {
        let lines: Vec<&str> = text.lines().filter(timed).collect();
        without_varying(&lines.join("\n"))
    }));
    steady
}

/// Without addresses and process ids.
fn without_varying(text: &str) -> String {
    let mut rest = text;
    let mut steady = String::new();
    while let Some(at) = ["0x", "ipykernel_"]
        .iter()
        .filter_map(|mark| rest.find(mark).map(|at| at + mark.len()))
        .min()
    {
        steady += &rest[..at];
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    steady + rest
}

fn printed(said: &[(String, Value)]) -> Value {
    let text: String = said
        .iter()
        .filter_map(|(_, content)| content["text"].as_str())
        .collect();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{said:?}"))
}

/// Each cell does the same through nb as in a kernel that has no nb, and ours are called there as IPython calls magics.
#[tokio::test]
async fn a_cell_is_ours_only_where_ipython_calls_a_magic() {
    let mut cells = some(150, &OURS);
    // A body, and a line, that look like the calls before them.
    cells.push("%%nb help status\n  %pex status\nnb help status\n''';".to_owned());
    cells.push("if True:\n    x = %nb\nelse:\n    nb".to_owned());
    let gateway = Gateway::start("auto").await;
    let folder = gateway.root().join("typed");
    let work = folder.join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("a.csv"), "1").unwrap();
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let content = json!({
        "code": format!("__import__('os').chdir({work:?}) or {NOTE_CALLS}"), "silent": true, "store_history": false,
        "user_expressions": {"names": NAMES}, "allow_stdin": false,
    });
    let request = client
        .send(Channel::Shell, "execute_request", content)
        .await;
    let reply = client.outcome(&request, "").await.reply;
    let names = reply["user_expressions"]["names"]["data"]["text/plain"].as_str();
    let names = names
        .unwrap_or_else(|| panic!("{reply}"))
        .trim_matches('\'');
    let names: Value = serde_json::from_str(names).unwrap();

    let mut with_nb = Vec::new();
    for cell in &cells {
        with_nb.push(heard(&mut client, cell).await);
    }
    let calls = printed(&heard(&mut client, CALLS).await);
    let said = printed(&heard(&mut client, SAID).await);

    let asked = [&cells[..], &[CALLS.to_owned()]].concat();
    let mut without = runs_without_nb(&folder, &asked, &names, &said).await;
    let expected = printed(&without.pop().unwrap());
    for ((cell, with), without) in cells.iter().zip(&with_nb).zip(&without) {
        let asks_of_ours = OURS.iter().any(|ours| cell.contains(&format!("{ours}?")));
        let (with, without) = (steady(with, asks_of_ours), steady(without, asks_of_ours));
        let differs = with
            .iter()
            .zip(&without)
            .find(|(with, without)| with != without);
        assert_eq!(
            (differs, with.len()),
            (None, without.len()),
            "{cell}\n-- {cell:?}"
        );
    }
    assert_eq!(calls, expected);

    // The same by IPython's transformer alone: what it sees is called once, unless something else ends the cell.
    let seen = sees(&folder, &cells).await;
    let is_ours = |name: &str| {
        names
            .as_array()
            .unwrap()
            .iter()
            .any(|known| known[0] == name)
    };
    let mut called_in_all = 0;
    for ((cell, with), seen) in cells.iter().zip(&with_nb).zip(seen) {
        let (_, reply) = with.last().unwrap();
        let mut seen: Vec<Value> = seen.into_iter().flatten().map(|call| json!(call)).collect();
        seen.retain(|call| is_ours(call[0].as_str().unwrap()));
        let of_cell = calls
            .as_array()
            .unwrap()
            .iter()
            .filter(|call| call[0] == cell.as_str());
        let mut called: Vec<Value> = of_cell
            .map(|call| json!([call[1], call[2], call[3]]))
            .collect();
        // A line without a sigil is none to the transformer: IPython looks further at code of one line.
        let mut unmatched = seen.clone();
        called.retain(|call| {
            if let Some(at) = unmatched.iter().position(|seen| seen == call) {
                unmatched.swap_remove(at);
                return true;
            }
            let text = call[0].as_str().unwrap().to_owned() + " " + call[1].as_str().unwrap();
            !cell.lines().any(|line| line.trim() == text.trim())
        });
        called_in_all += called.len();
        if reply["status"] == "ok" && !cell.contains("%%capture") {
            let key = |call: &Value| call.to_string();
            seen.sort_by_key(key);
            called.sort_by_key(key);
            assert_eq!(called, seen, "{cell}\n-- {cell:?}");
        }
        for call in called {
            let at = seen.iter().position(|seen| *seen == call);
            let at = at.unwrap_or_else(|| panic!("{call} is called in {cell:?}"));
            seen.swap_remove(at);
        }
    }
    assert!(
        called_in_all > 20,
        "{called_in_all} calls are too few to tell"
    );
}

/// A magic whose `%%` cells the queue takes.
struct There;

impl Magic for There {
    fn name(&self) -> &'static str {
        "there"
    }

    fn help(&self) -> &'static str {
        "elsewhere"
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["there"]
    }

    fn runs(&self) -> Runs {
        Runs::Elsewhere
    }

    fn run<'a>(
        &'a self,
        _: &'a Call,
        _: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(future::ready(Ok(Answer::nothing())))
    }
}

/// A cell that the queue takes from an IPython kernel is one that IPython itself gives to that magic, with the same line and
/// body; those that stand behind a prompt are left to it.
#[tokio::test]
async fn the_queue_takes_what_ipython_would_give_to_a_cell_magic() {
    let cells = some(
        3000,
        &[
            "there",
            "there a b",
            "nb there x",
            "nb help",
            "nb",
            "there\tx",
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let seen = sees(folder.path(), &cells).await;
    let registry = Registry::of(vec![Box::new(There)]);
    let mut taken = 0;
    for (cell, seen) in cells.iter().zip(seen) {
        let claim = registry.claim(cell, Front::IPython);
        let head = seen.and_then(|calls| calls.into_iter().next());
        let theirs = head.filter(|(magic, line, body)| {
            let is_there = magic == "there"
                || magic == "nb" && line.split_whitespace().next() == Some("there");
            is_there && body.is_some()
        });
        let behind_prompt = cell.contains(">>> ") || cell.contains("In [");
        match (claim, theirs) {
            (Some(claim), Some((magic, line, body))) => {
                taken += 1;
                assert_eq!(
                    (&claim.call.magic, claim.call.line.as_str()),
                    (&magic, line.trim()),
                    "{cell:?}"
                );
                assert!(
                    behind_prompt || lines(claim.call.cell) == lines(body),
                    "{cell:?}"
                );
                assert_eq!(claim.rest, None, "{cell:?}");
            }
            (None, Some(_)) if behind_prompt => {}
            (None, None) => {}
            (claim, theirs) => panic!("{cell:?}: {claim:?}, and IPython {theirs:?}"),
        }
    }
    assert!(taken > 50, "{taken} cells are too few to tell");
}

/// The lines of a body; IPython empties those that are blank.
fn lines(body: Option<String>) -> Vec<String> {
    let body = body.unwrap_or_default();
    let blank = |line: &str| line.trim().is_empty();
    let lines: Vec<&str> = body
        .lines()
        .map(|line| if blank(line) { "" } else { line })
        .collect();
    lines
        .join("\n")
        .trim_end()
        .lines()
        .map(str::to_owned)
        .collect()
}
