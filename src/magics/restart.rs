//! `%nb restart`: a new process for this kernel, in the environment as it is now.
//!
//! Knows nothing of how that is done.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::call::Call;
use super::cell::{Answer, Cell};
use super::failure::Failure;
use super::magic::Magic;

/// The magic.
#[derive(Debug)]
pub(super) struct Restart;

impl Magic for Restart {
    fn name(&self) -> &'static str {
        "restart"
    }

    fn help(&self) -> &'static str {
        "restarts this kernel: its variables go, what was installed counts"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            if !call.line.is_empty() {
                return Err(Failure::usage("`%nb restart` takes nothing."));
            }
            cell.restart();
            Ok(Answer::nothing())
        }
        .boxed_local()
    }
}
