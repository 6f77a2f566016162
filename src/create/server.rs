//! A notebook server in this process: what it needs is made, its programs are started, and ended when it ends.
//!
//! The order of events only; what each of them is belongs to the modules beside it and to `env`.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Shows;
use super::gateway::Gateway;
use super::lab::{self, Lab};
use super::servers::Servers;
use super::slot::Slot;
use super::token::Token;
use crate::config::{self, OnStop, Places};
use crate::env::release::{Recipe, Releases};
use crate::env::{Environment, Uv, install_companion};
use crate::error::Error;
use crate::redact::percent_encoded;

/// What one is asked to be.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where Lab listens; the gateway listens on this machine only.
    pub ip: IpAddr,
    /// A free one is taken if it is not.
    pub port: u16,
    /// The folder with the notebooks.
    pub root: PathBuf,
    /// The token's; one that is kept when absent, or the variable's.
    pub token_file: Option<PathBuf>,
    /// `NB_TOKEN`, if it is to count.
    pub token: Option<String>,
}

impl Asked {
    pub(super) fn token(&self, places: &Places) -> Result<Token, Error> {
        let (file, given) = (self.token_file.as_deref(), self.token.as_deref());
        Token::find(file, given, &places.state)
    }
}

/// Where it is once it answers.
#[derive(Clone, Debug)]
pub struct Ready {
    pub lab: SocketAddr,
    pub gateway: SocketAddr,
    /// Of Lab, with the token.
    pub url: String,
}

/// One of them.
#[derive(Debug)]
pub struct Server {
    asked: Asked,
    places: Places,
    slot: Slot,
    token: Token,
    on_stop: OnStop,
    servers: Servers,
}

impl Server {
    /// One in these folders; nothing runs yet.
    pub fn new(asked: Asked, slot: Slot, places: Places) -> Result<Self, Error> {
        let token = asked.token(&places)?;
        Ok(Self {
            on_stop: on_stop()?,
            asked,
            places,
            slot,
            token,
            servers: Servers::default(),
        })
    }

    /// Sets up, starts, and tells where it is; ends only with an error.
    pub async fn run(
        &mut self,
        shows: &dyn Shows,
        ready: impl FnOnce(&Ready) -> Result<(), Error>,
    ) -> Error {
        match self.bring_up(shows).await {
            Ok(at) => match ready(&at) {
                Ok(()) => self.keep(shows).await,
                Err(error) => error,
            },
            Err(error) => error,
        }
    }

    /// Whether there is anything to end.
    pub fn runs(&self) -> bool {
        self.servers.any()
    }

    /// Whether kernels live on when it ends.
    pub fn keeps_kernels(&self) -> bool {
        self.on_stop == OnStop::Keep
    }

    /// Ends Lab, kernels and gateway.
    pub async fn end(&mut self) -> Result<(), Error> {
        self.servers.end(&self.token.text, self.on_stop).await
    }

    async fn keep(&mut self, shows: &dyn Shows) -> Error {
        let (slot, token, root) = (&self.slot, &self.token, &self.asked.root);
        let python = Environment::lab(&self.places.data).python();
        let gateway = async |at: SocketAddr| Gateway::start(at.port(), slot, token, root).await;
        let lab = async |gateway, port| {
            let wanted = lab::Asked {
                python: &python,
                ip: self.asked.ip,
                port,
                root,
            };
            match Lab::start(&wanted, gateway, slot, token).await {
                // Its pages and whoever has its address would not find it.
                Ok(elsewhere) if elsewhere.port != port => {
                    Err(Error::user(format!("JupyterLab's port {port} is taken")))
                }
                started => started,
            }
        };
        self.servers.keep(&token.text, shows, gateway, lab).await
    }

    async fn bring_up(&mut self, shows: &dyn Shows) -> Result<Ready, Error> {
        let lab = Environment::lab(&self.places.data);
        make(&lab, &self.places, shows).await?;
        install_companion(&lab)?;

        let (slot, token, asked) = (&self.slot, &self.token, &self.asked);
        let starting = Gateway::start(0, slot, token, &asked.root);
        let started = step(shows, "starting the gateway", starting).await?;
        let gateway = self.servers.gateway.insert(started).address;
        let python = lab.python();
        let wanted = lab::Asked {
            python: &python,
            ip: asked.ip,
            port: asked.port,
            root: &asked.root,
        };
        let starting = Lab::start(&wanted, gateway, slot, token);
        let started = step(shows, "starting JupyterLab", starting).await?;
        let port = self.servers.lab.insert(started).port;
        if port != asked.port && asked.port != 0 {
            shows.line(&format!("port {} is taken", asked.port));
        }
        let lab = SocketAddr::from((lab::asked_at(asked.ip), port));
        Ok(Ready {
            lab,
            gateway,
            url: url(lab, &token.text),
        })
    }
}

/// The address of a Lab.
pub(super) fn url(lab: SocketAddr, token: &str) -> String {
    format!("http://{lab}/lab?token={}", percent_encoded(token))
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
async fn make(lab: &Environment, places: &Places, shows: &dyn Shows) -> Result<(), Error> {
    let pycx = Releases::pycx(&places.data);
    let has_pycx = pycx.current().is_some();
    if lab.is_ready() && has_pycx {
        return Ok(());
    }
    shows.line("the first run sets things up, which takes a minute or two");
    let find = "looking for uv";
    let say = |line: &str| shows.detail(find, line);
    let uv = step(shows, find, Uv::find(&places.data, &say)).await?;
    let make_lab = async {
        if lab.is_ready() {
            return Ok(());
        }
        let what = format!("making {}", lab.title());
        let say = |line: &str| shows.detail(&what, line);
        step(shows, &what, lab.make(&uv, &say)).await
    };
    let make_pycx = async {
        if has_pycx {
            return Ok(());
        }
        let what = "making PyCX, the Python of kernels";
        let say = |line: &str| shows.detail(what, line);
        let recipe = Recipe::pycx()?;
        step(shows, what, pycx.build(&recipe, &uv, &say)).await?;
        Ok(())
    };
    futures_util::future::try_join(make_lab, make_pycx).await?;
    Ok(())
}

async fn step<T>(
    shows: &dyn Shows,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    shows.begin(what);
    let done = work.await?;
    shows.end(what);
    Ok(done)
}
