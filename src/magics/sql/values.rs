//! What a query takes of the kernel: variables that it binds, frames that it names.
//!
//! Both only of kernels of Python.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connections::failure;
use crate::magics::cell::Cell;
use crate::magics::exchange::{self, Lent};
use crate::magics::failure::Failure;

/// The values of these variables, as the worker takes them.
pub(super) async fn bound(names: &[&str], cell: &dyn Cell) -> Result<Vec<Value>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if cell.facts().language != "python" {
        return Err(failure(format!(
            "`:{}` binds a variable of a Python kernel, and this kernel is none.",
            names[0]
        )));
    }
    exchange::values(names, cell).await
}

/// The Arrow files of those of these names that are frames, while they are lent.
pub(super) async fn frames(
    names: Vec<String>,
    cell: &dyn Cell,
) -> Result<BTreeMap<String, String>, Failure> {
    if names.is_empty() || cell.facts().language != "python" {
        return Ok(BTreeMap::new());
    }
    let lent = exchange::lend(&names, cell).await?;
    let lent = lent.into_iter();
    Ok(lent.map(|Lent { name, path }| (name, path)).collect())
}
