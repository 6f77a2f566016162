//! A gateway that is started as root and runs for somebody: it becomes that user before it does anything else.
//!
//! Its program is run anew as that user, so nothing that root has opened, read or decided is left but its arguments and its environment.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::account::Account;
use crate::config;
use crate::error::Error;

/// Variables that lead to folders of whoever started us.
const FOLDERS: &str = "XDG_";

/// Returns as this user only if we are that already.
pub(super) fn run_as(name: &str) -> Result<(), Error> {
    let account = Account::named(name)?;
    if account.is_own() {
        return Ok(());
    }
    let file = config::file_in_use()?;
    account.enter()?;
    // Root's own may be closed to the user, and some have no home.
    let at_home = env::set_current_dir(&account.home);
    at_home
        .or_else(|_| env::set_current_dir("/"))
        .map_err(|error| Error::nb(format!("no folder to work in: {error}")))?;
    let mut again = Command::new("/proc/self/exe");
    let mut arguments = env::args_os();
    if let Some(own_name) = arguments.next() {
        again.arg0(own_name);
    }
    again.args(arguments);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with(FOLDERS) {
            again.env_remove(name);
        }
    }
    // The same settings, not those of the user.
    if let Some(file) = file {
        again.env(config::FILE, file);
    }
    let failed = again.envs(account.variables()).exec();
    Err(Error::nb(format!(
        "nb could not be run for {name}: {failed}"
    )))
}
