//! What a kernel's start is with the environment of nb's that it runs in: made ready before each process.
//!
//! Knows nothing of how an environment is made.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::config::FILE;
use crate::env::pex::Base;
use crate::env::pip::{Never, Stop, Typed};
use crate::env::{BASE, ENVIRONMENT, KernelEnvironment, PIP, Prepared, RETURNS_TO};
use crate::kernels::contract::Start;

/// What is given up then is taken back within this time.
const GRACE: Duration = Duration::from_secs(5);

/// The command of a kernel that was no ipykernel before it was rebased.
const IPYKERNEL: [&str; 5] = [
    "python",
    "-m",
    "ipykernel_launcher",
    "-f",
    "{connection_file}",
];

/// A start waits no longer for its environment.
struct Until(Instant);

impl Stop for Until {
    fn stopped(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(sleep_until(self.0))
    }
}

/// The start of the next process, and what its user should know. The environment may take so long.
pub(super) async fn ready<'a>(
    start: &'a Start,
    folder: &Path,
    within: Duration,
) -> (Cow<'a, Start>, Vec<String>) {
    let Some(environment) = &start.environment else {
        return (Cow::Borrowed(start), Vec::new());
    };
    let until = Until(Instant::now() + within);
    let typed = Typed {
        folder: &start.cwd,
        env: &start.env,
        stop: &until,
    };
    let say = |line: &str| info!(line, "the environment is made ready");
    let mut prepared = match timeout(within + GRACE, environment.prepare(&typed, &say)).await {
        Ok(prepared) => prepared,
        Err(_) => as_it_is(environment, within),
    };
    for note in &prepared.notes {
        warn!(note, "of the environment");
    }
    let notes = std::mem::take(&mut prepared.notes);
    let mut start = start.clone();
    match put_pip(folder) {
        Ok(programs) => {
            let pip = programs.join("pip").to_string_lossy().into_owned();
            start.env.insert(PIP.to_owned(), pip);
            if let Ok(environment) = serde_json::to_string(environment) {
                start.env.insert(ENVIRONMENT.to_owned(), environment);
            }
            // It reads where packages come from, as this process does.
            if let Ok(file) = std::env::var(FILE) {
                start.env.entry(FILE.to_owned()).or_insert(file);
            }
            prepared.path.insert(0, programs);
        }
        Err(error) => warn!(%error, "pip in a shell of this kernel is not nb's"),
    }
    (Cow::Owned(dressed(start, prepared)), notes)
}

/// The start of the next process of a kernel that was rebased.
pub(super) fn based(start: &Start, base: &Base, folder: &Path) -> Start {
    let mut start = start.clone();
    if !is_ipykernel(&start.argv) {
        start.argv = IPYKERNEL.map(str::to_owned).to_vec();
    }
    // It is of another Python.
    start.env.remove("PYTHONHOME");
    start.env.insert(BASE.to_owned(), base.title.clone());
    let own = start
        .environment
        .as_ref()
        .and_then(KernelEnvironment::python);
    if let Some(own) = own {
        let own = own.to_string_lossy().into_owned();
        start.env.insert(RETURNS_TO.to_owned(), own);
    }
    let mut prepared = Prepared {
        python: Some(base.python.clone()),
        path: vec![base.programs().to_owned()],
        notes: Vec::new(),
    };
    match put_pip(folder) {
        Ok(programs) => {
            let pip = programs.join("pip").to_string_lossy().into_owned();
            start.env.insert(PIP.to_owned(), pip);
            prepared.path.insert(0, programs);
        }
        Err(error) => warn!(%error, "pip in a shell of this kernel is not nb's"),
    }
    dressed(start, prepared)
}

/// Whether a command is that of ipykernel, whichever Python it is of.
fn is_ipykernel(argv: &[String]) -> bool {
    let mut pairs = argv.windows(2);
    pairs.any(|pair| pair[0] == "-m" && matches!(&*pair[1], "ipykernel_launcher" | "ipykernel"))
}

/// Does what the kernel does not have to wait for.
pub(super) fn settle(start: &Start) {
    let Some(environment) = start.environment.clone() else {
        return;
    };
    let (folder, env) = (start.cwd.clone(), start.env.clone());
    spawn_local(async move {
        let typed = Typed {
            folder: &folder,
            env: &env,
            stop: &Never,
        };
        environment.settle(&typed).await;
    });
}

/// Takes back what a supervisor that was killed has left half done, while the kernel goes on.
pub(super) fn tidy(start: &Start) {
    if let Some(environment) = start.environment.clone() {
        spawn_local(async move {
            if let Err(failure) = environment.tidy().await {
                warn!(failure.message, "the environment may be half changed");
            }
        });
    }
}

/// The environment without what it was to be brought to: half of a change is taken back by whoever is next at it.
fn as_it_is(environment: &KernelEnvironment, after: Duration) -> Prepared {
    let python = environment.python();
    let programs = python.as_deref().and_then(Path::parent).map(Path::to_owned);
    Prepared {
        path: programs.into_iter().collect(),
        python,
        notes: vec![format!(
            "What was added to this kernel's environment was not ready after {} s and was left out; \
             a restart tries again.",
            after.as_secs()
        )],
    }
}

/// Makes `pip` in a shell of the kernel this program; the folder that it is in.
fn put_pip(folder: &Path) -> io::Result<PathBuf> {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    let program = std::env::current_exe()?;
    // The file was replaced by that of another release.
    let program = program.to_string_lossy();
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    for name in ["pip", "pip3"] {
        let part = programs.join("part");
        let _left = fs::remove_file(&part);
        symlink(program, &part)?;
        fs::rename(part, programs.join(name))?;
    }
    Ok(programs)
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
