//! git as it is run here: its users' own program, settings, keys and helpers.
//!
//! git knows every transport, and how its users log in. It never asks anybody, since nobody is there, and a login of an address reaches it
//! by its environment. Knows nothing of what is fetched, nor where it is kept.

mod address;

use std::path::Path;

use tokio::process::Command;

pub(super) use self::address::{Address, Login};
use super::index::Access;
use super::{leftovers, tool};
use crate::error::Error;

/// Variables by which git would work at another repository, or tell all it does.
const MISLEADING: [&str; 12] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_WORK_TREE",
];

/// git, marked with the folder that it changes.
pub(super) fn command(works_in: &Path) -> Command {
    let mut git = tool::command("git");
    leftovers::mark(&mut git, works_in);
    for name in MISLEADING {
        git.env_remove(name);
    }
    git.env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GCM_INTERACTIVE", "never")
        .env("SSH_ASKPASS", "false")
        .env("SSH_ASKPASS_REQUIRE", "force");
    if std::env::var_os("GIT_ASKPASS").is_none() {
        git.env("GIT_ASKPASS", "");
    }
    // A line that is dead is given up; what is kept tidy is so before git ends. The descriptors of this process are no repositories.
    for setting in [
        "core.hooksPath=/dev/null",
        "protocol.fd.allow=never",
        "gc.autoDetach=false",
        "maintenance.autoDetach=false",
        "http.lowSpeedLimit=1",
        "http.lowSpeedTime=60",
    ] {
        git.args(["-c", setting]);
    }
    git
}

/// Gives it what gets at the repository, as long as what is returned lives. Who asks is in no argument, which everybody on the machine could
/// read, and is kept by no helper.
pub(super) async fn log_in(
    git: &mut Command,
    address: &Address,
    works_in: &Path,
) -> Result<Access, Error> {
    let asked = format!("git+{}", address.bare);
    let access = Access::of_process(works_in, &[&asked]).await;
    let access = access.map_err(|failure| Error::user(failure.message))?;
    git.envs(access.of_git());
    if let Some(login) = &address.login {
        give(git, login);
    }
    Ok(access)
}

fn give(git: &mut Command, login: &Login) {
    let before = std::env::var("GIT_CONFIG_COUNT").ok();
    let mut count: usize = before.and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut set = |key: &str, value: &str| {
        git.env(format!("GIT_CONFIG_KEY_{count}"), key);
        git.env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    };
    set("credential.username", &login.user);
    if login.password.is_some() {
        set("credential.helper", "");
        set(
            "credential.helper",
            r#"!f() { test "$1" != get || printf 'username=%s\npassword=%s\n' "$NB_GIT_USER" "$NB_GIT_PASSWORD"; }; f"#,
        );
    }
    git.env("GIT_CONFIG_COUNT", count.to_string());
    git.env("NB_GIT_USER", &login.user);
    git.env(
        "NB_GIT_PASSWORD",
        login.password.as_deref().unwrap_or_default(),
    );
}

pub(super) fn missing() -> Error {
    Error::user("git is not installed (on Debian: apt install git)")
}
