//! `%%sql` in a Scala kernel. A JVM takes seconds, so each test does much.

use serde_json::json;

use super::postgresql::{PASSWORD, Postgresql};
use super::{interrupted, with_sql};
use crate::client::Client;
use crate::gateway::Gateway;
use crate::packages::{fail, run};
use crate::scala::{data, put_scala};

async fn scala() -> (Gateway, String, Client) {
    let gateway = with_sql().await;
    put_scala(&gateway, &data(), &json!({}));
    let kernel = gateway.kernel(r#"{"name":"scala"}"#).await;
    let client = gateway.connect(&kernel, "a").await;
    (gateway, kernel, client)
}

/// Of each type that is bound, and of some that are not.
const VALUES: &str = r#"import java.time._
val attempts = Seq("x'; drop table t; --", "' or 1=1 --", "$1", ":name", "\\", "\"", "é\n𝄞", "${name}", "`")
var name = attempts.head
val (i, l, f, b, none, nothing, some) = (7, 1L << 40, 1.5, true, Option.empty[Int], null, Some("x"))
val (money, big) = (BigDecimal("1.50"), BigInt(2).pow(62))
val (day, time, at) = (LocalDate.of(2020, 2, 29), LocalTime.of(1, 2, 3, 4000), LocalDateTime.of(2020, 2, 29, 12, 30, 1, 123456789))
val (zoned, instant) = (ZonedDateTime.of(2020, 7, 1, 0, 0, 0, 0, ZoneId.of("Europe/Rome")), Instant.EPOCH)
val (raw, ids) = (Array[Byte](0, -1), List(1, 3)); val `type` = "a word"
class Thing; val thing = new Thing; def twice(x: Int) = 2 * x; val nested = Seq(Seq(1)); val far = LocalDate.MAX"#;

#[tokio::test]
async fn what_scala_binds_is_a_value_and_never_text() {
    let (_gateway, _, mut a) = scala().await;
    run(&mut a, VALUES).await;
    run(
        &mut a,
        "%sql create table t as select 1 as id, 'ada' as name",
    )
    .await;
    for at in 0..9 {
        let attempt = format!("name = attempts({at})");
        run(&mut a, &attempt).await;
        let attack = "%%sql found <<\nselect count(*) as n, :name as back, count(*) filter (name = :name) as hits from t";
        run(&mut a, attack).await;
        let told = "println(found(\"n\").head, found(\"back\").head == name, found(\"hits\").head)";
        assert_eq!(run(&mut a, told).await, "(1,true,0)\n", "{at}");
    }
    let back = "%%sql back <<
select :i as i, :l as l, :f as f, :b as b, :none as none, :nothing as nothing, :some as some, :money as money, :big as big, :day as day,
  :time as time, :at as at, :zoned as zoned, :instant as instant, :raw as raw, :type as type, ':i' as text, 3::int as three,
  (select count(*) from range(5) r(i) where i in (select unnest(:ids))) as hits, :attempts as attempts";
    run(&mut a, back).await;
    let told = "for (name <- back.names.init) println(s\"$name: \" + (back(name).head match { case b: Array[Byte] => b.toSeq; case other => other }))
println(back.as[Seq[String]](\"attempts\").head == attempts)";
    let told = run(&mut a, told).await;
    for line in [
        "i: 7",
        "l: 1099511627776",
        "f: 1.5",
        "b: true",
        "none: null",
        "nothing: null",
        "some: x",
        "money: 1.50",
        "big: 4611686018427387904",
        "day: 2020-02-29",
        "time: 01:02:03.000004",
        "at: 2020-02-29T12:30:01.123456",
        "raw: ArraySeq(0, -1)",
        "type: a word",
        "text: :i",
        "three: 3",
        "hits: 2",
        "true",
    ] {
        assert!(told.lines().any(|said| said == line), "{line}: {told}");
    }
    // Where the database shows them is its own affair.
    let moments = "println(back.as[ZonedDateTime](\"zoned\").head.toInstant == zoned.toInstant, back.as[ZonedDateTime](\"instant\").head.toInstant)";
    assert_eq!(run(&mut a, moments).await, "(true,1970-01-01T00:00:00Z)\n");
    for (name, sentence) in [
        (
            "nowhere",
            "name 'nowhere' is not defined; the query binds it as :nowhere",
        ),
        (
            "Thing",
            "name 'Thing' is not defined; the query binds it as :Thing",
        ),
        (
            "twice",
            "What a query binds is a value: missing argument list for method twice",
        ),
        ("thing", "thing is a Thing: numbers, texts"),
        ("nested", "nested has in it a sequence: numbers"),
        ("far", "far is of the year 999999999: those from 1 to 9999"),
    ] {
        let said = fail(&mut a, &format!("%sql select :i, :{name}")).await;
        assert!(said.contains(sentence), "{sentence}: {said}");
    }
    let there = a.run("%sql select name from t").await;
    assert!(there.result.contains("ada"), "{there:?}");
}

#[tokio::test]
async fn a_result_is_a_frame_of_scala_and_stays_one() {
    let (gateway, kernel, mut a) = scala().await;
    run(&mut a, "val first = 1").await;
    // Cell 2; in four pieces.
    let rows =
        "%%sql\nselect i, 'a' || i as t, if(i % 2 = 0, i, null) as even from range(400_000) r(i)";
    let shown = a.run(rows).await;
    assert!(
        shown.result.starts_with("i   t    even\n0   a0   0\n"),
        "{shown:?}"
    );
    assert!(shown.result.ends_with("\n20 of 400,000 rows"), "{shown:?}");
    assert_eq!(shown.reply["execution_count"], 2, "{shown:?}");
    let named = a.run("%%sql small <<\nselect 1 as x").await;
    assert_eq!(
        (named.result.as_str(), named.shown.as_str()),
        ("", ""),
        "{named:?}"
    );
    let both = a.run("%%sql both =<<\nselect 'here' as y").await;
    assert!(both.result.contains("here"), "{both:?}");
    // The worker has let the first result go, and what is mapped of it is there.
    let later = "for (_ <- 1 to 3) System.gc()
println(res2.size, res2.as[Long](\"i\").sum, res2(\"t\").last, res2(\"even\").count(_ == null), res2.rows(250001), small(\"x\").head, both(\"y\").head)";
    assert_eq!(
        run(&mut a, later).await,
        "(400000,79999800000,a399999,200000,Row(i = 250001, t = a250001, even = null),1,here)\n"
    );
    // Mapped are a few pieces of each frame, however many its batches and columns are.
    let maps = "println(scala.io.Source.fromFile(\"/proc/self/maps\").getLines().count(_.contains(\"nb-result\")) <= 9)";
    assert_eq!(run(&mut a, maps).await, "true\n");
    // Cells of SQL are counted as others are, and nothing unseen takes the name of a result.
    assert_eq!(a.run("6 * 7").await.result, "res7: Int = 42");
    run(&mut a, "%%sql bound <<\nselect :first as one").await;
    assert_eq!(a.run("res7 + first").await.result, "res9: Int = 43");
    let empty = a.run("%%sql\nselect 1 as x where false").await;
    assert!(empty.result.ends_with("0 rows"), "{empty:?}");
    assert_eq!(run(&mut a, "print(res10)").await, "0 rows of x: Int");
    // A line of SQL above Scala.
    let line = "%sql `odd` << select 1 as x\nprint(bound(\"one\").head)";
    let said = fail(&mut a, line).await;
    assert!(said.contains("syntax error"), "{said}");
    let line = "%sql val_ << select 3 as x\nprint(val_(\"x\").head)";
    assert_eq!(run(&mut a, line).await, "3");
    // An interrupt ends the query, and nothing else.
    let endless = "%%sql never <<\nselect count(*) from range(100000000) a, range(100000000) b where a.range + b.range = 3";
    let request = a.submit(endless).await;
    let ended = interrupted(&gateway, &kernel, &mut a, &request).await;
    assert_eq!(ended.reply["ename"], "KeyboardInterrupt", "{ended:?}");
    assert_eq!(run(&mut a, "print(first, res2.size)").await, "(1,400000)");
}

#[tokio::test]
async fn frames_of_scala_are_tables() {
    let (_gateway, _, mut a) = scala().await;
    run(
        &mut a,
        "%sql people << select i as id, 'name ' || i as name from range(3) r(i)",
    )
    .await;
    run(
        &mut a,
        "object kept { val `type` = people }; import kept.{`type` => towns}; def fresh = people; val no = 5; val seq = Seq(1); def of(x: Int) = people",
    )
    .await;
    // Where each frame came from is long gone.
    run(&mut a, "%sql select 1\nfor (_ <- 1 to 3) System.gc()").await;
    let joined = "%%sql pairs =<<\nselect p.name from people p join towns using (id) join \"fresh\" f using (id) where p.id > 0 order by all";
    let joined = a.run(joined).await;
    assert!(
        joined.result.contains("name 1\nname 2\n2 rows"),
        "{joined:?}"
    );
    let again = a
        .run("%sql select count(*) as n from pairs, pairs as b")
        .await;
    assert!(again.result.starts_with("n\n4\n"), "{again:?}");
    // What a cell does not call by this name any more is none, nor is what is no frame.
    run(&mut a, "val people = 5").await;
    for name in ["people", "no", "seq", "of", "nowhere", "\"println(7)\""] {
        let said = fail(&mut a, &format!("%sql select * from {name}")).await;
        assert!(said.contains("does not exist"), "{name}: {said}");
    }
    let lazily = "lazy val late: nb.Frame = sys.error(\"not today\")";
    run(&mut a, lazily).await;
    let said = fail(&mut a, "%sql select * from late").await;
    assert!(said.contains("not today"), "{said}");
}

#[tokio::test]
async fn what_databases_have_has_a_form_in_scala_or_says_so() {
    let (_gateway, _, mut a) = scala().await;
    let types = "%%sql types <<
create or replace temp table t as select [1, null, 3] as list, {'a': 1, 'b': ['x', 'y']} as struct, map {'k': 1.5::double} as map,
  [1, 2]::int[2] as pair, interval '14 months 3 days 04:05:06.5' as lasts, [['é']] as nested, 'x'::enum('x', 'y') as word,
  ['y']::enum('x', 'y')[] as words, 'b7b1e3e0-0000-4000-8000-000000000000'::uuid as id, 1::hugeint as huge, 1.5::float as f, 200::utinyint as u;
insert into t (list, id) values ([], null), (null, uuid());
select * from t";
    run(&mut a, types).await;
    let told = "println(types.kinds.mkString(\", \"))
for (name <- types.names) println(s\"$name: ${types(name).head}\")
println(types(\"list\").tail, types(\"struct\")(1), types.as[Map[String, Any]](\"struct\").head(\"a\"))";
    assert_eq!(
        run(&mut a, told).await,
        "Seq[Int], Map[String, Any], Map[String, Double], Seq[Int], String, Seq[Seq[String]], String, Seq[String], String, BigDecimal, Float, Int
list: Seq(1, null, 3)
struct: VectorMap(a -> 1, b -> Seq(x, y))
map: VectorMap(k -> 1.5)
pair: Seq(1, 2)
lasts: P1Y2M3DT4H5M6.5S
nested: Seq(Seq(é))
word: x
words: Seq(y)
id: b7b1e3e0-0000-4000-8000-000000000000
huge: 1
f: 1.5
u: 200
(Vector(Seq(), null),null,1)\n"
    );
    // A type without a form: what is shown is shown, and a variable fails.
    let shown = a.run("%sql select union_value(num := 2) as u").await;
    assert!(shown.result.contains('2'), "{shown:?}");
    assert!(
        shown
            .text
            .contains("There is no res3: the column u has unions, which have no form here"),
        "{shown:?}"
    );
    let failed = fail(&mut a, "%sql u << select union_value(num := 2) as u").await;
    assert!(failed.contains("the column u has unions"), "{failed}");
    assert_eq!(run(&mut a, "print(types.size)").await, "3");
}

#[tokio::test]
async fn postgresql_answers_scala_and_a_python_notebooks_scala() {
    let gateway = with_sql().await;
    put_scala(&gateway, &data(), &json!({}));
    let server = Postgresql::start().await;
    gateway.put_settings(&format!(
        "[sql.connections.wh]\ndriver = \"postgresql\"\nuri = \"postgresql://127.0.0.1:{}/postgres\"\nuser = \"ada\"\npassword_command = [\"echo\", \"{PASSWORD}\"]\n",
        server.port
    ));
    let kernel = gateway.kernel(r#"{"name":"python3"}"#).await;
    let mut a = gateway.connect(&kernel, "a").await;
    let values = "%%kernel scala
val (id, name, day, at, paid) = (1, \"x'); drop table people; --\", java.time.LocalDate.of(1815, 12, 10), java.time.Instant.EPOCH, BigDecimal(\"10.25\"))
val (raw, none) = (Array[Byte](1, 2), Option.empty[String])";
    run(&mut a, values).await;
    let rows = "%%kernel scala
%%sql wh
create table people(id int, name text, born date, at timestamptz, paid numeric(10, 2), raw bytea, nothing text);
insert into people values (:id, :name, :day, :at, :paid, :raw, :none)";
    run(&mut a, rows).await;
    let taken = "%%kernel scala
%%sql wh df <<
select *, array[1, null, 3] as list, interval '1 month 2 days 3 hours' as lasts, '{\"a\": 1}'::jsonb as doc,
  'b7b1e3e0-0000-4000-8000-000000000000'::uuid as uuid, 1.5::numeric as number, '10.0.0.1'::inet as host,
  timestamp '2020-02-29 12:30:01.5' as moment, time '12:30' as time
from people where name = :name and born = :day and at = :at and paid = :paid and raw = :raw and nothing is null";
    run(&mut a, taken).await;
    let told = run(&mut a, "%%kernel scala\nfor (name <- df.names) println(s\"$name: \" + (df(name).head match { case b: Array[Byte] => b.toSeq; case other => other }) + \" \" + df.kinds(df.names.indexOf(name)))").await;
    assert_eq!(
        told,
        "id: 1 Int
name: x'); drop table people; -- String
born: 1815-12-10 LocalDate
at: 1970-01-01T00:00Z[UTC] ZonedDateTime
paid: 10.25 BigDecimal
raw: ArraySeq(1, 2) Array[Byte]
nothing: null String
list: Seq(1, null, 3) Seq[Int]
lasts: P1M2DT3H String
doc: {\"a\": 1} String
uuid: b7b1e3e0-0000-4000-8000-000000000000 UUID
number: 1.5 BigDecimal
host: ArraySeq(2, 32, 0, 4, 10, 0, 0, 1) Array[Byte]
moment: 2020-02-29T12:30:01.500 LocalDateTime
time: 12:30 LocalTime\n"
    );
    assert_eq!(server.ask("select count(*) from people"), "1\n");
}
