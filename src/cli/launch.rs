//! `nb launch`.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use super::machine::{begins_in, machine};
use super::{access, time};
use crate::config::{self, LogFormat};
use crate::error::Error;
use crate::front::{self, Machine, Place, Settings};

/// Runs a kernel as an ordinary Jupyter kernel: on the sockets of a connection file
///
/// Clients that know no gateway start it through a kernelspec, which `nb kernel install` writes. The
/// kernel has this process's environment and folder, and outlives it: when the client goes without
/// having ended the kernel, that lives on for the time of --linger, and a gateway of this machine shows it.
///
/// SIGINT interrupts the kernel. Ends with 1 when the kernel is dead.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "NB_LOG sets what is logged to stderr: error, warn, info, debug, or as RUST_LOG."
)]
pub(super) struct Launch {
    /// The kernelspec to start
    spec: String,
    /// The connection file, as Jupyter's clients write it
    #[arg(short = 'f', long = "connection-file", value_name = "FILE")]
    connection_file: PathBuf,
    /// How long the kernel lives on without a client, as in 30s or 2h [env: NB_KERNELS_LINGER_MS]
    /// [default: 600s]
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    linger: Option<Duration>,
    /// The kernel ends with the client, even if that did not ask for it
    #[arg(long, conflicts_with = "linger")]
    die_with_client: bool,
    /// Starts the kernel behind this gateway, with the token of --token-file or NB_TOKEN
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// A file that holds the gateway's token
    #[arg(long, value_name = "FILE", requires = "gateway")]
    token_file: Option<PathBuf>,
    /// Where the kernels' sockets are, a short path [env: NB_SERVER_RUNTIME_DIR] [default: NB_RUNTIME_DIR,
    /// else one of the user's own]
    #[arg(long, value_name = "FOLDER")]
    runtime_dir: Option<String>,
}

impl Launch {
    /// Runs until the kernel or the client ends.
    pub(super) fn run(self) -> Result<(), Error> {
        super::log_to_stderr("error", LogFormat::Text);
        let place = match &self.gateway {
            Some(url) => self.behind(url)?,
            None => Place::Here(Box::new(self.here()?)),
        };
        let settings = Settings {
            connection_file: self.connection_file,
            place,
            client: env::var("JPY_PARENT_PID").ok(),
            die_with_client: self.die_with_client,
        };
        let runtime = super::runtime()?;
        let outcome = runtime.block_on(front::run(settings));
        // What blocks on a file system must not keep us from ending.
        runtime.shutdown_background();
        outcome
    }

    fn behind(&self, url: &str) -> Result<Place, Error> {
        let gateway = access::named(url, self.token_file.as_deref())?;
        let linger = Duration::from_millis(self.linger_ms(&config::load()?.settle()?.settings)?);
        Ok(Place::Behind(gateway, self.spec.clone(), linger))
    }

    fn linger_ms(&self, config: &config::Settings) -> Result<u64, Error> {
        match (self.die_with_client, self.linger) {
            (true, _) => Ok(0),
            (false, Some(linger)) => Ok(u64::try_from(linger.as_millis()).unwrap_or(u64::MAX)),
            (false, None) => Ok(config.kernels.linger_ms),
        }
    }

    fn here(&self) -> Result<Machine, Error> {
        let mut layers = config::load()?;
        let runtime_dir = self.runtime_dir.clone();
        layers.add_flag("server.runtime_dir", "runtime-dir", runtime_dir);
        let config = layers.settle()?.settings;
        let linger_ms = self.linger_ms(&config)?;
        let here = env::current_dir()
            .map_err(|error| Error::user(format!("there is no current folder: {error}")))?;
        let variables = begins_in(&here);
        machine(config, &self.spec, here, linger_ms, variables)
    }
}
