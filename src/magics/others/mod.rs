//! Cells that run in another kernel of the notebook, and what goes between the two.
//!
//! ```text
//! %%venv NAME, %%kernel NAME -> arguments -> (venv: its environment) -> the kernel, started -> get -> the cell -> put
//! %get, %put                 -> exchange
//! ```
//!
//! Knows of those kernels what [`crate::magics::Others`] says.

mod arguments;
mod kernel;
mod leaving;
mod moves;
mod venv;

use futures_util::FutureExt;

use super::call::Call;
use super::cell::Cell;
use super::exchange::{Side, Stuck, hand_over};
use super::failure::Failure;
use super::languages::Language;
use super::magic::Magic;
use super::other::OtherKernel;

/// All of them.
pub(super) fn others() -> [Box<dyn Magic>; 4] {
    [
        Box::new(venv::Venv),
        Box::new(kernel::Kernel),
        Box::new(moves::Move::Get),
        Box::new(moves::Move::Put),
    ]
}

/// Runs the body of a cell in a kernel that runs, with what it gets before and gives after.
async fn run_cell(
    call: &Call,
    asked: &arguments::Asked,
    kernel: &OtherKernel,
    cell: &dyn Cell,
) -> Result<(), Failure> {
    let body = call.cell.as_deref().unwrap_or_default();
    if !asked.get.is_empty() {
        move_values(&asked.get, Side::Main, Side::Other(kernel), cell).await?;
    }
    if !body.trim().is_empty() {
        let language = language(Side::Other(kernel), cell).await;
        // It was interrupted while its kernel was made ready: there it would run unseen.
        if cell.interrupted().now_or_never().is_some() {
            return Err(Failure::interrupted());
        }
        if leaving::is_meant(body, &language, kernel, cell).await? {
            put(asked, kernel, cell).await?;
            return leaving::leave(kernel, cell).await;
        }
        let goes_on = !asked.put.is_empty();
        let code = as_typed(call, body, &language);
        cell.run_in(kernel, code, goes_on).await?;
    }
    put(asked, kernel, cell).await
}

async fn put(
    asked: &arguments::Asked,
    kernel: &OtherKernel,
    cell: &dyn Cell,
) -> Result<(), Failure> {
    if !asked.put.is_empty() {
        move_values(&asked.put, Side::Other(kernel), Side::Main, cell).await?;
    }
    Ok(())
}

/// The body below a line that is nothing to its kernel, so that lines are counted as they were typed. A magic has to be the first.
fn as_typed(call: &Call, body: &str, language: &str) -> String {
    match language {
        _ if body.trim_start().starts_with('%') => body.to_owned(),
        // IPython drops an empty one. To Python a `\r` ends a line.
        "python" => {
            let line = call.line.replace('\r', " ");
            format!("# %%{} {line}\n{body}", call.magic)
        }
        _ => format!("\n{body}"),
    }
}

/// Takes variables from one kernel into another one. What a frame needs is installed in an environment of nb's that has not got it.
async fn move_values<'a>(
    names: &[String],
    from: Side<'a>,
    to: Side<'a>,
    cell: &dyn Cell,
) -> Result<(), Failure> {
    if language(from, cell).await != "python" {
        return Err(Failure::usage("Values come from kernels of Python only."));
    }
    let speaks = language(to, cell).await;
    let Some(taker) = Language::of(&speaks) else {
        return Err(Failure::usage(format!(
            "Values go to kernels of Python, and frames to those of Scala; this one speaks {speaks}."
        )));
    };
    let to = (to, taker);
    let stuck = match hand_over(names, from, to, cell).await {
        Ok(()) => return Ok(()),
        Err(stuck) => stuck,
    };
    let stuck = match stuck {
        Stuck::Lacks(Side::Other(OtherKernel::Venv(name)), package) => {
            venv::add(name, &package, cell).await?;
            match hand_over(names, from, to, cell).await {
                Ok(()) => return Ok(()),
                Err(stuck) => stuck,
            }
        }
        stuck => stuck,
    };
    Err(match stuck {
        Stuck::Failed(failure) => failure,
        Stuck::Lacks(side, package) => Failure::new(
            "ImportError",
            match side {
                Side::Main => format!(
                    "A frame goes across as Arrow, for which this kernel needs {package}: `%pip install {package}`."
                ),
                Side::Other(kernel) => format!(
                    "A frame goes across as Arrow, for which the kernel {kernel} needs {package}: install it in its environment."
                ),
            },
        ),
    })
}

async fn language(side: Side<'_>, cell: &dyn Cell) -> String {
    match side {
        Side::Main => cell.facts().language,
        Side::Other(OtherKernel::Venv(_)) => "python".to_owned(),
        Side::Other(kernel) => {
            let running = cell.others().running().await;
            let one = running.into_iter().find(|one| one.kernel == *kernel);
            one.map(|one| one.language).unwrap_or_default()
        }
    }
}

/// The one that is meant by a name where both kinds may be.
async fn meant(name: &str, cell: &dyn Cell) -> Result<OtherKernel, Failure> {
    let running = cell.others().running().await;
    let mut named = running.into_iter().filter(|one| one.kernel.name() == name);
    named.next().map(|one| one.kernel).ok_or_else(|| {
        Failure::usage(format!(
            "No kernel {name} runs in this notebook; a `%%venv {name}` or `%%kernel {name}` cell starts one."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::test_cell::TestCell;

    fn call(line: &str, body: &str) -> Call {
        Call {
            magic: "kernel".to_owned(),
            line: line.to_owned(),
            cell: Some(body.to_owned()),
        }
    }

    #[test]
    fn the_line_above_a_body_is_nothing_to_its_language() {
        for (language, line, body, typed) in [
            ("python", "x", "a\n", "# %%kernel x\na\n"),
            ("python", "x --get\ra", "b", "# %%kernel x --get a\nb"),
            ("scala", "x", "println(1)", "\nprintln(1)"),
            ("", "x", "a", "\na"),
            ("python", "x", "%%time\na", "%%time\na"),
            ("R", "x", "%x", "%x"),
        ] {
            let call = call(line, body);
            assert_eq!(as_typed(&call, body, language), typed);
        }
    }

    #[tokio::test]
    async fn what_was_interrupted_before_it_runs_does_not_run() {
        let kernel = OtherKernel::Venv("x".to_owned());
        let (call, asked) = (call("x", "a"), arguments::Asked::default());
        let cell = TestCell::default();
        let outcome = run_cell(&call, &asked, &kernel, &cell).await;
        assert_eq!(outcome.unwrap_err().ename, "KernelError");
        cell.interrupt();
        let outcome = run_cell(&call, &asked, &kernel, &cell).await;
        assert_eq!(outcome.unwrap_err().ename, "KeyboardInterrupt");
    }
}
