//! What nb is told: where it keeps its things, and its settings.
//!
//! A leaf that all may use. `layers` is the pure core (defaults below a file below the environment below
//! flags), `settings` what comes out of it, `file` finds and reads the file, `places` are the folders.

mod file;
mod import;
mod keys;
mod layers;
mod places;
mod settings;

pub use file::FILE;
pub use import::{Import, import_eg};
pub use keys::variable;
pub use layers::{Layers, Origin, Settled};
pub use places::{Places, private_folder, user_name};
pub use settings::{
    Auth, Connection, Credentials, Culling, Handover, IndexStrategy, Journal, JournalMode, Kernels,
    Limits, LogFormat, OfSpec, OnStop, Packages, Server, Settings, Sql, Users,
};

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;

fn variable_set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of the user's own configuration file; it may not exist.
pub fn own_folder() -> Option<PathBuf> {
    file::own_folder(variable_set)
}

/// What the variables of the table `[packages]` begin with.
pub const PACKAGES: &str = "NB_PACKAGES_";

/// Where packages come from, for whoever runs a tool. What else there is of settings does not matter to it: it may be of a
/// newer nb than a supervisor.
pub fn packages() -> Result<Packages, Error> {
    Ok(table("packages", PACKAGES)?.packages)
}

/// What cells with SQL may ask, in the same way.
pub fn sql() -> Result<Sql, Error> {
    Ok(table("sql", "NB_SQL_")?.sql)
}

/// What one table of the file and its variables, with this prefix, say.
fn table(name: &str, prefix: &str) -> Result<Settings, Error> {
    let mut layers = Layers::default();
    if let Some((path, text)) = file::find(variable_set)? {
        layers.add_table(&path, &text, name)?;
    }
    layers.add_environment(|name| variable_set(name).filter(|_| name.starts_with(prefix)))?;
    Ok(layers.settle()?.settings)
}

/// The file that this process's settings come from, if there is one.
pub fn file_in_use() -> Result<Option<PathBuf>, Error> {
    let found = file::find(variable_set)?;
    found
        .map(|(path, _)| {
            std::path::absolute(&path)
                .map_err(|error| Error::user(format!("{}: {error}", path.display())))
        })
        .transpose()
}

/// The layers of this process up to the environment; flags go on top.
pub fn load() -> Result<Layers, Error> {
    let mut layers = Layers::default();
    if let Some((path, text)) = file::find(variable_set)? {
        layers.add_file(&path, &text)?;
    }
    layers.add_environment(variable_set)?;
    Ok(layers)
}
