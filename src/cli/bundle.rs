//! `nb bundle`: what a machine without a network needs, in one folder.

use std::path::PathBuf;

use serde_json::json;

use super::progress::Progress;
use super::stop::Stop;
use super::{output, runtime};
use crate::config::Places;
use crate::env::{self, Uv};
use crate::error::Error;

/// Puts nb, uv and the packages of its environments into a folder, for a machine without a network.
///
/// There `FOLDER/nb up` needs nothing else but a Python of the same version as this machine's.
#[derive(Debug, clap::Args)]
pub(super) struct Bundle {
    /// The folder, which is made
    folder: PathBuf,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

impl Bundle {
    pub(super) fn run(&self) -> Result<(), Error> {
        runtime()?.block_on(self.make())
    }

    async fn make(&self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let mut stop = Stop::new()?;
        let progress = Progress::new();
        let what = "making a bundle";
        progress.begin(what);
        let making = async {
            let say = |line: &str| progress.detail(what, line);
            let uv = Uv::find(&places.data, &say).await?;
            env::Bundle::make(&self.folder, &uv, &say).await
        };
        let made = tokio::select! {
            made = making => made,
            never = progress.animate() => match never {},
            () = stop.asked() => Err(Error::user("interrupted; nothing of the bundle is left")),
        };
        progress.end(what);
        let about = made?;
        if self.json {
            return output::json(&json!({"folder": self.folder, "bundle": about}));
        }
        output::line(&format!(
            "{} has nb {}, uv and {} wheels for Python {}, {} MB in all",
            self.folder.display(),
            about.nb,
            about.wheels,
            about.python,
            about.bytes / 1_000_000
        ))
    }
}
