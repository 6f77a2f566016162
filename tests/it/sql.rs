//! `%%sql` in real kernels: DuckDB over files and frames, SQLite, and a real PostgreSQL.

mod databases;
mod postgresql;
mod scala;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nb::env::{Environment, Uv};
use rustix::process::Signal;

use crate::client::{Client, Outcome};
use crate::gateway::{Gateway, project, wait_for};
use crate::packages::{fail, notebook, restart, run, with_uv};
use crate::processes::signal;

/// Files in every form that DuckDB knows by itself, and in Arrow's.
const FILES: &str = "import pandas as pd, polars as pl, pyarrow as pa, pyarrow.feather, json
people = pd.DataFrame({'id': [1, 2, 3], 'name': ['ada', 'grace', 'é'], 'born': pd.to_datetime(['1815-12-10', '1906-12-09', None])})
towns = pl.DataFrame({'id': [1, 2], 'town': ['London', 'New York']})
people.to_csv('people.csv', index=False)
people.to_parquet('people.parquet')
people.to_json('people.json', orient='records', date_format='iso')
pyarrow.feather.write_feather(pa.Table.from_pandas(people), 'peo ple.arrow', compression='uncompressed')";

/// A gateway with uv, whose kernels find the environment of SQL that all tests have.
pub(super) async fn with_sql() -> Gateway {
    let gateway = with_uv().await;
    let data = project("target/nb-data");
    let uv = Uv::find(&data, &|_| ()).await.unwrap();
    let shared = Environment::sql(&data);
    shared.make(&uv, &|_| ()).await.unwrap();
    let folder = |python: &Path| python.ancestors().nth(2).unwrap().to_owned();
    let own = folder(&Environment::sql(&gateway.root().join("data")).python());
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    symlink(folder(&shared.python()), own).unwrap();
    gateway
}

/// A client of a kernel that has pandas, polars and pyarrow.
pub(super) async fn client(gateway: &Gateway) -> (String, Client) {
    let kernel = notebook(gateway, "work/a.ipynb", "pip").await;
    let mut client = gateway.connect(&kernel, "a").await;
    run(&mut client, "%pip install -q pandas polars pyarrow").await;
    (kernel, client)
}

#[tokio::test]
async fn files_and_frames_are_tables() {
    let gateway = with_sql().await;
    let (_, mut a) = client(&gateway).await;
    run(&mut a, FILES).await;
    for file in [
        "people.csv",
        "people.parquet",
        "people.json",
        "peo ple.arrow",
    ] {
        let code = format!("%%sql\nselect count(*) as n, max(name) as last from '{file}'");
        let outcome = a.run(&code).await;
        assert_eq!(outcome.reply["status"], "ok", "{file}: {outcome:?}");
        assert!(outcome.result.contains("é"), "{file}: {outcome:?}");
        assert_eq!(
            run(
                &mut a,
                "print(type(_).__name__, _.n[0] + 0, Out[len(In) - 2] is _)"
            )
            .await,
            "DataFrame 3 True\n"
        );
    }
    // Frames by their names; what is assigned, or runs in an expression, is a value as any other.
    let joined = "x = %sql select p.name, t.town from people p join towns t using (id) order by name\nprint(x.values.tolist())";
    assert_eq!(
        run(&mut a, joined).await,
        "[['ada', 'London'], ['grace', 'New York']]\n"
    );
    let named = a
        .run("%%sql late <<\nselect name from people where born > '1900-01-01'")
        .await;
    assert_eq!(
        (named.result.as_str(), named.shown.as_str()),
        ("", ""),
        "{named:?}"
    );
    let shown = a
        .run("%%sql late =<<\nselect name from people where born > '1900-01-01'")
        .await;
    assert!(shown.result.contains("grace"), "{shown:?}");
    let changed = "people.loc[1, 'name'] = 'hopper'\nif True:\n    y = %sql select name from people\nprint(late.name[0], y.name[1])";
    assert_eq!(run(&mut a, changed).await, "grace hopper\n");
    // The user's variables are what they were, and no more of them.
    let names = "print([n for n in dir() if not n.startswith('_') and 'nb' in n])";
    assert_eq!(run(&mut a, names).await, "[]\n");
}

#[tokio::test]
async fn a_result_is_whole_and_its_display_a_preview() {
    let gateway = with_sql().await;
    gateway.put_settings("[sql]\nresult_bytes_max = 60000000\n");
    let (_, mut a) = client(&gateway).await;
    let outcome = a.run("%%sql\nselect i, i / 3 as third, i::decimal(18, 2) as money, sum(i) over () as total from range(1_000_000) t(i)").await;
    assert!(
        outcome.result.ends_with("\n20 of 1,000,000 rows"),
        "{outcome:?}"
    );
    let whole =
        "df = _\nprint(len(df), df.i.sum() + 0, df.dtypes.astype(str).tolist(), df.total[0] + 0)";
    assert_eq!(
        run(&mut a, whole).await,
        "1000000 499999500000 ['int64', 'float64', 'float64', 'int64'] 499999500000\n"
    );
    // What is shown is what the frame is by then; what is made of it looks as frames do.
    let later = a.run("df.loc[0, 'third'] = 17.5\ndf").await;
    assert!(
        later.result.contains("17.5") && later.result.ends_with("rows"),
        "{later:?}"
    );
    let made = a.run("df.tail(30)").await;
    assert!(!made.result.ends_with("rows"), "{made:?}");
    let copied = run(
        &mut a,
        "import pickle, copy\nprint(len(pickle.loads(pickle.dumps(df))), len(copy.deepcopy(df)))",
    )
    .await;
    assert_eq!(copied, "1000000 1000000\n");
    let large = fail(
        &mut a,
        "%%sql\nselect i, i, i, i, i, i, i, i, i from range(1_000_000) t(i)",
    )
    .await;
    assert!(
        large.contains("sql.result_bytes_max = 60000000 bytes"),
        "{large}"
    );
    // Changes are counted, other statements say nothing.
    let made = a
        .run("%%sql\ncreate table t(a int);\ninsert into t values (1), (2)")
        .await;
    assert_eq!(made.shown, "2 rows changed", "{made:?}");
    let read = a.run("%sql select sum(a) as s from t").await;
    assert!(read.result.contains('3'), "{read:?}");
}

#[tokio::test]
async fn what_is_bound_is_a_value_and_never_text() {
    let gateway = with_sql().await;
    let (_, mut a) = client(&gateway).await;
    let setup = "import datetime as d, decimal, numpy as np, pandas as pd
attempts = [\"x'; drop table t; --\", \"' or 1=1 --\", '$1', ':name', '\\\\', 'é\\n']
values = dict(i=2**40, f=1.5, b=True, none=None, day=d.date(2020, 2, 29), at=d.datetime(2020, 2, 29, 12, 30, 1), raw=b'\\0\\xff',
    money=decimal.Decimal('1.50'), n=np.int64(7), stamp=pd.Timestamp('2020-02-29 12:30:01'), missing=pd.NA)
globals().update(values)
ids = np.array([1, 3])";
    run(&mut a, setup).await;
    run(
        &mut a,
        "%sql create table t as select 1 as id, 'ada' as name",
    )
    .await;
    let attack = "for name in attempts:
    found = %sql select count(*) as n, :name as back, count(*) filter (name = :name) as hits from t
    assert found.values.tolist() == [[1, name, 0]], found";
    run(&mut a, attack).await;
    let back = "%%sql back <<
select :i as i, :f as f, :b as b, :none as none, :day as day, :at as at, :raw as raw, :money as money, :n as n, :stamp as stamp, :missing as missing,
  ':i' as text, 3::int as three, [1, 2, 3][:2] as part";
    run(&mut a, back).await;
    let told = "print([str(v) for v in back.iloc[0]])";
    assert_eq!(
        run(&mut a, told).await,
        "['1099511627776', '1.5', 'True', 'None', '2020-02-29', '2020-02-29 12:30:01', \"b'\\\\x00\\\\xff'\", '1.5', '7', '2020-02-29 12:30:01', 'None', ':i', '3', '[1 2]']\n"
    );
    let listed = "x = %sql select count(*) as n from range(5) r(i) where i in (select unnest(:ids))\nprint(x.n[0] + 0)";
    assert_eq!(run(&mut a, listed).await, "2\n");
    let missing = fail(&mut a, "%sql select :nowhere").await;
    assert!(missing.contains("'nowhere' is not defined"), "{missing}");
    let object = fail(&mut a, "o = object()\n%sql select :o").await;
    assert!(object.contains("o is of type object"), "{object}");
}

#[tokio::test]
async fn what_goes_wrong_says_where_and_harms_nothing() {
    let gateway = with_sql().await;
    let (kernel, mut a) = client(&gateway).await;
    let outcome = a.run("%%sql\nselect 1;\n\nselect * from nowhere").await;
    let said = outcome.reply.to_string();
    for part in [
        "SqlError",
        "nowhere does not exist",
        "LINE 4: select * from nowhere",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        !said.contains("nb_helper") && !said.contains("Traceback"),
        "{said}"
    );
    let wrong = a.run("%%sql warehose\nselect 1").await.reply.to_string();
    for part in [
        "no connection `warehose`",
        "[sql.connections.warehose]",
        "driver =",
    ] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
    let flag = fail(&mut a, "%%sql --persist x\nselect 1").await;
    assert!(flag.contains("--persist"), "{flag}");
    let all = a.run("%sql").await;
    assert!(all.shown.contains("duckdb"), "{all:?}");
    // A long script is asked, one that is too long is told so.
    for (mib, said) in [(2, "Parser Error"), (65, "more than the 64 MiB")] {
        let long = format!(
            "get_ipython().run_cell_magic('sql', '', '-- ' + 'x' * ({mib} << 20) + '\\nselect (')"
        );
        let wrong = fail(&mut a, &long).await;
        assert!(wrong.contains(said), "{wrong}");
    }
    // Drivers take it for the end of a statement.
    let cut = fail(&mut a, "%%sql\ncreate table cut as select 1 \0 where false").await;
    assert!(cut.contains("the character NUL"), "{cut}");
    // An interrupt ends the query in the database, which goes on with what it has.
    run(&mut a, "%sql create table kept as select 42 as x").await;
    let request = a
        .submit("%%sql\nselect sum(a.i * b.i) from range(10_000_000) a(i), range(10_000_000) b(i)")
        .await;
    let outcome = interrupted(&gateway, &kernel, &mut a, &request).await;
    assert_eq!(outcome.reply["ename"], "KeyboardInterrupt", "{outcome:?}");
    assert!(a.run("%sql from kept").await.result.contains("42"));
    // A worker that is killed is told, and there is another one for the next cell.
    let worker = wait_for("the worker", || worker_of(&gateway, &kernel)).await;
    signal(worker, Signal::KILL);
    let died = fail(&mut a, "%sql select 1").await;
    assert!(died.contains("worker has died (signal: 9"), "{died}");
    assert!(a.run("%sql select 43 as x").await.result.contains("43"));
    // With the kernel's process its connections go.
    let worker = wait_for("the worker", || worker_of(&gateway, &kernel)).await;
    restart(&mut a, &gateway, &kernel).await;
    gone(worker).await;
    let forgotten = fail(&mut a, "%sql from kept").await;
    assert!(forgotten.contains("kept"), "{forgotten}");
    let worker = wait_for("the worker", || worker_of(&gateway, &kernel)).await;
    gateway.delete(&kernel).await;
    gone(worker).await;
}

/// Interrupts a query that has run for so long that it shows so; what came of it.
pub(super) async fn interrupted(
    gateway: &Gateway,
    kernel: &str,
    client: &mut Client,
    request: &str,
) -> Outcome {
    loop {
        let said = client.next().await.unwrap();
        if said.parent == request && said.msg_type == "display_data" {
            break;
        }
    }
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    client.outcome(request, "").await
}

/// Waits for the end of a process.
async fn gone(pid: u32) {
    let is_gone = || {
        // One that is nobody's any more may not be reaped yet.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let runs = !status.is_empty() && !status.contains("State:\tZ");
        (!runs).then_some(())
    };
    wait_for("the end of the worker", is_gone).await;
}

/// The process that has the connections of a kernel's notebook, by the environment that it got.
fn worker_of(gateway: &Gateway, kernel: &str) -> Option<u32> {
    let start = gateway
        .root()
        .join("run/kernels")
        .join(kernel)
        .join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(start).ok()?).ok()?;
    let supervisor = state["nb"]["supervisor_pid"].as_i64()?;
    let children =
        fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
    children.split_whitespace().find_map(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        command
            .contains("<nb sql worker>")
            .then(|| pid.parse().ok())?
    })
}

#[tokio::test]
async fn a_kernel_that_is_no_python_has_it_too() {
    let gateway = with_sql().await;
    gateway.put_plain_spec();
    let kernel = gateway.kernel(r#"{"name":"plain"}"#).await;
    let mut a = gateway.connect(&kernel, "a").await;
    let outcome = a
        .run("%%sql\nselect i, 'a' || i as t from range(1000) r(i)")
        .await;
    assert!(outcome.shown.starts_with("i   t\n0   a0\n"), "{outcome:?}");
    assert!(outcome.shown.ends_with("\n20 of 1,000 rows"), "{outcome:?}");
    let bound = fail(&mut a, "%sql select :x").await;
    assert!(bound.contains("this kernel speaks"), "{bound}");
    let named = fail(&mut a, "%%sql x <<\nselect 1").await;
    assert!(named.contains("this kernel speaks"), "{named}");
}
