//! `nb token`: named tokens, made, listed and revoked on the gateway's machine.

use jiff::{Span, SpanRelativeTo, Timestamp};
use serde_json::json;

use super::{output, runtime};
use crate::config::{self, Places};
use crate::error::Error;
use crate::gateway::{NamedToken, TokenFile};
use crate::kernels::client::{CallError, Supervisor};
use crate::kernels::registry::Registry;
use crate::table::table;

/// Makes, lists and revokes named tokens.
///
/// Each stands for a user, whose kernels it opens and no others. A running gateway knows of a change at once.
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
    /// Where the sockets of kernels are, as the gateway was told [NB_SERVER_RUNTIME_DIR]
    #[arg(long, global = true, value_name = "FOLDER")]
    runtime_dir: Option<String>,
    /// For programs: JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a token and prints it, which nothing can do again
    Add {
        /// The user that it stands for
        user: String,
        /// After what time it ends, as in 12h or 30d [default: never]
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
        /// It may start kernels for the user that KERNEL_USERNAME names
        #[arg(long)]
        acts_for: bool,
    },
    /// Lists the tokens, without what would be needed to use one
    List,
    /// Revokes a token, or every token of a user, and ends their connections
    Revoke {
        /// The token's id or the user's name
        token: String,
    },
}

impl Token {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let file = TokenFile::new(&places.state);
        match &self.command {
            Command::Add {
                user,
                expires_in,
                acts_for,
            } => self.add(&file, user, *expires_in, *acts_for),
            Command::List => self.list(&file),
            Command::Revoke { token } => self.revoke(&file, token, &places),
        }
    }

    fn add(
        &self,
        file: &TokenFile,
        user: &str,
        expires_in: Option<Span>,
        acts_for: bool,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let expires = expires_in.map(|span| expiry(now, span)).transpose()?;
        let (named, token) = file.add(user, expires, acts_for, seconds(now))?;
        match self.json {
            true => output::json(&json!({"id": named.id, "token": token.reveal()})),
            false => output::line(token.reveal()),
        }
    }

    fn list(&self, file: &TokenFile) -> Result<(), Error> {
        let tokens = file.list()?;
        if self.json {
            let shown = tokens.iter().map(|token| {
                json!({
                    "id": token.id, "user": token.user, "created": token.created,
                    "expires": token.expires, "acts_for": token.acts_for,
                })
            });
            return output::json(&shown.collect());
        }
        let now = seconds(Timestamp::now());
        let rows: Vec<_> = tokens.iter().map(|token| row(token, now)).collect();
        output::text(&table(
            ["id", "user", "created", "expires", "acts for"],
            &rows,
        ))
    }

    fn revoke(&self, file: &TokenFile, token: &str, places: &Places) -> Result<(), Error> {
        let revoked = file.revoke(token)?;
        if revoked.is_empty() {
            return Err(Error::user(format!(
                "there is no token {token}, and none of a user of this name; see `nb token list`"
            )));
        }
        let mut layers = config::load()?;
        layers.add_flag(
            "server.runtime_dir",
            "runtime-dir",
            self.runtime_dir.clone(),
        );
        let runtime_dir = layers.settle()?.settings.server.runtime_dir;
        let registry = Registry::open(runtime_dir.as_ref().unwrap_or(&places.runtime))?;
        let ended = runtime()?.block_on(end_connections(&registry, &revoked));
        match self.json {
            true => {
                let ids: Vec<_> = revoked.iter().map(|token| &token.id).collect();
                output::json(&json!({"revoked": ids, "connections_ended": ended}))
            }
            false => output::line(&format!(
                "{} revoked, {ended} open connections ended",
                revoked.len()
            )),
        }
    }
}

/// Ends what the tokens have opened, at each kernel of this machine.
async fn end_connections(registry: &Registry, revoked: &[NamedToken]) -> usize {
    let mut ended = 0;
    for id in registry.ids().unwrap_or_default() {
        let supervisor = Supervisor::new(registry.socket(id));
        for token in revoked {
            match supervisor.end_connections(&token.id).await {
                Ok(connections) => ended += connections,
                Err(CallError::Gone) => {}
                Err(error) => {
                    output::warn(&format!("the kernel {id} keeps its connections: {error}"))
                }
            }
        }
    }
    ended
}

fn row(token: &NamedToken, now: u64) -> [String; 5] {
    let expires = match token.expires {
        None => "never".to_owned(),
        Some(_) if token.is_expired(now) => "is over".to_owned(),
        Some(at) => date(at),
    };
    let acts_for = if token.acts_for { "others" } else { "" };
    [
        token.id.clone(),
        token.user.clone(),
        date(token.created),
        expires,
        acts_for.to_owned(),
    ]
}

fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).map(Timestamp::from_second);
    match time {
        Ok(Ok(time)) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        _ => "far away".to_owned(),
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

fn expiry(now: Timestamp, span: Span) -> Result<u64, Error> {
    let then = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .and_then(|duration| now.checked_add(duration));
    match then {
        Ok(then) if then > now => Ok(seconds(then)),
        Ok(_) => Err(Error::user("--expires-in is not in the future")),
        Err(_) => Err(Error::user(
            "--expires-in is in weeks, days, hours, minutes or seconds, as in 30d or 12h",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_in_the_future_or_is_not_made() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |text: &str| expiry(now, text.parse().unwrap());
        assert_eq!(at("12h").unwrap(), 12 * 3600);
        assert_eq!(at("30d").unwrap(), 30 * 24 * 3600);
        assert!(at("-1h").is_err());
        assert!(at("0s").is_err());
        assert!(at("1y").unwrap_err().message.contains("--expires-in"));
    }
}
