//! Puts a supervisor together from a kernel's folder and runs it to its end.
//!
//! Knows every part and does nothing itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::adoption;
use super::bring_up::Helper;
use super::broker::Broker;
use super::cells::{Cells, ForKernel, queue_door};
use super::connection::Common;
use super::culling;
use super::http::{self, Api};
use super::ledger::Ledger;
use super::lifecycle::{Adopted, Command, Lifecycle};
use super::orphans;
use super::others::Others;
use super::record::Record;
use super::storage;
use super::vitals::Vitals;
use crate::env::KernelEnvironment;
use crate::error::Error;
use crate::kernels::contract::{API, Announcement, JournalMode, Start, file};
use crate::kernels::shared_memory;
use crate::magics::helper::injection;

/// Commands that wait for the lifecycle.
const COMMANDS_MAX: usize = 64;

/// A kernel whose starter is gone, or that is to end when it is alone, and that nobody joins ends itself
/// after this time.
const JOINED_WITHIN: Duration = Duration::from_secs(120);

/// How often the lock is tried, and after which time again.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// The folder is tried again after this time.
const REMOVE_AGAIN: Duration = Duration::from_millis(5);

/// How long clients and requests may take to hear that the kernel is gone.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// Runs the supervisor of the kernel whose folder this is; the folder goes with it.
pub async fn run(folder: &Path) -> Result<(), Error> {
    let lock = take_lock(folder).await?;
    // From here on it ends in order.
    let listen_for = |kind| {
        signal(kind).map_err(|error| Error::nb(format!("signals cannot be received: {error}")))
    };
    let terminate = listen_for(SignalKind::terminate())?;
    let child = listen_for(SignalKind::child())?;
    let start = read_start(folder)?;
    harden();
    let found = adoption::look(folder);
    let memory = Path::new(shared_memory::FOLDER);
    let (ledger, left) = Ledger::open(&folder.join(file::REQUESTS), memory);
    let takeovers = found.as_ref().map_or(0, |found| found.takeovers.len());
    let begin = storage::begin(&left, takeovers);
    let broker = Broker::new(storage::journal(&start, folder, begin).await);
    if start.journal.mode == JournalMode::Off {
        broker.keep_nothing();
    }
    broker.keep(ledger);
    if found.is_some() {
        // Before anybody comes back.
        broker.recall(&left);
    }
    let vitals = Rc::new(Vitals::default());
    found.iter().for_each(|found| found.recall(&vitals));
    let record = Record::new(
        &start,
        folder.to_owned(),
        broker.clone(),
        Rc::clone(&vitals),
        found.as_ref(),
    );
    let record = Rc::new(record);
    // Whoever finds the record can ask.
    let listener = listen(&folder.join(file::SOCKET))?;
    record.save_first();
    let (commands, asked) = mpsc::channel(COMMANDS_MAX);
    let (tasks, clients) = (TaskTracker::new(), TaskTracker::new());
    let others = Rc::new(Others::new(&start, folder, broker.clone()));
    let cells = Rc::new(Cells::new(
        &start,
        folder,
        Rc::clone(&record),
        broker.clone(),
        Rc::clone(&vitals),
        Rc::clone(&others),
        commands.clone(),
    ));
    let changes = start.environment.as_ref().map(KernelEnvironment::changes);
    let changes = changes.unwrap_or_default();
    let socket = folder.join(file::SOCKET);
    let helper = Helper {
        own: injection(&socket, &cells.registry, &changes),
        based: injection(&socket, &cells.registry, &[]),
    };
    let message_bytes_max = usize::try_from(start.message_bytes_max).unwrap_or(usize::MAX);
    let api = Rc::new(Api {
        cells: Rc::clone(&cells),
        broker: broker.clone(),
        common: Rc::new(Common::new(message_bytes_max)),
        record: Rc::clone(&record),
        commands: commands.clone(),
        clients: clients.clone(),
        answers: http::journal::Answers::default(),
    });
    let (runner, ours) = mpsc::unbounded_channel();
    broker.take_over(Box::new(ForKernel(Rc::clone(&cells))), runner);
    let our_cells = queue_door::serve(cells, broker.clone(), ours, clients.clone());
    let cull = start.cull.clone();
    let journal = start.journal.clone();
    let linger = start.linger_ms.map(Duration::from_millis);
    let is_successor = found.is_some();
    let life = Lifecycle::new(
        start,
        helper,
        folder.to_owned(),
        broker.clone(),
        Rc::clone(&vitals),
        Rc::clone(&others),
        asked,
        found.map(|found| Adopted { found, left }),
    );
    let (unheard, nobody_heard) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let announce = |announcement: Announcement| {
        if let Err(error) = say(&announcement) {
            warn!(%error, "whoever started this kernel is gone");
            let _gone = unheard.send(());
        }
        let _gone = ready.send(());
        record.save();
    };
    let asker = tokio::select! {
        asker = life.run(announce) => asker,
        () = http::serve(listener, api, tasks.clone()) => None,
        () = our_cells => None,
        () = stay_with(&others, is_successor) => None,
        () = keep_saved(&vitals, &record) => None,
        () = orphans::take_in(child, &vitals) => None,
        () = end_on_sigterm(terminate, commands.clone()) => None,
        () = broker.pass_questions_on() => None,
        () = broker.keep_journal() => None,
        () = culling::watch(&cull, &broker, &commands) => None,
        () = end_unless_joined(nobody_heard, broker.clone(), commands.clone()) => None,
        () = end_when_alone(linger, is_ready, broker.clone(), commands.clone()) => None,
    };
    info!("the kernel is gone");
    others.close().await;
    clients.close();
    let _late = timeout(GOODBYE_WITHIN, clients.wait()).await;
    storage::remove(&journal).await;
    remove(folder).await;
    if let Some(asker) = asker {
        let _gone = asker.send(());
    }
    tasks.close();
    let _late = timeout(GOODBYE_WITHIN, tasks.wait()).await;
    drop(lock);
    Ok(())
}

/// Removes the folder. A kernel that was killed a moment ago may still put a socket into it.
async fn remove(folder: &Path) {
    shared_memory::remove(&folder.join(file::REQUESTS));
    let removal = async {
        loop {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    sleep(REMOVE_AGAIN).await;
                }
                removed => return removed,
            }
        }
    };
    match timeout(GOODBYE_WITHIN, removal).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "the kernel's folder could not be removed"),
        Err(_) => warn!("somebody writes into the kernel's folder, it stays"),
    }
}

/// Whoever holds the lock is this kernel's supervisor. Somebody who only looks whether there is one has it too,
/// for a moment.
async fn take_lock(folder: &Path) -> Result<File, Error> {
    let failed = |error: io::Error| {
        Error::nb(format!(
            "the folder {} cannot be used: {error}",
            folder.display()
        ))
    };
    let lock = File::open(folder).map_err(failed)?;
    for _ in 0..LOCK_ATTEMPTS {
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(lock);
        }
        sleep(LOCK_AGAIN).await;
    }
    Err(Error::nb("this kernel has a supervisor already"))
}

fn read_start(folder: &Path) -> Result<Start, Error> {
    let path = folder.join(file::START);
    let failed = |error: &dyn std::fmt::Display| {
        Error::nb(format!("{} cannot be used: {error}", path.display()))
    };
    let content = fs::read(&path).map_err(|error| failed(&error))?;
    let start: Start = serde_json::from_slice(&content).map_err(|error| failed(&error))?;
    if start.format > API {
        return Err(failed(&"it was written by a newer nb"));
    }
    Ok(start)
}

fn listen(socket: &Path) -> Result<UnixListener, Error> {
    let failed =
        |error: io::Error| Error::nb(format!("cannot listen on {}: {error}", socket.display()));
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        // What a supervisor that died has left.
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Other processes of this user do not read our memory, and orphans of the kernel come to us.
fn harden() {
    use rustix::process::{DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "this process stays dumpable");
    }
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        warn!(%error, "orphans of the kernel go elsewhere");
    }
}

/// One line on stdout, which is then closed.
fn say(announcement: &Announcement) -> io::Result<()> {
    let mut line = serde_json::to_vec(announcement)?;
    line.push(b'\n');
    let mut stdout = io::stdout();
    let said = stdout.write_all(&line).and_then(|()| stdout.flush());
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    said
}

/// The other kernels of the notebook outlive a supervisor, as this one does.
async fn stay_with(others: &Others, is_successor: bool) {
    if is_successor {
        others.find_again().await;
    }
    std::future::pending().await
}

/// `state.json` names the kernel process that runs now.
async fn keep_saved(vitals: &Vitals, record: &Record) {
    loop {
        vitals.changed.notified().await;
        record.save();
    }
}

async fn end_on_sigterm(mut terminate: Signal, commands: mpsc::Sender<Command>) {
    terminate.recv().await;
    end(&commands).await;
    std::future::pending().await
}

async fn end_unless_joined(
    nobody_heard: oneshot::Receiver<()>,
    broker: Broker,
    commands: mpsc::Sender<Command>,
) {
    if nobody_heard.await.is_ok() {
        sleep(JOINED_WITHIN).await;
        if !broker.was_joined() {
            warn!("nobody joined this kernel, it ends");
            end(&commands).await;
        }
    }
    std::future::pending().await
}

/// Ends a kernel that is to live no longer than its clients.
async fn end_when_alone(
    linger: Option<Duration>,
    is_ready: oneshot::Receiver<()>,
    broker: Broker,
    commands: mpsc::Sender<Command>,
) {
    if let (Some(linger), Ok(())) = (linger, is_ready.await) {
        let joined = timeout(JOINED_WITHIN.max(linger), broker.joined()).await;
        if joined.is_ok() {
            broker.alone_for(linger).await;
        }
        info!(?linger, "without a client for so long, the kernel ends");
        end(&commands).await;
    }
    std::future::pending().await
}

async fn end(commands: &mpsc::Sender<Command>) {
    let (asker, done) = oneshot::channel();
    if commands.send(Command::Shutdown(asker)).await.is_ok() {
        let answered = done.await;
        debug!(?answered, "the shutdown was heard");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[tokio::test]
    async fn a_folder_into_which_somebody_still_writes_is_removed_once_he_is_done() {
        const ROUNDS: usize = 50;
        const FILES: usize = 200;
        let root = tempfile::tempdir().unwrap();
        for round in 0..ROUNDS {
            let folder = root.path().join(round.to_string());
            fs::create_dir(&folder).unwrap();
            let writes = folder.clone();
            let (begun, begins) = mpsc::channel();
            let writer = thread::spawn(move || {
                for n in 0..FILES {
                    if File::create(writes.join(n.to_string())).is_err() {
                        return;
                    }
                    begun.send(()).unwrap_or_default();
                }
            });
            begins.recv().unwrap();
            remove(&folder).await;
            writer.join().unwrap();
            assert!(!folder.exists(), "{round}");
        }
    }
}
