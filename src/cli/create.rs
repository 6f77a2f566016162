//! `nb create|list|open|stop|delete`: notebook servers with names. Thin: what one is belongs to `create`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::progress::Progress;
use super::up::{Listens, folder};
use super::{output, runtime, stop, workspace};
use crate::config::Places;
use crate::create::{Local, Record, State};
use crate::env::workspace::{Asked, Workspace, Workspaces};
use crate::error::Error;
use crate::table::table;

/// Makes a notebook server that runs in the background: JupyterLab, its gateway, and a workspace if one is named
///
/// Waits until Lab answers and prints its address. One that is stopped is started again as it was; `nb up` is the same in the foreground.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    name: String,
    /// The workspace with the notebooks: one that there is, or the repository that it is made of
    #[arg(long, value_name = "NAME|URL", conflicts_with = "root")]
    workspace: Option<String>,
    /// The folder with the notebooks [default: the current one]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    #[command(flatten)]
    listens: Listens,
    /// A file that holds the token for Lab and the gateway [default: one that is generated and kept]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Lists the notebook servers of this machine
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// For programs: JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints the address of a notebook server, and opens it where there is a browser
#[derive(Debug, clap::Args)]
pub(super) struct Open {
    name: String,
    /// Only prints it
    #[arg(long)]
    no_browser: bool,
}

/// Ends a notebook server and its kernels; `nb create` starts it again
#[derive(Debug, clap::Args)]
pub(super) struct Stop {
    name: String,
}

/// Forgets a notebook server; its notebooks and its workspace stay
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    name: String,
    /// Also one that runs
    #[arg(long)]
    force: bool,
}

impl Create {
    pub(super) fn run(&self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let local = Local::new(places.clone());
        let known = local.record(&self.name);
        if known.is_some()
            && let (record, state) = local.find(&self.name)?
            && state != State::Stopped
        {
            return Err(Error::user(format!(
                "{} runs already, in {}: `nb open {0}` tells where, `nb stop {0}` ends it",
                self.name,
                record.root.display()
            )));
        }
        let (workspace, root) = match (&self.workspace, &self.root, &known) {
            (Some(asked), ..) => {
                let workspace = self.found_or_made(asked, &Workspaces::new(&places.data))?;
                (Some(workspace.name), workspace.path)
            }
            (None, Some(root), _) => (None, folder(root)?),
            (None, None, Some(before)) => (before.workspace.clone(), folder(&before.root)?),
            (None, None, None) => (None, folder(".".as_ref())?),
        };
        let token_file = match &self.token_file {
            Some(file) => Some(
                std::path::absolute(file)
                    .map_err(|error| Error::user(format!("{}: {error}", file.display())))?,
            ),
            None => known.as_ref().and_then(|before| before.token_file.clone()),
        };
        let record = Record {
            name: self.name.clone(),
            ip: self.listens.ip,
            port: self.listens.port,
            root,
            workspace,
            token_file,
            made: known.map_or_else(Timestamp::now, |before| before.made),
            process: None,
            lab: None,
            gateway: None,
        };
        let url = start(&local, record)?;
        match self.json {
            true => output::json(&json!({"name": self.name, "url": url})),
            false => output::line(&url),
        }
    }

    /// A name is one that there is, an address is a repository.
    fn found_or_made(&self, asked: &str, workspaces: &Workspaces) -> Result<Workspace, Error> {
        match workspaces.find(asked) {
            Err(_) if asked.contains(['/', ':']) => workspace::make(
                workspaces,
                &Asked {
                    url: asked,
                    name: None,
                    reference: None,
                    paths: &[],
                },
            ),
            found => found,
        }
    }
}

fn start(local: &Local, record: Record) -> Result<String, Error> {
    let progress = Progress::new();
    let started = runtime()?.block_on(async {
        let mut stop = stop::Stop::new()?;
        tokio::select! {
            started = local.start(record, &progress) => started,
            never = progress.animate() => match never {},
            () = stop.asked() => Err(Error::user("ended before it was there; nothing of it runs")),
        }
    });
    progress.clear();
    started
}

impl List {
    pub(super) fn run(&self) -> Result<(), Error> {
        let all = Local::new(Places::from_env()?).list()?;
        if self.json {
            let shown: Vec<Value> = all
                .iter()
                .map(|(record, state)| shown(record, *state))
                .collect();
            return output::json(&json!(shown));
        }
        let rows: Vec<_> = all
            .iter()
            .map(|(record, state)| {
                let address = record.lab.filter(|_| *state == State::Running);
                [
                    record.name.clone(),
                    word(*state).to_owned(),
                    address.map_or_else(|| "-".to_owned(), |lab| format!("http://{lab}/lab")),
                    record.workspace.clone().unwrap_or_else(|| "-".to_owned()),
                    record.root.display().to_string(),
                ]
            })
            .collect();
        output::text(&table(
            ["name", "state", "address", "workspace", "folder"],
            &rows,
        ))
    }
}

fn shown(record: &Record, state: State) -> Value {
    let runs = state == State::Running;
    json!({
        "name": record.name,
        "state": state,
        "address": record.lab.filter(|_| runs).map(|lab| format!("http://{lab}/lab")),
        "gateway": record.gateway.filter(|_| runs).map(|gateway| format!("http://{gateway}")),
        "workspace": record.workspace,
        "root": record.root,
        "made": record.made,
    })
}

fn word(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::Starting => "starting",
        State::Running => "running",
    }
}

impl Open {
    pub(super) fn run(&self) -> Result<(), Error> {
        let local = Local::new(Places::from_env()?);
        let (record, state) = local.find(&self.name)?;
        let url = local.url(&record)?.filter(|_| state == State::Running);
        let Some(url) = url else {
            return Err(Error::user(format!(
                "{} is {}: `nb create {0}` starts it",
                self.name,
                word(state)
            )));
        };
        output::line(&url)?;
        let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some());
        if !self.no_browser && has_screen {
            // Whether there is a browser is its own to say; the address is printed.
            let opened = Command::new("xdg-open")
                .arg(local.page(&record, &url)?)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            tracing::debug!(?opened, "a browser");
        }
        Ok(())
    }
}

impl Stop {
    pub(super) fn run(&self) -> Result<(), Error> {
        let local = Local::new(Places::from_env()?);
        let (record, state) = local.find(&self.name)?;
        if state == State::Stopped {
            return output::line(&format!("{} is stopped", self.name));
        }
        end(&local, &record)?;
        output::line(&format!("stopped {}", self.name))
    }
}

impl Delete {
    pub(super) fn run(&self) -> Result<(), Error> {
        let local = Local::new(Places::from_env()?);
        let (record, state) = local.find(&self.name)?;
        if state != State::Stopped {
            if !self.force {
                return Err(Error::user(format!(
                    "{} runs: `nb stop {0}` ends it and its kernels, or --force",
                    self.name
                )));
            }
            end(&local, &record)?;
        }
        local.delete(&record)?;
        output::line(&format!(
            "deleted {}; its notebooks are in {}",
            self.name,
            record.root.display()
        ))
    }
}

fn end(local: &Local, record: &Record) -> Result<(), Error> {
    let progress = Progress::new();
    let what = format!("ending {} and its kernels", record.name);
    progress.begin(&what);
    let ended = runtime()?.block_on(async {
        tokio::select! {
            ended = local.stop(record) => ended,
            never = progress.animate() => match never {},
        }
    });
    progress.end(&what);
    ended
}
