//! `%nb reset`: takes back what was added to the environment of the kernel.
//!
//! Knows nothing of what that is.

use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};

use super::call::{At, Call};
use super::cell::{Answer, Cell, Output};
use super::failure::Failure;
use super::magic::Magic;
use super::pip::Interrupt;
use crate::env::pip::Typed;

/// The magic.
#[derive(Debug)]
pub(super) struct Reset;

impl Magic for Reset {
    fn name(&self) -> &'static str {
        "reset"
    }

    fn help(&self) -> &'static str {
        "removes what this notebook has added to its environment (--user: what you have added for all)"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let user = match call.words()?.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [] => false,
                ["--user"] => true,
                _ => {
                    let message = format!("`%nb reset` takes --user or nothing, not `{}`.", call.line);
                    return Err(Failure::usage(message));
                }
            };
            let place = cell.place();
            if let Some(base) = cell.base() {
                return Err(Failure::usage(base.is_closed()));
            }
            let Some(environment) = &place.environment else {
                let message = "This kernel does not run in an environment of nb's.";
                return Err(Failure::usage(message));
            };
            let failed = |failure: crate::env::pip::Failure| match failure.is_interrupt {
                true => Failure::interrupted(),
                false => Failure::new("ResetError", failure.message),
            };
            let typed = Typed {
                folder: &place.cwd,
                env: &place.env,
                stop: &Interrupt(cell),
            };
            let removed = environment.reset(user, &typed, &|_| ()).await;
            let removed = removed.map_err(failed)?;
            let text = match removed.as_slice() {
                [] => "Nothing was added.\n".to_owned(),
                removed => format!(
                    "Removed {}. What is imported stays until the kernel is restarted; `%nb restart` restarts it.\n",
                    removed.join(", ")
                ),
            };
            cell.emit(Output::stdout(text)).await;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }

    fn complete<'a>(&'a self, _: &'a At, _: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        future::ready(vec!["--user".to_owned()]).boxed_local()
    }
}
