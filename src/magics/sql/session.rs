//! A connection that cells of one notebook share, and the worker that holds it.
//!
//! An interrupted query is cancelled in its database; a driver that cannot do that loses its worker, and with it what was temporary
//! in the connection.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::connections::{Asker, failure};
use super::shown;
use crate::magics::cell::{Bundle, Cell, Output};
use crate::magics::failure::Failure;
use crate::redact::redacted;
use crate::workers::sql::Worker;
use crate::workers::sql::wire::{Database, Event, Progress, Request, Run, Statement};

pub(super) use crate::workers::sql::wire::Done;

/// So long a database may take to let us in.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// For what needs no database.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A worker that takes nothing of what it is told for so long hangs.
const TAKES_WITHIN: Duration = Duration::from_secs(30);

/// A cancelled query may take so long to end; then its worker is killed.
const CANCEL_WITHIN: Duration = Duration::from_millis(800);

/// What is over sooner shows no progress.
const SHOWS_AFTER: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Session {
    open: Option<Opened>,
    runs: u64,
}

#[derive(Debug)]
struct Opened {
    worker: Worker,
    driver: String,
}

impl Session {
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// The driver's name; of a closed session nothing.
    pub(super) fn driver(&self) -> &str {
        self.open.as_ref().map_or("", |open| &open.driver)
    }

    pub(super) fn next_run(&mut self) -> u64 {
        self.runs += 1;
        self.runs
    }

    /// The result of this run is not needed any more.
    pub(super) async fn let_go(&mut self, run: u64) {
        if self.open.is_some() {
            // Its death is for the next cell to notice.
            let _gone = self.tell(&Request::LetGo { id: run }).await;
        }
    }

    /// Opens the connection.
    pub(super) async fn open(
        &mut self,
        python: &Path,
        database: Database,
        asker: &Asker,
        cell: &dyn Cell,
    ) -> Result<(), Failure> {
        let started = Worker::start(python, &asker.env, &asker.folder).await;
        let worker =
            started.map_err(|error| failure(format!("The SQL worker did not start: {error}.")))?;
        self.open = Some(Opened {
            worker,
            driver: database.driver.clone(),
        });
        let request = Request::Open(&database);
        match self.told(&request, OPEN_WITHIN, cell).await {
            Ok(Event::Opened {}) => Ok(()),
            Ok(_) => Err(self.unexpected()),
            Err(failure) => {
                self.open = None;
                Err(failure)
            }
        }
    }

    /// The tables that these statements name and that the database does not have.
    pub(super) async fn tables(
        &mut self,
        statements: &[Statement],
        cell: &dyn Cell,
    ) -> Result<Vec<String>, Failure> {
        let statements = statements.iter().map(|one| one.sql.as_str()).collect();
        match self
            .told(&Request::Tables { statements }, ANSWER_WITHIN, cell)
            .await?
        {
            Event::Tables { names } => Ok(names),
            _ => Err(self.unexpected()),
        }
    }

    /// Runs statements to their end, or until the cell is interrupted.
    pub(super) async fn run(&mut self, run: Run, cell: &dyn Cell) -> Result<Done, Failure> {
        let began = Instant::now();
        let mut bar = Bar::default();
        let request = Request::Run(&run);
        let told = tokio::select! {
            told = self.tell(&request) => Some(told),
            () = cell.interrupted() => None,
        };
        let Some(told) = told else {
            return Err(self.given_up());
        };
        told?;
        let ended = loop {
            tokio::select! {
                event = self.heard() => match event? {
                    Event::Progress(progress) => bar.show(began.elapsed(), progress, cell).await,
                    Event::Done(done) => break Ok(done),
                    Event::Failed(failed) => break Err(of_database(&failed.message, &failed.log)),
                    _ => break Err(self.unexpected()),
                },
                () = cell.interrupted() => break Err(self.cancel(run.id).await),
            }
        };
        bar.end(began.elapsed(), &ended, cell).await;
        ended
    }

    /// Ends what runs there.
    async fn cancel(&mut self, id: u64) -> Failure {
        let cancelled = async {
            self.tell(&Request::Cancel { id }).await?;
            while let Event::Progress(_) = self.heard().await? {}
            Ok::<(), Failure>(())
        };
        if !matches!(timeout(CANCEL_WITHIN, cancelled).await, Ok(Ok(()))) {
            // Dropped, it is killed.
            self.open = None;
        }
        Failure::interrupted()
    }

    /// What it answers, unless it takes too long or the cell is interrupted: then it is ended, since its answer would be another's.
    async fn told(
        &mut self,
        request: &Request<'_>,
        within: Duration,
        cell: &dyn Cell,
    ) -> Result<Event, Failure> {
        let heard = tokio::select! {
            heard = timeout(within, self.told_and_heard(request)) => Some(heard),
            () = cell.interrupted() => None,
        };
        match heard {
            Some(Ok(Ok(Event::Failed(failed)))) => Err(of_database(&failed.message, &failed.log)),
            Some(Ok(heard)) => heard,
            Some(Err(_)) => {
                self.open = None;
                let seconds = within.as_secs();
                Err(failure(format!(
                    "The database has not answered for {seconds} s."
                )))
            }
            None => Err(self.given_up()),
        }
    }

    async fn told_and_heard(&mut self, request: &Request<'_>) -> Result<Event, Failure> {
        self.tell(request).await?;
        self.heard().await
    }

    async fn tell(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Err(failure("The connection is closed."));
        };
        match timeout(TAKES_WITHIN, open.worker.tell(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.died().await),
            Err(_) => {
                self.open = None;
                let seconds = TAKES_WITHIN.as_secs();
                Err(failure(format!(
                    "The SQL worker has taken nothing for {seconds} s and was ended; the next cell connects again."
                )))
            }
        }
    }

    /// Interrupted in the middle of what it was told: its end.
    fn given_up(&mut self) -> Failure {
        self.open = None;
        Failure::interrupted()
    }

    async fn heard(&mut self) -> Result<Event, Failure> {
        let Some(open) = &mut self.open else {
            return Err(failure("The connection is closed."));
        };
        match open.worker.next().await {
            Some(event) => Ok(event),
            None => Err(self.died().await),
        }
    }

    async fn died(&mut self) -> Failure {
        let (how, printed) = match self.open.take() {
            Some(open) => open.worker.end().await,
            None => Default::default(),
        };
        Failure {
            log: redacted(&printed).into_owned(),
            ..failure(format!(
                "The SQL worker has died ({how}); the next cell connects again, without what was temporary."
            ))
        }
    }

    fn unexpected(&mut self) -> Failure {
        self.open = None;
        failure("The SQL worker has said what was not asked.")
    }
}

fn of_database(message: &str, log: &str) -> Failure {
    Failure {
        log: redacted(log).into_owned(),
        ..failure(redacted(message))
    }
}

/// A display that tells how far a run is.
#[derive(Default)]
struct Bar {
    id: Option<String>,
}

impl Bar {
    async fn show(&mut self, elapsed: Duration, progress: Progress, cell: &dyn Cell) {
        if elapsed >= SHOWS_AFTER {
            self.update(shown::progress(elapsed, progress), cell).await;
        }
    }

    /// What stays of it.
    async fn end(&mut self, elapsed: Duration, ended: &Result<Done, Failure>, cell: &dyn Cell) {
        if self.id.is_none() {
            return;
        }
        let text = match ended {
            Ok(done) => shown::progress(
                elapsed,
                Progress {
                    fraction: None,
                    rows: done.rows,
                },
            ),
            Err(_) => format!("after {:.1} s", elapsed.as_secs_f64()),
        };
        self.update(text, cell).await;
    }

    async fn update(&mut self, text: String, cell: &dyn Cell) {
        let is_there = self.id.is_some();
        let id = self.id.get_or_insert_with(|| Uuid::new_v4().to_string());
        let transient = [("display_id".to_owned(), json!(id))];
        cell.emit(Output::Display {
            data: Bundle::from_iter([("text/plain".to_owned(), text.into())]),
            metadata: Default::default(),
            transient: transient.into_iter().collect(),
            update: is_there,
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::test_cell::TestCell;
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use tokio::task::LocalSet;

    /// A worker that does this instead.
    async fn opened(folder: &Path, does: &str, cell: &TestCell) -> Result<Session, Failure> {
        let python = folder.join("python");
        fs::write(&python, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o700)).unwrap();
        let asker = Asker {
            user: String::new(),
            notebook: String::new(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            folder: folder.to_owned(),
            scratch: PathBuf::new(),
        };
        let mut session = Session::default();
        let database = Database::default();
        session.open(&python, database, &asker, cell).await?;
        Ok(session)
    }

    /// More than a pipe holds.
    fn long() -> Run {
        Run {
            id: 1,
            statements: vec![Statement {
                sql: "x".repeat(1024 * 1024),
                values: Vec::new(),
                lines_above: 0,
            }],
            values: Vec::new(),
            frames: BTreeMap::new(),
            files: Vec::new(),
            folder: PathBuf::new(),
            bytes_max: 0,
            preview_rows: 0,
        }
    }

    #[tokio::test]
    async fn a_worker_that_takes_nothing_is_interrupted_too() {
        let (folder, cell) = (tempfile::tempdir().unwrap(), TestCell::default());
        let test = async {
            let hangs = "echo '{\"opened\":{}}'; exec sleep 1000";
            let mut session = opened(folder.path(), hangs, &cell).await.unwrap();
            cell.interrupt();
            let ended = session.run(long(), &cell).await.unwrap_err();
            assert_eq!(ended, Failure::interrupted());
            assert!(session.is_closed());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_worker_that_says_what_nobody_knows_is_ended_and_that_is_said() {
        let (folder, cell) = (tempfile::tempdir().unwrap(), TestCell::default());
        let test = async {
            for rubbish in [
                "echo '{\"op'; exec sleep 1000",
                "echo '{\"opened\":{},\"done\":{}}'; exec sleep 1000",
                // A line without an end.
                "tr '\\0' x < /dev/zero",
            ] {
                let ended = opened(folder.path(), rubbish, &cell).await.unwrap_err();
                assert!(ended.message.contains("nobody understands"), "{ended}");
            }
            let dies = opened(folder.path(), "echo why >&2; exit 3", &cell).await;
            let dies = dies.unwrap_err();
            assert!(dies.message.contains("exit status: 3"), "{dies}");
            assert_eq!(dies.log, "why");
        };
        LocalSet::new().run_until(test).await;
    }
}
