//! `%pex_load`, `%requirements_load`, `%pants_load`, `%bazel_load`, `%clean_path`, `%pex`: what is in a pex, for the Python
//! that runs.
//!
//! ```text
//! arguments  what is asked        env::pex  read, fitted, unpacked        kernel  path and modules over there
//!                                 build     made first, by a tool       rebase  a new process with another Python
//! ```
//!
//! Keeps nothing: what is loaded, the kernel knows. Never runs a pex.

mod arguments;
mod build;
mod kernel;
mod rebase;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{self, LocalBoxFuture};

use super::call::{At, Call};
use super::cell::{Answer, Cell, Output, Place};
use super::failure::Failure;
use super::magic::Magic;
use super::pip::Interrupt;
use super::progress;
use crate::config::Places;
use crate::env::interpreters::{About, Interpreters, names};
use crate::env::pex::{Base, Misfit, Mount, Pex, Requirements};
use crate::env::pip::{self, Typed};
use crate::error::Error;

use arguments::{Asked, Mode};
use kernel::{Cleaned, Here, Loaded};

/// How long it may take to find this machine's interpreters, and to ask those that are not known yet.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// So many names are shown; of the rest their number.
const NAMES_SHOWN: usize = 8;

/// The magic.
#[derive(Debug)]
pub(super) struct Pexes;

impl Magic for Pexes {
    fn name(&self) -> &'static str {
        "pex"
    }

    fn help(&self) -> &'static str {
        "what is in a pex, in this kernel (load FILE, requirements REQ…, pants TARGET, bazel TARGET, status, reset)"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let asked = arguments::parse(call)?;
            if cell.facts().language != "python" {
                return Err(failure("A pex is for Python, and this kernel is not."));
            }
            let text = match asked {
                Asked::Load { file, mode } => load(cell, &file, mode).await?,
                Asked::Requirements(words, mode) => requirements(cell, &words, mode).await?,
                Asked::Build(tool, target, mode) => build::load(cell, tool, &target, mode).await?,
                Asked::Repository(folder) => build::set_repository(cell, &folder).await?,
                Asked::Clean => match rebase::back(cell).await? {
                    Some(text) => text,
                    None => cleaned(&kernel::clean(cell, &mounts()?).await?),
                },
                Asked::Status => status(cell).await?,
            };
            if !text.is_empty() {
                cell.emit(Output::stdout(text)).await;
            }
            Ok(Answer::nothing())
        })
    }

    fn complete<'a>(&'a self, at: &'a At, _: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        let words: &[&str] = match at.before.trim_start().split_once(' ') {
            None if at.call.magic == "pex" => {
                &["load", "requirements", "pants", "bazel", "status", "reset"]
            }
            _ if matches!(at.call.magic.as_str(), "clean_path" | "pants_repo") => &[],
            _ if at.before.ends_with("--mode ") => &["live", "rebase", "auto"],
            _ => &["--mode", "--rebase", "--python"],
        };
        let words = words.iter().map(|&word| word.to_owned());
        Box::pin(future::ready(words.collect()))
    }

    fn spellings(&self) -> &'static [&'static str] {
        &[
            "pex",
            "pex_load",
            "requirements_load",
            "pants_load",
            "pants_repo",
            "bazel_load",
            "clean_path",
        ]
    }

    fn expands(&self) -> bool {
        true
    }
}

/// What there is to say once it is loaded.
async fn load(cell: &dyn Cell, file: &str, mode: Mode) -> Result<String, Failure> {
    let here = kernel::here(cell).await?;
    let path = full(file, &here.folder, &cell.place());
    load_file(cell, &here, &path, mode).await
}

/// Loads the pex of this path.
async fn load_file(
    cell: &dyn Cell,
    here: &Here,
    path: &Path,
    mode: Mode,
) -> Result<String, Failure> {
    let title = path.file_name().unwrap_or(path.as_os_str());
    let title = title.to_string_lossy().into_owned();
    let pex = unless_interrupted(cell, Pex::open(path)).await?;
    if let Mode::Rebase(python) = mode {
        return rebase::onto_pex(cell, here, &title, &pex, python.as_deref()).await;
    }
    let fit = match pex.fit(&here.about) {
        Ok(fit) => fit,
        Err(misfit) => return Err(unfit(&pex, &title, &misfit, here, cell.place()).await),
    };
    let data = data()?;
    let mount = unless_interrupted(cell, pex.mount(&fit, &data, &|_| ())).await?;
    let mut text = load_mount(cell, &title, &mount).await?;
    line(&mut text, "Only for other platforms", fit.left_out());
    if pex.info().names_others() {
        text.push_str("Its PEX_PATH names other pexes: they are not loaded with it.\n");
    }
    Ok(text)
}

/// What is required, installed into a folder of its own and loaded.
async fn requirements(cell: &dyn Cell, words: &[String], mode: Mode) -> Result<String, Failure> {
    let here = kernel::here(cell).await?;
    let asked = Requirements::parse(words).map_err(plain)?;
    let data = data()?;
    let (python, onto) = match mode {
        Mode::Rebase(Some(python)) => {
            let named = rebase::named(cell, &here, &python).await?;
            (named.path.clone(), Some(named))
        }
        Mode::Rebase(None) => (here.python.clone(), Some(rebase::own(&here))),
        Mode::Live | Mode::Auto => (here.python.clone(), None),
    };
    let about = onto.as_ref().map_or(&here.about, |onto| &onto.about);
    let (place, interrupt) = (cell.place(), Interrupt(cell));
    let typed = Typed {
        folder: &here.folder,
        env: &place.env,
        stop: &interrupt,
    };
    let mount = progress::lines(cell, async |say| {
        asked.mount(&python, about, &data, &typed, say).await
    });
    let mount = mount.await.map_err(of_env)?;
    // The words may have a login.
    let title = "What is required";
    match onto {
        Some(interpreter) => rebase::onto(cell, &here, title, &mount, &interpreter).await,
        None => load_mount(cell, title, &mount).await,
    }
}

/// Whoever interrupts waits for nothing: what is dropped leaves nothing that the next load does not remove.
async fn unless_interrupted<T>(
    cell: &dyn Cell,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done.map_err(plain),
        () = cell.interrupted() => Err(Failure::interrupted()),
    }
}

async fn load_mount(cell: &dyn Cell, title: &str, mount: &Mount) -> Result<String, Failure> {
    let (swapped, kept, removed, natives) = match kernel::load(cell, title, &mount.folder).await? {
        Loaded::Refused { refused } => return Err(native(title, &refused)),
        Loaded::Done {
            swapped,
            kept,
            removed,
            native,
        } => (swapped, kept, removed, native),
    };
    let mut text = format!("{title} is on the path: {}.\n", summary(mount));
    for (what, names) in [
        ("Import again, it was imported from elsewhere", &swapped),
        ("Of the kernel's own and not of the pex", &kept),
        ("Gone with what was loaded before", &removed),
        (
            "Restart the kernel before you import again, native code stays loaded",
            &natives,
        ),
        (
            "Twice in it with different content, the first has its way",
            &mount.content.collisions,
        ),
    ] {
        line(&mut text, what, names);
    }
    Ok(text)
}

/// The file that is meant: `~` is the kernel's home, and what is relative is so to where the kernel is now.
fn full(file: &str, folder: &Path, place: &Place) -> PathBuf {
    let home = place.env.get("HOME");
    match (file.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            Path::new(home).join(rest.trim_start_matches('/'))
        }
        _ => folder.join(file),
    }
}

/// What a pex is for; an error when it cannot be loaded at all.
fn needs(title: &str, misfit: &Misfit) -> Result<String, Failure> {
    match misfit {
        Misfit::Constraint(constraint) => Ok(format!("{title} needs {constraint}")),
        Misfit::Wheels { project, tags } => Ok(format!("{title} has {project} for {tags} only")),
        Misfit::Malformed(why) => Err(failure(format!("{title} cannot be loaded: {why}."))),
    }
}

/// The sentence for a pex that is not for the kernel's interpreter: what it needs, what there is.
async fn unfit(pex: &Pex, title: &str, misfit: &Misfit, here: &Here, place: Place) -> Failure {
    let kernel = &here.about;
    let needs = match needs(title, misfit) {
        Ok(needs) => needs,
        Err(failure) => return failure,
    };
    let env = place.env;
    let variable = |name: &str| env.get(name).map(OsString::from);
    let interpreters = match data() {
        Ok(data) => {
            let (interpreters, is_guessed) =
                Interpreters::guess(&data, variable, ASK_WITHIN, kernel).await;
            if is_guessed {
                // They are asked for the next time, while this cell has ended.
                let env = env.clone();
                tokio::task::spawn_local(async move {
                    let variable = |name: &str| env.get(name).map(OsString::from);
                    Interpreters::look(&data, variable, ASK_WITHIN).await;
                });
            }
            interpreters
        }
        Err(_) => Interpreters::default(),
    };
    let all = interpreters.0.iter().map(|it| &it.about);
    let fitting: Vec<&About> = all.filter(|about| pex.fit(about).is_ok()).collect();
    let rebase = match fitting.iter().any(|about| Base::takes(about)) {
        true => "; `--rebase` restarts the kernel in one of them, without its variables",
        false => "",
    };
    let others = match fitting.is_empty() {
        true => "no interpreter of this machine fits".to_owned(),
        false => {
            let names = names(fitting.into_iter());
            format!("of this machine's fit: {names}{rebase}")
        }
    };
    failure(format!("{needs}, and this kernel runs {kernel}; {others}."))
}

fn native(title: &str, refused: &[(String, String)]) -> Failure {
    let names: Vec<String> = refused.iter().map(|(name, _)| name.clone()).collect();
    let places = refused
        .iter()
        .map(|(name, place)| format!("{name} is loaded from {place}"));
    let mut failure = failure(format!(
        "{title} has another {} than this kernel has imported, and native code cannot be swapped in a running process: \
         `--rebase` restarts the kernel with it, without its variables.",
        shown(&names)
    ));
    failure.log = places.collect::<Vec<_>>().join("\n");
    failure
}

fn summary(mount: &Mount) -> String {
    let content = &mount.content;
    let dists = content.distributions.iter();
    let dists: Vec<_> = dists
        .map(|dist| format!("{} {}", dist.project, dist.version))
        .collect();
    let mut parts = Vec::new();
    if !content.modules.is_empty() {
        parts.push(shown(&content.modules));
    }
    if !dists.is_empty() {
        parts.push(shown(&dists));
    }
    match parts.is_empty() {
        true => "there is nothing in it".to_owned(),
        false => parts.join("; "),
    }
}

fn cleaned(cleaned: &Cleaned) -> String {
    let mut text = String::new();
    for (what, entries) in [
        ("Removed from the path", &cleaned.path),
        ("Put back on the path", &cleaned.added),
    ] {
        for entry in entries {
            text.push_str(&format!("{what}: {entry}\n"));
        }
    }
    if !cleaned.modules.is_empty() {
        let (names, count) = (shown(&cleaned.modules), cleaned.count);
        let ending = if count == 1 { "" } else { "s" };
        text.push_str(&format!("Removed {count} module{ending}: {names}\n"));
    }
    line(
        &mut text,
        "As at the start of the kernel again",
        &cleaned.back,
    );
    line(
        &mut text,
        "Restart the kernel before you import again, native code stays loaded",
        &cleaned.native,
    );
    match text.is_empty() {
        true => "The path is as it was at the start of the kernel.\n".to_owned(),
        false => text,
    }
}

async fn status(cell: &dyn Cell) -> Result<String, Failure> {
    let based = rebase::status(cell);
    let now = kernel::status(cell).await?.loaded.map(|loaded| {
        let (title, mount) = (loaded.title, loaded.mount.display());
        format!("{title} is on the path: {mount}\n")
    });
    Ok(match (based, now) {
        (None, None) => "No pex is loaded.\n".to_owned(),
        (based, now) => based.unwrap_or_default() + &now.unwrap_or_default(),
    })
}

/// A line of names, if there are any.
fn line(text: &mut String, what: &str, names: &[String]) {
    if !names.is_empty() {
        text.push_str(&format!("{what}: {}.\n", shown(names)));
    }
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let shown = names[..names.len() - more].join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// nb's data folder, which the supervisor has from whoever started it.
fn data() -> Result<PathBuf, Failure> {
    Places::from_env().map(|places| places.data).map_err(plain)
}

fn mounts() -> Result<PathBuf, Failure> {
    Ok(data()?.join("pex/mounts"))
}

fn of_env(failed: pip::Failure) -> Failure {
    match failed.is_interrupt {
        true => Failure::interrupted(),
        false => Failure {
            log: failed.log,
            ..failure(failed.message)
        },
    }
}

fn failure(message: impl Into<String>) -> Failure {
    Failure::new("PexError", message)
}

/// The first line is the sentence, the others are what a tool said.
fn plain(error: Error) -> Failure {
    let message = error.message;
    let (sentence, log) = message.split_once('\n').unwrap_or((&message, ""));
    let mut failure = failure(sentence);
    failure.log = log.to_owned();
    failure
}
