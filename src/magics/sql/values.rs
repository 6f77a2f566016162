//! What a query takes of the kernel: variables that it binds, frames that it names.
//!
//! Both only of kernels of Python.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connections::failure;
use crate::magics::cell::Cell;
use crate::magics::exchange::{self, Given};
use crate::magics::failure::Failure;
use crate::magics::python::literal;

const SOURCE: &str = include_str!("values.py");

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
    let listed: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let code = format!(
        "(lambda g: (exec(compile({}, '<nb sql>', 'exec'), g), \
         print('\\n' + g['values'](globals(), [{}]))))({{'__name__': 'nb_sql'}})",
        literal(SOURCE),
        listed.join(", ")
    );
    let printed = cell.run_hidden(code).await?;
    // Before it stands what somebody's import has printed.
    let line = printed.trim_end().rsplit('\n').next().unwrap_or_default();
    serde_json::from_str(line)
        .map_err(|_| failure("The kernel did not tell the values of the variables."))
}

/// The Arrow files of those of these names that are frames, while they are lent.
pub(super) async fn frames(
    names: Vec<String>,
    cell: &dyn Cell,
) -> Result<BTreeMap<String, String>, Failure> {
    if names.is_empty() || cell.facts().language != "python" {
        return Ok(BTreeMap::new());
    }
    let given = exchange::lend(&names, cell).await?;
    let given = given.into_iter();
    Ok(given.map(|Given { name, path, .. }| (name, path)).collect())
}
