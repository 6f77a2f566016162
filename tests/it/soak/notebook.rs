//! A notebook: one client of one kernel that runs cell after cell, comes back when its line is cut, and knows what each
//! cell prints.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nb::protocol::message::Channel;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::rest::ask;
use super::story::written;
use super::{Target, parts};
use crate::client::{Client, Heard, Said, cell};
use crate::gateway::{LIMIT, TOKEN};

/// Between two attempts to come back.
const PAUSE: Duration = Duration::from_millis(20);

/// What happened to notebooks.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Cells with all of their output.
    whole: u64,
    /// Cells that an interrupt, a restart or a death ended.
    failed: u64,
    /// Cells with a gap, since a supervisor died.
    gaps: u64,
    /// Requests that were being written when the line broke.
    resent: u64,
    /// Messages that came twice after coming back.
    repeated: u64,
    messages: u64,
    came_back: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.failed += other.failed;
        self.gaps += other.gaps;
        self.resent += other.resent;
        self.repeated += other.repeated;
        self.messages += other.messages;
        self.came_back += other.came_back;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cells: {} whole, {} ended by a fault, {} with a gap of their supervisor; \
             {} messages, {} repeated; {} returns, {} requests sent again",
            self.whole,
            self.failed,
            self.gaps,
            self.messages,
            self.repeated,
            self.came_back,
            self.resent
        )
    }
}

pub(super) struct Notebook {
    target: Arc<Target>,
    port: u16,
    session: String,
    is_v1: bool,
    client: Option<Client>,
    /// How often supervisors had been killed when the last cell for the other kernel began.
    killed_before: u64,
    counts: Counts,
}

/// A cell that runs.
struct Running {
    request: String,
    /// What is asked after coming back: answered before the cell is, the cell never arrived.
    probe: Option<String>,
    seen: BTreeSet<String>,
    came_back: bool,
    text: String,
    status: Option<String>,
    is_idle: bool,
}

impl Notebook {
    pub(super) fn new(target: Arc<Target>, port: u16, n: usize) -> Self {
        Self {
            target,
            port,
            session: format!("soak-{n}"),
            is_v1: !n.is_multiple_of(3),
            client: None,
            killed_before: 0,
            counts: Counts::default(),
        }
    }

    /// Runs cells until it is quiet, then so many more, which have to succeed.
    pub(super) async fn run(mut self, quiet: Arc<AtomicBool>, more: usize) -> Counts {
        let mut n = 0;
        while !quiet.load(Ordering::SeqCst) {
            n += 1;
            self.cell(n, false).await;
        }
        // The last fault may be on its way still, to either kernel.
        self.cell(n + 1, false).await;
        self.cell(n + 2, false).await;
        for n in n + 3..n + 3 + more {
            self.cell(n, true).await;
        }
        self.counts
    }

    async fn cell(&mut self, n: usize, must_succeed: bool) {
        let (code, expected) = typed(n, &self.target);
        let killed = self.killed();
        let ran = timeout(LIMIT, self.finish(&code)).await;
        let kernel = &self.target.kernel;
        let Ok(ran) = ran else {
            let (_, model) = ask(self.port, "GET", &format!("/api/kernels/{kernel}")).await;
            panic!(
                "cell {n} of {kernel} has no end\n{model:#}\n{}",
                self.story()
            );
        };
        let had_a_gap = self.killed() > killed;
        let mut said = without_callbacks(&ran.text);
        if is_elsewhere(n, &self.target) {
            // Its kernel tells with the next cell of a supervisor that died when it had nothing to do.
            if killed > std::mem::replace(&mut self.killed_before, killed) {
                said = without_notes(&said);
            }
        }
        let is_ok = ran.status.as_deref() == Some("ok");
        match (is_ok, said == expected) {
            (true, true) => self.counts.whole += 1,
            _ if had_a_gap && !must_succeed => {
                let lost = lost(&ran.text, &expected);
                let is_told = !is_ok || ran.text.contains("[nb] ");
                assert!(
                    lost.is_some_and(|lost| lost == 0 || is_told),
                    "cell {n} of {kernel}: {:?} instead of {expected:?}\n{}",
                    ran.text,
                    self.story()
                );
                self.counts.gaps += 1;
            }
            (false, _)
                if expected.starts_with(told(&without_callbacks(&ran.text))) && !must_succeed =>
            {
                self.counts.failed += 1;
            }
            _ => panic!(
                "cell {n} of {kernel}, {}: {:?} instead of {expected:?}\n{}",
                ran.status.unwrap_or_default(),
                ran.text,
                self.story()
            ),
        }
        if !is_ok {
            self.revive().await;
        }
    }

    /// What happened to the kernel lately, and what all who have to do with it wrote.
    fn story(&self) -> String {
        let own = &self.target.folder;
        let others = parts(self.target.root(), &self.target.kernel).into_iter();
        let others = others.filter_map(|part| Some(own.with_file_name(part["id"].as_str()?)));
        let theirs: String = others.map(|folder| written(&folder)).collect();
        let story = &self.target.story;
        format!("{story}{}--- another kernel\n{theirs}", written(own))
    }

    fn killed(&self) -> u64 {
        self.target.supervisors_killed.load(Ordering::SeqCst)
    }

    /// A kernel that died too often is started again by its user.
    async fn revive(&mut self) {
        let path = format!("/api/kernels/{}", self.target.kernel);
        let (_, model) = ask(self.port, "GET", &path).await;
        if model["execution_state"] == "dead" {
            ask(self.port, "POST", &format!("{path}/restart")).await;
        }
    }

    async fn finish(&mut self, code: &str) -> Running {
        let mut running = self.submit(code).await;
        while !(running.is_idle && running.status.is_some()) {
            let target = Arc::clone(&self.target);
            let Some(client) = &mut self.client else {
                self.come_back(&mut running).await;
                continue;
            };
            let heard = tokio::select! {
                heard = client.hear() => heard,
                () = target.cut.notified() => Heard::Cut,
            };
            match heard {
                Heard::Said(said) => {
                    let is_probe = running.probe.as_ref() == Some(&said.parent);
                    let came = running.status.is_some() || running.is_idle;
                    if is_probe && said.msg_type == "kernel_info_reply" && !came {
                        self.counts.resent += 1;
                        running = self.submit(code).await;
                    } else {
                        self.heard(&mut running, said);
                    }
                }
                Heard::Closed(how) => {
                    target.story.tell(format!("closed: {how:?}"));
                    self.client = None;
                    self.revive().await;
                }
                Heard::Cut => {
                    target.story.tell("cut");
                    self.client = None;
                }
            }
        }
        running
    }

    async fn submit(&mut self, code: &str) -> Running {
        loop {
            let client = self.connected().await;
            let (request, is_written) = client
                .try_send(Channel::Shell, "execute_request", cell(code), Vec::new())
                .await;
            self.target
                .story
                .tell(format!("asks {request}, written: {is_written}"));
            if is_written {
                return Running {
                    request,
                    probe: None,
                    seen: BTreeSet::new(),
                    came_back: false,
                    text: String::new(),
                    status: None,
                    is_idle: false,
                };
            }
            self.client = None;
        }
    }

    async fn come_back(&mut self, running: &mut Running) {
        self.counts.came_back += 1;
        running.came_back = true;
        let client = self.connected().await;
        let asked = client
            .try_send(Channel::Shell, "kernel_info_request", json!({}), Vec::new())
            .await;
        self.target
            .story
            .tell(format!("came back, probe {asked:?}"));
        match asked {
            (probe, true) => running.probe = Some(probe),
            (_, false) => self.client = None,
        }
    }

    async fn connected(&mut self) -> &mut Client {
        let deadline = Instant::now() + LIMIT;
        while self.client.is_none() {
            let kernel = &self.target.kernel;
            match Client::dial(self.port, TOKEN, kernel, &self.session, self.is_v1).await {
                Ok(client) => self.client = Some(client),
                Err(why) => {
                    assert!(Instant::now() < deadline, "{kernel}: {why}");
                    assert!(!why.contains("404"), "{kernel}: {why}");
                    sleep(PAUSE).await;
                }
            }
        }
        self.client.as_mut().unwrap()
    }

    fn heard(&mut self, running: &mut Running, said: Said) {
        let (kind, parent) = (&said.msg_type, &said.parent);
        self.target.story.tell(format!("hears {kind} of {parent}"));
        if said.parent != running.request {
            return;
        }
        self.counts.messages += 1;
        if !running.seen.insert(said.msg_id) {
            assert!(running.came_back, "a {} came twice", said.msg_type);
            self.counts.repeated += 1;
            return;
        }
        match said.msg_type.as_str() {
            "stream" => running.text += said.content["text"].as_str().unwrap(),
            "status" => running.is_idle |= said.content["execution_state"] == "idle",
            "execute_reply" => {
                running.status = said.content["status"].as_str().map(str::to_owned);
            }
            _ => {}
        }
    }
}

fn is_elsewhere(n: usize, target: &Target) -> bool {
    target.other.is_some() && n.is_multiple_of(2)
}

/// A cell, for another kernel in every second one of a notebook that has one, and what it prints.
fn typed(n: usize, target: &Target) -> (String, String) {
    let other = target.other.filter(|_| is_elsewhere(n, target));
    let is_python = other.map_or(target.is_python, |other| other == "python3");
    let (code, printed) = match is_python {
        true => {
            let lines = n * 7 % 40 + 1;
            let code = format!(
                "import time\nfor i in range({lines}):\n    print('cell {n}', i, flush=True)\n    \
                 time.sleep(0.01)"
            );
            let lines = (0..lines).map(|i| format!("cell {n} {i}\n"));
            (code, lines.collect::<String>())
        }
        false => (format!("cell {n}"), format!("cell {n}")),
    };
    match other {
        // An instant kernel prints the empty line in place of the magic as well.
        Some(other) if !is_python => (format!("%%kernel {other}\n{code}"), format!("\n{printed}")),
        Some(other) => (format!("%%kernel {other}\n{code}"), printed),
        None => (code, printed),
    }
}

/// What IPython says itself of an interrupt that came while it compiled a cell, and of one while it showed another.
const INTERRUPTED: [&str; 2] = [
    "Unexpected exception formatting exception",
    "\nKeyboardInterrupt",
];

/// How what it says of one begins and ends that came while it called somebody who wants to know of cells; the cell goes
/// on then.
const IN_CALLBACK: [&str; 2] = ["Error in callback ", "kwargs {}:\n"];

fn without_callbacks(text: &str) -> String {
    let mut own = text.to_owned();
    let [begins, ends] = IN_CALLBACK;
    while let Some(begin) = own.find(begins)
        && let Some(end) = own[begin..].find(ends)
    {
        own.replace_range(begin..begin + end + ends.len(), "");
    }
    own
}

fn without_notes(text: &str) -> String {
    let own = text.split_inclusive('\n');
    own.filter(|line| !line.starts_with("[nb] ")).collect()
}

/// What the cell itself has said, before what nb or IPython say of its end.
fn told(text: &str) -> &str {
    let ends = ["[nb]"].into_iter().chain(INTERRUPTED);
    let end = ends.filter_map(|word| text.find(word)).min();
    text[..end.unwrap_or(text.len())].trim_end_matches('\n')
}

/// How many lines of a cell are missing in what came of it; nothing if some are there twice or in another order.
fn lost(text: &str, expected: &str) -> Option<usize> {
    let mut rest = expected.lines();
    let mut skipped = 0;
    // An instant kernel ends no line.
    let text = text.replace("[nb] ", "\n[nb] ");
    for line in text.lines().filter(|line| line.starts_with("cell ")) {
        skipped += rest.position(|expected| expected == line)?;
    }
    Some(skipped + rest.count())
}

#[test]
fn lines_that_a_gap_took_are_counted() {
    let expected = "cell 1 0\ncell 1 1\ncell 1 2\n";
    for (text, missing) in [
        (expected, Some(0)),
        ("cell 1 0\n[nb] lost\ncell 1 2\n", Some(1)),
        ("cell 1 0\ncell 1 1\ncell 1 2[nb] lost\n", Some(0)),
        ("", Some(3)),
        ("cell 1 1\ncell 1 0\n", None),
        ("cell 1 1\ncell 1 1\n", None),
    ] {
        assert_eq!(lost(text, expected), missing, "{text:?}");
    }
}
