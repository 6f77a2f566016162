//! The logins of addresses that somebody typed as requirements: kept in memory, never in a file.
//!
//! A process that serves one kernel has few of them. One that was refused is forgotten.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::login::{Login, Server, apart};

struct Kept {
    login: Login,
    /// It has let us in.
    is_proven: bool,
}

type All = BTreeMap<Server, Kept>;

static ALL: Mutex<All> = Mutex::new(All::new());

/// So many servers; then none is added.
const SERVERS_MAX: usize = 256;

fn all<T>(what: impl FnOnce(&mut All) -> T) -> T {
    what(&mut ALL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The line without its logins, which are kept.
pub(in crate::env) fn without_logins(line: &str, env: &BTreeMap<String, String>) -> String {
    let (bare, addresses) = apart(line, env);
    for address in addresses {
        let Some(login) = address.login else { continue };
        all(|all| {
            let is_known = all
                .get(&address.server)
                .is_some_and(|kept| kept.login == login);
            if !is_known && (all.len() < SERVERS_MAX || all.contains_key(&address.server)) {
                let is_proven = false;
                all.insert(address.server, Kept { login, is_proven });
            }
        });
    }
    bare
}

pub(super) fn login(server: &Server) -> Option<Login> {
    all(|all| all.get(server).map(|kept| kept.login.clone()))
}

/// By host.
pub(super) fn logins() -> Vec<(String, Login)> {
    let pair = |(server, kept): (&Server, &Kept)| (server.host.clone(), kept.login.clone());
    all(|all| all.iter().map(pair).collect())
}

/// What they were for worked.
pub(super) fn proven() {
    all(|all| all.values_mut().for_each(|kept| kept.is_proven = true));
}

/// It did not.
pub(super) fn refused() {
    all(|all| all.retain(|_, kept| kept.is_proven));
}
