//! `nb config`: settings from elsewhere.

use std::path::PathBuf;

use serde_json::json;

use super::output;
use crate::config::import_eg;
use crate::error::Error;

/// Works with configuration files.
#[derive(Debug, clap::Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Turns the EG_ and KG_ variables of an enterprise or kernel gateway into a configuration file
    ///
    /// The file holds lines of NAME=value, as a shell or systemd has them. The result goes to stdout; what has
    /// no counterpart is listed on stderr, each with what to do about it.
    ImportEg {
        file: PathBuf,
        /// For programs: {toml, notes} as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Config {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Error> {
        let Command::ImportEg { file, json } = self.command;
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Error::user(format!("{}: {error}", file.display())))?;
        let import = import_eg(&text);
        if json {
            let notes: Vec<_> = (import.notes.iter())
                .map(|(name, note)| json!({"name": name, "note": note}))
                .collect();
            return output::json(&json!({"toml": import.toml, "notes": notes}));
        }
        for (name, note) in &import.notes {
            output::warn(&format!("{name}: {note}"));
        }
        output::text(&import.toml)
    }
}
