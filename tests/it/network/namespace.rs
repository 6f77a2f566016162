//! Two machines and a router between them, in namespaces of a test's own.
//!
//! ```text
//! here: the test, nb, jupyter_server ── router ── far: a browser, clients
//! ```
//!
//! While the router forwards nothing, packets vanish: neither end has a cable out, nobody says that nobody is there.
//! The test's program runs its test once more in namespaces without a name, of processes too: whatever runs there
//! ends with it, and they with the last of it. Must not know what is sent.

use std::env;
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream as Blocking};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::gateway::LIMIT;

/// Where the far side finds what listens here: an address that RFC 5737 keeps for examples, as are the others.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Set in namespaces of a test's own.
const INSIDE: &str = "IT_INSIDE";

/// For a test of a cut of minutes.
const TEST_LIMIT: Duration = Duration::from_secs(540);

/// Outside, runs the test of this name inside, where it gets past this.
#[expect(clippy::print_stderr, reason = "a failing test shows what it wrote")]
pub(crate) async fn ran_inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return false;
    }
    let mut program = Command::new("setpriv");
    program.args(["--pdeathsig", "KILL", "unshare"]);
    if !geteuid().is_root() {
        program.arg("--map-root-user");
    }
    let done = program
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", "ip link set lo up && \"$@\"; exit $?", "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = timeout(TEST_LIMIT, done).await.expect("the test hangs");
    let done = done.unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    eprintln!("{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "it failed inside");
    assert!(said.contains("1 passed"), "there is no test {test}");
    true
}

/// A network namespace, for as long as its process holds it.
#[derive(Debug)]
struct Place(Child);

impl Place {
    async fn new() -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c"])
            .arg("ip link set lo up && echo && exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut place = Self(holder.unwrap());
        let mut stdout = BufReader::new(place.0.stdout.take().unwrap());
        let mut line = String::new();
        let is_there = timeout(LIMIT, stdout.read_line(&mut line)).await;
        assert_eq!(is_there.expect("no namespace").unwrap(), 1);
        place
    }

    fn pid(&self) -> String {
        self.0.id().unwrap().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid(), program]);
        command
    }

    async fn runs(&self, script: &str) {
        runs(self.command("sh").args(["-c", script])).await;
    }
}

async fn runs(command: &mut Command) {
    let done = command.kill_on_drop(true).output();
    let done = timeout(LIMIT, done).await.expect("it hangs").unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// The two sides and what lies between.
#[derive(Debug)]
pub(crate) struct Network {
    router: Place,
    far: Place,
}

impl Network {
    /// Inside: see `ran_inside`.
    pub(crate) async fn new() -> Self {
        let network = Self {
            router: Place::new().await,
            far: Place::new().await,
        };
        let here = format!(
            "ip link add road type veth peer name here netns {} && ip address add {HERE}/24 dev road && \
             ip link set road up && ip route add default via 192.0.2.2",
            network.router.pid()
        );
        runs(Command::new("sh").args(["-c", &here])).await;
        let router = format!(
            "ip link add far type veth peer name road netns {} && ip address add 192.0.2.2/24 dev here && \
             ip address add 198.51.100.2/24 dev far && ip link set here up && ip link set far up",
            network.far.pid()
        );
        network.router.runs(&router).await;
        let far = "ip address add 198.51.100.1/24 dev road && ip link set road up && \
                   ip route add default via 198.51.100.2";
        network.far.runs(far).await;
        network.heal().await;
        network
    }

    /// From now on packets vanish, in both directions.
    pub(crate) async fn cut(&self) {
        self.forward("ip_forward", 0).await;
    }

    /// From now on those of the far side vanish.
    pub(crate) async fn cut_from_far(&self) {
        self.forward("conf/far/forwarding", 0).await;
    }

    /// Packets pass again.
    pub(crate) async fn heal(&self) {
        // What is as it is asked to be changes nothing elsewhere.
        self.forward("ip_forward", 0).await;
        self.forward("ip_forward", 1).await;
    }

    /// The first name is that of all interfaces together.
    async fn forward(&self, whose: &str, how: u8) {
        let script = format!("echo {how} > /proc/sys/net/ipv4/{whose}");
        self.router.runs(&script).await;
    }

    /// A program on the far side.
    pub(crate) fn far_program(&self, program: &str) -> Command {
        self.far.command(program)
    }

    /// A connection from the far side to what listens here.
    pub(crate) async fn connect(&self, port: u16) -> TcpStream {
        let far = File::open(format!("/proc/{}/ns/net", self.far.pid())).unwrap();
        let dial = move || {
            // A socket stays where it was made; the thread ends.
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&far),
                Some(LinkNameSpaceType::Network),
            )?;
            let stream = Blocking::connect((HERE, port))?;
            stream.set_nonblocking(true)?;
            std::io::Result::Ok(stream)
        };
        let dialed = thread::spawn(dial).join().unwrap();
        TcpStream::from_std(dialed.unwrap()).unwrap()
    }
}
