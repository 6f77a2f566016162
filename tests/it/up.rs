//! `nb up`: its process in a test, and what it does for somebody who has nothing yet.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::gateway::{self, wait_for};

/// The first start fetches two environments.
pub(crate) const SET_UP_LIMIT: Duration = Duration::from_secs(300);

/// A running `nb up`. Leaves nothing behind when a test fails.
pub(crate) struct Up {
    process: Child,
    home: PathBuf,
    stderr: Lines<BufReader<ChildStderr>>,
    said: String,
    /// The port of its gateway.
    pub(crate) gateway: u16,
    /// It is in a network namespace of its own.
    is_offline: bool,
    /// What it printed.
    pub(crate) url: String,
}

impl Up {
    /// One of this file, with its home in `home` and no token; waits for its address.
    pub(crate) async fn start_of(nb: &Path, home: &Path, more: &[(&str, PathBuf)]) -> Self {
        Self::start_as(Command::new(nb), Ipv4Addr::LOCALHOST, home, more).await
    }

    /// The same of the file that is tested.
    pub(crate) async fn start(home: &Path, more: &[(&str, PathBuf)]) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, home, more).await
    }

    /// The same with Lab at another address.
    pub(crate) async fn start_at(ip: Ipv4Addr, home: &Path, more: &[(&str, PathBuf)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_nb"));
        Self::start_as(program, ip, home, more).await
    }

    /// This program on a machine without a network: in a namespace that has the loopback interface alone.
    pub(crate) async fn start_offline(nb: &Path, home: &Path, more: &[(&str, PathBuf)]) -> Self {
        let mut program = Command::new("unshare");
        program.arg("--net");
        if !geteuid().is_root() {
            program.arg("--map-root-user");
        }
        let then = "ip link set lo up && exec \"$@\"";
        program.args(["sh", "-c", then, "sh"]).arg(nb);
        let mut up = Self::start_as(program, Ipv4Addr::LOCALHOST, home, more).await;
        up.is_offline = true;
        up
    }

    async fn start_as(
        mut program: Command,
        ip: Ipv4Addr,
        home: &Path,
        more: &[(&str, PathBuf)],
    ) -> Self {
        let root = home.join("notebooks");
        fs::create_dir_all(&root).unwrap();
        let mut process = program
            .args(["up", "--ip", &ip.to_string(), "--port", "0", "--root"])
            .arg(root)
            .env("HOME", home)
            .env("NB_RUNTIME_DIR", home.join("run"))
            .env("NB_STATE_DIR", home.join("state"))
            .env_remove("NB_TOKEN")
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut up = Self {
            process,
            home: home.to_owned(),
            stderr,
            said: String::new(),
            gateway: 0,
            is_offline: false,
            url: String::new(),
        };
        let told = timeout(SET_UP_LIMIT, up.wait_for_addresses(stdout)).await;
        told.expect("nb up does not get ready");
        up
    }

    async fn wait_for_addresses(&mut self, mut stdout: Lines<BufReader<ChildStdout>>) {
        while self.gateway == 0 {
            let line = self.stderr.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("nb up has ended:\n{}", self.said));
            if let Some((_, rest)) = line.split_once("the gateway is http://127.0.0.1:") {
                self.gateway = rest.split(',').next().unwrap().parse().unwrap();
            }
            self.said += &line;
            self.said += "\n";
        }
        self.url = stdout.next_line().await.unwrap().unwrap();
    }

    /// Lab's port and the token.
    pub(crate) fn lab(&self) -> (u16, &str) {
        let (address, token) = self.url.split_once("/lab?token=").expect(&self.url);
        (address.rsplit_once(':').unwrap().1.parse().unwrap(), token)
    }

    /// Lab's own page is there.
    pub(crate) async fn shows_lab(&self) {
        let (port, token) = self.lab();
        let lab = format!("/lab?token={token}");
        let (status, page) = self.page(port, "GET", &lab, "").await;
        assert!(
            status == 200 && page.contains("<title>JupyterLab"),
            "{page}"
        );
    }

    /// A kernel, started by Lab or by the gateway, whoever has this port.
    pub(crate) async fn start_kernel(&self, port: u16) {
        let (status, kernel) = self.page(port, "POST", "/api/kernels", "{}").await;
        assert_eq!(status, 201, "{kernel}");
    }

    /// A notebook in Lab with a kernel: the ids of the session and of that, and the path.
    async fn start_session(&self, path: &str) -> [Value; 3] {
        let notebook =
            json!({"path": path, "name": path, "type": "notebook", "kernel": {"name": "pycx"}});
        let (port, notebook) = (self.lab().0, notebook.to_string());
        let (status, session) = self.page(port, "POST", "/api/sessions", &notebook).await;
        assert_eq!(status, 201, "{session}");
        told(&serde_json::from_str(&session).unwrap())
    }

    /// What Lab knows of its first one.
    async fn session(&self) -> [Value; 3] {
        let (_, all) = self.page(self.lab().0, "GET", "/api/sessions", "").await;
        let all: Value = serde_json::from_str(&all).unwrap();
        told(&all[0])
    }

    /// A request with its token, from where it is.
    pub(crate) async fn page(
        &self,
        port: u16,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String) {
        let (_, token) = self.lab();
        if !self.is_offline {
            return gateway::page(port, token, method, path, body).await;
        }
        let request = "import sys, urllib.request as r
url, token, method, body = sys.argv[1:]
head = {'Authorization': 'token ' + token, 'Content-Type': 'application/json'}
with r.urlopen(r.Request(url, body.encode() or None, head, method=method)) as answer:
    print(answer.status, answer.read().decode())";
        let pid = self.process.id().unwrap().to_string();
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &pid, "--net"]);
        if !geteuid().is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        let url = format!("http://127.0.0.1:{port}{path}");
        inside.args(["python3", "-c", request, &url, token, method, body]);
        let answer = timeout(gateway::LIMIT, inside.output()).await;
        let answer = answer.expect("the request hangs").unwrap();
        let said = String::from_utf8_lossy(&answer.stdout);
        assert!(answer.status.success(), "{answer:?}");
        let (status, page) = said.split_once(' ').unwrap();
        (status.parse().unwrap(), page.to_owned())
    }

    /// The process of its gateway, if it has one.
    fn gateway_pid(&self) -> Option<Pid> {
        self.pid_of("nb serve --ip")
    }

    /// That of its JupyterLab.
    fn lab_pid(&self) -> Option<Pid> {
        self.pid_of(" -m jupyterlab ")
    }

    fn pid_of(&self, part: &str) -> Option<Pid> {
        let mut all = of_home(&self.home).into_iter();
        all.find_map(|(pid, command)| command.contains(part).then_some(pid))
    }

    /// Ctrl-C, after which nothing is left; gives all that it has said besides the address.
    pub(crate) async fn interrupt(mut self) -> String {
        let pid = self.process.id().unwrap().try_into().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
        let ended = async {
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                self.said += &line;
                self.said += "\n";
            }
            self.process.wait().await.unwrap()
        };
        let ended = timeout(gateway::LIMIT, ended).await;
        assert!(
            ended.expect("nb up does not end").success(),
            "{}",
            self.said
        );
        assert_eq!(processes(&self.home), Vec::<String>::new());
        let kernels = fs::read_dir(self.home.join("run/up/kernels")).unwrap();
        assert_eq!(kernels.count(), 0);
        std::mem::take(&mut self.said)
    }
}

fn told(session: &Value) -> [Value; 3] {
    [&session["id"], &session["kernel"]["id"], &session["path"]].map(Value::clone)
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.process.start_kill();
        gateway::end_kernels(&self.home.join("run/up"));
        for (pid, _) in of_home(&self.home) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// The processes with this folder as their home, and their commands.
pub(crate) fn of_home(home: &Path) -> Vec<(Pid, String)> {
    let home = format!("HOME={}", home.display());
    let has_home =
        |environment: &[u8]| environment.split(|b| *b == 0).any(|v| v == home.as_bytes());
    let of_process = |entry: fs::DirEntry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        has_home(&environment).then_some((pid, command))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(of_process).collect()
}

fn processes(home: &Path) -> Vec<String> {
    let found = of_home(home).into_iter();
    found.map(|(_, command)| command).collect()
}

/// What was installed: every file with its inode and time. What Python compiles later is not counted.
fn installed(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if entry.file_name() == "__pycache__" {
            } else if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                let state = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
                found.insert(entry.path(), state);
            }
        }
    }
    found
}

/// The program as pip installs it, from the wheel that is made of it.
async fn from_its_wheel(folder: &Path) -> PathBuf {
    let run = async |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(gateway::project(""));
        let ran = timeout(SET_UP_LIMIT, command.kill_on_drop(true).output()).await;
        let ran = ran.expect("it hangs").unwrap();
        assert!(ran.status.success(), "{program} {arguments:?}: {ran:?}");
    };
    let (dist, venv) = (folder.join("dist"), folder.join("venv"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let xtask = ["run", "--quiet", "--locked", "--package", "xtask", "--"];
    let dist_of = ["dist", env!("CARGO_BIN_EXE_nb"), dist.to_str().unwrap()];
    run(&cargo, &[&xtask[..], &dist_of].concat()).await;
    let mut made = fs::read_dir(&dist)
        .unwrap()
        .map(|made| made.unwrap().path());
    let wheel = made.find(|made| made.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.expect("no wheel was made");
    run("python3", &["-m", "venv", venv.to_str().unwrap()]).await;
    let pip = venv.join("bin/pip");
    let install = ["install", "--quiet", "--no-index", wheel.to_str().unwrap()];
    run(pip.to_str().unwrap(), &install).await;
    venv.join("bin/nb")
}

/// Neither Rust nor Node: the program is what the wheel of `cargo xtask dist` puts onto the path.
#[tokio::test]
async fn nothing_is_needed_and_a_second_start_installs_nothing_and_needs_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let nb = from_its_wheel(home).await;
    let places = nothing_yet(home);
    let mut before = BTreeMap::new();
    for is_first in [true, false] {
        let up = match is_first {
            true => Up::start_of(&nb, home, &places).await,
            false => Up::start_offline(&nb, home, &places).await,
        };
        up.shows_lab().await;
        let (port, _) = up.lab();
        // One of Lab's and one that Lab does not know.
        for port in [port, up.gateway] {
            up.start_kernel(port).await;
        }
        let running = processes(home);
        for program in [
            "nb up",
            "nb serve",
            "-m jupyterlab",
            " supervise",
            "ipykernel_launcher",
        ] {
            let runs = running.iter().any(|command| command.contains(program));
            assert!(runs, "{program} is not among {running:#?}");
        }
        let said = up.interrupt().await;
        assert_eq!(said.contains("sets things up"), is_first, "{said}");
        let now = installed(&home.join("data"));
        assert!(is_first || now == before, "something was installed again");
        before = now;
    }
}

/// Data and caches in which nothing is, and neither Node nor Rust.
pub(crate) fn nothing_yet(home: &Path) -> [(&'static str, PathBuf); 5] {
    [
        ("PATH", without_tools(home)),
        ("NB_DATA_DIR", home.join("data")),
        ("XDG_CACHE_HOME", home.join("cache")),
        ("UV_CACHE_DIR", home.join("cache/uv")),
        ("PIP_CACHE_DIR", home.join("cache/pip")),
    ]
}

/// A search path on which Rust does not work, nor Node, which Lab looks for itself.
fn without_tools(home: &Path) -> PathBuf {
    let folder = home.join("no-tools");
    fs::create_dir(&folder).unwrap();
    for name in ["node", "nodejs", "npm", "npx", "cargo", "rustc"] {
        fs::write(folder.join(name), "#!/bin/sh\nexit 127\n").unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut path = folder.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    path.into()
}

#[tokio::test]
async fn one_that_is_killed_leaves_its_kernels_to_the_next_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let data = [
        ("NB_DATA_DIR", gateway::project("target/nb-data")),
        ("IT_OF_ITS_USER", home.to_owned()),
    ];
    // A crash of the machine may have left that.
    let state = home.join("state/up");
    fs::create_dir_all(&state).unwrap();
    for folder in [&home.join("state"), &state] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(state.join("sessions.db"), "no database").unwrap();
    let mut up = Up::start(home, &data).await;
    let session = up.start_session("a.ipynb").await;
    // What runs for its user alone has what its user has.
    let kernel = of_home(home)
        .into_iter()
        .find(|(_, command)| command.contains("ipykernel_launcher"));
    let (pid, _) = kernel.expect("no kernel runs");
    let environ = fs::read_to_string(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap();
    assert!(environ.contains("IT_OF_ITS_USER="), "{environ}");
    assert!(!environ.contains("NB_KERNELS_"), "{environ}");
    up.process.kill().await.unwrap();
    let of_kernel = |command: &String| command.contains("run/up/kernels/");
    let others_end = async {
        while !processes(home).iter().all(of_kernel) {
            tokio::task::yield_now().await;
        }
    };
    let ended = timeout(gateway::LIMIT, others_end).await;
    assert!(ended.is_ok(), "{:#?}", processes(home));
    assert_eq!(processes(home).len(), 2, "a supervisor and its kernel");
    let mut next = Up::start(home, &data).await;
    assert_eq!(next.session().await, session);
    // Nor does what only looks like one.
    next.process.kill().await.unwrap();
    let broken = [&b"SQLite format 3\0"[..], &[7; 5000]].concat();
    fs::write(state.join("sessions.db"), broken).unwrap();
    let last = Up::start(home, &data).await;
    last.start_session("b.ipynb").await;
    last.interrupt().await;
}

/// A copy of the program, in place of what was there.
pub(crate) fn install(nb: &Path) {
    let beside = nb.with_extension("new");
    fs::copy(env!("CARGO_BIN_EXE_nb"), &beside).unwrap();
    fs::rename(beside, nb).unwrap();
}

#[tokio::test]
async fn what_ends_is_started_again_as_the_program_that_is_there_then() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let nb = home.join("nb");
    install(&nb);
    let data = [("NB_DATA_DIR", gateway::project("target/nb-data"))];
    let mut up = Up::start_of(&nb, home, &data).await;
    up.start_kernel(up.lab().0).await;
    let (_, before) = up.page(up.gateway, "GET", "/api/kernels", "").await;
    let ids = |list: &str| -> Vec<Value> {
        let list: Vec<Value> = serde_json::from_str(list).unwrap();
        list.iter().map(|kernel| kernel["id"].clone()).collect()
    };
    let file = |pid: Pid| fs::metadata(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        install(&nb);
        let old = up.gateway_pid().unwrap();
        kill_process(old, signal).unwrap();
        let new = wait_for("another gateway", || {
            let new = up.gateway_pid().filter(|pid| *pid != old)?;
            TcpStream::connect((Ipv4Addr::LOCALHOST, up.gateway)).ok()?;
            Some(new)
        })
        .await;
        assert_eq!(file(new).ino(), fs::metadata(&nb).unwrap().ino());
        let (status, after) = up.page(up.gateway, "GET", "/api/kernels", "").await;
        assert_eq!((status, ids(&after)), (200, ids(&before)));
    }
    // JupyterLab too, which knows the kernels of its notebooks.
    let (port, _) = up.lab();
    let session = up.start_session("a.ipynb").await;
    let lab = up.lab_pid().unwrap();
    kill_process(lab, Signal::KILL).unwrap();
    wait_for("another JupyterLab", || {
        up.lab_pid().filter(|pid| *pid != lab)?;
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    })
    .await;
    assert_eq!(up.session().await, session);
    // What cannot run is not tried for ever.
    fs::rename(&nb, home.join("kept")).unwrap();
    fs::write(&nb, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&nb, fs::Permissions::from_mode(0o755)).unwrap();
    kill_process(up.gateway_pid().unwrap(), Signal::KILL).unwrap();
    let ended = timeout(gateway::LIMIT, async {
        while let Some(line) = up.stderr.next_line().await.unwrap() {
            up.said += &line;
        }
        up.process.wait().await.unwrap()
    });
    assert!(!ended.await.expect("nb up does not end").success());
    for part in ["exit status: 3", "kernels live on"] {
        assert!(up.said.contains(part), "{part}: {}", up.said);
    }
}
