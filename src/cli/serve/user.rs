//! A gateway that is started as root and runs for somebody: it becomes that user before it does anything else.
//!
//! Its program is run anew as that user, so nothing that root has opened, read or decided is left but its arguments and the part of its environment that is needed.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::account::Account;
use crate::config;
use crate::error::Error;
use crate::kernels::environment;

/// Variables that lead to folders of whoever started us.
const FOLDERS: &str = "XDG_";

/// What of root's environment a gateway needs besides what kernels get of it: its own settings, what a service manager hands over, and how the
/// network and package indexes are reached. The rest stays with root: whoever it becomes can read all of it.
const NEEDED: [&str; 16] = [
    "NB_*",
    "LISTEN_*",
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "NO_COLOR",
    "TERM",
    "*_proxy",
    "*_PROXY",
    "SSL_CERT_*",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_*",
    "UV_*",
    "GIT_SSL_*",
    "COURSIER_*",
];

/// Returns as this user only if we are that already. `inherited` are names and patterns of what kernels get of our environment.
pub(super) fn run_as(name: &str, inherited: &[String]) -> Result<(), Error> {
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
    let wanted: Vec<String> = NEEDED.map(str::to_owned).into_iter().collect();
    let wanted = [&wanted[..], inherited].concat();
    for (name, _) in env::vars_os() {
        let is_kept = name.to_str().is_some_and(|name| {
            !name.starts_with(FOLDERS) && environment::is_passed_on(name, &wanted)
        });
        if !is_kept {
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
