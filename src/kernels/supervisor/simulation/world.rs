//! The world of one schedule: supervisors that follow each other, the machine that outlives them, what goes wrong,
//! and the peace after it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::io::{DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::chance::Chance;
use super::kernel::Process;
use super::life::{Command, Found, Life};
use super::notes::{CatchesUp, LineId, Notes, Request};
use super::spy::{Careless, MESSAGE_BYTES_MAX, Spied, Taken};
use crate::kernels::supervisor::broker::{Broker, OurCell, Takeover, Work};
use crate::kernels::supervisor::connection::{Client, Common, serve};
use crate::kernels::supervisor::journal::{Journal, RequestKey};
use crate::kernels::supervisor::ledger::{Ledger, Left};
use crate::kernels::supervisor::restarts::Restarts;
use crate::kernels::supervisor::sessions::ClientSession;
use crate::magics::{Claim, Failure, Front, Registry};
use crate::protocol::websocket::Decoder;

/// Makes the journal of a supervisor that may hold so many bytes.
pub(super) type Journals = fn(usize) -> Box<dyn Journal>;

/// Who moves the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The client, by what it acknowledges.
    Acknowledged,
    /// The supervisor, by what it writes.
    Written,
}

/// So many supervisors may die within [`WITHIN`] before the kernel is ended.
const TAKEOVERS_MAX: usize = 3;

const WITHIN: Duration = Duration::from_secs(60);

/// How long it takes until another supervisor is there, at most.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// How long it takes until everybody has everything, at most.
const SETTLES_WITHIN: Duration = Duration::from_secs(600);

/// What outlives a supervisor.
pub(super) struct Machine {
    pub(super) notes: Notes,
    process: RefCell<Option<Rc<Process>>>,
    /// All that there were.
    pub(super) processes: RefCell<Vec<Rc<Process>>>,
    is_ready: Cell<bool>,
    pub(super) restarts: Cell<u32>,
    epoch: Cell<u32>,
    takeovers: RefCell<Vec<Instant>>,
}

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
    ledger: PathBuf,
    supervisor: RefCell<Option<Supervisor>>,
    traces: bool,
    begun: Instant,
}

/// Our cells in a kernel that is not IPython.
struct Plain(Registry);

impl Takeover for Plain {
    fn claim(&self, source: &str) -> Option<Claim> {
        self.0.claim(source, Front::Plain)
    }

    fn knows(&self, source: &str, cursor: usize) -> bool {
        self.0.knows(source, cursor, Front::Plain)
    }
}

impl World {
    pub(super) fn new(
        mut chance: Chance,
        journals: Journals,
        rule: Rule,
        folder: &Path,
        traces: bool,
    ) -> Rc<Self> {
        let notes = Notes::default();
        let machine = Machine {
            notes: notes.clone(),
            process: RefCell::default(),
            processes: RefCell::default(),
            is_ready: Cell::new(false),
            restarts: Cell::new(0),
            epoch: Cell::new(0),
            takeovers: RefCell::default(),
        };
        let journal_bytes = chance.among(&[3_000, 10_000, 1 << 20, 1 << 20]);
        Rc::new(Self {
            machine: Rc::new(machine),
            notes,
            chance: RefCell::new(chance),
            journals,
            journal_bytes,
            rule,
            ledger: folder.join("requests"),
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
        let life = self.notes.life_begins();
        let broker = Broker::new(Box::new(Spied {
            journal: (self.journals)(self.journal_bytes),
            notes: self.notes.clone(),
            life,
        }));
        let (ledger, left) = Ledger::open(&self.ledger).unwrap();
        broker.keep(ledger);
        if found {
            self.notes.recalled(&left);
            broker.recall(&left);
        }
        let (runner, ours) = mpsc::unbounded_channel();
        broker.take_over(Box::new(Plain(Registry::standard())), runner);
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
        let questions = broker.clone();
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
        if let Some(process) = &*self.machine.process.borrow() {
            process.kill();
        }
    }

    async fn crash(&self, chance: &mut Chance) {
        self.trace(|| "the supervisor is killed".to_owned());
        let supervisor = self.supervisor.take();
        let tasks = supervisor.iter().flat_map(|dead| dead.tasks.take());
        tasks.for_each(|task| task.abort());
        drop(supervisor);
        if let Some(process) = &*self.machine.process.borrow() {
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
            serve(reader, writer, Bytes::new(), client, broker, &common).await;
            notes.leaves(line);
        });
        Some((far, line))
    }

    /// Nothing goes wrong any more: waits until everybody has everything, or says what is missing.
    pub(super) async fn settle(&self) -> Result<(), String> {
        self.trace(|| "peace".to_owned());
        let begun = Instant::now();
        let (mut calm, mut step) = (0, Duration::from_millis(50));
        while calm < 2 {
            sleep(step).await;
            step = (step * 2).min(Duration::from_secs(5));
            match self.unsettled() {
                None => {
                    calm += 1;
                    // For the pings that are under way.
                    step = Duration::from_secs(2);
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
        let asks = |process: &Rc<Process>| process.asks();
        if self.machine.process.borrow().as_ref().is_some_and(asks) {
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
        let last = record.last();
        let behind = |session: &ClientSession| !session.connected || session.cursor < last;
        if let Some(session) = broker.client_sessions().into_iter().find(behind) {
            return Some(format!("of {last} entries {session:?} has not all"));
        }
        None
    }
}

impl Supervisor {
    fn run(&self, task: impl Future<Output = ()> + 'static) {
        let task = spawn_local(task).abort_handle();
        self.tasks.borrow_mut().push(task);
    }
}

impl Machine {
    pub(super) fn start_process(&self, chance: &mut Chance) -> Rc<Process> {
        self.epoch.set(self.epoch.get() + 1);
        let process = Process::start(self.epoch.get(), chance.fork(), self.notes.clone());
        self.process.replace(Some(Rc::clone(&process)));
        self.processes.borrow_mut().push(Rc::clone(&process));
        self.is_ready.set(false);
        process
    }

    pub(super) fn is_ready(&self, restarts: u32) {
        self.is_ready.set(true);
        self.restarts.set(restarts);
    }

    pub(super) fn has_no_process(&self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.is_ready.set(false);
    }

    /// What there is for the next supervisor. A process that was not ready is ended.
    fn found(&self, left: Left) -> Found {
        let now = Instant::now();
        let mut takeovers = self.takeovers.borrow_mut();
        takeovers.push(now);
        let recent = takeovers
            .iter()
            .filter(|at| now.duration_since(**at) < WITHIN);
        let is_too_often = recent.count() > TAKEOVERS_MAX;
        let process = self.process.borrow().clone();
        if !self.is_ready.get() {
            process.iter().for_each(|process| process.kill());
        }
        let process = process.filter(|process| !process.has_ended());
        Found {
            process,
            is_too_often,
            left,
        }
    }
}

/// What a session of `identity` gets that joins now for the first time: of the cell that runs, what its asker has not.
fn catches_up(broker: &Broker, notes: &Notes, identity: &str) -> Option<CatchesUp> {
    let (request, asker) = notes.running_cell()?;
    let mut sessions = broker.client_sessions().into_iter();
    let asker = sessions.find(|session| *session.session_id == *asker)?;
    Some(CatchesUp {
        request,
        after: asker.cursor,
        with_reply: asker.identity == identity,
    })
}

/// Runs our cells, as the magics do.
async fn run_cells(
    broker: Broker,
    mut ours: mpsc::UnboundedReceiver<Work>,
    notes: Notes,
    mut chance: Chance,
) {
    let mut cells = FuturesUnordered::new();
    loop {
        let work = tokio::select! {
            biased;
            Some(()) = cells.next() => continue,
            work = ours.recv() => work,
        };
        match work {
            Some(Work::Cell(cell)) => cells.push(run_cell(&broker, *cell, &notes, chance.fork())),
            Some(Work::Hint(hint)) => broker.hint(&hint, &json!({"status": "ok", "matches": []})),
            None => return,
        }
    }
}

async fn run_cell(broker: &Broker, cell: OurCell, notes: &Notes, mut chance: Chance) {
    let is_interrupted = tokio::select! {
        biased;
        () = cell.interrupt.wait() => true,
        () = sleep(chance.pause(Duration::from_millis(500))) => false,
    };
    let text = json!({"name": "stdout", "text": "ours"});
    broker.our_cell_says(&cell, "stream", &text);
    match chance.below(3) {
        0 if !is_interrupted => broker.our_cell_goes_on(&cell, "rest"),
        1 if !is_interrupted => broker.our_cell_ends(&cell, Ok(())),
        _ => {
            broker.our_cell_ends(&cell, Err(&Failure::usage("No.")));
            // All behind it waited for it.
            let is_cell = |request: &Request| request.msg_type == "execute_request";
            let waits = (notes.record().unanswered())
                .find(|(_, request)| is_cell(request))
                .map(|(key, _)| RequestKey::clone(key));
            if let Some(key) = waits {
                notes.fault(format!("{key:?} is not aborted"));
            }
        }
    }
}
