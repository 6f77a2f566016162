//! Which gateway a command asks, and what lets it in.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use crate::config::Places;
use crate::error::Error;
use crate::front::{Gateway, GatewayUrl};
use crate::gateway::{self, At};

/// Where a gateway is that nothing is known of.
const DEFAULT: &str = "http://127.0.0.1:8888";

/// Which gateway, and how to answer.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// The gateway's address, or unix:PATH [default: the one that you run here, else http://127.0.0.1:8888]
    #[arg(long, env = "NB_GATEWAY_URL", value_name = "URL")]
    gateway: Option<String>,
    /// The Unix socket that the gateway listens on, instead of an address
    #[arg(long, value_name = "PATH", conflicts_with = "gateway")]
    sock: Option<PathBuf>,
    /// A file that holds the gateway's token [default: NB_TOKEN, else the token that nb serve keeps here]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// For programs: JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Access {
    pub(super) async fn open(&self) -> Result<Gateway, Error> {
        let Places { state, runtime, .. } = Places::from_env()?;
        let url = match (&self.sock, &self.gateway) {
            (Some(sock), _) => GatewayUrl::of_sock(sock.clone()),
            (None, Some(url)) => GatewayUrl::parse(url)?,
            (None, None) => running(&runtime).await?,
        };
        with_token(url, self.token_file.as_deref(), &state)
    }
}

/// The gateway at this address, with the token of the file, else of NB_TOKEN, else the one kept here.
pub(super) fn named(url: &str, token_file: Option<&Path>) -> Result<Gateway, Error> {
    let url = GatewayUrl::parse(url)?;
    with_token(url, token_file, &Places::from_env()?.state)
}

fn with_token(url: GatewayUrl, token_file: Option<&Path>, state: &Path) -> Result<Gateway, Error> {
    let variable = env::var("NB_TOKEN").ok();
    let (token, _) = gateway::find_token(token_file, variable.as_deref(), state)?;
    Gateway::new(url, Some(token.reveal()))
}

/// The one gateway whose sockets are in this folder, or in one below it as those of `nb up` are.
async fn running(runtime: &Path) -> Result<GatewayUrl, Error> {
    let below = fs::read_dir(runtime).into_iter().flatten().flatten();
    let mut folders: Vec<_> = below.map(|entry| entry.path()).collect();
    folders.push(runtime.to_owned());
    let found = join_all(folders.iter().map(|folder| gateway::running(folder))).await;
    match found.concat().as_slice() {
        [] => GatewayUrl::parse(DEFAULT),
        [At::Unix(sock)] => Ok(GatewayUrl::of_sock(sock.clone())),
        [at] => GatewayUrl::parse(&at.url()),
        several => {
            let several: Vec<_> = several.iter().map(At::to_string).collect();
            Err(Error::user(format!(
                "you run several gateways here: {}; say which with --gateway or --sock",
                several.join(", ")
            )))
        }
    }
}
