//! What a magic is: a name, and code that runs with a [`Cell`] to speak by.
//!
//! Knows neither which magics there are nor by which door a call came.

use futures_util::future::{self, LocalBoxFuture};

use super::call::{At, Call};
use super::cell::{Answer, Cell};
use super::failure::Failure;
use super::other::OtherKernel;

/// Where a magic's cell runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// As part of a cell of the kernel: in an expression, in a condition, under `%%time`.
    Beside,
    /// Instead of a cell of the kernel: taken from the queue whatever the kernel is.
    Elsewhere,
}

/// One magic. It lives as long as its supervisor and may keep state between cells.
pub trait Magic {
    /// Its name behind `%nb`.
    fn name(&self) -> &'static str;

    /// What it is for, in one line.
    fn help(&self) -> &'static str;

    /// Does it. An interrupt is the magic's to notice ([`Cell::interrupted`]); one that does not end
    /// within seconds of it is dropped where it awaits.
    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>>;

    /// The kernel's process is gone.
    fn kernel_ended(&self) {}

    /// What may stand at the cursor, whatever is typed of it: those that fit are picked out.
    fn complete<'a>(&'a self, _at: &'a At, _cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        Box::pin(future::ready(Vec::new()))
    }

    /// The names that it also has without `nb` before them; the call tells which was typed.
    fn spellings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where its `%%` cell runs; a `%` line always runs beside.
    fn runs(&self) -> Runs {
        Runs::Beside
    }

    /// The kernel that the body of this `%%` cell is for, where that runs elsewhere.
    fn belongs(&self, _call: &Call) -> Option<OtherKernel> {
        None
    }

    /// Whether IPython fills in `{name}` and `$name` in the line of its own spellings first. Only there,
    /// so never where those may mean something to the magic, as they do in SQL.
    fn expands(&self) -> bool {
        false
    }
}
