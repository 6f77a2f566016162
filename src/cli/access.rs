//! Which gateway a command asks, and what lets it in.

use std::env;
use std::path::PathBuf;

use crate::config::Places;
use crate::error::Error;
use crate::front::{Gateway, GatewayUrl};
use crate::gateway;

/// Which gateway, and how to answer.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// The gateway's address, or unix:PATH
    #[arg(
        long,
        env = "NB_GATEWAY_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8888"
    )]
    gateway: String,
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
    pub(super) fn open(&self) -> Result<Gateway, Error> {
        let url = match &self.sock {
            Some(sock) => GatewayUrl::of_sock(sock.clone()),
            None => GatewayUrl::parse(&self.gateway)?,
        };
        let state = Places::from_env()?.state;
        let variable = env::var("NB_TOKEN").ok();
        let file = self.token_file.as_deref();
        let (token, _) = gateway::find_token(file, variable.as_deref(), &state)?;
        Gateway::new(url, Some(token.reveal()))
    }
}
