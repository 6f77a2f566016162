//! `%get` and `%put`: values from and to another kernel of the notebook that runs.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::arguments::moved;
use super::exchange::Side;
use super::{meant, move_values};
use crate::magics::call::{At, Call};
use crate::magics::cell::{Answer, Cell, Failure};
use crate::magics::magic::Magic;

/// `%get`
#[derive(Debug)]
pub(super) struct Get;

/// `%put`
#[derive(Debug)]
pub(super) struct Put;

impl Magic for Get {
    fn name(&self) -> &'static str {
        "get"
    }

    fn help(&self) -> &'static str {
        "takes variables from another kernel of the notebook: %get a,b --from NAME"
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["get"]
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let asked = moved(call, "--from")?;
            let other = meant(&asked.other, cell).await?;
            move_values(&asked.names, Side::Other(&other), Side::Main, cell).await?;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }

    fn complete<'a>(&'a self, at: &'a At, cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        offers(at, "--from", cell).boxed_local()
    }
}

impl Magic for Put {
    fn name(&self) -> &'static str {
        "put"
    }

    fn help(&self) -> &'static str {
        "gives variables to another kernel of the notebook: %put a,b --to NAME"
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["put"]
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let asked = moved(call, "--to")?;
            let other = meant(&asked.other, cell).await?;
            move_values(&asked.names, Side::Main, Side::Other(&other), cell).await?;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }

    fn complete<'a>(&'a self, at: &'a At, cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        offers(at, "--to", cell).boxed_local()
    }
}

async fn offers(at: &At, option: &str, cell: &dyn Cell) -> Vec<String> {
    match at.before.contains(option) {
        true => {
            let running = cell.others().running().await;
            let names = running.iter().map(|one| one.kernel.name().to_owned());
            names.collect()
        }
        false => vec![option.to_owned()],
    }
}
