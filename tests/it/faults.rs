//! What is sent is received, whoever it is that listens and whatever ends in between: every path of unmodified clients,
//! a fault at each hop of it, and a table of what was counted.
//!
//! ```text
//! Chromium ─ jupyter_server with the companion ─┐
//! Lab's client, VS Code's sequence ─────────────┴ gateway ─ supervisor ─ kernel
//! jupyter_client ─ ZeroMQ ─ front ────────────────────────────┘
//! ```
//!
//! Drivers run one cell for each hop and give back what it showed; the accounting is here, once for all.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::sleep;

use crate::cutter::Cutter;
use crate::driver::Driver;
use crate::front::Home;
use crate::gateway::{Gateway, TOKEN, project};
use crate::jupyter_server::{JupyterServer, OWN_TOKEN};
use crate::processes::{pid_of, signal};

/// How many lines a cell says, each a message, in about 4 s.
const SENT: usize = 40;

/// How long nobody is there after a cut.
const ABSENT_MS: u64 = 500;

/// What may come twice after the supervisor's death: about as many lines as are said in a second.
const UNCONFIRMED_MAX: usize = 10;

fn cell() -> String {
    format!(
        "import time\nfor n in range({SENT}):\n    print('line', n, flush=True)\n    \
         time.sleep(0.1)\nprint('the end')"
    )
}

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A line, by an error; its other end stays away for a while.
    Line(usize),
    /// A line within nb.
    OwnLine,
    /// A line over which a client gets output by ZeroMQ.
    Subscription,
    /// `kill -9`, and another one in its place.
    Gateway,
    /// `kill -9`; the kernel is adopted.
    Supervisor,
    /// The process between the client and nb is stopped, and goes on after a while.
    Stopped,
}

/// What came of one cell.
#[derive(Debug)]
struct Row {
    path: &'static str,
    hop: &'static str,
    received: usize,
    doubled: usize,
    /// Lines that are not there; it is told, but by ZeroMQ.
    lost: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            hop,
            received,
            doubled,
            lost,
        } = self;
        write!(
            f,
            "{path:<34} {hop:<34} {SENT:>4} {received:>8} {doubled:>7} {lost:>9}"
        )
    }
}

/// Counts what was shown, which has to be in order: lines come twice in one piece, where the client came back.
fn count(shown: &str) -> (usize, usize, usize) {
    let numbers = shown.lines().filter_map(|line| line.strip_prefix("line "));
    let numbers: Vec<usize> = numbers.map(|n| n.parse().unwrap()).collect();
    let (mut received, mut doubled, mut returns) = (0, 0, 0);
    let (mut next, mut highest) = (0, None);
    for n in numbers {
        returns += usize::from(n < next);
        assert!(n >= next || returns == 1, "out of order:\n{shown}");
        match highest {
            Some(highest) if n <= highest => doubled += 1,
            _ => {
                received += 1;
                highest = Some(n);
            }
        }
        next = n + 1;
    }
    assert!(
        shown.trim_end().ends_with("the end"),
        "it has no end:\n{shown}"
    );
    (received, doubled, SENT - received)
}

#[test]
fn lines_are_counted_once_twice_and_not_at_all() {
    let shown = |numbers: &[usize]| {
        let lines = numbers.iter().map(|n| format!("line {n}\n"));
        lines.collect::<String>() + "the end\n"
    };
    let all: Vec<_> = (0..SENT).collect();
    assert_eq!(count(&shown(&all)), (SENT, 0, 0));
    let twice: Vec<_> = (0..20).chain(15..SENT).collect();
    assert_eq!(count(&shown(&twice)), (SENT, 5, 0));
    let gap: Vec<_> = (0..20).chain(18..20).chain(25..SENT).collect();
    assert_eq!(count(&shown(&gap)), (SENT - 5, 2, 5));
    for broken in [vec![0, 2, 1, 3, 2], vec![1, 0, 1, 0]] {
        std::panic::catch_unwind(|| count(&shown(&broken))).unwrap_err();
    }
}

/// One way to a kernel, and what can end on it.
struct Route {
    path: &'static str,
    gateway: Gateway,
    kernel: String,
    driver: Driver,
    /// From the client on.
    cutters: Vec<Cutter>,
    /// The process between the client and nb.
    between: Option<u32>,
    /// Stays as long as its browser.
    _server: Option<JupyterServer>,
    hops: Vec<(&'static str, Fault)>,
}

impl Route {
    /// A fault at each hop, one after the other.
    async fn run(mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (hop, fault) in std::mem::take(&mut self.hops) {
            self.driver.goes_on().await;
            self.driver.says("fault").await;
            let twice_max = self.happens(fault).await;
            let shown = self.driver.says("counted").await;
            let shown: String = serde_json::from_str(&shown).unwrap();
            let (received, doubled, lost) = count(&shown);
            let row = Row {
                path: self.path,
                hop,
                received,
                doubled,
                lost,
            };
            assert!(
                doubled <= twice_max,
                "{row}: at most {twice_max} may:\n{shown}"
            );
            let is_told = shown.contains("[nb] the supervisor of this kernel died");
            let may_lose = match fault {
                Fault::Supervisor if is_told => SENT,
                // What is published while nobody subscribes is gone, whoever publishes it.
                Fault::Subscription => SENT / 2,
                _ => 0,
            };
            assert!(lost <= may_lose, "{row}: is lost, and not told:\n{shown}");
            rows.push(row);
        }
        self.driver.ends().await;
        rows
    }

    /// Gives how many lines may come twice.
    async fn happens(&mut self, fault: Fault) -> usize {
        match fault {
            Fault::Line(n) => self.cutters[n].cut(ABSENT_MS).await,
            Fault::OwnLine => self.theft().await,
            Fault::Subscription => {
                signal(self.driver.pid(), Signal::USR1);
                0
            }
            Fault::Gateway => {
                let port = self.gateway.port.to_string();
                self.gateway.kill().await;
                let (child, _) = self.gateway.beside(&["--port", &port]).await;
                self.gateway.succeed(child);
                0
            }
            Fault::Supervisor => {
                let model = self.gateway.model(&self.kernel).await;
                signal(pid_of(&model, "supervisor_pid"), Signal::KILL);
                UNCONFIRMED_MAX
            }
            Fault::Stopped => {
                let pid = self.between.unwrap();
                signal(pid, Signal::STOP);
                sleep(Duration::from_millis(ABSENT_MS)).await;
                signal(pid, Signal::CONT);
                0
            }
        }
    }

    /// A line within nb: another one takes the place of whoever is connected, and leaves.
    async fn theft(&self) -> usize {
        let path = "/v1/connections";
        let sessions = self.gateway.supervisor(&self.kernel, path).await;
        let session = sessions[0]["session_id"].as_str().unwrap();
        drop(self.gateway.connect(&self.kernel, session).await);
        0
    }
}

async fn browser() -> Route {
    let gateway = Gateway::start("auto").await;
    let behind = Cutter::start(gateway.port).await;
    let server = JupyterServer::start_with_companion("jupyterlab", behind.port).await;
    let before = Cutter::start(server.port).await;
    let url = format!("http://127.0.0.1:{}/lab?token={OWN_TOKEN}", before.port);
    let shots = project("target/screenshots");
    let arguments = [&url, shots.to_str().unwrap(), &cell()];
    let mut driver = Driver::node(Command::new("node"), "lab_faults.mjs", &arguments);
    let kernel = driver.says("ready").await;
    Route {
        path: "browser, jupyter_server, companion",
        gateway,
        kernel,
        driver,
        cutters: vec![before, behind],
        between: Some(server.pid()),
        _server: Some(server),
        hops: vec![
            ("browser - jupyter_server", Fault::Line(0)),
            ("jupyter_server - gateway", Fault::Line(1)),
            ("jupyter_server stopped for a while", Fault::Stopped),
            ("gateway killed", Fault::Gateway),
            ("supervisor killed", Fault::Supervisor),
        ],
    }
}

async fn direct(path: &'static str, client: &str) -> Route {
    let gateway = Gateway::start("auto").await;
    let cutter = Cutter::start(gateway.port).await;
    let url = format!("http://127.0.0.1:{}/", cutter.port);
    let arguments = [client, &url, TOKEN, &cell()];
    let mut driver = Driver::node(Command::new("node"), "faults.mjs", &arguments);
    let kernel = driver.says("ready").await;
    Route {
        path,
        gateway,
        kernel,
        driver,
        cutters: vec![cutter],
        between: None,
        _server: None,
        hops: vec![
            ("client - gateway", Fault::Line(0)),
            ("gateway killed", Fault::Gateway),
            ("supervisor killed", Fault::Supervisor),
        ],
    }
}

async fn front() -> Route {
    let home = Home::new(&[]).await;
    let mut program = home.case("counted");
    program.arg(cell());
    let mut driver = Driver::start(program);
    let front = driver.says("ready").await;
    let kernels = home.kernels().await;
    let kernel = kernels[0]["id"].as_str().map(str::to_owned);
    Route {
        path: "jupyter_client, ZeroMQ, front",
        gateway: home.gateway,
        kernel: kernel.unwrap(),
        driver,
        cutters: Vec::new(),
        between: Some(front.parse().unwrap()),
        _server: None,
        hops: vec![
            ("client - front (ZeroMQ mends it)", Fault::Subscription),
            ("front - supervisor", Fault::OwnLine),
            ("front stopped for a while", Fault::Stopped),
            ("gateway killed (not on the path)", Fault::Gateway),
            ("supervisor killed", Fault::Supervisor),
        ],
    }
}

#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "what was counted is for people to read"
)]
async fn every_path_cut_at_every_hop_shows_what_was_sent() {
    let (browser, lab, code, front) = tokio::join!(
        async { browser().await.run().await },
        async { direct("Lab's client", "lab").await.run().await },
        async { direct("VS Code's sequence", "vscode").await.run().await },
        async { front().await.run().await },
    );
    println!(
        "{:<34} {:<34} sent received doubled      lost",
        "path", "hop"
    );
    for row in [browser, lab, code, front].into_iter().flatten() {
        println!("{row}");
    }
}
