//! Values out of a kernel and into one: those between the kernels of a notebook, where one gives and the other one takes by `exchange.py`
//! in both, and frames that a kernel lends.
//!
//! Knows of values their names and nothing else: they do not come by here.

use serde::Deserialize;
use tokio::sync::Mutex;

use crate::magics::cell::Cell;
use crate::magics::failure::Failure;
use crate::magics::other::OtherKernel;
use crate::magics::python::literal;

const SOURCE: &str = include_str!("exchange.py");

/// What the code in a kernel says when it needs a package that is not there: the message is its name.
const MISSING: &str = "MissingPackage";

/// One of two kernels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side<'a> {
    /// The one of the cell.
    Main,
    Other(&'a OtherKernel),
}

/// One at a time: what a kernel gives next takes away what it gave before.
static TURN: Mutex<()> = Mutex::const_new(());

/// Why nothing went across.
#[derive(Debug)]
pub(super) enum Stuck<'a> {
    /// It has not got this package, which is needed there.
    Lacks(Side<'a>, String),
    Failed(Failure),
}

/// What a kernel has given or lent.
#[derive(Debug, Deserialize)]
pub(super) struct Given {
    pub(super) name: String,
    /// `pandas`, `polars` or `arrow`, where it is a file of Arrow.
    kind: String,
    pub(super) path: String,
}

/// A language that takes frames, and the plain values that Python takes besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    Python,
    Scala,
}

impl Taker {
    /// Nothing for a language that takes nothing.
    pub(super) fn of(language: &str) -> Option<Self> {
        match language {
            "python" => Some(Self::Python),
            "scala" => Some(Self::Scala),
            _ => None,
        }
    }
}

/// Lends the frames among these names in the cell's kernel, which has Python, to a process of the same user. They are
/// there until [`let_go`], or until the kernel lends again.
pub(super) async fn lend(names: &[String], cell: &dyn Cell) -> Result<Vec<Given>, Failure> {
    let listed: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let give = format!(
        "print('\\n' + g['lend'](globals(), [{}]))",
        listed.join(", ")
    );
    let given = match run(&give, Side::Main, cell).await {
        Ok(given) => given,
        Err(Stuck::Failed(failure)) => return Err(failure),
        Err(Stuck::Lacks(_, package)) => {
            return Err(Failure::new(
                "ImportError",
                format!("This kernel needs {package} to lend a frame: `%pip install {package}`."),
            ));
        }
    };
    let unread = |_| Failure::new("KernelError", "The kernel did not tell what it has lent.");
    serde_json::from_str(last_line(&given)).map_err(unread)
}

/// Nothing that the cell's kernel has lent is needed any more.
pub(super) async fn let_go(cell: &dyn Cell) {
    let _later = run("g['let_go']()", Side::Main, cell).await;
}

/// Before it stands what somebody's import has printed.
fn last_line(printed: &str) -> &str {
    printed.trim_end().rsplit('\n').next().unwrap_or_default()
}

/// Takes what has these names in one kernel, which has Python, into another one.
pub(super) async fn hand_over<'a>(
    names: &[String],
    from: Side<'a>,
    to: (Side<'a>, Taker),
    cell: &dyn Cell,
) -> Result<(), Stuck<'a>> {
    let _turn = TURN.lock().await;
    let listed: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let give = format!(
        "print('\\n' + g['give'](globals(), [{}]))",
        listed.join(", ")
    );
    let given = run(&give, from, cell).await?;
    let given = last_line(&given);
    let (to, taker) = to;
    let taken = match taker {
        Taker::Python => {
            let take = format!("g['take'](globals(), {})", literal(given));
            run(&take, to, cell).await
        }
        Taker::Scala => match in_scala(given) {
            Ok(code) => run_as_it_is(code, to, cell).await,
            Err(failure) => Err(Stuck::Failed(failure)),
        },
    };
    // What goes wrong here is put right by the next one that gives.
    let _later = run("g['let_go']()", from, cell).await;
    taken.map(drop)
}

async fn run<'a>(code: &str, side: Side<'a>, cell: &dyn Cell) -> Result<String, Stuck<'a>> {
    let source = literal(SOURCE);
    let code = format!(
        "(lambda g: (exec(compile({source}, '<nb exchange>', 'exec'), g), {code}))({{'__name__': 'nb_exchange'}})"
    );
    run_as_it_is(code, side, cell).await
}

async fn run_as_it_is<'a>(
    code: String,
    side: Side<'a>,
    cell: &dyn Cell,
) -> Result<String, Stuck<'a>> {
    let printed = match side {
        Side::Main => cell.run_hidden(code).await,
        Side::Other(kernel) => cell.others().run_hidden(kernel, code).await,
    };
    printed.map_err(|failure| match failure.ename == MISSING {
        true => Stuck::Lacks(side, failure.message),
        false => Stuck::Failed(told(failure, side)),
    })
}

/// Definitions of what was given, for Scala.
fn in_scala(given: &str) -> Result<String, Failure> {
    let unread = |_| Failure::new("KernelError", "The kernel did not tell what it has given.");
    let given: Vec<Given> = serde_json::from_str(given).map_err(unread)?;
    let mut code = String::new();
    for Given { name, kind, path } in given {
        if !matches!(kind.as_str(), "pandas" | "polars" | "arrow") {
            return Err(Failure::usage(format!(
                "{name} is no frame: to Scala only frames of pandas, polars and arrow go."
            )));
        }
        // A name of Python's is one of Scala's in these, whatever word it is; a path of ours has no quotes.
        code += &format!("val `{name}` = nb.Frame.read(\"{path}\")\n");
    }
    Ok(code)
}

/// Says in which kernel it was.
fn told(failure: Failure, side: Side<'_>) -> Failure {
    match side {
        Side::Main => failure,
        Side::Other(kernel) => Failure {
            message: format!("In {kernel}: {}", failure.message),
            ..failure
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_defined_in_scala_and_nothing_else_is() {
        let given =
            r#"[{"name": "type", "kind": "polars", "path": "/proc/7/fd/3", "series": ["x"]}]"#;
        assert_eq!(
            in_scala(given).unwrap(),
            "val `type` = nb.Frame.read(\"/proc/7/fd/3\")\n"
        );
        let plain = r#"[{"name": "x", "kind": "json", "path": "/p"}]"#;
        assert!(
            in_scala(plain)
                .unwrap_err()
                .message
                .contains("x is no frame")
        );
        assert!(in_scala("nonsense").is_err());
    }
}
