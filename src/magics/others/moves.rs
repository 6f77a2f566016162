//! `%get` and `%put`: values from and to another kernel of the notebook that runs.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::arguments::moved;
use super::{meant, move_values};
use crate::magics::call::{At, Call};
use crate::magics::cell::{Answer, Cell};
use crate::magics::exchange::Side;
use crate::magics::failure::Failure;
use crate::magics::magic::Magic;

/// Both, by the way that the values go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Get,
    Put,
}

impl Move {
    /// Behind it stands the other kernel.
    fn option(self) -> &'static str {
        match self {
            Self::Get => "--from",
            Self::Put => "--to",
        }
    }
}

impl Magic for Move {
    fn name(&self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Get => {
                "takes variables from another kernel of the notebook: %get a,b --from NAME"
            }
            Self::Put => "gives variables to another kernel of the notebook: %put a,b --to NAME",
        }
    }

    fn spellings(&self) -> &'static [&'static str] {
        match self {
            Self::Get => &["get"],
            Self::Put => &["put"],
        }
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let asked = moved(call, self.option())?;
            let other = meant(&asked.other, cell).await?;
            let (from, to) = match self {
                Self::Get => (Side::Other(&other), Side::Main),
                Self::Put => (Side::Main, Side::Other(&other)),
            };
            move_values(&asked.names, from, to, cell).await?;
            Ok(Answer::nothing())
        }
        .boxed_local()
    }

    fn complete<'a>(&'a self, at: &'a At, cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        async move {
            if !at.before.contains(self.option()) {
                return vec![self.option().to_owned()];
            }
            let running = cell.others().running().await;
            let names = running.iter().map(|one| one.kernel.name().to_owned());
            names.collect()
        }
        .boxed_local()
    }
}
