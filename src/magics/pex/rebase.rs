//! Rebase: the kernel is restarted in a new interpreter that has the pex as its environment; and back.
//!
//! All that can fail is done before: a cell that fails leaves the kernel as it was. Knows nothing of how a kernel is restarted.

use std::ffi::OsString;
use std::fs;

use super::kernel::Here;
use super::{ASK_WITHIN, data, failure, needs, of_env, plain, summary, unfit, unless_interrupted};
use crate::env::interpreters::{Interpreter, Interpreters, Wanted};
use crate::env::pex::{Base, Fit, Misfit, Mount, Pex};
use crate::env::pip::Typed;
use crate::magics::cell::{Cell, Output};
use crate::magics::failure::Failure;
use crate::magics::pip::Interrupt;
use crate::magics::progress;

/// Rebases onto this pex, with the interpreter that is named, else with the kernel's own where it fits, else with the newest one that does.
pub(super) async fn onto_pex(
    cell: &dyn Cell,
    here: &Here,
    title: &str,
    pex: &Pex,
    python: Option<&str>,
) -> Result<String, Failure> {
    let data = data()?;
    if let Some(python) = python {
        let interpreter = named(cell, here, python).await?;
        let fit = pex.fit(&interpreter.about).map_err(|misfit| {
            let about = &interpreter.about;
            needs(title, &misfit).map_or_else(
                |failure| failure,
                |needs| failure(format!("{needs}, and {about} was asked for.")),
            )
        })?;
        let mount = unless_interrupted(cell, pex.mount(&fit, &data, &|_| ())).await?;
        return onto(cell, here, title, &mount, &interpreter).await;
    }
    let own = own(here);
    let (interpreter, fit) = match pex.fit(&own.about) {
        Ok(fit) if Base::takes(&own.about) => (own, fit),
        fit => match another(cell, pex).await? {
            Some(found) => found,
            None => {
                let misfit = fit.err().unwrap_or_else(|| {
                    Misfit::Malformed("no kernel runs on a Python as old as this one".to_owned())
                });
                return Err(unfit(pex, title, &misfit, here, cell.place()).await);
            }
        },
    };
    let mount = unless_interrupted(cell, pex.mount(&fit, &data, &|_| ())).await?;
    onto(cell, here, title, &mount, &interpreter).await
}

/// Rebases onto what is in a mount.
pub(super) async fn onto(
    cell: &dyn Cell,
    here: &Here,
    title: &str,
    mount: &Mount,
    interpreter: &Interpreter,
) -> Result<String, Failure> {
    let (data, place) = (data()?, cell.place());
    let interrupt = Interrupt(cell);
    let typed = Typed {
        folder: &here.folder,
        env: &place.env,
        stop: &interrupt,
    };
    let made = progress::lines(cell, async |say| {
        let now = cell.base();
        Base::make(title, mount, interpreter, now.as_ref(), &data, &typed, say).await
    });
    // Held until it is written down that a kernel is in it.
    let made = made.await.map_err(of_env)?;
    let (summary, interpreter) = (summary(mount), &made.base.interpreter);
    if !made.is_new {
        return Ok(format!(
            "{title} is this kernel's environment, with {interpreter}: {summary}.\n"
        ));
    }
    let text = format!(
        "{title} is this kernel's environment from now on, with {interpreter}: {summary}. \
         The kernel is restarted, its variables are lost.\n"
    );
    // Before the restart, which does not wait for long.
    cell.emit(Output::stdout(text)).await;
    cell.rebase(Some(made.base.clone()))?;
    Ok(String::new())
}

/// Back to what the kernel was started with; nothing when it is there.
pub(super) async fn back(cell: &dyn Cell) -> Result<Option<String>, Failure> {
    let Some(base) = cell.base() else {
        return Ok(None);
    };
    let text = format!(
        "{} is this kernel's environment no longer. The kernel is restarted as it was started first, its variables are lost.\n",
        base.title
    );
    cell.emit(Output::stdout(text)).await;
    cell.rebase(None)?;
    Ok(Some(String::new()))
}

/// What the kernel runs in, if it was rebased.
pub(super) fn status(cell: &dyn Cell) -> Option<String> {
    let base = cell.base()?;
    let python = base.python.display();
    Some(format!(
        "{} is this kernel's environment, with {}: {python}\n",
        base.title, base.interpreter
    ))
}

/// The interpreter that the kernel runs on, without the environment that it may be in.
pub(super) fn own(here: &Here) -> Interpreter {
    let path = fs::canonicalize(&here.python).unwrap_or_else(|_| here.python.clone());
    Interpreter {
        path,
        about: here.about.clone(),
    }
}

/// The one that is asked for: the kernel's own if it is such, else the newest.
pub(super) async fn named(
    cell: &dyn Cell,
    here: &Here,
    asked: &str,
) -> Result<Interpreter, Failure> {
    let wanted: Wanted = asked.parse().map_err(plain)?;
    let found = match wanted.is(&here.about) {
        true => own(here),
        false => {
            let all = all(cell).await?;
            all.find(asked).map_err(plain)?.clone()
        }
    };
    match Base::takes(&found.about) {
        true => Ok(found),
        false => Err(failure(format!(
            "No kernel runs on a Python as old as {}.",
            found.about
        ))),
    }
}

/// Those of this machine.
async fn all(cell: &dyn Cell) -> Result<Interpreters, Failure> {
    let (data, place) = (data()?, cell.place());
    let variable = |name: &str| place.env.get(name).map(OsString::from);
    let look = Interpreters::look(&data, variable, ASK_WITHIN);
    unless_interrupted(cell, async { Ok(look.await) }).await
}

/// The newest other one that the pex fits and that a kernel can be of.
async fn another(cell: &dyn Cell, pex: &Pex) -> Result<Option<(Interpreter, Fit)>, Failure> {
    let all = all(cell).await?;
    let mut fitting = all.0.into_iter().filter(|one| Base::takes(&one.about));
    Ok(fitting.find_map(|one| {
        let fit = pex.fit(&one.about).ok()?;
        Some((one, fit))
    }))
}
