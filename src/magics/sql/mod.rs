//! `%%sql` and `%sql`: a query, its result the cell's own.
//!
//! ```text
//! arguments  what is asked         statements  its statements, what they bind
//! connections  of which database   values      variables and frames of the kernel
//! session    run there, by a worker            shown  what is seen of it
//! ```
//!
//! Owns the sessions: one for each connection, from its first cell until the kernel's process ends.

pub mod arguments;
pub mod shown;
pub mod statements;

mod connections;
mod session;
mod values;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{self, LocalBoxFuture};
use tokio::sync::{Mutex, oneshot};
use tokio::task::spawn_local;

use self::arguments::Asked;
use self::connections::{Asker, Connections, EMBEDDED, failure};
use self::session::Session;
use self::statements::{Names, Placeholders, Statement, VALUES_MAX};
use super::call::{At, Call};
use super::cell::{Answer, Bundle, Cell, Frame, Given, Named};
use super::failure::Failure;
use super::languages::Language;
use super::magic::Magic;
use super::pip::working_folder;
use super::progress;
use crate::config::{private_folder, user_name};
use crate::env::{Environment, Uv};
use crate::table::table;
use crate::workers::sql::wire;

/// What the notebook's path is in: jupyter_server and Lab set it.
const NOTEBOOK: &str = "JPY_SESSION_NAME";

/// The magic.
#[derive(Debug, Default)]
pub(super) struct Sql {
    /// By the name of their connection.
    sessions: RefCell<BTreeMap<String, Rc<Mutex<Session>>>>,
}

impl Magic for Sql {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn help(&self) -> &'static str {
        "asks a database, or files and frames ([CONNECTION] [NAME <<], then SQL; alone: the connections)"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        self.ask(call, cell).boxed_local()
    }

    /// With it go its connections, as if they were in it.
    fn kernel_ended(&self) {
        self.sessions.borrow_mut().clear();
    }

    fn complete<'a>(&'a self, at: &'a At, cell: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        let is_first = !at.in_cell && at.before.split_whitespace().count() < 2;
        let known = is_first.then(|| Connections::read(&cell.place().env));
        let known = known.and_then(Result::ok);
        let names = known.map_or_else(Vec::new, |known| {
            known.all().into_iter().map(|[name, ..]| name).collect()
        });
        future::ready(names).boxed_local()
    }

    fn spellings(&self) -> &'static [&'static str] {
        &["sql"]
    }
}

impl Sql {
    async fn ask(&self, call: &Call, cell: &dyn Cell) -> Result<Answer, Failure> {
        let place = cell.place();
        let known = Connections::read(&place.env)?;
        let asked = arguments::parse(call, |name| known.has(name))?;
        if let Some(name) = &asked.connection
            && !known.has(name)
        {
            return Err(connections::unknown(name));
        }
        let statements = statements::split(&asked.sql, asked.lines_above);
        if statements.is_empty() {
            return Ok(listed(&known));
        }
        if let (Some(_), Err(instead)) = (&asked.into, Language::of_cell(cell)) {
            return Err(failure(format!(
                "`NAME <<` makes a variable of a kernel of Python or Scala, and {instead}."
            )));
        }
        let name = asked.connection.as_deref().unwrap_or(EMBEDDED);
        let shared = self.session(name);
        // One cell after the other has a connection.
        let mut session = tokio::select! {
            session = shared.lock() => session,
            () = cell.interrupted() => return Err(Failure::interrupted()),
        };
        if session.is_closed() {
            let Some(data) = place.data.clone() else {
                return Err(failure(
                    "An older nb has started this kernel: restart it to use %%sql.",
                ));
            };
            let asker = Asker {
                user: user_name(),
                notebook: place.env.get(NOTEBOOK).cloned().unwrap_or_default(),
                folder: place.cwd.clone(),
                scratch: place.scratch.clone(),
                env: place.env.clone(),
            };
            private_folder(&place.scratch).map_err(|error| failure(error.message))?;
            let database = known.database(name, &asker).await?;
            let environment = environment(&data, cell).await?;
            session
                .open(&environment.python(), database, &asker, cell)
                .await?;
        }
        let run = plan(&statements, &mut session, cell, &known).await?;
        let (id, has_frames) = (run.id, !run.frames.is_empty());
        let done = session.run(run, cell).await;
        if has_frames {
            values::let_go(cell).await;
        }
        let (held, taken) = oneshot::channel();
        let answer = answer(&done?, asked, held);
        let held_by = Rc::clone(&shared);
        spawn_local(async move {
            let _dropped: Result<(), _> = taken.await;
            held_by.lock().await.let_go(id).await;
        });
        Ok(answer)
    }

    /// The one of this connection.
    fn session(&self, name: &str) -> Rc<Mutex<Session>> {
        let mut sessions = self.sessions.borrow_mut();
        Rc::clone(sessions.entry(name.to_owned()).or_default())
    }
}

/// What drivers are in, made when it is asked for first.
async fn environment(data: &std::path::Path, cell: &dyn Cell) -> Result<Environment, Failure> {
    let environment = Environment::sql(data);
    if environment.is_ready() {
        return Ok(environment);
    }
    let made = progress::lines(cell, async |say| {
        say("%%sql is set up, once for all notebooks: DuckDB and drivers of databases");
        let uv = Uv::find(data, say).await?;
        environment.make(&uv, say).await
    });
    tokio::select! {
        made = made => made.map_err(|error| failure(error.message))?,
        () = cell.interrupted() => return Err(Failure::interrupted()),
    }
    Ok(environment)
}

/// What the worker is to do for these statements.
async fn plan(
    statements: &[Statement<'_>],
    session: &mut Session,
    cell: &dyn Cell,
    known: &Connections,
) -> Result<wire::Run, Failure> {
    let names = Names::of(statements);
    let placeholders = Placeholders::of(session.driver());
    let sent: Vec<_> = statements
        .iter()
        .map(|statement| {
            let sent = statement.sent(placeholders, &names)?;
            Some(wire::Statement {
                sql: sent.sql,
                values: sent.values,
                lines_above: statement.lines_above,
            })
        })
        .collect::<Option<_>>()
        .ok_or_else(too_many)?;
    let values = values::bound(names.all(), cell).await?;
    let tables = match session.driver() {
        EMBEDDED => session.tables(&sent, cell).await?,
        _ => Vec::new(),
    };
    let quoted = statements.iter().flat_map(|statement| &statement.quoted);
    Ok(wire::Run {
        id: session.next_run(),
        statements: sent,
        values,
        frames: values::frames(tables, cell).await?,
        files: quoted.map(|&quoted| quoted.to_owned()).collect(),
        folder: working_folder(cell).unwrap_or_else(|| cell.place().cwd),
        bytes_max: known.result_bytes_max,
        preview_rows: shown::ROWS_SHOWN,
    })
}

fn too_many() -> Failure {
    failure(format!(
        "A statement binds more than {VALUES_MAX} values, which no database takes: give them as a frame and join it."
    ))
}

/// The result is there until `held` is dropped.
fn answer(done: &wire::Done, asked: Asked, held: oneshot::Sender<()>) -> Answer {
    let Some(path) = done.path.clone() else {
        let text = done
            .changed
            .map(|changed| format!("{} changed", shown::rows(changed)));
        return Answer {
            shown: text.map(|text| Bundle::from_iter([("text/plain".to_owned(), text.into())])),
            ..Answer::nothing()
        };
    };
    Answer {
        shown: Some(shown::table(done)),
        named: asked.into.map(|into| Named {
            name: into.name,
            is_shown: into.is_shown,
        }),
        given: Given::Arrow(Frame::lent(path, held)),
    }
}

/// The connections that there are.
fn listed(known: &Connections) -> Answer {
    let text = table(["CONNECTION", "DRIVER", "FROM"], &known.all());
    Answer {
        shown: Some(Bundle::from_iter([("text/plain".to_owned(), text.into())])),
        ..Answer::nothing()
    }
}
