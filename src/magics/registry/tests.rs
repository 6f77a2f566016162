//! Magics by their names, by either door.

use super::*;
use crate::magics::test_cell::{TestCell, call};
use futures_util::future::LocalBoxFuture;
use proptest::prelude::*;
use serde_json::json;

/// A magic with spellings that gives its call back, or never ends.
struct Echo;

impl Magic for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn help(&self) -> &'static str {
        "say it again"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        _: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            if call.line == "forever" {
                future::pending::<()>().await;
            }
            Ok(Answer {
                given: Given::Json(json!([call.magic, call.line, call.cell])),
                ..Answer::nothing()
            })
        })
    }

    fn complete<'a>(&'a self, at: &'a At, _: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        let offers = vec![format!("--in-{}", at.call.magic), at.before.clone()];
        Box::pin(future::ready(offers))
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["say", "elsewhere"]
    }

    fn runs(&self) -> Runs {
        Runs::Elsewhere
    }
}

fn registry() -> Registry {
    Registry::of(vec![Box::new(Status::default()), Box::new(Echo)])
}

#[test]
fn a_plain_kernels_cell_is_ours_by_its_first_line() {
    let registry = registry();
    for ours in [
        "%nb",
        "%nb status",
        "\n%nb what",
        "%%nb\n1",
        "%nb\tstatus",
        "%say x",
    ] {
        assert!(registry.claim(ours, Front::Plain).is_some(), "{ours:?}");
        assert_eq!(registry.claim(ours, Front::IPython), None, "{ours:?}");
    }
    for other in [
        "",
        "%nbx",
        "%status",
        "%echo",
        "1\n%nb",
        "%time 1",
        "nb status",
        "%%sql\n1",
    ] {
        assert_eq!(registry.claim(other, Front::Plain), None, "{other:?}");
    }
}

#[test]
fn what_runs_elsewhere_is_taken_from_every_kernel() {
    for source in ["%%elsewhere a\n1", "%%nb echo\n1"] {
        assert!(registry().claim(source, Front::IPython).is_some());
    }
    assert_eq!(registry().claim("%elsewhere a", Front::IPython), None);
}

proptest! {
    /// Whatever else is in a cell, an IPython kernel's is its own.
    #[test]
    fn only_what_runs_elsewhere_is_taken_from_ipython(
        head in "[ \n]{0,2}%{0,2}(elsewhere|say|nb( echo| say| status|\techo)?|time)?",
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "%%elsewhere", "%nb", "%", "echo", "'''", "\"", "#", "x = ", "!ls", ">>> ", "?", "\\", " ", "\n",
                "\r\n", "é",
            ]),
            0..6,
        )
    ) {
        let source = head + &pieces.concat();
        if let Some(claim) = registry().claim(&source, Front::IPython) {
            let first = source.trim_start().lines().next().unwrap_or_default();
            let mut words = first.split(' ').filter(|word| !word.is_empty());
            let is_elsewhere = match words.next().unwrap_or_default().trim_end() {
                "%%elsewhere" | "%%say" => true,
                "%%nb" => matches!(words.next().map(str::trim), Some("echo" | "say" | "elsewhere")),
                _ => false,
            };
            prop_assert!(is_elsewhere, "{:?}", source);
            prop_assert!(claim.call.cell.is_some() && claim.rest.is_none());
        }
    }
}

#[test]
fn the_rest_of_a_cell_is_claimed_again() {
    let registry = registry();
    let first = registry
        .claim("%nb status\n%say x\n1 + 1", Front::Plain)
        .unwrap();
    let second = registry.claim(&first.rest.unwrap(), Front::Plain).unwrap();
    assert_eq!(second.call, call("say", "x"));
    assert_eq!(second.rest.as_deref(), Some("\n\n1 + 1"));
    assert_eq!(registry.claim("\n\n1 + 1", Front::Plain), None);
}

#[tokio::test]
async fn a_magic_is_reached_by_each_of_its_names() {
    for (typed, seen) in [
        (call("nb", "echo a b"), json!(["echo", "a b", null])),
        (call("nb", "say a"), json!(["say", "a", null])),
        (call("say", "a"), json!(["say", "a", null])),
    ] {
        let answer = registry().run(&typed, &TestCell::default()).await.unwrap();
        assert_eq!(answer.given, Given::Json(seen));
    }
}

#[tokio::test]
async fn an_unknown_name_fails_with_what_there_is() {
    let failure = registry()
        .run(&call("nb", "foo bar"), &TestCell::default())
        .await
        .unwrap_err();
    assert_eq!(failure.ename, "UsageError");
    assert_eq!(
        failure.message,
        "There is no `%nb foo`; there is: %nb help, %nb status, %nb echo."
    );
}

#[tokio::test]
async fn help_lists_what_there_is() {
    for line in ["", "help"] {
        let answer = registry()
            .run(&call("nb", line), &TestCell::default())
            .await;
        let text = answer.unwrap().into_display().unwrap()["text/plain"].clone();
        assert!(
            text.as_str()
                .unwrap()
                .ends_with("\n%nb echo    say it again")
        );
    }
    let one = registry()
        .run(&call("nb", "help say"), &TestCell::default())
        .await;
    let text = one.unwrap().into_display().unwrap()["text/plain"].clone();
    assert_eq!(text, "%nb echo: say it again\nAlso: %say, %elsewhere");
}

#[tokio::test]
async fn an_interrupt_ends_a_magic_that_does_not_look() {
    let cell = TestCell::default();
    cell.interrupt();
    let outcome = registry()
        .run_within(&call("say", "forever"), &cell, Duration::ZERO)
        .await;
    assert_eq!(outcome, Err(Failure::interrupted()));
}

#[tokio::test]
async fn names_and_arguments_are_completed() {
    let cell = TestCell::default();
    let registry = registry();
    let complete = async |source: &str, cursor| registry.complete(source, cursor, &cell).await;
    let found = complete("x = %nb st", 10).await.unwrap();
    assert_eq!(
        (found.matches, found.start, found.end),
        (vec!["status".to_owned()], 8, 10)
    );
    let found = complete("%nb status --", 13).await.unwrap();
    assert_eq!(
        (found.matches, found.start),
        (vec!["--json".to_owned()], 11)
    );
    let found = complete("%nb echo --i", 12).await.unwrap();
    assert_eq!(found.matches, ["--in-echo"]);
    let found = complete("%say --", 7).await.unwrap();
    assert_eq!(found.matches, ["--in-say"]);
    assert_eq!(complete("%%nb say\nab", 11).await.unwrap().matches, ["ab"]);
    assert_eq!(complete("%nb ", 4).await.unwrap().matches.len(), 3);
    assert_eq!(complete("%ls a", 5).await, None);
    for (source, plain, ipython) in [
        ("%nb st", true, true),
        ("x = %nb ", true, true),
        ("%say --", true, false),
        ("%ls a", false, false),
        ("%nb", false, false),
    ] {
        let knows = |front| registry.knows(source, usize::MAX, front);
        let expected = (plain, ipython);
        assert_eq!(
            (knows(Front::Plain), knows(Front::IPython)),
            expected,
            "{source}"
        );
    }
}

#[test]
fn inspection_tells_of_the_magic() {
    let text = registry().inspect("%nb status --json", 8).unwrap();
    assert!(text.starts_with("%nb status: "));
    assert_eq!(registry().inspect("print", 3), None);
}
