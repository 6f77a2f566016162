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

/// What a kernel has lent.
#[derive(Debug, Deserialize)]
pub(super) struct Given {
    pub(super) name: String,
    /// An Arrow file.
    pub(super) path: String,
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

/// Takes what has these names in one kernel into another one, which all have Python.
pub(super) async fn hand_over<'a>(
    names: &[String],
    from: Side<'a>,
    to: Side<'a>,
    cell: &dyn Cell,
) -> Result<(), Stuck<'a>> {
    let _turn = TURN.lock().await;
    let listed: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let give = format!(
        "print('\\n' + g['give'](globals(), [{}]))",
        listed.join(", ")
    );
    let given = run(&give, from, cell).await?;
    let take = format!("g['take'](globals(), {})", literal(last_line(&given)));
    let taken = run(&take, to, cell).await;
    // What goes wrong here is put right by the next one that gives.
    let _later = run("g['let_go']()", from, cell).await;
    taken.map(drop)
}

async fn run<'a>(code: &str, side: Side<'a>, cell: &dyn Cell) -> Result<String, Stuck<'a>> {
    let source = literal(SOURCE);
    let code = format!(
        "(lambda g: (exec(compile({source}, '<nb exchange>', 'exec'), g), {code}))({{'__name__': 'nb_exchange'}})"
    );
    let printed = match side {
        Side::Main => cell.run_hidden(code).await,
        Side::Other(kernel) => cell.others().run_hidden(kernel, code).await,
    };
    printed.map_err(|failure| match failure.ename == MISSING {
        true => Stuck::Lacks(side, failure.message),
        false => Stuck::Failed(told(failure, side)),
    })
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
