//! Which magics there are, whose a cell is, and the one way to run them.
//!
//! `%nb NAME …` reaches every magic. A magic may have further spellings of its own (`%NAME …`), which
//! in an IPython kernel the user may take over. Knows no door: both call [`Registry::run`].

use std::fmt;
use std::time::Duration;

use futures_util::future::{self, Either};

use super::call::{self, At, Call};
use super::cell::{Answer, Bundle, Cell, Given};
use super::failure::Failure;
use super::magic::{Magic, Runs};
use super::other::OtherKernel;
use super::others::others;
use super::pex::Pexes;
use super::pip::Pip;
use super::reset::Reset;
use super::restart::Restart;
use super::script::Script;
use super::sql::Sql;
use super::status::Status;
use crate::env::KernelEnvironment;

/// The name that is always ours.
pub const NB: &str = "nb";

/// How long an interrupted magic may take to end well, say to cancel a query at its server.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// The kernel's side of the doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The helper has registered our magics there: cells go to the kernel as they were typed.
    IPython,
    Plain,
}

/// A cell that the queue is to run instead of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub call: Call,
    /// Its body is for another kernel.
    pub elsewhere: bool,
    /// What follows once the call has succeeded, under the same parent: a cell by itself, so it is to
    /// be claimed again, and is the kernel's when it is not. Its reply is then the cell's.
    pub rest: Option<String>,
}

/// The body of a cell that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub kernel: OtherKernel,
    pub source: String,
    /// In characters of this source.
    pub cursor: usize,
    /// So many characters of the cell stand before it.
    pub before: usize,
}

/// What decides which magics a kernel has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// The one of nb's environments that it runs in.
    pub environment: Option<&'a KernelEnvironment>,
    /// Its notebook may have other kernels.
    pub has_others: bool,
}

/// What a `complete_reply` says; positions are in characters of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub matches: Vec<String>,
    pub start: usize,
    pub end: usize,
}

/// All magics of a supervisor.
pub struct Registry {
    magics: Vec<Box<dyn Magic>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.magics.iter().map(|magic| magic.name());
        f.debug_list().entries(names).finish()
    }
}

enum Found<'a> {
    /// `%nb`, `%nb help`, `%nb help NAME`.
    Help(Call),
    Magic(&'a dyn Magic, Call),
    /// `%nb NAME` with this NAME.
    Unknown(String),
}

impl Registry {
    /// The magics of this version of nb.
    pub fn standard(setting: &Setting<'_>) -> Self {
        let mut magics: Vec<Box<dyn Magic>> = vec![
            Box::new(Status::default()),
            Box::new(Restart),
            Box::new(Pexes),
            Box::new(Sql::default()),
        ];
        if setting.has_others {
            magics.extend(others());
        }
        if setting.environment.is_some() {
            magics.push(Box::new(Pip));
            magics.push(Box::new(Reset));
            magics.push(Box::new(Script::default()));
        }
        Self::of(magics)
    }

    /// These magics; where two share a name the first has it.
    pub fn of(magics: Vec<Box<dyn Magic>>) -> Self {
        Self { magics }
    }

    /// The magics that an IPython kernel is to know.
    pub fn magics(&self) -> impl Iterator<Item = &dyn Magic> {
        self.magics.iter().map(Box::as_ref)
    }

    /// Whether the queue is to take this cell from the kernel, and as what.
    ///
    /// A cell is ours when its first line that is not blank starts with `%nb`, whatever follows, or
    /// with a spelling of a magic. In an IPython kernel only `%%` cells that run elsewhere are, where
    /// IPython itself sees them.
    pub fn claim(&self, source: &str, front: Front) -> Option<Claim> {
        let (call, rest) = match front {
            Front::Plain => {
                let call::Head { call, rest } = call::head(source)?;
                (call, rest)
            }
            Front::IPython => (call::cell_head(source)?, None),
        };
        let elsewhere = matches!(
            self.find(&call)?,
            Found::Magic(magic, call) if call.cell.is_some() && magic.runs() == Runs::Elsewhere
        );
        (front == Front::Plain || elsewhere).then_some(Claim {
            call,
            elsewhere,
            rest,
        })
    }

    /// The body at the cursor, counted in characters, when it is one for another kernel.
    pub fn body(&self, source: &str, cursor: usize) -> Option<Body> {
        let at = call::at(source, cursor).filter(|at| at.in_cell)?;
        let Found::Magic(magic, call) = self.find(&at.call)? else {
            return None;
        };
        let (kernel, body) = (magic.belongs(&call)?, call.cell?);
        Some(Body {
            kernel,
            cursor: at.before.chars().count(),
            before: source.chars().count() - body.chars().count(),
            source: body,
        })
    }

    /// Runs a call from either door.
    pub async fn run(&self, call: &Call, cell: &dyn Cell) -> Result<Answer, Failure> {
        self.run_within(call, cell, INTERRUPT_GRACE).await
    }

    async fn run_within(
        &self,
        call: &Call,
        cell: &dyn Cell,
        grace: Duration,
    ) -> Result<Answer, Failure> {
        let (magic, call) = match self.find(call) {
            Some(Found::Magic(magic, call)) => (magic, call),
            Some(Found::Help(call)) => return self.help(&call),
            Some(Found::Unknown(name)) => return Err(self.unknown(&format!("%nb {name}"))),
            None => return Err(self.unknown(&format!("%{}", call.magic))),
        };
        match future::select(magic.run(&call, cell), cell.interrupted()).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), run)) => match tokio::time::timeout(grace, run).await {
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(_)) | Err(_) => Err(Failure::interrupted()),
            },
        }
    }

    /// Whether what stands at the cursor is ours to complete and explain. In an IPython kernel only `%nb` is for
    /// certain: the user may have taken a spelling over.
    pub fn knows(&self, source: &str, cursor: usize, front: Front) -> bool {
        call::at(source, cursor).is_some_and(|at| {
            let is_sure = front == Front::Plain || at.call.magic == NB;
            match self.find(&at.call) {
                Some(Found::Magic(magic, call)) => {
                    is_sure || call.cell.is_some() && magic.runs() == Runs::Elsewhere
                }
                Some(_) => is_sure,
                None => false,
            }
        })
    }

    /// The kernel's process is gone, and with it what magics keep for it.
    pub fn kernel_ended(&self) {
        self.magics().for_each(Magic::kernel_ended);
    }

    /// What may stand at the cursor, counted in characters; nothing when that is not in a call of ours.
    pub async fn complete(
        &self,
        source: &str,
        cursor: usize,
        cell: &dyn Cell,
    ) -> Option<Completion> {
        let at = call::at(source, cursor)?;
        let offered = match self.find(&at.call)? {
            Found::Magic(magic, call) if at.call.magic != NB => {
                let at = At { call, ..at.clone() };
                magic.complete(&at, cell).await
            }
            Found::Magic(magic, call) if let Some(before) = behind_name(&at) => {
                let at = At {
                    before,
                    call,
                    ..at.clone()
                };
                magic.complete(&at, cell).await
            }
            _ => self.names().map(str::to_owned).collect(),
        };
        let word = at.word();
        let end = cursor.min(source.chars().count());
        Some(Completion {
            matches: offered
                .into_iter()
                .filter(|offer| offer.starts_with(word))
                .collect(),
            start: end - word.chars().count(),
            end,
        })
    }

    /// What an `inspect_reply` says of the call at the cursor.
    pub fn inspect(&self, source: &str, cursor: usize) -> Option<String> {
        match self.find(&call::at(source, cursor)?.call)? {
            Found::Magic(magic, _) => Some(describe(magic)),
            Found::Help(_) | Found::Unknown(_) => Some(self.overview()),
        }
    }

    /// One line for each magic.
    pub fn overview(&self) -> String {
        let width = self.names().map(str::len).max().unwrap_or(0);
        let mut lines = vec![format!("%nb {:width$}  what there is", "help")];
        lines.extend(
            self.magics()
                .map(|magic| format!("%nb {:width$}  {}", magic.name(), magic.help())),
        );
        lines.join("\n")
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once("help").chain(self.magics.iter().map(|magic| magic.name()))
    }

    /// `None`: not ours.
    fn find(&self, call: &Call) -> Option<Found<'_>> {
        if call.magic != NB {
            let magic = self
                .magics()
                .find(|magic| magic.spellings().contains(&call.magic.as_str()))?;
            return Some(Found::Magic(magic, call.clone()));
        }
        let (name, line) = call::split_name(&call.line).unwrap_or(("help", ""));
        let inner = Call {
            magic: name.to_owned(),
            line: line.trim().to_owned(),
            cell: call.cell.clone(),
        };
        if name == "help" {
            return Some(Found::Help(inner));
        }
        let by_name = self.magics().find(|magic| magic.name() == name);
        let magic = by_name.or_else(|| {
            self.magics()
                .find(|magic| magic.spellings().contains(&name))
        });
        Some(match magic {
            Some(magic) => Found::Magic(magic, inner),
            None => Found::Unknown(name.to_owned()),
        })
    }

    fn help(&self, call: &Call) -> Result<Answer, Failure> {
        let text = if call.line.is_empty() {
            self.overview()
        } else {
            let asked = Call {
                magic: NB.to_owned(),
                line: call.line.clone(),
                cell: None,
            };
            match self.find(&asked) {
                Some(Found::Magic(magic, _)) => describe(magic),
                Some(Found::Unknown(name)) => return Err(self.unknown(&format!("%nb {name}"))),
                Some(Found::Help(_)) | None => self.overview(),
            }
        };
        Ok(Answer {
            given: Given::Nothing,
            shown: Some(Bundle::from_iter([("text/plain".to_owned(), text.into())])),
            named: None,
        })
    }

    fn unknown(&self, typed: &str) -> Failure {
        let known: Vec<String> = self.names().map(|name| format!("%nb {name}")).collect();
        Failure::usage(format!(
            "There is no `{typed}`; there is: {}.",
            known.join(", ")
        ))
    }
}

/// What stands between the name behind `%nb` and the cursor; nothing while the cursor is in the name.
fn behind_name(at: &At) -> Option<String> {
    if at.in_cell {
        return Some(at.before.clone());
    }
    let (_, behind) = call::split_name(at.before.trim_start())?;
    (!behind.is_empty()).then(|| behind.to_owned())
}

fn describe(magic: &dyn Magic) -> String {
    let mut text = format!("%nb {}: {}", magic.name(), magic.help());
    if !magic.spellings().is_empty() {
        let spellings: Vec<String> = magic.spellings().iter().map(|s| format!("%{s}")).collect();
        text += &format!("\nAlso: {}", spellings.join(", "));
    }
    text
}

#[cfg(test)]
mod tests;
