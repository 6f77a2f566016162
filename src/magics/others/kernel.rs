//! `%%kernel NAME`: a cell in the kernel of another kernelspec; `%kernel` says which run, restarts and stops them.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::arguments::asked;
use super::{run_cell, venv};
use crate::magics::call::Call;
use crate::magics::cell::{Answer, Cell};
use crate::magics::failure::Failure;
use crate::magics::magic::{Magic, Runs};
use crate::magics::other::OtherKernel;

/// The magic.
#[derive(Debug)]
pub(super) struct Kernel;

impl Magic for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn help(&self) -> &'static str {
        "%%kernel NAME runs a cell in the kernel of another kernelspec; %kernel list|restart|stop"
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["kernel"]
    }

    fn runs(&self) -> Runs {
        Runs::Elsewhere
    }

    fn belongs(&self, call: &Call) -> Option<OtherKernel> {
        let asked = asked(&call.words().ok()?, "%kernel", false).ok()?;
        Some(OtherKernel::Kernel(asked.name.to_ascii_lowercase()))
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let words = call.words()?;
            if call.cell.is_none() {
                return line(&words, cell).await;
            }
            let asked = asked(&words, "%kernel", false)?;
            let kernel = OtherKernel::Kernel(asked.name.to_ascii_lowercase());
            cell.others().start(&kernel).await?;
            run_cell(call, &asked, &kernel, cell).await?;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }
}

async fn line(words: &[String], cell: &dyn Cell) -> Result<Answer, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["list"] => Ok(venv::shown_running(cell).await),
        ["restart", name] => {
            let kernel = OtherKernel::Kernel(name.to_ascii_lowercase());
            cell.others().restart(&kernel).await?;
            Ok(Answer::nothing())
        }
        ["stop", name] => {
            let kernel = OtherKernel::Kernel(name.to_ascii_lowercase());
            match cell.others().end(&kernel).await {
                true => Ok(Answer::nothing()),
                false => Err(Failure::usage(format!(
                    "No kernel {name} runs in this notebook."
                ))),
            }
        }
        _ => Err(Failure::usage(
            "Write `%kernel list`, `%kernel restart NAME` or `%kernel stop NAME`; a cell in another kernel begins with \
             `%%kernel NAME`.",
        )),
    }
}
