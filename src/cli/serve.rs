//! `nb serve`.

mod entry;
mod user;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use clap::ValueEnum as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::entry::Wanted;
use super::output;
use crate::config::{self, Handover, LogFormat, OnStop, Places, Settled};
use crate::env::{install_kernelspecs, own_kernelspecs};
use crate::error::Error;
use crate::gateway::{self, Door, Settings, TokenFile};
use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::launch::Launcher;
use crate::kernels::registry::Registry;

/// Runs the gateway that clients connect to
///
/// Prints its address. The token that clients need comes from --token-file, else from the variable
/// NB_TOKEN, else one is made, kept and printed with the address.
///
/// Each setting comes from its flag, else from its variable, else from the file that NB_CONFIG names,
/// else from nb/nb.toml in XDG_CONFIG_HOME (~/.config) or /etc/nb/nb.toml.
///
/// Ctrl-C or SIGTERM ends the gateway within five seconds, a second one at once. Its kernels live on unless
/// --on-stop says otherwise, and the next gateway finds them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "NB_LOG sets what is logged to stderr: error, warn, info, debug, or as RUST_LOG. \
                  server.log_format = \"json\" makes each line an object."
)]
pub(super) struct Serve {
    /// The address to listen on [env: NB_SERVER_IP] [default: 127.0.0.1]
    #[arg(long)]
    ip: Option<IpAddr>,
    /// The port to listen on; 0 takes any that is free [env: NB_SERVER_PORT] [default: 8888]
    #[arg(long)]
    port: Option<u16>,
    /// A Unix socket to listen on instead of an address, 0600 [env: NB_SERVER_SOCK]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["ip", "port"])]
    sock: Option<String>,
    /// A file that holds the token [env: NB_AUTH_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Where the kernels' sockets are, a short path [env: NB_SERVER_RUNTIME_DIR] [default: NB_RUNTIME_DIR,
    /// else one of the user's own]
    #[arg(long, value_name = "FOLDER")]
    runtime_dir: Option<String>,
    /// The folder that notebooks' paths begin at and that kernels work in [env: NB_SERVER_ROOT] [default:
    /// the current one]
    #[arg(long, value_name = "FOLDER")]
    root: Option<String>,
    /// Started as root: whom to run for; kernels are that user's [env: NB_SERVER_USER] [default: root]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How a client's connection reaches its kernel [env: NB_SERVER_HANDOVER] [default: auto]
    #[arg(long)]
    handover: Option<Handover>,
    /// What becomes of the kernels when the gateway is told to end [env: NB_SERVER_ON_STOP] [default: keep]
    #[arg(long)]
    on_stop: Option<OnStop>,
    /// Takes the place of the gateway that listens there: gets its sockets, so that nobody is refused meanwhile
    #[arg(long)]
    takeover: bool,
    /// Prints all settings as a file that could be used, each with where it comes from
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    /// Runs until it is told to end.
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let settled = self.settle()?;
        if self.print_config {
            return output::text(&settled.to_toml()).map(|()| ExitCode::SUCCESS);
        }
        let server = &settled.settings.server;
        if let Some(user) = &server.user {
            user::run_as(user, &settled.settings.kernels.env_inherited)?;
        }
        let format = server.log_format;
        super::log_to_stderr(&server.log_level, format);
        match self.run_with(settled.settings) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if format == LogFormat::Json => {
                tracing::error!("{error}");
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error),
        }
    }

    fn run_with(self, config: config::Settings) -> Result<(), Error> {
        let places = Places::from_env()?;
        let variable = env::var("NB_TOKEN").ok();
        let (token, is_ours) = gateway::find_token(
            config.auth.token_file.as_deref(),
            variable.as_deref(),
            &places.state,
        )?;
        let runtime_dir = config.server.runtime_dir.as_deref();
        let registry = Registry::open(runtime_dir.unwrap_or(&places.runtime))?;
        let wanted = Wanted {
            at: entry::at(&config.server)?,
            passed: gateway::passed_sockets()?,
            takeover: self.takeover,
        };
        if let Err(error) = install_kernelspecs(&places.data) {
            tracing::warn!(%error, "nb's own kernelspecs are not there");
        }
        let door = Door::open(registry.runtime())?;
        let is_shown = is_ours && !goes_to_the_system_log();
        let shown = is_shown.then(|| token.reveal().to_owned());
        if is_ours && !is_shown {
            let file = places.state.join("token");
            tracing::info!("the token is in {}", file.display());
        }
        let user = config::user_name();
        match rustix::process::geteuid().as_raw() {
            0 => tracing::info!(
                "runs as root, and so do its kernels: --user NAME runs it for somebody else"
            ),
            uid => tracing::info!(uid, "serves {user} alone: every kernel is that user's"),
        }
        let settings = Settings {
            token,
            user,
            tokens: TokenFile::new(&places.state),
            launcher: Launcher::new(registry.clone()).logging(config.server.log_format),
            registry,
            specs: SearchPath::from_env().and_own(own_kernelspecs(&places.data)),
            root: root(config.server.root.as_deref())?,
            home: env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
            environment: env::vars_os().collect(),
            journals: places.journals(&config.journal)?,
            data: places.data,
            config,
        };
        let runtime = super::runtime()?;
        let outcome = runtime.block_on(serve(wanted, settings, door, shown.as_deref()));
        // What blocks on a file system must not keep us from ending.
        runtime.shutdown_background();
        outcome
    }

    fn settle(&self) -> Result<Settled, Error> {
        let mut layers = config::load()?;
        let ip = self.ip.map(|ip| ip.to_string());
        layers.add_flag("server.ip", "ip", ip);
        layers.add_flag("server.port", "port", self.port.map(i64::from));
        layers.add_flag("server.sock", "sock", self.sock.clone());
        layers.add_flag("auth.token_file", "token-file", self.token_file.clone());
        layers.add_flag(
            "server.runtime_dir",
            "runtime-dir",
            self.runtime_dir.clone(),
        );
        layers.add_flag("server.root", "root", self.root.clone());
        layers.add_flag("server.user", "user", self.user.clone());
        let handover = self
            .handover
            .and_then(|handover| handover.to_possible_value());
        let handover = handover.map(|value| value.get_name().to_owned());
        layers.add_flag("server.handover", "handover", handover);
        let on_stop = self.on_stop.and_then(|on_stop| on_stop.to_possible_value());
        let on_stop = on_stop.map(|value| value.get_name().to_owned());
        layers.add_flag("server.on_stop", "on-stop", on_stop);
        layers.settle()
    }
}

/// Whether what is printed is kept by systemd, for more people to read than the token is for.
fn goes_to_the_system_log() -> bool {
    env::var_os("JOURNAL_STREAM").is_some() && !io::stdout().is_terminal()
}

async fn serve(
    wanted: Wanted,
    settings: Settings,
    door: Door,
    shown_token: Option<&str>,
) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let on_stop = settings.config.server.on_stop;
    let (entry, url) = wanted.open(&door).await?;
    let line = match shown_token {
        Some(token) => format!("{url}/?token={token}"),
        None => format!("{url}/"),
    };
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        // Nobody reads it; that is no reason not to serve.
        tracing::debug!(%error, "the address was not printed");
    }
    let end = CancellationToken::new();
    let mut serving = pin!(gateway::serve(entry, settings, door, end.cancelled()));
    tokio::select! {
        served = &mut serving => return served,
        name = signals.next() => match on_stop {
            OnStop::Keep => tracing::info!("ends by {name}; kernels live on"),
            OnStop::End => tracing::info!("ends by {name}, and its kernels with it"),
        },
    }
    end.cancel();
    tokio::select! {
        served = serving => return served,
        name = signals.next() => tracing::info!("ends at once by a second signal, {name}"),
    }
    Ok(())
}

/// The signals that ask for the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|error| Error::nb(format!("signals cannot be received: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn root(given: Option<&Path>) -> Result<PathBuf, Error> {
    let root = given.unwrap_or(Path::new("."));
    match root.canonicalize() {
        Ok(root) if root.is_dir() => Ok(root),
        Ok(root) => Err(Error::user(format!("{} is not a folder", root.display()))),
        Err(error) => Err(Error::user(format!(
            "the root folder {} cannot be used: {error}",
            root.display()
        ))),
    }
}
