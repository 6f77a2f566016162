//! The HTTP front that clients see: routes, identity, errors, the handover of WebSockets.
//!
//! ```text
//! server -> log -> auth -> routes -> fleet, notebooks -> the kernels' supervisors
//!                             └----> handshake -> handover
//! ```
//!
//! It keeps nothing that a client could miss: kernels, sessions and messages are with the
//! supervisors, so it can be killed, replaced and run twice.

mod auth;
mod error;
mod extract;
mod fleet;
mod handover;
mod handshake;
mod models;
mod notebooks;
mod query;
mod routes;
mod server;
mod specs;
mod start;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;

pub use auth::Token;
pub use handover::Handover;
pub use token::find as find_token;

use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::launch::Launcher;
use crate::kernels::registry::Registry;

/// What a gateway is made of.
#[derive(Debug)]
pub struct Settings {
    pub token: Token,
    /// The user that the token stands for.
    pub user: String,
    pub registry: Registry,
    pub launcher: Launcher,
    pub specs: SearchPath,
    /// The Python of the default environment; it may not exist yet.
    pub default_python: PathBuf,
    /// What paths of clients are below of, and where kernels work unless asked otherwise.
    pub root: PathBuf,
    pub home: PathBuf,
    pub handover: Handover,
    /// How long a listing waits for one supervisor before it is shown as it last was.
    pub list_deadline: Duration,
    /// The environment that kernels inherit, before anything is withheld from them.
    pub environment: Vec<(OsString, OsString)>,
}

/// What all requests share.
struct Gateway {
    token: Token,
    user: Arc<str>,
    registry: Registry,
    launcher: Launcher,
    planner: start::Planner,
    handover: Handover,
    list_deadline: Duration,
    turns: notebooks::Turns,
    started: Timestamp,
}

impl Gateway {
    fn new(settings: Settings) -> Self {
        let inherited: BTreeMap<_, _> = start::inherited(settings.environment);
        Self {
            token: settings.token,
            user: settings.user.as_str().into(),
            registry: settings.registry,
            launcher: settings.launcher,
            planner: start::Planner {
                catalog: specs::Catalog::new(settings.specs, settings.default_python),
                root: settings.root,
                home: settings.home,
                inherited,
                owner: settings.user,
            },
            handover: settings.handover,
            list_deadline: settings.list_deadline,
            turns: notebooks::Turns::default(),
            started: Timestamp::now(),
        }
    }
}

/// Serves on `listener` until it is dropped.
pub async fn serve(listener: TcpListener, settings: Settings) {
    let gateway = Arc::new(Gateway::new(settings));
    server::serve(listener, routes::router(&gateway)).await;
}
