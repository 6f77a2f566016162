//! `%nb script`: the packages that a cell asks for in its own head (PEP 723, "inline script metadata").
//!
//! The helper finds the block and calls this before the cell runs. Knows nothing of how packages are installed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::call::Call;
use super::cell::{Answer, Cell};
use super::failure::Failure;
use super::magic::Magic;
use super::pip::install;
use crate::env::{SEVERAL_SCRIPTS as SEVERAL, Script as Metadata};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::task::spawn_blocking;

/// The magic.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// What was installed for this process of the kernel: a cell that runs again is not held up.
    done: RefCell<Vec<Done>>,
}

/// A block that was followed.
#[derive(Debug)]
struct Done {
    /// The number of the kernel's process.
    process: u64,
    line: String,
    /// The packages that were there then: one that is gone may be one that it asks for.
    had: BTreeSet<String>,
}

impl Script {
    fn is_done(&self, process: u64, line: &str, now: &BTreeSet<String>) -> bool {
        let done = self.done.borrow();
        let mut same = done.iter();
        same.any(|done| done.process == process && done.line == line && done.had.is_subset(now))
    }
}

/// The names of what is installed.
async fn installed(cell: &dyn Cell) -> BTreeSet<String> {
    let Some(environment) = cell.place().environment else {
        return BTreeSet::new();
    };
    let packages = spawn_blocking(move || environment.packages().into_keys().collect());
    packages.await.unwrap_or_default()
}

impl Magic for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn help(&self) -> &'static str {
        "installs what a cell's `# /// script` block asks for; called by itself before such a cell"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        async move {
            let (process, line) = (cell.facts().restarts, &call.line);
            if self.is_done(process, line, &installed(cell).await) {
                return Ok(Answer::nothing());
            }
            let metadata = read(&call.line)?;
            let environment = cell.place().environment;
            if let Some(python) = environment.and_then(|environment| environment.python_version()) {
                metadata
                    .goes_with(&python)
                    .map_err(|message| Failure::new("PythonVersionError", message))?;
            }
            if !metadata.dependencies.is_empty() {
                install(metadata.dependencies, cell).await?;
            }
            let had = installed(cell).await;
            let mut known = self.done.borrow_mut();
            known.retain(|done| done.process == process && done.line != *line);
            known.push(Done {
                process,
                line: line.clone(),
                had,
            });
            Ok(Answer::nothing())
        }
        .boxed_local()
    }
}

/// The block as the helper hands it over.
fn read(line: &str) -> Result<Metadata, Failure> {
    if line.trim() == "several" {
        return Err(Failure::usage(SEVERAL));
    }
    let bytes = BASE64_STANDARD.decode(line.trim()).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(text) = text else {
        return Err(Failure::usage(
            "`%nb script` is called by nb before a cell with a `# /// script` block.",
        ));
    };
    Metadata::read(&text).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_toml() {
        let read = |text: &str| read(&BASE64_STANDARD.encode(text));
        let block =
            "requires-python = \">=3.11\"\ndependencies = [\"six\", \"rich<14\"]\n[tool.x]\ny = 1";
        assert_eq!(read(block).unwrap().dependencies, ["six", "rich<14"]);
        assert!(read("").unwrap().dependencies.is_empty());
        let failure = read("dependencies = [").unwrap_err();
        assert!(failure.message.contains("not understood"), "{failure}");
        assert!(super::read("%").is_err());
        assert_eq!(super::read("several").unwrap_err().message, SEVERAL);
    }
}
