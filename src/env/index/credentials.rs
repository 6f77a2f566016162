//! Who is asked for the login of an address: the keyring, or a command of the site's. An answer is kept in memory for a while.
//!
//! Answers are in no argument, no file and no log. Knows nothing of which addresses there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::login::{Login, apart};
use super::sources::Sources;
use crate::config::Credentials;
use crate::env::failure::Failure;
use crate::env::tool;

/// A keyring may ask its user.
const LIMIT: Duration = Duration::from_secs(60);

/// How long an answer counts: a token of a command's may be a short one.
const KEPT: Duration = Duration::from_mins(5);

/// No login is longer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Who asks when all that there is is a token, as PyPI and most others have it.
const TOKEN_USER: &str = "__token__";

const KEYRING: &str = "keyring";

type Kept = BTreeMap<Vec<String>, (Instant, Option<Login>)>;

/// By what was asked.
static KEPT_ANSWERS: Mutex<Kept> = Mutex::new(Kept::new());

/// Forgets all answers: one of them may be wrong.
pub(super) fn forget() {
    let mut kept = KEPT_ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    kept.clear();
}

/// Asks whom the sources name, as somebody would in this folder with this environment.
pub(super) struct Asks<'a> {
    pub(super) sources: &'a Sources,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) folder: &'a Path,
}

/// What the keyring's program prints as JSON.
#[derive(Deserialize)]
struct Found {
    username: Option<String>,
    password: String,
}

impl Asks<'_> {
    /// Whether there is somebody to ask; logins of `.netrc` are found by the tools themselves.
    pub(super) fn somebody(&self) -> bool {
        self.sources.credentials != Credentials::Netrc
    }

    /// The login for this address, which may name a user. Nothing when there is none.
    pub(super) async fn login(&self, url: &str) -> Result<Option<Login>, Failure> {
        let (bare, addresses) = apart(url, self.env);
        let address = addresses.into_iter().next();
        let Some(address) = address else {
            return Ok(None);
        };
        // uv's `name=URL`
        let bare = match bare.find("://").and_then(|at| bare[..at].find('=')) {
            Some(at) => &bare[at + 1..],
            None => &bare,
        };
        let user = address.login.map(|login| login.user);
        match self.sources.credentials {
            Credentials::Netrc => Ok(None),
            Credentials::Command => self.by_command(bare, user).await.map(Some),
            Credentials::Keyring => {
                for service in [
                    bare,
                    &address.server.to_string(),
                    &address.server.authority(),
                ] {
                    let found = self.by_keyring(service, user.as_deref()).await?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(None)
            }
        }
    }

    async fn by_command(&self, url: &str, user: Option<String>) -> Result<Login, Failure> {
        let mut words = self.sources.command.clone();
        if words.is_empty() {
            return Err(Failure::new(
                "Logins are to come from a command, and none is named: set packages.credentials_command.",
            ));
        }
        words.push(url.to_owned());
        if let Some(Some(known)) = known(&words) {
            return Ok(known);
        }
        let said = self.run(&words).await.map_err(|said| Failure {
            log: said.unwrap_or_default(),
            ..Failure::new(format!(
                "The command for logins, `{}`, told none for {url}.",
                self.sources.command[0]
            ))
        })?;
        let answer = said.lines().next().unwrap_or_default().trim();
        if answer.is_empty() {
            return Err(Failure::new(format!(
                "The command for logins, `{}`, printed nothing for {url}.",
                self.sources.command[0]
            )));
        }
        let (user, password) = match answer.split_once(':') {
            Some((user, password)) => (user.to_owned(), password),
            None => (user.unwrap_or_else(|| TOKEN_USER.to_owned()), answer),
        };
        let login = Login::learned(user, password.to_owned());
        keep(words, Some(login.clone()));
        Ok(login)
    }

    async fn by_keyring(
        &self,
        service: &str,
        user: Option<&str>,
    ) -> Result<Option<Login>, Failure> {
        let words: Vec<&str> = match user {
            Some(user) => vec![KEYRING, "get", service, user],
            None => vec![
                KEYRING, "--mode", "creds", "--output", "json", "get", service,
            ],
        };
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        if let Some(known) = known(&words) {
            return Ok(known);
        }
        let said = match self.run(&words).await {
            Ok(said) => said,
            Err(Some(_)) => String::new(),
            Err(None) => {
                return Err(Failure::new(
                    "Logins are to come from the keyring, and its program `keyring` is not on the PATH; \
                     `pip install keyring`, or set packages.credentials.",
                ));
            }
        };
        let found = match user {
            Some(user) => Some((user.to_owned(), said.trim().to_owned())),
            None => serde_json::from_str(&said).ok().map(|found: Found| {
                let user = found.username.unwrap_or_else(|| TOKEN_USER.to_owned());
                (user, found.password)
            }),
        };
        let login = found
            .filter(|(_, password)| !password.is_empty())
            .map(|(user, password)| Login::learned(user, password));
        keep(words, login.clone());
        Ok(login)
    }

    async fn run(&self, words: &[String]) -> Result<String, Option<String>> {
        printed_by(words, self.env, self.folder).await
    }
}

/// What a program prints that tells a secret, with these arguments and nothing but this environment; else why not, or nothing
/// when there is no such program. Ends within a minute.
pub async fn printed_by(
    words: &[String],
    env: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<String, Option<String>> {
    let [program, arguments @ ..] = words else {
        return Err(None);
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(env)
        .current_dir(folder);
    let printed = timeout(LIMIT, tool::output(&mut command, ANSWER_BYTES_MAX)).await;
    let printed = match printed {
        Ok(Ok(printed)) => printed,
        Ok(Err(tool::Failure::Missing)) => return Err(None),
        Ok(Err(tool::Failure::Failed(said))) => return Err(Some(said)),
        Err(_) => return Err(Some(format!("it did not end within {} s", LIMIT.as_secs()))),
    };
    String::from_utf8(printed).map_err(|_| Some("it printed what is no text".to_owned()))
}

fn known(words: &[String]) -> Option<Option<Login>> {
    let kept = KEPT_ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, login) = kept.get(words)?;
    (since.elapsed() < KEPT).then(|| login.clone())
}

fn keep(words: Vec<String>, login: Option<Login>) {
    let mut kept = KEPT_ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|_, (since, _)| since.elapsed() < KEPT);
    kept.insert(words, (Instant::now(), login));
}
