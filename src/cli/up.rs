//! `nb up`: everything from nothing to a JupyterLab on a gateway, and its end.
//!
//! The order of events only; what each of them is belongs to the modules below and to `env`.

mod child;
mod http;
mod servers;
mod slot;

use std::ffi::OsString;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use self::servers::{Lab, Servers, Token};
use self::slot::Slot;
use super::progress::Progress;
use super::stop::Stop;
use crate::config::{self, OnStop, Places};
use crate::env::release::{Recipe, Releases};
use crate::env::{Environment, Uv, install_companion};
use crate::error::Error;
use crate::gateway;

/// Sets everything up and runs a gateway with a JupyterLab on it: start here
///
/// Needs Python 3.11 or newer. The first run makes Python environments; later ones find them. Prints one
/// address when Lab answers. Ctrl-C ends Lab, the gateway and its kernels; with NB_SERVER_ON_STOP=keep kernels live on.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// The address that JupyterLab listens on; the gateway always listens on this machine only
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// JupyterLab's port; a free one if it is taken
    #[arg(long, default_value_t = 8888)]
    port: u16,
    /// The folder with the notebooks [default: the current one]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// A file that holds the token for Lab and the gateway [default: NB_TOKEN, else one that is generated and kept]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Accepted for habit's sake: a browser is never opened
    #[arg(long)]
    no_browser: bool,
    /// How `up` starts its children, so that they end with it
    #[arg(long, hide = true, requires = "program")]
    child_of: Option<u32>,
    #[arg(last = true, hide = true, requires = "child_of")]
    program: Vec<OsString>,
}

impl Up {
    /// Runs until it is done.
    pub(super) fn run(self) -> Result<(), Error> {
        if let Some(parent) = self.child_of {
            return Err(child::become_program(parent, &self.program));
        }
        let runtime = super::runtime()?;
        runtime.block_on(self.set_up_and_run())
    }

    async fn set_up_and_run(self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let root = self.root.clone().unwrap_or_else(|| PathBuf::from("."));
        let root = match root.canonicalize() {
            Ok(folder) if folder.is_dir() => folder,
            _ => {
                return Err(Error::user(format!(
                    "there is no folder {}",
                    root.display()
                )));
            }
        };
        let on_stop = on_stop()?;
        let slot = Slot::take(&places)?;
        let token = self.token(&places)?;
        let mut stop = Stop::new()?;
        let progress = Progress::new();
        let mut servers = Servers::default();

        let running = self.bring_up(&mut servers, &places, &root, &slot, &token, &progress);
        let outcome = tokio::select! {
            Err(error) = running => Err(error),
            never = progress.animate() => match never {},
            () = stop.asked() => Ok(()),
        };
        progress.clear();
        if outcome.is_ok() && servers.any() {
            progress.line(match on_stop {
                OnStop::End => "ending JupyterLab, the kernels and the gateway",
                OnStop::Keep => "ending JupyterLab and the gateway; kernels live on, the next `nb up` finds them",
            });
        }
        let ended = tokio::select! {
            ended = servers.end(&token.text, on_stop) => ended,
            // Asked again: whoever is left is killed when dropped.
            () = stop.asked() => Ok(()),
        };
        outcome.and(ended)
    }

    fn token(&self, places: &Places) -> Result<Token, Error> {
        let variable = std::env::var("NB_TOKEN").ok();
        let given = self.token_file.as_deref();
        let (token, kept) = gateway::find_token(given, variable.as_deref(), &places.state)?;
        let kept = kept.then(|| places.state.join("token"));
        Ok(Token {
            text: token.reveal().to_owned(),
            file: self.token_file.clone().or(kept),
        })
    }

    /// Sets up, starts, tells the address; ends only with an error.
    async fn bring_up(
        &self,
        servers: &mut Servers,
        places: &Places,
        root: &std::path::Path,
        slot: &Slot,
        token: &Token,
        progress: &Progress,
    ) -> Result<(), Error> {
        let lab = Environment::lab(&places.data);
        make(&lab, places, progress).await?;
        install_companion(&lab)?;

        let start = "starting the gateway";
        let address = step(progress, start, servers.start_gateway(slot, token, root)).await?;
        let python = lab.python();
        let lab = Lab {
            python: &python,
            ip: self.ip,
            port: self.port,
            root,
        };
        let start = "starting JupyterLab";
        let port = step(
            progress,
            start,
            servers.start_lab(&lab, address, slot, token),
        )
        .await?;
        if port != self.port && self.port != 0 {
            progress.line(&format!("port {} is taken", self.port));
        }
        progress.line(&format!(
            "the gateway is http://{address}, with the same token"
        ));
        progress.line("JupyterLab is ready; Ctrl-C ends it, the gateway and the kernels");
        let address = SocketAddr::from((servers::asked_at(self.ip), port));
        tell(&format!(
            "http://{address}/lab?token={}",
            http::escaped(&token.text)
        ));
        Err(servers.died().await)
    }
}

/// What becomes of kernels: they end unless the settings say otherwise.
fn on_stop() -> Result<OnStop, Error> {
    let layers = config::load()?;
    match layers.say("server.on_stop") {
        true => Ok(layers.settle()?.settings.server.on_stop),
        false => Ok(OnStop::End),
    }
}

/// Makes what is not there, side by side: Lab's environment, and a release of PyCX for kernels.
async fn make(lab: &Environment, places: &Places, progress: &Progress) -> Result<(), Error> {
    let pycx = Releases::pycx(&places.data);
    let has_pycx = pycx.current().is_some();
    if lab.is_ready() && has_pycx {
        return Ok(());
    }
    progress.line("the first run sets things up, which takes a minute or two");
    let find = "looking for uv";
    let uv = step(
        progress,
        find,
        Uv::find(&places.data, &|line| progress.detail(find, line)),
    )
    .await?;
    let make_lab = async {
        if lab.is_ready() {
            return Ok(());
        }
        let what = format!("making {}", lab.title());
        let say = |line: &str| progress.detail(&what, line);
        step(progress, &what, lab.make(&uv, &say)).await
    };
    let make_pycx = async {
        if has_pycx {
            return Ok(());
        }
        let what = "making PyCX, the Python of kernels";
        let say = |line: &str| progress.detail(what, line);
        let recipe = Recipe::pycx()?;
        step(progress, what, pycx.build(&recipe, &uv, &say)).await?;
        Ok(())
    };
    futures_util::future::try_join(make_lab, make_pycx).await?;
    Ok(())
}

async fn step<T>(
    progress: &Progress,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    progress.begin(what);
    let done = work.await?;
    progress.end(what);
    Ok(done)
}

/// The one line on stdout.
#[expect(
    clippy::print_stdout,
    reason = "the address is what the command prints"
)]
fn tell(address: &str) {
    println!("{address}");
}
