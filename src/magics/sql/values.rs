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

/// The language of the kernel's variables, or the name of one that nobody here knows.
pub(super) fn language(cell: &dyn Cell) -> Result<Language, String> {
    let speaks = cell.facts().language;
    Language::of(&speaks).ok_or(speaks)
}

/// The values of these variables, as the worker takes them.
pub(super) async fn bound(names: &[&str], cell: &dyn Cell) -> Result<Vec<Value>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let language = language(cell).map_err(|speaks| {
        failure(format!(
            "`:{}` binds a variable of a kernel of Python or Scala, and this kernel speaks {speaks}.",
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
    let (false, Ok(language)) = (names.is_empty(), language(cell)) else {
        return Ok(BTreeMap::new());
    };
    let lent = exchange::lend(&names, language, cell).await?;
    let lent = lent.into_iter();
    Ok(lent.map(|Lent { name, path }| (name, path)).collect())
}

/// The query is over that has read them.
pub(super) async fn let_go(cell: &dyn Cell) {
    if let Ok(language) = language(cell) {
        exchange::let_go(language, cell).await;
    }
}
