//! What a query takes of the kernel: variables that it binds, frames that it names.
//!
//! Both only of kernels whose language `languages/` knows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connections::failure;
use crate::magics::cell::Cell;
use crate::magics::exchange::{self, Lent};
use crate::magics::failure::Failure;
use crate::magics::languages::Language;

/// The values of these variables, as the worker takes them.
pub(super) async fn bound(names: &[&str], cell: &dyn Cell) -> Result<Vec<Value>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let language = Language::of_cell(cell).map_err(|instead| {
        failure(format!(
            "`:{}` binds a variable of a kernel of Python or Scala, and {instead}.",
            names[0]
        ))
    })?;
    exchange::values(names, language, cell).await
}

/// The Arrow files of those of these names that are frames, while they are lent.
pub(super) async fn frames(
    names: Vec<String>,
    cell: &dyn Cell,
) -> Result<BTreeMap<String, String>, Failure> {
    let (false, Ok(language)) = (names.is_empty(), Language::of_cell(cell)) else {
        return Ok(BTreeMap::new());
    };
    let lent = exchange::lend(&names, language, cell).await?;
    let lent = lent.into_iter();
    Ok(lent.map(|Lent { name, path }| (name, path)).collect())
}

/// The query is over that has read them.
pub(super) async fn let_go(cell: &dyn Cell) {
    if let Ok(language) = Language::of_cell(cell) {
        exchange::let_go(language, cell).await;
    }
}
