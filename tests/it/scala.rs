//! The Scala kernel: Ammonite in a real JVM, through gateway and client. A JVM takes seconds, so there are few and each does much.

use std::path::PathBuf;

use nb::protocol::message::Channel;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, Said, cell};
use crate::driver::runs;
use crate::front::Home;
use crate::gateway::{Gateway, project, wait_for};
use crate::interrupts::interrupted;
use crate::languages::{Language, speaks};
use crate::packages::{fail, notebook, run, with_uv};
use crate::processes::signal;

/// Where `cargo xtask setup` has put the jars.
pub(super) fn data() -> PathBuf {
    let data = std::fs::canonicalize(project("target/nb-data")).unwrap();
    assert!(data.join("scala/jars").exists(), "run cargo xtask setup");
    data
}

/// The kernelspec, as the gateway writes it, over what setup has made.
pub(super) fn put_scala(gateway: &Gateway, data: &std::path::Path, env: &Value) {
    let argv = json!([
        env!("CARGO_BIN_EXE_nb"),
        "scala-kernel",
        "--data",
        data,
        "-f",
        "{connection_file}"
    ]);
    let spec = json!({
        "argv": argv, "display_name": "Scala", "language": "scala", "env": env,
        "metadata": {"nb": {"transport": "ipc"}},
    });
    gateway.put_spec("scala", &spec);
}

async fn scala(env: Value) -> (Gateway, String, Client) {
    let gateway = Gateway::start("auto").await;
    put_scala(&gateway, &data(), &env);
    let kernel = gateway.kernel(r#"{"name":"scala"}"#).await;
    let client = gateway.connect(&kernel, "a").await;
    (gateway, kernel, client)
}

/// All that is said of a request, to reply and idle.
async fn rest(client: &mut Client, request: &str) -> Vec<Said> {
    let [said] = rests(client, [request]).await;
    said
}

/// The same of several: what is said of one may come between what is said of another.
async fn rests<const N: usize>(client: &mut Client, requests: [&str; N]) -> [Vec<Said>; N] {
    let mut all = [(); N].map(|()| Vec::<Said>::new());
    let is_whole = |all: &Vec<Said>| {
        let idle = |said: &Said| said.content["execution_state"] == "idle";
        all.iter().any(idle) && all.iter().any(|said| said.msg_type.ends_with("_reply"))
    };
    while !all.iter().all(is_whole) {
        let said = client.next().await.unwrap();
        if let Some(at) = requests.iter().position(|id| *id == said.parent) {
            all[at].push(said);
        }
    }
    all
}

async fn all(client: &mut Client, code: &str) -> Vec<Said> {
    let request = client.submit(code).await;
    rest(client, &request).await
}

/// The result of a cell that ends well.
async fn shows(client: &mut Client, code: &str) -> String {
    let all = all(client, code).await;
    let reply = of(&all, "execute_reply").unwrap();
    assert_eq!(reply["status"], "ok", "{code}: {all:?}");
    let result = of(&all, "execute_result").map(|content| &content["data"]["text/plain"]);
    result
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The reply to a cell that fails.
async fn fails(client: &mut Client, code: &str) -> Value {
    let all = all(client, code).await;
    let reply = of(&all, "execute_reply").unwrap();
    assert_eq!(reply["status"], "error", "{code}: {all:?}");
    assert_eq!(of(&all, "error").unwrap()["evalue"], reply["evalue"]);
    reply.clone()
}

fn of<'a>(all: &'a [Said], msg_type: &str) -> Option<&'a Value> {
    let said = all.iter().find(|said| said.msg_type == msg_type)?;
    Some(&said.content)
}

/// All text that went to a stream.
fn text(all: &[Said], name: &str) -> String {
    let streams = all
        .iter()
        .filter(|said| said.msg_type == "stream" && said.content["name"] == name);
    streams
        .filter_map(|said| said.content["text"].as_str())
        .collect()
}

/// Asks about code with the cursor at its end.
async fn ask(client: &mut Client, msg_type: &str, code: &str) -> Value {
    let content = json!({"code": code, "cursor_pos": code.chars().count(), "detail_level": 0});
    let request = client.send(Channel::Shell, msg_type, content).await;
    let all = rest(client, &request).await;
    of(&all, &msg_type.replace("request", "reply"))
        .unwrap()
        .clone()
}

#[tokio::test]
async fn scala_does_what_every_kernel_does() {
    let gateway = Gateway::start("auto").await;
    put_scala(&gateway, &data(), &json!({}));
    let language = Language {
        spec: "scala",
        transport: "ipc",
        implementation: "nb-scala",
        prints: ("println(\"hello\")", "hello"),
        shows: ("6 * 7", "res2: Int = 42"),
        fails: ("sys.error(\"no luck\")", "no luck"),
        completes: ("Seq(1).siz", "sizeCompare"),
        asks: "print(scala.io.StdIn.readLine())",
        keeps: ["val kept = \"still\"", "println(kept)"],
    };
    speaks(&gateway, &language).await;
}

#[tokio::test]
async fn a_session_has_ammonites_results_its_own_lines_and_libraries() {
    let (gateway, kernel, mut a) = scala(json!({})).await;
    assert_eq!(shows(&mut a, "1 + 1").await, "res1: Int = 2");
    let several = "case class P(a: Int, b: String)\n\nval p = P(1, \"x\")\np.copy(a = 2)";
    let result = shows(&mut a, several).await;
    assert_eq!(
        result,
        "defined class P\np: P = P(a = 1, b = \"x\")\nres2_2: P = P(a = 2, b = \"x\")"
    );

    // Lines are those of the cell, of the compiler and of a stack.
    let wrong = fails(&mut a, "val one = 1\n\n  one + missing\n").await;
    assert_eq!(
        (&wrong["ename"], &wrong["evalue"]),
        (
            &json!("CompilationError"),
            &json!("cmd3.sc:3: not found: value missing")
        )
    );
    assert_eq!(
        shows(&mut a, "def f(n: Int): Int =\n  1 / n").await,
        "defined function f"
    );
    let thrown = fails(&mut a, "// The caller.\nval two = 2\nf(0)").await;
    assert_eq!(thrown["ename"], "java.lang.ArithmeticException");
    let stack = json!([
        "java.lang.ArithmeticException: / by zero",
        "  at cmd4.f(cmd4.sc:2)",
        "  at cmd5.<init>(cmd5.sc:3)"
    ]);
    assert_eq!(thrown["traceback"], stack);

    // From threads, past the JVM's streams, and beside each other.
    let prints = "val t = new Thread(() => println(\"of a thread\")); t.start(); t.join()\n\
        System.err.println(\"beside\")\nnew java.lang.ProcessBuilder(\"echo\", \"of a child\").inheritIO().start().waitFor()";
    let said = all(&mut a, prints).await;
    let out = text(&said, "stdout");
    assert!(
        out.contains("of a thread\n") && out.contains("of a child\n"),
        "{out}"
    );
    assert_eq!(text(&said, "stderr"), "beside\n");

    // A cell that does not count leaves the count as it is.
    let mut silent = cell("val hidden = 1");
    silent["silent"] = json!(true);
    let request = a.send(Channel::Shell, "execute_request", silent).await;
    let said = rest(&mut a, &request).await;
    assert_eq!(of(&said, "execute_reply").unwrap()["execution_count"], 6);
    assert!(of(&said, "execute_result").is_none() && of(&said, "execute_input").is_none());
    assert_eq!(shows(&mut a, "hidden").await, "res7: Int = 1");

    // After a failure those that wait are not run.
    let there = gateway.root().join("there");
    let slow = format!(
        "while (!java.nio.file.Files.exists(java.nio.file.Paths.get(\"{}\"))) Thread.sleep(5)\nsys.error(\"\")",
        there.display()
    );
    let failing = a.submit(&slow).await;
    let waiting = a.submit("val never = 1").await;
    // What is answered at once has come behind it.
    let info = a
        .send(Channel::Shell, "kernel_info_request", json!({}))
        .await;
    let mut before: Vec<Said> = Vec::new();
    while before
        .iter()
        .all(|said| said.msg_type != "kernel_info_reply")
    {
        let said = a.next().await.unwrap();
        assert!(
            said.parent == info || said.msg_type != "execute_reply",
            "{said:?}"
        );
        before.push(said);
    }
    std::fs::write(&there, "").unwrap();
    let both = rests(&mut a, [&failing, &waiting]).await;
    let [failed, aborted] = both.map(|said| of(&said, "execute_reply").unwrap()["status"].clone());
    assert_eq!((failed, aborted), (json!("error"), json!("aborted")));

    let found = ask(&mut a, "inspect_request", "f").await;
    assert!(
        found["data"]["text/plain"]
            .as_str()
            .unwrap()
            .contains("def f(n: Int): Int"),
        "{found}"
    );
    assert_eq!(
        ask(&mut a, "inspect_request", "nonsense").await["found"],
        false
    );
    let completed = ask(&mut a, "complete_request", "val 𝄞 = p.cop").await;
    assert_eq!(
        (&completed["matches"], &completed["cursor_start"]),
        (&json!(["copy"]), &json!(10))
    );

    let json = shows(
        &mut a,
        "import $ivy.`com.lihaoyi::upickle:3.1.0`\nupickle.default.write(Seq(1, 2))",
    )
    .await;
    assert!(json.ends_with("\"[1,2]\""), "{json}");
    let files = shows(
        &mut a,
        "%dep com.github.pathikrit::better-files:3.9.2\nbetter.files.File(\"/\").isDirectory",
    )
    .await;
    assert!(files.ends_with("= true"), "{files}");
    let nowhere = fails(&mut a, "%dep no.such::library:1.0").await;
    assert!(
        nowhere["evalue"]
            .as_str()
            .unwrap()
            .contains("no.such:library_2.13:1.0"),
        "{nowhere}"
    );

    // The JVM is the kernel.
    let ends = a
        .submit("System.err.println(\"last words\"); sys.exit(3)")
        .await;
    let said = loop {
        let said = a.next().await.unwrap();
        if said.parent == ends && said.msg_type == "execute_reply" {
            break said.content;
        }
    };
    assert!(
        said["evalue"]
            .as_str()
            .unwrap()
            .contains("exited with code 3"),
        "{said}"
    );
    assert_eq!(shows(&mut a, "\"again\"").await, "res1: String = \"again\"");
    gateway.delete(&kernel).await;
}

/// With a JVM that can throw into another thread, and as with one that cannot.
#[tokio::test]
async fn an_interrupt_ends_a_loop_and_a_sleep_and_keeps_the_session() {
    for options in ["", "-Dnb.stop=never"] {
        let (gateway, kernel, mut a) = scala(json!({"JAVA_OPTS": options})).await;
        assert_eq!(shows(&mut a, "val kept = 1").await, "kept: Int = 1");
        for code in [
            "while (true) {}",
            "Thread.sleep(600000)",
            "Iterator.from(0).foreach(_ => ())",
            "def deep(n: Int): Int = if (n < 0) n else deep(math.abs(n + 1)); deep(1)",
            "scala.io.StdIn.readLine()",
        ] {
            let running = a.submit(&format!("println(\"begun\"); {code}")).await;
            a.wait_for(&running, "begun").await;
            let ended = interrupted(&gateway, &kernel, &mut a, &running).await;
            assert_eq!(ended["ename"], "Interrupted", "{code}: {ended}");
        }
        assert_eq!(shows(&mut a, "kept").await, "res7: Int = 1", "{options}");
        assert_eq!(gateway.model(&kernel).await["nb"]["restarts"], 0);
        gateway.delete(&kernel).await;
    }
}

#[tokio::test]
async fn a_jvm_that_does_not_listen_holds_up_nobody_and_so_much_waits_for_it() {
    let (gateway, kernel, mut a) = scala(json!({})).await;
    let pid = shows(&mut a, "ProcessHandle.current.pid").await;
    let pid = pid.rsplit(' ').next().unwrap().trim_end_matches('L');
    let pid: u32 = pid.parse().unwrap();
    signal(pid, Signal::STOP);
    wait_for("it is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ").then_some(())
    })
    .await;
    // More than its line holds.
    let long = json!({"code": " ".repeat(2 * 1024 * 1024), "cursor_pos": 0});
    a.send(Channel::Shell, "complete_request", long).await;
    let waits = a.submit("val kept = 1").await;
    let info = ask(&mut a, "kernel_info_request", "").await;
    assert_eq!(info["implementation"], "nb-scala");
    let refused = fails(&mut a, &"/".repeat(64 * 1024 * 1024)).await;
    assert_eq!(refused["ename"], "TooMuchWaits");
    signal(pid, Signal::CONT);
    let done = rest(&mut a, &waits).await;
    assert_eq!(of(&done, "execute_reply").unwrap()["status"], "ok");
    gateway.delete(&kernel).await;
}

/// From a repository on this machine: what setup has got by the network.
#[tokio::test]
async fn the_first_start_gets_and_makes_what_it_needs_and_says_so() {
    let gateway = Gateway::start("auto").await;
    let repository = format!("file://{}", data().join("scala/jars").display());
    let own = gateway.root().join("scala-data");
    put_scala(
        &gateway,
        &own,
        &json!({"COURSIER_REPOSITORIES": repository}),
    );
    let kernel = gateway.kernel(r#"{"name":"scala"}"#).await;
    let mut a = gateway.connect(&kernel, "a").await;
    // Nobody waits for it in vain.
    let waits = a.submit("1").await;
    a.wait_for(&waits, "Scala: ").await;
    let ended = interrupted(&gateway, &kernel, &mut a, &waits).await;
    assert_eq!(ended["ename"], "Interrupted", "{ended}");
    // Another one waits for the first.
    let second = gateway.kernel(r#"{"name":"scala"}"#).await;
    let mut b = gateway.connect(&second, "b").await;
    let [one, two] = [a.submit("6 * 7").await, b.submit("6 * 8").await];
    let (one, two) = tokio::join!(rest(&mut a, &one), rest(&mut b, &two));
    for (said, result) in [(&one, "res2: Int = 42"), (&two, "res1: Int = 48")] {
        assert_eq!(
            of(said, "execute_result").unwrap()["data"]["text/plain"],
            result,
            "{said:?}"
        );
    }
    assert!(
        text(&one, "stderr").contains("Scala: makes an archive"),
        "{one:?}"
    );
    gateway.delete(&second).await;
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn without_a_jdk_a_cell_says_what_is_missing() {
    let (gateway, kernel, mut a) = scala(json!({"NB_JAVA_HOME": "/nowhere"})).await;
    for _ in 0..2 {
        let said = fails(&mut a, "1").await;
        assert_eq!(
            said["evalue"],
            "NB_JAVA_HOME is /nowhere, but there is no bin/java"
        );
    }
    // It is there all the same.
    assert_eq!(
        ask(&mut a, "complete_request", "x").await["matches"],
        json!([])
    );
    gateway.delete(&kernel).await;
    let (gateway, kernel, mut a) = scala(json!({"JAVA_OPTS": "-Xmx0.5"})).await;
    let said = fails(&mut a, "1").await;
    assert!(
        said["evalue"]
            .as_str()
            .unwrap()
            .contains("is JAVA_OPTS right?"),
        "{said}"
    );
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn a_python_notebook_has_cells_in_scala() {
    let gateway = Gateway::start("auto").await;
    put_scala(&gateway, &data(), &json!({}));
    let kernel = gateway.kernel(r#"{"name":"python3"}"#).await;
    let mut a = gateway.connect(&kernel, "a").await;
    assert_eq!(
        shows(&mut a, "%%kernel scala\nval x = 6").await,
        "x: Int = 6"
    );
    assert_eq!(
        shows(&mut a, "%%kernel scala\nx * 7").await,
        "res2: Int = 42"
    );
    assert_eq!(shows(&mut a, "6 * 8").await, "48");
    gateway.delete(&kernel).await;
}

/// Of every type that Arrow and Scala have in common, with something missing; in two pieces.
const FRAMES: &str = "import datetime as dt, decimal, pandas as pd, polars as pl, pyarrow as pa
df = pd.DataFrame({'i': [1, 2, 2**40], 'f': [0.5, None, -1.5], 's': ['ada', None, 'é'], 'b': [True, False, True],
    'c': pd.Categorical(['x', 'y', 'x']), 'day': [dt.date(2020, 2, 29), None, dt.date(1969, 12, 31)],
    'at': pd.to_datetime(['2020-02-29 12:30:01.5', None, '1969-12-31 23:59:59'], format='ISO8601'),
    'zone': pd.to_datetime(['2020-02-29 12:30', '2020-07-01', None], utc=True, format='ISO8601').tz_convert('Europe/Rome'),
    'money': [decimal.Decimal('1.50'), decimal.Decimal('-0.01'), None], 'raw': [b'ab', None, b'']}, index=[7, 8, 9])
many = pa.table({'n': pa.chunked_array([pa.array([1, None]), pa.array([], pa.int64()), pa.array([3])])})
p, lists, value = pl.DataFrame({'word': ['x', 'y'], 'n': pl.Series([1, 255], dtype=pl.UInt8)}), pl.DataFrame({'l': [[1, 2], []], 's': [{'a': 1, 'b': 'x'}, {'a': 2, 'b': None}]}), 5
halves = pa.table({'h': pa.array([1.5], pa.float64()).cast(pa.float16())})";

#[tokio::test]
async fn a_frame_is_handed_to_scala() {
    let gateway = with_uv().await;
    put_scala(&gateway, &data(), &json!({}));
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    run(&mut a, "%pip install -q pandas polars pyarrow").await;
    run(&mut a, FRAMES).await;
    let cell = "%%kernel scala --get df,many,p
println(df.names.mkString(\",\"))
println(df.as[Long](\"i\").sum)
for (row <- df.rows) println(df.names.map(name => row(name) match { case b: Array[Byte] => new String(b); case other => other }).mkString(\" \"))
println(many(\"n\").toList)
println(p(\"word\").mkString + p.as[Int](\"n\").sum)
println(df)";
    assert_eq!(
        run(&mut a, cell).await,
        "i,f,s,b,c,day,at,zone,money,raw
1099511627779
1 0.5 ada true x 2020-02-29 2020-02-29T12:30:01.500 2020-02-29T13:30+01:00[Europe/Rome] 1.50 ab
2 null null false y null null 2020-07-01T02:00+02:00[Europe/Rome] -0.01 null
1099511627776 -1.5 é true x 1969-12-31 1969-12-31T23:59:59 null null \n\
         List(1, null, 3)
xy256
3 rows of i: Long, f: Double, s: String, b: Boolean, c: String, day: LocalDate, at: LocalDateTime, zone: ZonedDateTime, money: BigDecimal, raw: Array[Byte]\n"
    );
    let lists = "%%kernel scala --get lists\nprint(lists, lists(\"l\").head, lists.as[Map[String, Any]](\"s\")(1)(\"b\"))";
    assert_eq!(
        run(&mut a, lists).await,
        "(2 rows of l: Seq[Long], s: Map[String, Any],Seq(1, 2),null)"
    );
    let halves = fail(&mut a, "%%kernel scala --get halves\n1").await;
    assert!(
        halves.contains("the column h has numbers of half precision"),
        "{halves}"
    );
    let value = fail(&mut a, "%put value --to scala").await;
    assert!(value.contains("value is no frame"), "{value}");
    // It is there when its giver has given something else.
    run(&mut a, "%put many --to scala").await;
    assert_eq!(
        run(&mut a, "%%kernel scala\nprint(df(\"s\").head)").await,
        "ada"
    );
    let nowhere = fail(&mut a, "%%kernel scala\ndf(\"none\")").await;
    assert!(nowhere.contains("there is no column none"), "{nowhere}");
    gateway.delete(&kernel).await;
}

#[tokio::test]
async fn jupyter_kernel_test_passes_with_scala() {
    let home = Home::bare().await;
    put_scala(&home.gateway, &data(), &json!({}));
    home.install_spec("scala").await;
    let mut suite = home.python();
    suite
        .args(["-m", "unittest", "-v", "kernel_tests_scala"])
        .env("PYTHONPATH", project("tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    runs(suite).await;
    assert!(home.kernels().await.is_empty());
}
