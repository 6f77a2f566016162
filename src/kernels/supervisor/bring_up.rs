//! One start of the kernel: endpoints, process, link, introduction; another process where the endpoints were at fault.
//!
//! Knows nothing of restarts; a start that is dropped half-way leaves no process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::broker::{Broker, Outbox};
use super::endpoints::Endpoints;
use super::environment;
use super::link::{self, LinkError, LinkReceiver, LinkSender};
use super::private_file;
use super::process::{KernelProcess, Launch};
use super::rebase;
use super::vitals::Vitals;
use super::wakes::Wakes;
use crate::kernels::contract::{Start, StartFailure, StartFailureKind, file};
use crate::magics::helper::{EXPRESSION, registered};
use crate::protocol::connection_file::{ConnectionFile, Transport};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// A kernel that has not answered is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A kernel that answers but publishes nothing is taken as it is after this time.
const SILENT_WITHIN: Duration = Duration::from_secs(2);

/// How long a kernel may take to learn our magics.
const HELPER_WITHIN: Duration = Duration::from_secs(5);

/// So many times a kernel gets other ports when it has lost one.
const OTHER_PORTS_MAX: u32 = 4;

/// A kernel that has answered.
pub(super) struct Running {
    pub process: KernelProcess,
    /// How it is spoken to.
    pub transport: Transport,
    pub sender: LinkSender,
    pub receiver: LinkReceiver,
    /// What clients ask of it.
    pub requests: mpsc::UnboundedReceiver<(Channel, Message)>,
    pub since: Instant,
    pub wakes: Wakes,
}

impl Running {
    /// One that is linked from now on, and where to put what clients ask of it.
    pub(super) fn over(
        process: KernelProcess,
        transport: Transport,
        (sender, receiver): (LinkSender, LinkReceiver),
    ) -> (Self, Outbox) {
        let (outbox, requests) = mpsc::unbounded_channel();
        let running = Self {
            process,
            transport,
            sender,
            receiver,
            requests,
            since: Instant::now(),
            wakes: Wakes::default(),
        };
        (running, outbox)
    }
}

/// Starts the kernel and waits until it has answered and is heard.
///
/// A kernel that ends since another process has one of its ports is started again with others, and one that
/// may know no Unix sockets over TCP; all within the one deadline.
///
/// One that does not come up in what it was asked to be rebased onto is started in what it was in before; in what it has been rebased
/// onto for longer, in what it was started with first.
pub(super) async fn bring_up(
    start: &Start,
    helper: &Helper,
    folder: &Path,
    epoch: u32,
    broker: &Broker,
    vitals: &Vitals,
) -> Result<(Running, Outbox), StartFailure> {
    loop {
        let failure = match once(start, helper, folder, epoch, broker, vitals).await {
            Ok(brought) => {
                rebase::prove(folder);
                return Ok(brought);
            }
            Err(failure) => failure,
        };
        // Each time there is one less to come back to.
        let (from, whither) = if let Some(asked) = rebase::take_back(folder) {
            (asked, "again in the one that it was in")
        } else if let Some(broken) = rebase::give_up(folder) {
            (Some(broken), "in the one that it was started with first")
        } else {
            return Err(failure);
        };
        let what = match &from {
            Some(base) => format!("with {} as its environment", base.title),
            None => "in the environment that it was started with first".to_owned(),
        };
        let note = format!(
            "The kernel did not come up {what} and is {whither}: {}",
            failure.message
        );
        warn!(note, failure.stderr_tail, "of a rebase");
        broker.say_with_next_cell(&note);
    }
}

/// What makes an IPython kernel know our magics.
pub(super) struct Helper {
    pub(super) own: String,
    /// In a kernel that was rebased: what changes in the environment that it was started with is no matter there.
    pub(super) based: String,
}

async fn once(
    start: &Start,
    helper: &Helper,
    folder: &Path,
    epoch: u32,
    broker: &Broker,
    vitals: &Vitals,
) -> Result<(Running, Outbox), StartFailure> {
    let limit = Duration::from_millis(start.launch_timeout_ms);
    let deadline = Instant::now() + limit;
    let base = rebase::now(folder).filter(|base| {
        if !base.is_there() {
            rebase::forget(folder);
            broker.say_with_next_cell(&format!(
                "The environment of {} is gone; the kernel is in the one that it was started with first.",
                base.title
            ));
        }
        base.is_there()
    });
    let (start, notes) = match &base {
        Some(base) => (
            Cow::Owned(environment::based(start, base, folder)),
            Vec::new(),
        ),
        None => environment::ready(start, folder, limit / 2).await,
    };
    let start = &*start;
    let helper = match base {
        Some(_) => &helper.based,
        None => &helper.own,
    };
    vitals.base.replace(base);
    for note in &notes {
        broker.say_with_next_cell(note);
    }
    let with_notes = |mut failure: StartFailure| {
        // Nobody runs a cell that would say them.
        for note in &notes {
            failure.message += &format!("; {note}");
        }
        failure
    };
    let mut transport = start.transport;
    let mut other_ports = 0;
    loop {
        let endpoints = Endpoints::new(transport, folder, epoch, &start.spec);
        let endpoints = endpoints.map_err(|error| internal(&error))?;
        let connection = &endpoints.connection;
        let failure =
            match attempt(start, helper, folder, connection, deadline, broker, vitals).await {
                Ok(brought) => return Ok(brought),
                Err(Failed {
                    by_itself: false,
                    failure,
                }) => return Err(with_notes(failure)),
                Err(Failed {
                    by_itself: true,
                    failure,
                }) => failure,
            };
        if transport == Transport::Ipc && start.tcp_instead && !endpoints.has_sockets() {
            transport = Transport::Tcp;
            info!(
                reason = failure.message,
                "it bound no Unix socket, it is started over TCP"
            );
        } else if other_ports < OTHER_PORTS_MAX && endpoints.were_taken() {
            other_ports += 1;
            warn!(
                reason = failure.message,
                "a port of it was taken, it is started with others"
            );
        } else {
            return Err(with_notes(failure));
        }
    }
}

/// A start that came to nothing.
struct Failed {
    failure: StartFailure,
    /// The kernel ran and gave up, nobody killed it: its endpoints may be why.
    by_itself: bool,
}

impl From<StartFailure> for Failed {
    fn from(failure: StartFailure) -> Self {
        Self {
            failure,
            by_itself: false,
        }
    }
}

/// One process at these endpoints.
async fn attempt(
    start: &Start,
    helper: &str,
    folder: &Path,
    connection: &ConnectionFile,
    deadline: Instant,
    broker: &Broker,
    vitals: &Vitals,
) -> Result<(Running, Outbox), Failed> {
    let path = folder.join(file::CONNECTION);
    private_file::write(&path, connection.encode().as_bytes()).map_err(|error| internal(&error))?;
    let argv = fill_in(&start.argv, &path, &start.resource_dir);
    let mut process = KernelProcess::start(&Launch {
        argv: &argv,
        env: &start.env,
        cwd: &start.cwd,
        folder,
    })
    .map_err(|error| StartFailure {
        kind: StartFailureKind::NotRun,
        message: not_run(start, &argv, &error),
        stderr_tail: String::new(),
    })?;
    // Written down now: whoever finds our remains has to know what to end.
    vitals.kernel_pid.set(Some(process.pid()));
    vitals.kernel_started.set(None);
    vitals.changed.notify_one();
    let introduced = introduce(start, helper, connection, broker, vitals);
    let introduced = tokio::select! {
        introduced = timeout_at(deadline.into(), introduced) => introduced,
        cause = process.ended() => {
            let message = format!("the kernel {} {cause} before it was ready", start.spec);
            let failure = died(message, process.stderr_tail());
            return Err(Failed { failure, by_itself: !process.was_killed() });
        }
    };
    let link = match introduced {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => {
            let failure = died(error.to_string(), process.stderr_tail());
            return Err(Failed {
                failure,
                by_itself: true,
            });
        }
        Err(_) => {
            let limit = Duration::from_millis(start.launch_timeout_ms);
            return Err(StartFailure {
                kind: StartFailureKind::Deadline,
                message: format!(
                    "the kernel {} did not answer within {} s",
                    start.spec,
                    limit.as_secs_f32()
                ),
                stderr_tail: process.stderr_tail(),
            }
            .into());
        }
    };
    Ok(Running::over(process, connection.transport, link))
}

/// A kernel that died at its start.
pub(super) fn died(message: String, stderr_tail: String) -> StartFailure {
    StartFailure {
        kind: StartFailureKind::Died,
        message,
        stderr_tail,
    }
}

fn internal(error: &io::Error) -> StartFailure {
    StartFailure {
        kind: StartFailureKind::Internal,
        message: format!("the kernel could not be prepared: {error}"),
        stderr_tail: String::new(),
    }
}

fn not_run(start: &Start, argv: &[String], error: &io::Error) -> String {
    let program = argv.first().map_or("", String::as_str);
    let what = match error.kind() {
        io::ErrorKind::NotFound if !start.cwd.is_dir() => {
            format!(
                "its working directory {} does not exist",
                start.cwd.display()
            )
        }
        io::ErrorKind::NotFound => format!("there is no program {program}"),
        _ => format!("{program} could not be run: {error}"),
    };
    format!("the kernel {} did not start: {what}", start.spec)
}

fn fill_in(argv: &[String], connection_file: &Path, resource_dir: &Path) -> Vec<String> {
    let values = BTreeMap::from([
        ("{connection_file}", connection_file.display().to_string()),
        ("{resource_dir}", resource_dir.display().to_string()),
    ]);
    let fill = |argument: &String| {
        values.iter().fold(argument.clone(), |text, (name, value)| {
            text.replace(name, value)
        })
    };
    argv.iter().map(fill).collect()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KernelInfo {
    implementation: String,
    language_info: LanguageInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LanguageInfo {
    name: String,
}

/// Waits until the kernel answers and is heard, and makes it know our magics.
async fn introduce(
    start: &Start,
    helper: &str,
    connection: &ConnectionFile,
    broker: &Broker,
    vitals: &Vitals,
) -> Result<(LinkSender, LinkReceiver), LinkError> {
    let (mut sender, mut receiver) = link::connect(connection, &start.kernel_id).await?;
    hear(&mut sender, &mut receiver, broker, vitals).await?;
    vitals.has_helper.set(false);
    if *vitals.language.borrow() == "python" {
        let installed = install(helper, broker, &mut sender, &mut receiver);
        match timeout(HELPER_WITHIN, installed).await {
            Ok(Ok(true)) => {
                vitals.has_helper.set(true);
                // It has made the kernel hold more for who connects now.
                receiver.listen_anew(connection).await?;
                hear(&mut sender, &mut receiver, broker, vitals).await?;
            }
            Ok(Ok(false)) => info!("this Python kernel has no IPython: it gets no magics"),
            Ok(Err(error)) => return Err(error),
            Err(_) => warn!("the helper was not installed in time"),
        }
    }
    Ok((sender, receiver))
}

/// Asks until the kernel answers and its output is heard too.
async fn hear(
    sender: &mut LinkSender,
    receiver: &mut LinkReceiver,
    broker: &Broker,
    vitals: &Vitals,
) -> Result<(), LinkError> {
    let mut answered: Option<Instant> = None;
    let mut heard = false;
    while !(heard && answered.is_some())
        && answered.is_none_or(|answered| answered.elapsed() < SILENT_WITHIN)
    {
        let request = broker.compose("kernel_info_request", &json!({}));
        sender.send(Channel::Shell, &request).await?;
        let ask_again = sleep(ASK_AGAIN);
        tokio::pin!(ask_again);
        while !(heard && answered.is_some()) {
            let (channel, message) = tokio::select! {
                received = receiver.recv() => received?,
                () = &mut ask_again => break,
            };
            let Ok(message) = message else {
                debug!(channel = channel.name(), "dropped what is no message");
                continue;
            };
            heard |= channel == Channel::Iopub;
            if channel == Channel::Shell && is_kernel_info(&message) {
                answered.get_or_insert_with(Instant::now);
                let info: KernelInfo = serde_json::from_slice(&message.content).unwrap_or_default();
                vitals.implementation.replace(info.implementation);
                vitals.language.replace(info.language_info.name);
            }
            broker.kernel_said(channel, message);
        }
    }
    Ok(())
}

/// Makes an IPython kernel know our magics, unseen; false when it is none.
async fn install(
    helper: &str,
    broker: &Broker,
    sender: &mut LinkSender,
    receiver: &mut LinkReceiver,
) -> Result<bool, LinkError> {
    let content = json!({
        "code": helper, "silent": true, "store_history": false, "allow_stdin": false,
        "stop_on_error": false, "user_expressions": {"nb": EXPRESSION},
    });
    let request = broker.compose("execute_request", &content);
    sender.send(Channel::Shell, &request).await?;
    let id = HeaderPeek::read(&request.header).map(|peek| peek.msg_id.into_owned());
    loop {
        let (channel, message) = receiver.recv().await?;
        let Ok(message) = message else {
            continue;
        };
        let parent = HeaderPeek::read(&message.parent_header).map(|peek| peek.msg_id.into_owned());
        if channel == Channel::Shell && parent == id {
            let reply = serde_json::from_slice(&message.content).unwrap_or_default();
            return Ok(registered(&reply));
        }
        broker.kernel_said(channel, message);
    }
}

fn is_kernel_info(message: &Message) -> bool {
    HeaderPeek::read(&message.header).is_some_and(|peek| peek.msg_type == "kernel_info_reply")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_inside_arguments_too() {
        let argv = ["k", "--f={connection_file}", "{resource_dir}/x"].map(str::to_owned);
        let filled = fill_in(&argv, Path::new("/c.json"), Path::new("/r"));
        assert_eq!(filled, ["k", "--f=/c.json", "/r/x"]);
    }
}
