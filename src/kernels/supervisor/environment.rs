//! What a kernel's start is with the environment of nb's that it runs in: made ready before each process.
//!
//! Knows nothing of how an environment is made.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use crate::env::Prepared;
use crate::env::pip::{Never, Typed};
use crate::kernels::contract::Start;

/// The start of the next process, and what its user should know. The environment may take so long.
pub(super) async fn ready(start: &Start, within: Duration) -> (Cow<'_, Start>, Vec<String>) {
    let Some(environment) = &start.environment else {
        return (Cow::Borrowed(start), Vec::new());
    };
    let typed = Typed {
        folder: &start.cwd,
        env: &start.env,
        stop: &Never,
    };
    let say = |line: &str| info!(line, "the environment is made ready");
    let prepared = match timeout(within, environment.prepare(&typed, &say)).await {
        Ok(prepared) => prepared,
        Err(_) => Prepared {
            notes: vec![format!(
                "What was added to this kernel's environment was not ready after {} s and was left out; \
                 a restart tries again.",
                within.as_secs()
            )],
            ..Prepared::default()
        },
    };
    for note in &prepared.notes {
        warn!(note, "of the environment");
    }
    let notes = prepared.notes.clone();
    (Cow::Owned(dressed(start.clone(), prepared)), notes)
}

fn dressed(mut start: Start, prepared: Prepared) -> Start {
    if let (Some(program), Some(python)) = (start.argv.first_mut(), prepared.python) {
        *program = python.to_string_lossy().into_owned();
        let environment = python.ancestors().nth(2).unwrap_or(&python);
        let environment = environment.to_string_lossy().into_owned();
        start.env.insert("VIRTUAL_ENV".to_owned(), environment);
    }
    let path = start.env.get("PATH").cloned().unwrap_or_default();
    let mut folders = prepared.path;
    folders.extend(std::env::split_paths(&path).filter(|folder| *folder != PathBuf::new()));
    if let Ok(path) = std::env::join_paths(folders) {
        let path = path.to_string_lossy().into_owned();
        start.env.insert("PATH".to_owned(), path);
    }
    start
}
