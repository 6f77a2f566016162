//! `nb init`: the first process of a container.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::error::Error;

/// The first pause before a program that died is started again; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// One that ran for so long has not died of its start.
const RAN_WELL: Duration = Duration::from_secs(60);

/// How long kernels may take to end when all ends. `docker stop` kills after ten seconds, of which the gateway
/// may have had five.
const CHILDREN_END: Duration = Duration::from_secs(4);

/// The signals that are passed on; those by which all ends come first.
const SIGNALS: [Signal; 6] = [
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
];
const ENDS: usize = 3;

/// Runs a program as the first process of a container: `nb init -- nb serve`
///
/// Starts it again when it dies, so that the kernels in the container live on, waits for all processes that nobody
/// else waits for, and passes signals on. SIGTERM, SIGINT and SIGQUIT end the program, then what is left, then itself.
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// What there is to do next.
enum Event {
    /// A signal for the program.
    Signal(Signal),
    /// Somebody is to be waited for.
    Child,
}

impl Init {
    /// Runs until it is told to end; with what the program ended with.
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        super::log_to_stderr("info", crate::config::LogFormat::Text);
        // Pid 1 gets all orphans anyway; elsewhere those of the program.
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::warn!(%error, "orphans go elsewhere");
        }
        super::runtime()?.block_on(self.keep_running())
    }

    async fn keep_running(self) -> Result<ExitCode, Error> {
        let mut events = listen()?;
        let mut pause = PAUSE_MIN;
        let mut program = self.start()?;
        loop {
            let begun = Instant::now();
            let (status, ends) = run(program, &mut events).await;
            if begun.elapsed() >= RAN_WELL {
                pause = PAUSE_MIN;
            }
            if !ends {
                tracing::warn!("the program ended ({}); starts it again", told(status));
            }
            program = loop {
                if ends || waited(pause, &mut events).await {
                    end_children(&mut events).await;
                    return Ok(exit_code(status));
                }
                pause = PAUSE_MAX.min(pause * 2);
                match self.start() {
                    Ok(program) => break program,
                    // Its file may be about to be replaced, and kernels depend on us.
                    Err(error) => tracing::warn!("{error}"),
                }
            };
        }
    }

    /// In a process group of its own: a Ctrl-C of the terminal reaches it through us, once.
    fn start(&self) -> Result<Pid, Error> {
        let Some((program, arguments)) = self.program.split_first() else {
            return Err(Error::user("there is no program to run"));
        };
        let child = Command::new(program)
            .args(arguments)
            .process_group(0)
            .spawn();
        let child = child.map_err(|error| {
            Error::user(format!("{} cannot be run: {error}", program.display()))
        })?;
        // It is waited for with all others.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::nb("the program has no pid"))
    }
}

/// Hears signals and deaths from now on.
fn listen() -> Result<mpsc::UnboundedReceiver<Event>, Error> {
    let failed = |error: std::io::Error| Error::nb(format!("signals cannot be received: {error}"));
    let (tell, events) = mpsc::unbounded_channel();
    for passed in SIGNALS {
        let mut signals = signal(SignalKind::from_raw(passed.as_raw())).map_err(failed)?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && tell.send(Event::Signal(passed)).is_ok() {}
        });
    }
    let mut deaths = signal(SignalKind::child()).map_err(failed)?;
    tokio::spawn(async move {
        while deaths.recv().await.is_some() && tell.send(Event::Child).is_ok() {}
    });
    Ok(events)
}

/// Runs the program to its end: how it ended, and whether that was asked for.
async fn run(program: Pid, events: &mut mpsc::UnboundedReceiver<Event>) -> (WaitStatus, bool) {
    let mut ends = false;
    loop {
        // First: it may have ended before we heard.
        while let Some((pid, status)) = reap() {
            if pid == program {
                return (status, ends);
            }
        }
        if let Some(Event::Signal(signal)) = events.recv().await {
            ends |= is_end(signal);
            if let Err(error) = kill_process(program, signal) {
                tracing::warn!(%error, "a signal was not passed on");
            }
        }
    }
}

/// Waits, and goes on waiting for the dead; whether it is to end meanwhile.
async fn waited(pause: Duration, events: &mut mpsc::UnboundedReceiver<Event>) -> bool {
    let asked = async {
        loop {
            while reap().is_some() {}
            if let Some(Event::Signal(signal)) = events.recv().await
                && is_end(signal)
            {
                return;
            }
        }
    };
    timeout(pause, asked).await.is_ok()
}

/// Asks what is left to end, supervisors of kernels foremost, and waits for it.
async fn end_children(events: &mut mpsc::UnboundedReceiver<Event>) {
    for child in children() {
        if let Err(error) = kill_process(child, Signal::TERM) {
            tracing::debug!(%error, "a child was not asked to end");
        }
    }
    let all = async {
        loop {
            while reap().is_some() {}
            if children().is_empty() {
                return;
            }
            tokio::select! {
                _ = events.recv() => {}
                // One that came to us just now.
                () = sleep(PAUSE_MIN) => {}
            }
        }
    };
    if timeout(CHILDREN_END, all).await.is_err() {
        tracing::warn!("some processes have not ended");
    }
}

/// A child that has ended, and how.
fn reap() -> Option<(Pid, WaitStatus)> {
    wait(WaitOptions::NOHANG).ok().flatten()
}

/// Our children.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().to_string();
    let is_ours = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After a name in parentheses, which may hold anything: the state, the parent.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1) == Some(&own)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_ours).filter_map(Pid::from_raw).collect()
}

fn is_end(signal: Signal) -> bool {
    SIGNALS[..ENDS].contains(&signal)
}

fn told(status: WaitStatus) -> std::process::ExitStatus {
    std::process::ExitStatus::from_raw(status.as_raw())
}

/// As shells have it.
fn exit_code(status: WaitStatus) -> ExitCode {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
