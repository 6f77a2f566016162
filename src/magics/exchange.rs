//! Values out of a kernel and into one: those between the kernels of a notebook, those that a query binds, and frames that a kernel lends.
//!
//! Runs the hidden code of `languages/`. Of values between kernels and of frames it knows the names and nothing else: they do not come by here.

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::magics::cell::Cell;
use crate::magics::failure::Failure;
use crate::magics::languages::{Language, last_line, python};
use crate::magics::other::OtherKernel;

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
pub(super) struct Lent {
    pub(super) name: String,
    pub(super) path: String,
}

/// The values of these variables of the cell's kernel, which speaks this language, each as the SQL worker takes it.
pub(super) async fn values(
    names: &[impl AsRef<str>],
    language: Language,
    cell: &dyn Cell,
) -> Result<Vec<Value>, Failure> {
    let printed = cell.run_hidden(language.values(names)).await;
    let printed = printed.map_err(|failure| language.unbound(failure))?;
    let unread = |_| {
        let message = "The kernel did not tell the values of the variables.";
        Failure::new("KernelError", message)
    };
    serde_json::from_str(last_line(&printed)).map_err(unread)
}

/// Lends the frames among these names in the cell's kernel, which speaks this language, to a process of the same user. They are
/// there until [`let_go`], or until the kernel runs other code of a cell or of ours.
pub(super) async fn lend(
    names: &[impl AsRef<str>],
    language: Language,
    cell: &dyn Cell,
) -> Result<Vec<Lent>, Failure> {
    let lent = match run(language.lend(names), Side::Main, cell).await {
        Ok(lent) => lent,
        Err(Stuck::Failed(failure)) => return Err(failure),
        Err(Stuck::Lacks(_, package)) => {
            return Err(Failure::new(
                "ImportError",
                format!("This kernel needs {package} to lend a frame: `%pip install {package}`."),
            ));
        }
    };
    let unread = |_| Failure::new("KernelError", "The kernel did not tell what it has lent.");
    serde_json::from_str(last_line(&lent)).map_err(unread)
}

/// Nothing that the cell's kernel has lent is needed any more.
pub(super) async fn let_go(language: Language, cell: &dyn Cell) {
    if let Some(code) = language.let_go() {
        let _later = run(code, Side::Main, cell).await;
    }
}

/// Takes what has these names in one kernel, which has Python, into another one.
pub(super) async fn hand_over<'a>(
    names: &[impl AsRef<str>],
    from: Side<'a>,
    to: (Side<'a>, Language),
    cell: &dyn Cell,
) -> Result<(), Stuck<'a>> {
    let _turn = TURN.lock().await;
    let given = run(python::give(names), from, cell).await?;
    let (to, language) = to;
    let taken = match language.take(last_line(&given)) {
        Ok(code) => run(code, to, cell).await,
        Err(failure) => Err(Stuck::Failed(failure)),
    };
    // What goes wrong here is put right by the next one that gives.
    let _later = run(python::let_go(), from, cell).await;
    taken.map(drop)
}

async fn run<'a>(code: String, side: Side<'a>, cell: &dyn Cell) -> Result<String, Stuck<'a>> {
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
