//! Users of this machine: real ones, made by the test, which runs as root. A gateway that root starts for one of them, and what its kernels are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::gateway::{LIMIT, TOKEN, page, peer};

/// The machine as far as both users see it.
struct Machine {
    folder: TempDir,
    group: Group,
}

/// A group of this machine, as long as it lives.
struct Group {
    name: String,
    gid: u32,
}

/// A user of this machine with that group beside an own one, as long as it lives.
struct User {
    name: String,
    uid: u32,
    gid: u32,
    group: u32,
    home: PathBuf,
}

impl Machine {
    /// `use_of` tells those of one test from those of another.
    async fn new(use_of: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Where others may not go, programs are out of their reach.
        fs::copy(peer(), folder.path().join("peer")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_nb"), folder.path().join("nb")).unwrap();
        let spec = folder.path().join("jupyter/kernels/instant");
        fs::create_dir_all(&spec).unwrap();
        let argv = json!([folder.path().join("peer"), "instant", "{connection_file}"]);
        fs::write(
            spec.join("kernel.json"),
            json!({"argv": argv, "language": "peer"}).to_string(),
        )
        .unwrap();
        let name = format!("nbit{}g{use_of}", std::process::id());
        administer("groupadd", &[&name]).await;
        let gid = id_of("/etc/group", &name);
        let group = Group { name, gid };
        Self { folder, group }
    }

    async fn user(&self, letter: &str) -> User {
        let name = format!("nbit{}{letter}", std::process::id());
        let home = self.folder.path().join(letter);
        let path = home.to_str().unwrap();
        administer(
            "useradd",
            &[
                "--no-create-home",
                "--home-dir",
                path,
                "--shell",
                "/bin/sh",
                "--user-group",
                "--groups",
                &self.group.name,
                &name,
            ],
        )
        .await;
        let uid = id_of("/etc/passwd", &name);
        let gid = id_of("/etc/group", &name);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&home, Some(uid), Some(gid)).unwrap();
        let group = self.group.gid;
        User {
            name,
            uid,
            gid,
            group,
            home,
        }
    }

    /// nb with an environment that is not the user's.
    fn nb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("nb"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path().join("roots"))
            .env("XDG_STATE_HOME", self.folder.path().join("roots"))
            .env("JUPYTER_PATH", self.folder.path().join("jupyter"))
            .env("NB_TOKEN", TOKEN)
            .env("NB_KERNELS_ENV_INHERITED", "OF_*")
            .env("OF_KERNELS", "")
            .env("ROOTS_SECRET", "of root")
            .kill_on_drop(true);
        command
    }

    /// A gateway, where it listens, and what it logs until then.
    async fn serve(&self, mut command: Command) -> (Child, u16, String) {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        timeout(LIMIT, output.read_line(&mut line))
            .await
            .expect("nb says nothing")
            .unwrap();
        let port = line
            .trim_end_matches(['/', '\n'])
            .rsplit(':')
            .next()
            .unwrap();
        let port = port.parse().unwrap_or_else(|_| panic!("{line}"));
        let mut log = String::new();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        while !log.contains("alone") && !log.contains("as root") {
            let read = timeout(LIMIT, errors.read_line(&mut log)).await;
            assert!(read.expect("nb logs nothing").unwrap() > 0, "{log}");
        }
        // Nobody reads the rest, and nobody is to be ended for that.
        tokio::spawn(async move {
            let mut rest = String::new();
            while errors.read_line(&mut rest).await.is_ok_and(|read| read > 0) {}
        });
        (child, port, log)
    }
}

impl User {
    /// Makes a command one of this user's own.
    fn own(&self, command: &mut Command) {
        command
            .uid(self.uid)
            .gid(self.gid)
            .env_remove("XDG_STATE_HOME");
        command.env("HOME", &self.home).current_dir(&self.home);
    }

    async fn runs(&self, mut command: Command) -> (bool, String) {
        self.own(&mut command);
        let done = timeout(LIMIT, command.output())
            .await
            .expect("it hangs")
            .unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    }

    /// Whether a process is this user's in every respect.
    fn assert_is(&self, pid: &Value, works_in: Option<&Path>) {
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status")).unwrap();
        let line = |key: &str| {
            let mut lines = status.lines();
            let found = lines.find_map(|line| line.strip_prefix(key)).unwrap();
            found
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect::<Vec<u32>>()
        };
        assert_eq!(
            (line("Uid:"), line("Gid:")),
            (vec![self.uid; 4], vec![self.gid; 4])
        );
        let mut groups = line("Groups:");
        groups.sort_unstable();
        let mut expected = [self.gid, self.group];
        expected.sort_unstable();
        assert_eq!(groups, expected);
        for capabilities in ["CapPrm:", "CapEff:", "CapAmb:"] {
            let mut lines = status.lines();
            let held = lines
                .find_map(|line| line.strip_prefix(capabilities))
                .unwrap();
            assert_eq!(held.trim().trim_matches('0'), "", "{capabilities}");
        }
        let environment = fs::read(process.join("environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let variables: Vec<&str> = environment.split('\0').collect();
        let (name, home) = (&self.name, self.home.display());
        for variable in [
            format!("USER={name}"),
            format!("LOGNAME={name}"),
            format!("HOME={home}"),
        ] {
            assert!(variables.contains(&&*variable), "{variable}: {environment}");
        }
        if let Some(folder) = works_in {
            assert_eq!(fs::read_link(process.join("cwd")).unwrap(), folder);
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _told = std::process::Command::new("userdel")
            .args(["--force", &self.name])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _told = std::process::Command::new("groupdel")
            .arg(&self.name)
            .status();
    }
}

/// Changes who there is on this machine.
async fn administer(program: &str, arguments: &[&str]) {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "the tests run as root: {program} {arguments:?}: {said}"
    );
}

/// The number of a user or a group.
fn id_of(file: &str, name: &str) -> u32 {
    let all = fs::read_to_string(file).unwrap();
    let mut lines = all.lines().map(|line| line.split(':'));
    let found = lines.find(|fields| fields.clone().next() == Some(name));
    found.unwrap().nth(2).unwrap().parse().unwrap()
}

async fn ask(port: u16, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (status, answer) = page(port, TOKEN, method, path, &body).await;
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

#[tokio::test]
async fn root_starts_a_gateway_for_somebody_whose_all_of_it_then_is() {
    let machine = Machine::new(1).await;
    let (ada, bob) = (machine.user("a").await, machine.user("b").await);
    let mut running = Vec::new();
    for user in [&ada, &bob] {
        let command = machine.nb(&["serve", "--port", "0", "--user", &user.name]);
        let (gateway, port, log) = machine.serve(command).await;
        assert!(
            log.contains(&format!("serves {} alone", user.name)),
            "{log}"
        );
        let (_, status) = ask(port, "GET", "/api/status", &Value::Null).await;
        assert_eq!(status["nb"], json!({"user": user.name, "uid": user.uid}));
        let (status, kernel) = ask(port, "POST", "/api/kernels", &json!({"name": "instant"})).await;
        assert_eq!(status, 201, "{kernel}");
        let (_, me) = ask(port, "GET", "/api/me", &Value::Null).await;
        assert_eq!(me["identity"]["username"], user.name);
        let pid = &kernel["nb"]["kernel_pid"];
        user.assert_is(pid, Some(&user.home));
        // What starts and what looks after it is no more than that.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .unwrap();
        user.assert_is(&json!(parent.trim().parse::<u32>().unwrap()), None);
        user.assert_is(&json!(gateway.id().unwrap()), Some(&user.home));
        // Its user can read its environment, and has nothing there that root keeps for itself.
        let environment = fs::read(format!("/proc/{}/environ", gateway.id().unwrap())).unwrap();
        let has = |name: &str| {
            environment
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        assert!(has("OF_KERNELS=") && has("NB_TOKEN=") && !has("ROOTS_SECRET="));
        let state = user.home.join(".local/state/nb");
        let about = fs::metadata(&state).unwrap();
        assert_eq!((about.uid(), about.mode() & 0o777), (user.uid, 0o700));
        running.push((gateway, port, kernel["id"].as_str().unwrap().to_owned()));
    }
    // Neither sees what is the other's.
    let (_, others) = ask(running[1].1, "GET", "/api/kernels", &Value::Null).await;
    assert_eq!(others.as_array().unwrap().len(), 1);
    let mut look = Command::new("ls");
    look.arg(ada.home.join(".local"));
    assert!(!bob.runs(look).await.0);

    // A workspace of one is none of the other's.
    let source = ada.home.join("source");
    let script = format!(
        "git init --quiet {0} && cd {0} && git -c user.name=a -c user.email=a@b commit --quiet --allow-empty --message=x",
        source.display()
    );
    let mut made = Command::new("sh");
    made.args(["-c", &script]);
    assert_eq!(ada.runs(made).await, (true, String::new()));
    for arguments in [["create", source.to_str().unwrap()], ["complete", "source"]] {
        let (is_done, said) = ada
            .runs(machine.nb(&[&["workspace"], &arguments[..]].concat()))
            .await;
        assert!(is_done, "{said}");
    }
    let body = json!({"name": "instant", "env": {"KERNEL_WORKSPACE": "source"}});
    let (status, refused) = ask(running[1].1, "POST", "/api/kernels", &body).await;
    assert_eq!(status, 400, "{refused}");
    let (status, kernel) = ask(running[0].1, "POST", "/api/kernels", &body).await;
    assert_eq!(status, 201, "{kernel}");
    ada.assert_is(
        &kernel["nb"]["kernel_pid"],
        Some(&ada.home.join(".local/share/nb/workspaces/source")),
    );
    running[0].2 = format!("{} {}", running[0].2, kernel["id"].as_str().unwrap());

    for (mut gateway, port, kernels) in running {
        for id in kernels.split(' ') {
            assert_eq!(
                ask(port, "DELETE", &format!("/api/kernels/{id}"), &Value::Null)
                    .await
                    .0,
                204
            );
        }
        gateway.kill().await.unwrap();
    }
}

#[tokio::test]
async fn who_is_not_root_serves_nobody_else() {
    let machine = Machine::new(2).await;
    let user = machine.user("c").await;
    let (is_done, said) = user
        .runs(machine.nb(&["serve", "--port", "0", "--user", "root"]))
        .await;
    assert!(
        !is_done && said.contains("only root can run for root"),
        "{said}"
    );
    let mut command = machine.nb(&["serve", "--port", "0"]);
    user.own(&mut command);
    let (mut gateway, port, log) = machine.serve(command).await;
    assert!(
        log.contains(&format!("serves {} alone", user.name)),
        "{log}"
    );
    let (_, status) = ask(port, "GET", "/api/status", &Value::Null).await;
    assert_eq!(status["nb"], json!({"user": user.name, "uid": user.uid}));
    gateway.kill().await.unwrap();
    let nobody = timeout(
        LIMIT,
        machine.nb(&["serve", "--user", "no-such-user"]).output(),
    )
    .await;
    let said = String::from_utf8(nobody.expect("it hangs").unwrap().stderr).unwrap();
    assert!(
        said.contains("the user no-such-user cannot be found"),
        "{said}"
    );
}
