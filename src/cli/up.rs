//! `nb up`: everything from nothing to a JupyterLab on a gateway, and its end. Thin: what that is belongs to `create`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use super::output;
use super::progress::Progress;
use super::stop::Stop;
use crate::config::Places;
use crate::create::{Asked, Local, Ready, Server, Slot, become_program};
use crate::error::Error;

/// Sets everything up and runs a gateway with a JupyterLab on it: start here
///
/// Needs Python 3.11 or newer. The first run makes Python environments; later ones find them. Prints one
/// address when Lab answers. Ctrl-C ends Lab, the gateway and its kernels; with NB_SERVER_ON_STOP=keep kernels live on.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    #[command(flatten)]
    pub(super) listens: Listens,
    /// The folder with the notebooks [default: the current one]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// A file that holds the token for Lab and the gateway [default: NB_TOKEN, else one that is generated and kept]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Accepted for habit's sake: a browser is never opened
    #[arg(long)]
    no_browser: bool,
    /// What `nb create` starts: the server of this name
    #[arg(long, hide = true)]
    named: Option<String>,
    /// How `up` starts its children, so that they end with it
    #[arg(long, hide = true, requires = "program")]
    child_of: Option<u32>,
    #[arg(last = true, hide = true, requires = "child_of")]
    program: Vec<OsString>,
}

/// Where JupyterLab listens.
#[derive(Debug, clap::Args)]
pub(super) struct Listens {
    /// The address that JupyterLab listens on; the gateway always listens on this machine only
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) ip: IpAddr,
    /// JupyterLab's port; a free one if it is taken
    #[arg(long, default_value_t = 8888)]
    pub(super) port: u16,
}

impl Up {
    /// Runs until it is done.
    pub(super) fn run(self) -> Result<(), Error> {
        if let Some(parent) = self.child_of {
            return Err(become_program(parent, &self.program));
        }
        let runtime = super::runtime()?;
        runtime.block_on(self.set_up_and_run())
    }

    async fn set_up_and_run(self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let local = Local::new(places.clone());
        let (asked, slot) = match &self.named {
            Some(name) => local.take(name).await?,
            None => (self.asked()?, Slot::take(&places)?),
        };
        let mut server = Server::new(asked, slot, places)?;
        let mut stop = Stop::new()?;
        let progress = Progress::new();
        let ready = |ready: &Ready| match &self.named {
            Some(name) => local.is_ready(name, ready),
            None => {
                progress.line(&format!(
                    "the gateway is http://{}, with the same token",
                    ready.gateway
                ));
                progress.line("JupyterLab is ready; Ctrl-C ends it, the gateway and the kernels");
                output::line(&ready.url)
            }
        };
        let outcome = tokio::select! {
            error = server.run(&progress, ready) => Err(error),
            never = progress.animate() => match never {},
            () = stop.asked() => Ok(()),
        };
        progress.clear();
        if outcome.is_ok() && server.runs() {
            progress.line(match server.keeps_kernels() {
                false => "ending JupyterLab, the kernels and the gateway",
                true => {
                    "ending JupyterLab and the gateway; kernels live on, the next start finds them"
                }
            });
        }
        let ended = tokio::select! {
            ended = server.end() => ended,
            // Asked again: whoever is left is killed when dropped.
            () = stop.asked() => Ok(()),
        };
        if let (Err(_), Err(also)) = (&outcome, &ended) {
            progress.line(&also.message);
        }
        outcome.and(ended)
    }

    fn asked(&self) -> Result<Asked, Error> {
        let root = self.root.clone().unwrap_or_else(|| PathBuf::from("."));
        Ok(Asked {
            ip: self.listens.ip,
            port: self.listens.port,
            root: folder(&root)?,
            token_file: self.token_file.clone(),
            token: std::env::var("NB_TOKEN").ok(),
        })
    }
}

/// A folder that is there, by its whole path.
pub(super) fn folder(path: &std::path::Path) -> Result<PathBuf, Error> {
    match path.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder),
        _ => Err(Error::user(format!(
            "there is no folder {}",
            path.display()
        ))),
    }
}
