//! The HTTP front that clients see: routes, identity, errors, the handover of WebSockets.
//!
//! ```text
//! server -> log -> auth -> routes -> fleet, notebooks -> the kernels' supervisors
//!                             └----> handshake -> handover
//! ```
//!
//! It keeps nothing that a client could miss: kernels, sessions and messages are with the
//! supervisors, so it can be killed, replaced and run twice.
//!
//! When it is told to end it takes no more connections, ends those that carry spliced bytes, and
//! gives requests some time. Connections that were handed over are not its own. When another gateway takes it
//! over, it ends likewise, and what is under way may take as long as it takes.

mod activation;
mod audit;
mod auth;
mod drain;
mod error;
mod extract;
mod fleet;
mod handover;
mod handshake;
mod identity;
mod listen;
mod listing;
mod metrics;
mod models;
mod notebooks;
mod origin;
mod path_token;
pub mod query;
mod routes;
mod server;
mod start;
mod stop;
mod takeover;
#[cfg(test)]
mod tests;
mod token;
mod tokens;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

pub use activation::passed_sockets;
pub use listen::{At, Listener, Sock};
pub use takeover::{Door, Taken, Takeover, running, take_over};
pub use token::{Token, find as find_token};
pub use tokens::{NamedToken, TokenFile};

use crate::config::{self, OnStop};
use crate::error::Error;
use crate::kernels::adopter;
use crate::kernels::catalog::Catalog;
use crate::kernels::contract::Kernel;
use crate::kernels::environment;
use crate::kernels::journals;
use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::launch::Launcher;
use crate::kernels::plan;
use crate::kernels::registry::Registry;
use crate::kernels::shared_memory;

/// How long it may take then to undo the starts that were cut off.
const UNDO_WITHIN: Duration = Duration::from_secs(3);

/// How long a connection without a request may take to send one when another gateway goes on.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one that was taken over may take beyond the longest start.
const TAKEN_GRACE: Duration = Duration::from_secs(30);

/// How often it is looked for what journals have left.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);

/// What a gateway is made of.
#[derive(Debug)]
pub struct Settings {
    pub token: Token,
    /// The user that the token stands for.
    pub user: String,
    /// Where named tokens are.
    pub tokens: TokenFile,
    pub registry: Registry,
    pub launcher: Launcher,
    pub specs: SearchPath,
    /// What paths of clients are below of, and where kernels work unless asked otherwise.
    pub root: PathBuf,
    pub home: PathBuf,
    /// nb's data folder.
    pub data: PathBuf,
    /// The folder of the journals of all kernels.
    pub journals: PathBuf,
    /// The environment that kernels inherit, before anything is withheld from them.
    pub environment: Vec<(OsString, OsString)>,
    pub config: config::Settings,
}

/// Removes now and then what kernels that are gone have left, for as long as it is polled.
async fn tidy_up(journals: &Path) -> Infallible {
    loop {
        let journals = journals.to_owned();
        let swept = spawn_blocking(move || {
            shared_memory::sweep(Path::new(shared_memory::FOLDER));
            journals::sweep(&journals)
        });
        match swept.await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed journals of kernels that are gone"),
            Err(error) => tracing::warn!(%error, "journals are not looked after this time"),
        }
        sleep(TIDY_EVERY).await;
    }
}

/// What all requests share.
struct Gateway {
    credentials: auth::Credentials,
    audit: audit::Audit,
    registry: Registry,
    launcher: Launcher,
    planner: plan::Planner,
    config: config::Settings,
    listing: listing::Listing<Vec<Kernel>>,
    metrics: metrics::Metrics,
    drain: drain::Drain,
    turns: notebooks::Turns,
    started: Timestamp,
}

impl Gateway {
    fn new(settings: Settings) -> Result<Self, Error> {
        let more = &settings.config.kernels.env_inherited;
        let mut inherited = environment::inherited(settings.environment, more);
        // A service manager need not say who runs it.
        for name in ["USER", "LOGNAME"] {
            let user = || settings.user.clone();
            inherited.entry(name.to_owned()).or_insert_with(user);
        }
        Ok(Self {
            audit: audit::Audit::open(settings.config.server.audit_file.as_deref())?,
            credentials: auth::Credentials {
                own: settings.token,
                user: settings.user.into(),
                named: tokens::Tokens::new(settings.tokens),
            },
            registry: settings.registry,
            launcher: settings.launcher,
            planner: plan::Planner {
                catalog: Catalog::new(settings.specs),
                root: settings.root,
                home: settings.home,
                inherited,
                data: settings.data,
                journals: settings.journals,
                config: settings.config.clone(),
            },
            config: settings.config,
            listing: listing::Listing::default(),
            metrics: metrics::Metrics::default(),
            drain: drain::Drain::default(),
            turns: notebooks::Turns::default(),
            started: Timestamp::now(),
        })
    }
}

/// Where connections come in, and from whom that was taken.
#[derive(Debug)]
pub enum Entry {
    Own(Listener),
    /// Of a service manager, which goes on listening when we end.
    Lent(Vec<Listener>),
    Taken(Taken),
}

impl<T: Into<Listener>> From<T> for Entry {
    fn from(listener: T) -> Self {
        Self::Own(listener.into())
    }
}

/// What a gateway ends of.
enum Why {
    /// A signal.
    Asked,
    /// Another gateway serves where it did: its pid, where it is known.
    TakenOver(Option<i32>),
}

/// Serves at `entry` until `end`, or until another gateway has taken it by `door`; returns when what was under way then
/// is done, or was cut off.
pub async fn serve(
    entry: impl Into<Entry>,
    settings: Settings,
    door: Door,
    end: impl Future<Output = ()>,
) -> Result<(), Error> {
    let gateway = Arc::new(Gateway::new(settings)?);
    let manner = server::Manner {
        router: routes::router(&gateway),
        drain: gateway.drain.clone(),
        handover: gateway.config.server.handover,
        head_timeout: Duration::from_millis(gateway.config.limits.head_timeout_ms),
    };
    let entry = entry.into();
    let is_lent = matches!(entry, Entry::Lent(_));
    let mut listeners = match entry {
        Entry::Own(listener) => vec![listener],
        Entry::Lent(listeners) => listeners,
        // From here on nothing can fail.
        Entry::Taken(taken) => taken.confirm().await,
    };
    let why = tokio::select! {
        never = server::serve(&listeners, &manner) => match never {},
        never = adopter::look_after(&gateway.registry, &gateway.launcher) => match never {},
        never = tidy_up(&gateway.planner.journals) => match never {},
        taker = door.taken(&listeners) => Why::TakenOver(taker),
        () = end => Why::Asked,
    };
    let has_neighbours = door.has_neighbours();
    // Nobody is to find us any more.
    drop(door);
    if let Why::TakenOver(taker) = why {
        tracing::info!(taker, "taken over by another process; ends");
        listeners.iter_mut().for_each(Listener::leave_file);
    }
    drop(listeners);
    let server = &gateway.config.server;
    let (patience, grace) = match why {
        Why::TakenOver(_) => {
            let start = Duration::from_millis(gateway.config.kernels.launch_timeout_ms_max);
            (PATIENCE, start.saturating_add(TAKEN_GRACE))
        }
        // Who has connected to us a moment ago is answered, where others would be.
        Why::Asked if is_lent => (PATIENCE, Duration::from_millis(server.drain_ms)),
        Why::Asked => (Duration::ZERO, Duration::from_millis(server.drain_ms)),
    };
    gateway.drain.run(patience, grace).await;
    // The starts that were cut off.
    if timeout(UNDO_WITHIN, gateway.launcher.settled())
        .await
        .is_err()
    {
        tracing::warn!("a kernel that nobody knows of may stay");
    }
    if matches!(why, Why::Asked) && !has_neighbours && server.on_stop == OnStop::End {
        gateway.end_kernels().await;
    }
    Ok(())
}
