//! The world of one schedule: supervisors that follow each other, the machine that outlives them, what goes wrong,
//! and the peace after it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::poll;
use tokio::io::{DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::cells::{Plain, run_cells};
use super::chance::Chance;
use super::journals::Journals;
use super::life::{Command, Life};
use super::machine::Machine;
use super::notes::Notes;
use super::record::{CatchesUp, LineId};
use super::spy::{Careless, MESSAGE_BYTES_MAX, Spied, Taken};
use crate::kernels::supervisor::broker::Broker;
use crate::kernels::supervisor::connection::{Client, Common, serve};
use crate::kernels::supervisor::ledger::Ledger;
use crate::kernels::supervisor::restarts::Restarts;
use crate::kernels::supervisor::sessions::ClientSession;
use crate::kernels::supervisor::storage;
use crate::magics::{Registry, Setting};
use crate::protocol::websocket::Decoder;

/// Who moves the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The client, by what it acknowledges.
    Acknowledged,
    /// The supervisor, by what it writes.
    Written,
}

/// How long it takes until another supervisor is there, at most.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// How long it takes until everybody has everything, at most.
const SETTLES_WITHIN: Duration = Duration::from_secs(600);

struct Supervisor {
    broker: Broker,
    common: Rc<Common>,
    commands: mpsc::UnboundedSender<Command>,
    tasks: RefCell<Vec<AbortHandle>>,
    connections: Cell<u64>,
}

pub(super) struct World {
    pub(super) machine: Rc<Machine>,
    pub(super) notes: Notes,
    chance: RefCell<Chance>,
    journals: Journals,
    journal_bytes: usize,
    rule: Rule,
    folder: PathBuf,
    supervisor: RefCell<Option<Supervisor>>,
    traces: bool,
    begun: Instant,
}

impl World {
    pub(super) fn new(
        mut chance: Chance,
        journals: Journals,
        rule: Rule,
        folder: &Path,
        traces: bool,
    ) -> Rc<Self> {
        let notes = Notes::new(journals.survive);
        let fails = chance.among(&[0, 5, 5, 5, 80]);
        let journal_bytes = chance.among(&[3_000, 10_000, 1 << 20, 1 << 20]);
        Rc::new(Self {
            machine: Machine::new(notes.clone(), fails),
            notes,
            chance: RefCell::new(chance),
            journals,
            journal_bytes,
            rule,
            folder: folder.to_owned(),
            supervisor: RefCell::default(),
            traces,
            begun: Instant::now(),
        })
    }

    #[expect(clippy::print_stderr, reason = "asked for")]
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>9.3} {}", self.begun.elapsed().as_secs_f64(), what());
        }
    }

    pub(super) fn fork(&self) -> Chance {
        self.chance.borrow_mut().fork()
    }

    /// A supervisor begins, as `run` has it.
    pub(super) fn supervise(&self, found: bool) {
        self.trace(|| "a supervisor begins".to_owned());
        let (ledger, left) = Ledger::open(&self.folder.join("requests"), &self.folder);
        let takeovers = self.machine.takeovers() + usize::from(found);
        let begin = storage::begin(&left, takeovers);
        let journal = (self.journals.make)(&self.folder, self.journal_bytes, begin);
        let life = self.notes.life_begins(journal.last());
        let broker = Broker::new(Box::new(Spied {
            journal,
            notes: self.notes.clone(),
            life,
        }));
        broker.keep(ledger);
        if found {
            self.notes.recalled(&left);
            broker.recall(&left);
        }
        let (runner, ours) = mpsc::unbounded_channel();
        broker.take_over(
            Box::new(Plain(Registry::standard(&Setting::default()))),
            runner,
        );
        let (commands, asked) = mpsc::unbounded_channel();
        let life = Life {
            machine: Rc::clone(&self.machine),
            broker: broker.clone(),
            commands: asked,
            chance: self.fork(),
            restarts: Restarts::default(),
        };
        let found = found.then(|| self.machine.found(left));
        let cells = run_cells(broker.clone(), ours, self.notes.clone(), self.fork());
        let (questions, keeps) = (broker.clone(), broker.clone());
        let supervisor = Supervisor {
            broker,
            common: Rc::new(Common::new(MESSAGE_BYTES_MAX)),
            commands,
            tasks: RefCell::default(),
            connections: Cell::new(0),
        };
        supervisor.run(life.run(found));
        supervisor.run(cells);
        supervisor.run(async move { questions.pass_questions_on().await });
        supervisor.run(async move { keeps.keep_journal().await });
        self.supervisor.replace(Some(supervisor));
    }

    /// Things go wrong, so many of them.
    pub(super) async fn suffer(&self, faults: u64) {
        let mut chance = self.fork();
        for _ in 0..faults {
            sleep(chance.pause(Duration::from_secs(3))).await;
            match chance.below(10) {
                0..3 => self.crash(&mut chance).await,
                3..5 => self.command(Command::Restart),
                5..8 => self.command(Command::Interrupt),
                _ => self.kill(),
            }
        }
    }

    fn command(&self, command: Command) {
        self.trace(|| format!("{command:?}"));
        if let Some(supervisor) = &*self.supervisor.borrow() {
            let _gone = supervisor.commands.send(command);
        }
    }

    fn kill(&self) {
        self.trace(|| "the kernel is killed".to_owned());
        if let Some(process) = self.machine.process() {
            process.kill();
        }
    }

    async fn crash(&self, chance: &mut Chance) {
        self.trace(|| "the supervisor is killed".to_owned());
        self.notes.life_ends();
        let supervisor = self.supervisor.take();
        let tasks = supervisor.iter().flat_map(|dead| dead.tasks.take());
        tasks.for_each(|task| task.abort());
        drop(supervisor);
        if let Some(process) = self.machine.process() {
            process.disconnect();
        }
        sleep(Duration::from_millis(1) + chance.pause(FOUND_WITHIN)).await;
        self.supervise(true);
    }

    /// A client's end of a line, when a supervisor is there.
    pub(super) fn connect(
        &self,
        client: Client,
        pipe_bytes: usize,
    ) -> Option<(DuplexStream, LineId)> {
        let supervisor = self.supervisor.borrow();
        let supervisor = supervisor.as_ref()?;
        let line = self.notes.connects(&client);
        let (near, far) = duplex(pipe_bytes);
        let (reader, writer) = split(near);
        supervisor.connections.set(supervisor.connections.get() + 1);
        let is_closed = Rc::<Cell<bool>>::default();
        let reader = Taken {
            reader,
            decoder: Decoder::new(MESSAGE_BYTES_MAX),
            input: BytesMut::new(),
            notes: self.notes.clone(),
            line,
            framing: client.framing,
            acknowledges: client.acknowledges,
            is_closed: Rc::clone(&is_closed),
        };
        let writer = Careless {
            writer,
            decoder: Decoder::of_server(MESSAGE_BYTES_MAX),
            written: BytesMut::new(),
            session: Rc::clone(&client.session),
            reverts: (self.rule == Rule::Written).then(|| supervisor.broker.clone()),
            connections_max: supervisor.connections.get(),
            is_closed,
        };
        let (broker, common) = (supervisor.broker.clone(), Rc::clone(&supervisor.common));
        let (notes, identity) = (self.notes.clone(), Rc::clone(&client.holder.identity));
        supervisor.run(async move {
            let cursor = |session: &str| {
                let mut sessions = broker.client_sessions().into_iter();
                let known = sessions.find(|known| known.session_id == session)?;
                Some(known.cursor)
            };
            notes.joins(line, cursor, || catches_up(&broker, &notes, &identity));
            let session = Rc::clone(&client.session);
            let serving = serve(
                reader,
                writer,
                Bytes::new(),
                client,
                broker.clone(),
                &common,
            );
            let mut serving = pin!(serving);
            // It joins at once.
            let served = poll!(&mut serving);
            let on = broker.caught_up(&session);
            notes.catches_up(line, on.map(CatchesUp::from));
            if served.is_pending() {
                serving.await;
            }
            notes.leaves(line);
        });
        Some((far, line))
    }

    /// Nothing goes wrong any more: waits until everybody has everything, or says what is missing.
    pub(super) async fn settle(&self) -> Result<(), String> {
        self.trace(|| "peace".to_owned());
        self.machine.fails.set(0);
        let begun = Instant::now();
        let (mut calm, mut step) = (0, Duration::from_millis(50));
        while calm < 2 {
            sleep(step).await;
            step = (step * 2).min(Duration::from_secs(5));
            match self.unsettled() {
                None => {
                    calm += 1;
                    // For the pings that are under way, and for those who listen late.
                    step = Duration::from_secs(12);
                }
                Some(why) if begun.elapsed() > SETTLES_WITHIN => return Err(why),
                Some(why) => {
                    self.trace(|| why);
                    calm = 0;
                }
            }
        }
        Ok(())
    }

    fn unsettled(&self) -> Option<String> {
        let supervisor = self.supervisor.borrow();
        let Some(Supervisor {
            broker, commands, ..
        }) = supervisor.as_ref()
        else {
            return Some("there is no supervisor".to_owned());
        };
        if self.machine.process().is_some_and(|process| process.asks()) {
            // Whoever was asked has let it be.
            let _gone = commands.send(Command::Interrupt);
            return Some("the kernel waits for an answer".to_owned());
        }
        let snapshot = broker.snapshot();
        match snapshot.execution_state {
            "idle" => {}
            "dead" => {
                let _gone = commands.send(Command::Restart);
                return Some("the kernel is dead".to_owned());
            }
            state => return Some(format!("the kernel is {state}")),
        }
        let record = self.notes.record();
        if let Some((request, _)) = record.unanswered().next() {
            return Some(format!("{request:?} has no reply"));
        }
        // What the journal has from before need not go up to its number.
        let says_nothing = record.said_in(record.life).is_empty();
        let last = if says_nothing { 0 } else { record.last() };
        let behind = |session: &ClientSession| !session.connected || session.cursor < last;
        if let Some(session) = broker.client_sessions().into_iter().find(behind) {
            return Some(format!("of {last} entries {session:?} has not all"));
        }
        let needs = record
            .needs
            .filter(|needs| needs.after < last || needs.away_after.is_some());
        needs.map(|needs| format!("everybody has all {last} entries, and needed is {needs:?}"))
    }
}

impl Supervisor {
    fn run(&self, task: impl Future<Output = ()> + 'static) {
        let task = spawn_local(task).abort_handle();
        self.tasks.borrow_mut().push(task);
    }
}

/// What a session of `identity` gets that joins now for the first time: of the cell that runs, what its asker has not.
fn catches_up(broker: &Broker, notes: &Notes, identity: &str) -> Option<CatchesUp> {
    let (request, asker) = notes.running_cells().into_iter().next()?;
    let mut sessions = broker.client_sessions().into_iter();
    let asker = sessions.find(|session| *session.session_id == *asker)?;
    Some(CatchesUp {
        request,
        after: asker.cursor,
        with_reply: asker.identity == identity,
    })
}
