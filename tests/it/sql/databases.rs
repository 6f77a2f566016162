//! Databases by name: PostgreSQL with its password, SQLite.

use std::fs;

use super::postgresql::{PASSWORD, Postgresql};
use super::{client, interrupted, with_sql};
use crate::gateway::wait_for;
use crate::packages::{fail, run};

/// What runs in the server but for whoever asks.
const ACTIVE: &str = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query ~ 'pg_sleep'";

#[tokio::test]
async fn postgresql_is_asked_by_its_name() {
    let gateway = with_sql().await;
    let server = Postgresql::start().await;
    let uri = format!("postgresql://127.0.0.1:{}/postgres", server.port);
    let password = gateway.root().join("pw");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let profiles = gateway.root().join(".config/adbc/profiles");
    fs::create_dir_all(&profiles).unwrap();
    let profile = format!(
        "profile_version = 1\ndriver = \"postgresql\"\n[Options]\nuri = \"postgresql://ada:{PASSWORD}@127.0.0.1:{}/postgres\"\n",
        server.port
    );
    fs::write(profiles.join("by_profile.toml"), profile).unwrap();
    gateway.put_settings(&format!(
        "[sql.connections.wh]\ndriver = \"postgresql\"\nuri = \"{uri}\"\nuser = \"ada\"\npassword_file = \"{}\"\n\
         [sql.connections.wrong]\ndriver = \"postgresql\"\nuri = \"{uri}\"\nuser = \"ada\"\npassword_command = [\"echo\", \"wrong-s3cret\"]\n\
         [sql.connections.nowhere]\ndriver = \"postgresql\"\nuri = \"postgresql://127.0.0.1:1/x\"\n",
        password.display()
    ));
    let (kernel, mut a) = client(&gateway).await;

    run(&mut a, "%%sql wh\ncreate table people(id int primary key, name text, born date, paid numeric(10, 2));\ninsert into people values (1, 'ada', '1815-12-10', 10.25), (2, 'grace', null, 0.5)").await;
    run(
        &mut a,
        "%%sql wh df <<\nselect *, now() as at, array[1, 2] as two from people order by id",
    )
    .await;
    assert_eq!(
        run(
            &mut a,
            "print(df.name.tolist(), df.paid.sum() + 0, df['at'].dtype, df.two[0].tolist())"
        )
        .await,
        "['ada', 'grace'] 10.75 datetime64[us, UTC] [1, 2]\n"
    );
    // Attempts to leave a value are values; what a value is compared to keeps its type.
    let attack = "for name in [\"x'; drop table people; --\", \"' or 1=1 --\", '$1', '\\\\']:
    found = %sql wh select :name as back, count(*) filter (where name = :name) as hits from people
    assert found.values.tolist() == [[name, 0]], found
one, day = 1, __import__('datetime').date(1815, 12, 10)
x = %sql wh select name from people where id = :one and born = :day and paid > :one::numeric
print(x.name[0])";
    assert_eq!(run(&mut a, attack).await, "ada\n");
    // Errors are the server's, with the line of the cell.
    let outcome = a
        .run("%%sql wh\nselect id\nfrom nobody")
        .await
        .reply
        .to_string();
    for part in [
        "relation \\\"nobody\\\" does not exist",
        "LINE 3: from nobody",
        "SQLSTATE 42P01",
    ] {
        assert!(outcome.contains(part), "{part}: {outcome}");
    }
    assert!(
        !outcome.contains("application=") && !outcome.contains("Query was"),
        "{outcome}"
    );
    let taken = fail(&mut a, "%sql wh insert into people values (1, 'again')").await;
    assert!(taken.contains("duplicate key"), "{taken}");
    let by_profile = a
        .run("%sql by_profile select count(*) as n from people")
        .await;
    assert!(by_profile.result.contains('2'), "{by_profile:?}");

    // A transaction is the connection's, not the cell's.
    run(&mut a, "%sql wh begin").await;
    run(&mut a, "%sql wh delete from people").await;
    run(&mut a, "%sql wh rollback").await;
    let kept = a.run("%sql wh select count(*) as n from people").await;
    assert!(kept.result.contains('2'), "{kept:?}");

    // Who asks is known to the server, and an interrupt ends the query there.
    let request = a
        .submit("%%sql wh\nselect pg_sleep(600), 'é' as asleep")
        .await;
    wait_for("the query", || {
        (server.ask(ACTIVE).trim() == "1").then_some(())
    })
    .await;
    let seen = server.ask("select application_name, query from pg_stat_activity where state = 'active' and query ~ 'asleep' and pid <> pg_backend_pid()");
    let user = nb::config::user_name();
    assert!(
        seen.starts_with(&format!("nb {user} ")) && seen.contains("a.ipynb"),
        "{seen}"
    );
    assert!(seen.contains(&format!("user='{user}'*/")), "{seen}");
    let path = format!("/api/kernels/{kernel}/interrupt");
    assert_eq!(gateway.rest("POST", &path, "").await.0, 204);
    let outcome = a.outcome(&request, "").await;
    assert_eq!(outcome.reply["ename"], "KeyboardInterrupt", "{outcome:?}");
    assert_eq!(server.ask(ACTIVE).trim(), "0");
    assert!(
        a.run("%sql wh select count(*) as n from people")
            .await
            .result
            .contains('2')
    );
    // One that is killed with its supervisor leaves no query either.
    let _asleep = a.submit("%sql wh select pg_sleep(600)").await;
    wait_for("the query", || {
        (server.ask(ACTIVE).trim() == "1").then_some(())
    })
    .await;
    gateway.delete(&kernel).await;
    wait_for("the end of the query", || {
        (server.ask(ACTIVE).trim() == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_and_no_password_is_shown() {
    let gateway = with_sql().await;
    let server = Postgresql::start().await;
    let uri = format!("postgresql://127.0.0.1:{}/postgres", server.port);
    gateway.put_settings(&format!(
        "[sql.connections.wrong]\ndriver = \"postgresql\"\nuri = \"{uri}\"\nuser = \"ada\"\npassword_command = [\"echo\", \"wrong-s3cret\"]\n\
         [sql.connections.nobody]\ndriver = \"postgresql\"\nuri = \"{uri}\"\nuser = \"ada\"\npassword_env = \"NOT_SET\"\n\
         [sql.connections.nowhere]\ndriver = \"postgresql\"\nuri = \"postgresql://127.0.0.1:1/x\"\n\
         [sql.connections.other]\ndriver = \"oracle\"\n"
    ));
    let (_, mut a) = client(&gateway).await;
    for (name, told) in [
        ("wrong", "password authentication failed"),
        ("nobody", "the variable NOT_SET"),
        ("nowhere", "Connection refused"),
        ("other", "Could not load `oracle`"),
    ] {
        let outcome = a.run(&format!("%%sql {name}\nselect 1")).await;
        let said = format!("{outcome:?}");
        assert!(said.contains(told), "{name}: {said}");
        assert!(
            !said.contains("s3cret") && !said.contains("Traceback"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn sqlite_is_a_file_and_loses_its_worker_to_an_interrupt() {
    let gateway = with_sql().await;
    let file = gateway.root().join("x.db");
    gateway.put_settings(&format!(
        "[sql.connections.lite]\ndriver = \"sqlite\"\nuri = \"{0}\"\n\
         [sql.connections.duck]\ndriver = \"duckdb\"\nuri = \"{0}.duck\"\n",
        file.display()
    ));
    let (kernel, mut a) = client(&gateway).await;
    run(&mut a, "%%sql lite\ncreate table t(a int, b text);\ninsert into t values (1, 'x'), (2, 'it''s; :b')").await;
    run(&mut a, "b = \"x' or 1=1\"\nx = %sql lite select count(*) as n from t where b = :b or b = :b\nassert x.n[0] == 0").await;
    // A file of DuckDB's has nothing of the one that needs no name.
    run(&mut a, "%sql duck create table own as select 42 as x").await;
    assert!(a.run("%sql duck from own").await.result.contains("42"));
    assert!(gateway.root().join("x.db.duck").exists());
    assert!(fail(&mut a, "%sql from own").await.contains("own"));
    let wrong = fail(&mut a, "%sql lite select nope from t").await;
    assert!(wrong.contains("no such column: nope"), "{wrong}");
    let request = a.submit("%sql lite with recursive r(i) as (select 1 union all select i + 1 from r) select count(*) from r").await;
    let outcome = interrupted(&gateway, &kernel, &mut a, &request).await;
    assert_eq!(outcome.reply["ename"], "KeyboardInterrupt", "{outcome:?}");
    assert!(
        a.run("%sql lite select count(*) as n from t")
            .await
            .result
            .contains('2')
    );
}
