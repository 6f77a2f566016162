//! Notebook servers with names on this machine: what is known of each, and the process behind it.
//!
//! ```text
//! <state>/servers/mine/   record.json  what it was asked to be, and where it is while it runs
//!                         lock         held by its process for life     log  what that says
//!                         changing     held by the command that starts or forgets it
//! ```
//!
//! A server is a process of its own that outlives the command that made it: `nb up --named NAME`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::child::OURSELVES;
use super::log::Log;
use super::server::{self, Asked};
use super::slot::{LOCK, Slot};
use super::{Ready, Shows};
use crate::config::{Places, private_folder};
use crate::env::lock::try_exclusive;
use crate::env::whole::replace;
use crate::error::Error;

/// A name is part of the path of a socket, which has a hundred bytes.
const NAME_BYTES_MAX: usize = 24;

/// A larger record is none of ours.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// How long the first start of a machine may take.
const START_WITHIN: Duration = Duration::from_mins(15);

/// How long one that was asked to end may take: its kernels have ten seconds of it.
const END_WITHIN: Duration = Duration::from_secs(30);

/// How long one that was killed may take.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// All of a user.
#[derive(Debug)]
pub struct Local {
    places: Places,
}

/// What one was asked to be, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub ip: IpAddr,
    pub port: u16,
    /// The folder with the notebooks.
    pub root: PathBuf,
    /// The workspace that this folder is.
    pub workspace: Option<String>,
    pub token_file: Option<PathBuf>,
    pub made: Timestamp,
    /// Of the process that runs, or ran last.
    #[serde(default)]
    pub process: Option<u32>,
    #[serde(default)]
    pub lab: Option<SocketAddr>,
    #[serde(default)]
    pub gateway: Option<SocketAddr>,
}

/// How one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Stopped,
    Starting,
    Running,
}

impl Local {
    pub fn new(places: Places) -> Self {
        Self { places }
    }

    /// All of them, by their names.
    pub fn list(&self) -> Result<Vec<(Record, State)>, Error> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.servers()).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str()
                && let Some(record) = self.record(name)
            {
                let state = self.state(&record)?;
                all.push((record, state));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Result<(Record, State), Error> {
        check(name)?;
        match self.record(name) {
            Some(record) => {
                let state = self.state(&record)?;
                Ok((record, state))
            }
            None => Err(Error::user(format!(
                "there is no notebook server {name}: `nb list` shows which there are, `nb create {name}` makes one"
            ))),
        }
    }

    /// What is known of this name, if anything is.
    pub fn record(&self, name: &str) -> Option<Record> {
        check(name).ok()?;
        let path = self.folder(name).join("record.json");
        let text = crate::plain_file::text(&path, RECORD_BYTES_MAX).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        // Its folder goes by its name.
        (record.name == name).then_some(record)
    }

    /// The address of Lab with its token, of one that runs.
    pub fn url(&self, record: &Record) -> Result<Option<String>, Error> {
        let token = asked(record).token(&self.places)?;
        Ok(record.lab.map(|lab| server::url(lab, &token.text)))
    }

    /// A page that leads to this address: a browser is given its file, so that no token is in an argument.
    pub fn page(&self, record: &Record, url: &str) -> Result<PathBuf, Error> {
        let page = self.folder(&record.name).join("open.html");
        let text = format!("<meta http-equiv=\"refresh\" content=\"0;url={url}\">\n");
        replace(&page, text.as_bytes())
            .map_err(|error| Error::user(format!("{}: {error}", page.display())))?;
        Ok(page)
    }

    /// Starts one in the background and waits until it answers. Dropped, or failed, nothing of it runs.
    pub async fn start(&self, mut record: Record, shows: &dyn Shows) -> Result<String, Error> {
        check(&record.name)?;
        private_folder(&self.servers())?;
        let folder = self.folder(&record.name);
        private_folder(&folder)?;
        let _changing = self.change(&record.name)?;
        if self.state(&record)? != State::Stopped {
            return Err(Error::user(format!("{} runs already", record.name)));
        }
        (record.process, record.lab, record.gateway) = (None, None, None);
        self.keep(&record)?;
        let log = folder.join("log");
        let failed =
            |error: io::Error| Error::nb(format!("{} could not be started: {error}", record.name));
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut process = Command::new(OURSELVES)
            .args(["up", "--named", &record.name])
            // It has the token of its own, or that of its file.
            .env_remove("NB_TOKEN")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(options.open(&log).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let mut ends = EndsUnlessKept(Some(&mut process));
        let ready = self.follow(&record.name, &log, &mut ends, shows).await?;
        ends.0 = None;
        self.url(&ready)?
            .ok_or_else(|| Error::nb("the server does not say where it is"))
    }

    /// Shows what the process says until it is there.
    async fn follow(
        &self,
        name: &str,
        log: &Path,
        process: &mut EndsUnlessKept<'_>,
        shows: &dyn Shows,
    ) -> Result<Record, Error> {
        let deadline = Instant::now() + START_WITHIN;
        let mut told = Log::new(log);
        loop {
            told.show(shows);
            if let Some(record) = self.record(name)
                && record.lab.is_some()
            {
                return Ok(record);
            }
            let ended = match &mut process.0 {
                Some(child) => child.try_wait().ok().flatten(),
                None => None,
            };
            if let Some(status) = ended {
                told.show(shows);
                return Err(Error::user(format!(
                    "{name} did not start ({status}); {}\nall that it said is in {}",
                    told.last(),
                    log.display()
                )));
            }
            if Instant::now() >= deadline {
                let seconds = START_WITHIN.as_secs();
                return Err(Error::user(format!(
                    "{name} was not there after {seconds} s; what it said is in {}",
                    log.display()
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks one that runs to end, and waits for that; one that does not is killed.
    pub async fn stop(&self, record: &Record) -> Result<(), Error> {
        let kill_at = Instant::now() + END_WITHIN;
        let mut told = None;
        while self.state(record)? != State::Stopped {
            let now = Instant::now();
            if now >= kill_at + KILLED_WITHIN {
                return Err(self.does_not_end(record));
            }
            let signal = match now < kill_at {
                true => Signal::TERM,
                false => Signal::KILL,
            };
            // It holds the lock, so it is the one that is written down, once it is.
            if let Some(pid) = self.process(&record.name)
                && told != Some((pid, signal))
            {
                let _gone = kill_process(pid, signal);
                told = Some((pid, signal));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn process(&self, name: &str) -> Option<Pid> {
        let process = self.record(name)?.process?;
        Pid::from_raw(i32::try_from(process).ok()?)
    }

    fn does_not_end(&self, record: &Record) -> Error {
        let lock = self.folder(&record.name).join(LOCK);
        let who = match self.process(&record.name) {
            Some(pid) => format!("its process {pid} was killed and is still there"),
            None => "it does not say which process it is".to_owned(),
        };
        Error::user(format!(
            "{} does not end: {who}. Whoever has {} open is it",
            record.name,
            lock.display()
        ))
    }

    /// Forgets one that is stopped. The folder of its notebooks stays.
    pub fn delete(&self, record: &Record) -> Result<(), Error> {
        let _changing = self.change(&record.name)?;
        if self.state(record)? != State::Stopped {
            return Err(Error::user(format!("{} runs again", record.name)));
        }
        // Kernels that were kept stay, and are found by one of this name.
        let runtime = self.runtime(&record.name);
        for empty in [runtime.join("kernels"), runtime.join("gateways"), runtime] {
            let _used_or_gone = fs::remove_dir(empty);
        }
        let folder = self.folder(&record.name);
        fs::remove_dir_all(&folder)
            .map_err(|error| Error::user(format!("{}: {error}", folder.display())))
    }

    /// What the process behind this name is to be, and the folders that are its own from now on.
    pub async fn take(&self, name: &str) -> Result<(Asked, Slot), Error> {
        let (mut record, _) = self.find(name)?;
        let Some(slot) = Slot::at(self.folder(name), self.runtime(name), &self.places).await?
        else {
            return Err(Error::user(format!("{name} runs already")));
        };
        // No terminal that is closed is its own.
        let _is_leader_already = rustix::process::setsid();
        record.process = Some(std::process::id());
        self.keep(&record)?;
        Ok((asked(&record), slot))
    }

    /// The process behind this name tells where it is.
    pub fn is_ready(&self, name: &str, ready: &Ready) -> Result<(), Error> {
        let (mut record, _) = self.find(name)?;
        (record.lab, record.gateway) = (Some(ready.lab), Some(ready.gateway));
        self.keep(&record)
    }

    fn state(&self, record: &Record) -> Result<State, Error> {
        let lock = self.folder(&record.name).join(LOCK);
        Ok(match lock.exists() && try_exclusive(&lock)?.is_none() {
            false => State::Stopped,
            true if record.lab.is_some() => State::Running,
            true => State::Starting,
        })
    }

    /// As long as it lives no other command starts or forgets this one.
    fn change(&self, name: &str) -> Result<File, Error> {
        let held = try_exclusive(&self.folder(name).join("changing"))?;
        held.ok_or_else(|| {
            Error::user(format!(
                "another nb starts or forgets {name} just now: `nb list` shows what becomes of it"
            ))
        })
    }

    fn keep(&self, record: &Record) -> Result<(), Error> {
        let folder = self.folder(&record.name);
        let unusable = |error: io::Error| Error::user(format!("{}: {error}", folder.display()));
        let text = serde_json::to_vec(record).map_err(|error| unusable(error.into()))?;
        replace(&folder.join("record.json"), &text).map_err(unusable)
    }

    fn servers(&self) -> PathBuf {
        self.places.state.join("servers")
    }

    fn runtime(&self, name: &str) -> PathBuf {
        self.places.runtime.join("servers").join(name)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.servers().join(name)
    }
}

fn asked(record: &Record) -> Asked {
    Asked {
        ip: record.ip,
        port: record.port,
        root: record.root.clone(),
        token_file: record.token_file.clone(),
        token: None,
    }
}

/// Whether a folder can be called so, and a socket's path has room for it.
fn check(name: &str) -> Result<(), Error> {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(is_usual)
        && !name.starts_with(['.', '-']);
    match is_name {
        true => Ok(()),
        false => Err(Error::user(format!(
            "{name:?} is no name for a notebook server: up to {NAME_BYTES_MAX} letters, digits and `._-`"
        ))),
    }
}

/// A process that is asked to end when nobody has it any more.
struct EndsUnlessKept<'a>(Option<&'a mut Child>);

impl Drop for EndsUnlessKept<'_> {
    fn drop(&mut self) {
        let pid = self.0.as_ref().and_then(|process| process.id());
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _gone = kill_process(pid, Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(root: &Path) -> Local {
        Local::new(Places {
            runtime: root.join("run"),
            state: root.join("state"),
            data: root.join("data"),
        })
    }

    fn record(name: &str) -> Record {
        Record {
            name: name.to_owned(),
            ip: IpAddr::from([127, 0, 0, 1]),
            port: 8888,
            root: PathBuf::from("/w"),
            workspace: None,
            token_file: None,
            made: Timestamp::UNIX_EPOCH,
            process: None,
            lab: None,
            gateway: None,
        }
    }

    #[tokio::test]
    async fn one_runs_as_long_as_its_process_has_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let local = local(root.path());
        assert!(
            local
                .find("mine")
                .unwrap_err()
                .message
                .contains("nb create mine")
        );
        private_folder(&local.servers()).unwrap();
        private_folder(&local.folder("mine")).unwrap();
        local.keep(&record("mine")).unwrap();
        assert_eq!(local.find("mine").unwrap().1, State::Stopped);
        let (asked, slot) = local.take("mine").await.unwrap();
        assert_eq!((asked.port, asked.root), (8888, PathBuf::from("/w")));
        assert!(
            local
                .take("mine")
                .await
                .unwrap_err()
                .message
                .contains("runs already")
        );
        assert_eq!(local.find("mine").unwrap().1, State::Starting);
        let ready = Ready {
            lab: "127.0.0.1:8889".parse().unwrap(),
            gateway: "127.0.0.1:1".parse().unwrap(),
            url: String::new(),
        };
        local.is_ready("mine", &ready).unwrap();
        let (found, state) = local.list().unwrap().pop().unwrap();
        assert_eq!((found.lab, state), (Some(ready.lab), State::Running));
        let url = local.url(&found).unwrap().unwrap();
        assert!(url.starts_with("http://127.0.0.1:8889/lab?token="), "{url}");
        drop(slot);
        assert_eq!(local.find("mine").unwrap().1, State::Stopped);
        local.delete(&found).unwrap();
        assert!(local.list().unwrap().is_empty());
    }

    fn put(local: &Local, record: &Record) {
        private_folder(&local.servers()).unwrap();
        private_folder(&local.folder(&record.name)).unwrap();
        local.keep(record).unwrap();
    }

    fn lock(local: &Local, name: &str) -> File {
        let lock = try_exclusive(&local.folder(name).join(LOCK)).unwrap();
        lock.expect("nobody has it")
    }

    #[tokio::test]
    async fn who_looks_at_one_does_not_keep_it_from_starting() {
        let root = tempfile::tempdir().unwrap();
        let local = local(root.path());
        put(&local, &record("mine"));
        let looks = lock(&local, "mine");
        let (taken, ()) = tokio::join!(local.take("mine"), async { drop(looks) });
        taken.unwrap();
    }

    #[tokio::test]
    async fn two_commands_do_not_change_one_at_once() {
        let root = tempfile::tempdir().unwrap();
        let local = local(root.path());
        let first = record("mine");
        put(&local, &first);
        let second = Record {
            port: 1,
            ..first.clone()
        };
        let starts = local.change("mine").unwrap();
        for refused in [
            local.start(second.clone(), &Nobody).await.unwrap_err(),
            local.delete(&second).unwrap_err(),
        ] {
            assert!(refused.message.contains("another nb"), "{refused}");
        }
        drop(starts);
        let _runs = lock(&local, "mine");
        for refused in [
            local.start(second.clone(), &Nobody).await.unwrap_err(),
            local.delete(&second).unwrap_err(),
        ] {
            assert!(refused.message.contains("mine runs"), "{refused}");
        }
        assert_eq!(local.record("mine"), Some(first));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_an_end() {
        let root = tempfile::tempdir().unwrap();
        let local = local(root.path());
        put(&local, &record("mine"));
        // Somebody who does not say who it is.
        let _holds = lock(&local, "mine");
        let late = local.stop(&record("mine")).await.unwrap_err();
        assert!(late.message.contains("does not end"), "{late}");
    }

    #[test]
    fn a_record_is_of_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let local = local(root.path());
        put(&local, &record("mine"));
        let other = Record {
            name: "../mine".to_owned(),
            ..record("mine")
        };
        let text = serde_json::to_vec(&other).unwrap();
        fs::write(local.folder("mine").join("record.json"), text).unwrap();
        assert_eq!(local.record("mine"), None);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["", ".", "..", "a/b", "-x", ".hidden", &"x".repeat(25), "é"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        check("My_server-1.x").unwrap();
    }

    struct Nobody;

    impl Shows for Nobody {
        fn begin(&self, _: &str) {}
        fn detail(&self, _: &str, _: &str) {}
        fn end(&self, _: &str) {}
        fn line(&self, _: &str) {}
    }
}
