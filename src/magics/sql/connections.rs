//! Which databases there are by name, and how each is reached: the configuration's, then ADBC's connection profiles.
//!
//! A password is looked up when a connection is opened, and is kept nowhere. Knows nothing of cells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{self, Connection};
use crate::env::printed_by;
use crate::magics::failure::Failure;
use crate::plain_file;
use crate::redact;
use crate::workers::sql::wire::Database;

/// The one that nobody has to name.
pub(super) const EMBEDDED: &str = "duckdb";

/// A profile or a password's file is smaller, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What PostgreSQL keeps of the name of a program.
const APPLICATION_BYTES_MAX: usize = 63;

/// The variable with the folders of profiles.
const PROFILE_PATH: &str = "ADBC_PROFILE_PATH";

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) user: String,
    /// The notebook's path; empty for none.
    pub(super) notebook: String,
    /// The kernel's environment.
    pub(super) env: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    pub(super) scratch: PathBuf,
}

/// Those that there are.
#[derive(Debug)]
pub(super) struct Connections {
    configured: BTreeMap<String, Connection>,
    pub(super) result_bytes_max: u64,
    profiles: Vec<PathBuf>,
}

/// What of a profile is ours to know; the driver manager reads it itself.
#[derive(Deserialize)]
struct Profile {
    #[serde(default)]
    driver: String,
}

impl Connections {
    /// As they are now: the file may have changed since the last cell.
    pub(super) fn read(env: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let sql = config::sql().map_err(|error| failure(error.message))?;
        Ok(Self {
            configured: sql.connections,
            result_bytes_max: sql.result_bytes_max,
            profiles: profile_folders(env),
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        name == EMBEDDED || self.configured.contains_key(name) || self.profile(name).is_some()
    }

    /// Names and drivers of all.
    pub(super) fn all(&self) -> Vec<[String; 3]> {
        let row = |name: &str, driver: &str, from: &str| [name, driver, from].map(str::to_owned);
        let mut rows = vec![row(EMBEDDED, EMBEDDED, "nb: files and frames")];
        let configured = self.configured.iter();
        rows.extend(configured.map(|(name, one)| row(name, &one.driver, "nb.toml")));
        let mut names = Vec::new();
        for folder in &self.profiles {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            names.extend(entries.filter_map(|entry| {
                let path = entry.path();
                (path.extension()? == "toml").then_some(())?;
                path.file_stem()?.to_str().map(str::to_owned)
            }));
        }
        names.sort();
        names.dedup();
        names.retain(|name| !rows.iter().any(|[known, ..]| known == name));
        for name in names {
            let driver = self.profile(&name).map(|profile| profile.driver);
            rows.push(row(&name, &driver.unwrap_or_default(), "ADBC profile"));
        }
        rows
    }

    /// The one of this name, for whoever asks.
    pub(super) async fn database(&self, name: &str, asker: &Asker) -> Result<Database, Failure> {
        let Some(configured) = self.configured.get(name) else {
            let driver = match self.profile(name) {
                Some(profile) => profile.driver,
                None if name == EMBEDDED => EMBEDDED.to_owned(),
                None => return Err(unknown(name)),
            };
            let profile = (driver != EMBEDDED).then(|| name.to_owned());
            return Ok(Database {
                profile,
                ..asked_by(asker, driver)
            });
        };
        if configured.driver.is_empty() {
            return Err(failure(format!(
                "The connection {name} has no driver: say `driver = \"postgresql\"` or another one in [sql.connections.{name}]."
            )));
        }
        let password = password(name, configured, asker).await?;
        if let Some(password) = &password {
            redact::learn(configured.user.as_deref().unwrap_or_default(), password);
        }
        Ok(Database {
            uri: configured.uri.clone(),
            user: configured.user.clone(),
            password,
            options: configured.options.clone(),
            ..asked_by(asker, configured.driver.clone())
        })
    }

    fn profile(&self, name: &str) -> Option<Profile> {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            return None;
        }
        let mut files = self
            .profiles
            .iter()
            .map(|folder| folder.join(format!("{name}.toml")));
        let file = files.find(|file| file.is_file())?;
        let text = plain_file::text(&file, FILE_BYTES_MAX).ok()?;
        toml::from_str(&text).ok()
    }
}

/// Where the driver manager looks for profiles.
fn profile_folders(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let said = env
        .get(PROFILE_PATH)
        .map(String::as_str)
        .unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(said).collect();
    folders.retain(|folder| !folder.as_os_str().is_empty());
    if let Some(home) = env.get("HOME") {
        folders.push(Path::new(home).join(".config/adbc/profiles"));
    }
    folders.push(PathBuf::from("/etc/adbc/profiles"));
    folders
}

fn asked_by(asker: &Asker, driver: String) -> Database {
    let Asker { user, notebook, .. } = asker;
    let mut application = format!("nb {user} {notebook}").trim_end().to_owned();
    while application.len() > APPLICATION_BYTES_MAX {
        application.pop();
    }
    // What is in this process is nobody else's to look at.
    let comment = match driver.as_str() {
        EMBEDDED | "sqlite" => String::new(),
        _ => comment(user, notebook),
    };
    Database {
        driver,
        application,
        comment,
        scratch: asker.scratch.clone(),
        ..Database::default()
    }
}

/// Who asks, as [sqlcommenter](https://google.github.io/sqlcommenter/spec/) says it.
fn comment(user: &str, notebook: &str) -> String {
    let mut parts = vec![
        ("application", "nb"),
        ("notebook", notebook),
        ("user", user),
    ];
    parts.retain(|(_, value)| !value.is_empty());
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(key, value)| format!("{key}='{}'", redact::percent_encoded(value)))
        .collect();
    format!("/*{}*/", parts.join(","))
}

async fn password(
    name: &str,
    connection: &Connection,
    asker: &Asker,
) -> Result<Option<String>, Failure> {
    if let Some(variable) = &connection.password_env {
        let value = asker.env.get(variable).filter(|value| !value.is_empty());
        return value.cloned().map(Some).ok_or_else(|| {
            failure(format!(
                "The password of the connection {name} is to be in the variable {variable}, which this kernel does not have."
            ))
        });
    }
    if let Some(file) = &connection.password_file {
        let file = match (file.strip_prefix("~"), asker.env.get("HOME")) {
            (Ok(below), Some(home)) => Path::new(home).join(below),
            _ => asker.folder.join(file),
        };
        let text = plain_file::text(&file, FILE_BYTES_MAX).map_err(|error| {
            failure(format!(
                "The password of the connection {name} is to be in {}, which cannot be read: {error}.",
                file.display()
            ))
        })?;
        return Ok(text.lines().next().map(str::to_owned));
    }
    if let Some(words) = &connection.password_command {
        let printed = printed_by(words, &asker.env, &asker.folder).await;
        let program = words.first().map(String::as_str).unwrap_or_default();
        let printed = printed.map_err(|said| Failure {
            log: said.unwrap_or_else(|| format!("There is no `{program}`.")),
            ..failure(format!(
                "The command for the password of the connection {name}, `{program}`, told none."
            ))
        })?;
        return Ok(printed.lines().next().map(str::to_owned));
    }
    Ok(None)
}

/// How one that there is not is made.
pub(super) fn unknown(name: &str) -> Failure {
    Failure {
        log: format!(
            "Add it to nb.toml:    [sql.connections.{name}]\n\
             and say what it is:   driver = \"postgresql\"  uri = \"postgresql://HOST/DATABASE\"  user = \"…\"  password_env = \"…\"\n\
             Without a name, %%sql asks files and frames; `%sql` alone lists the connections that there are."
        ),
        ..failure(format!("There is no connection `{name}`."))
    }
}

pub(super) fn failure(message: impl Into<String>) -> Failure {
    Failure::new("SqlError", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker {
            user: "ada".to_owned(),
            notebook: "a b/x*/.ipynb".to_owned(),
            env: BTreeMap::from([("PW".to_owned(), "hunter2".to_owned())]),
            folder: PathBuf::from("/"),
            scratch: PathBuf::from("/tmp"),
        }
    }

    fn connections(name: &str, connection: Connection) -> Connections {
        Connections {
            configured: BTreeMap::from([(name.to_owned(), connection)]),
            result_bytes_max: 1,
            profiles: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_password_is_where_the_configuration_says() {
        let wh = |connection| {
            connections(
                "wh",
                Connection {
                    driver: "postgresql".to_owned(),
                    ..connection
                },
            )
        };
        let by_variable = Connection {
            password_env: Some("PW".to_owned()),
            ..Connection::default()
        };
        let database = wh(by_variable).database("wh", &asker()).await.unwrap();
        assert_eq!(database.password.as_deref(), Some("hunter2"));
        assert!(!format!("{database:?}").contains("hunter2"));
        let by_command = Connection {
            password_command: Some(["echo", "pw2"].map(str::to_owned).to_vec()),
            ..Connection::default()
        };
        let asker = Asker {
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            ..asker()
        };
        let database = wh(by_command).database("wh", &asker).await.unwrap();
        assert_eq!(database.password.as_deref(), Some("pw2"));
        for (connection, told) in [
            (
                Connection {
                    password_env: Some("NO_PW".to_owned()),
                    ..Connection::default()
                },
                "the variable NO_PW",
            ),
            (
                Connection {
                    password_file: Some("/no/such".into()),
                    ..Connection::default()
                },
                "/no/such",
            ),
            (
                Connection {
                    password_command: Some(vec!["/no/such".to_owned()]),
                    ..Connection::default()
                },
                "told none",
            ),
        ] {
            let failed = wh(connection).database("wh", &asker).await.unwrap_err();
            assert!(failed.message.contains(told), "{failed}");
        }
    }

    #[tokio::test]
    async fn who_asks_is_told_to_a_database_that_others_see() {
        let none = connections("wh", Connection::default());
        let failed = none.database("wh", &asker()).await.unwrap_err();
        assert!(failed.message.contains("no driver"), "{failed}");
        let failed = none.database("typo", &asker()).await.unwrap_err();
        assert_eq!(failed.traceback().len(), 2);
        assert_eq!(failed.log.lines().count(), 3);
        let embedded = none.database(EMBEDDED, &asker()).await.unwrap();
        assert_eq!((embedded.comment.as_str(), embedded.profile), ("", None));
        let database = asked_by(&asker(), "postgresql".to_owned());
        assert_eq!(
            database.comment,
            "/*application='nb',notebook='a%20b%2Fx%2A%2F.ipynb',user='ada'*/"
        );
        assert_eq!(database.application, "nb ada a b/x*/.ipynb");
        let long = Asker {
            notebook: "é".repeat(100),
            ..asker()
        };
        let application = asked_by(&long, String::new()).application;
        assert!((APPLICATION_BYTES_MAX - 1..=APPLICATION_BYTES_MAX).contains(&application.len()));
    }

    #[test]
    fn profiles_are_connections_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("lake.toml"),
            "profile_version = 1\ndriver = \"sqlite\"\n[Options]\nuri = \"x\"\n",
        )
        .unwrap();
        let env = BTreeMap::from([(
            PROFILE_PATH.to_owned(),
            folder.path().to_str().unwrap().to_owned(),
        )]);
        let known = Connections {
            profiles: profile_folders(&env),
            ..connections("wh", Connection::default())
        };
        assert!(known.has("lake") && known.has("wh") && known.has(EMBEDDED));
        assert!(!known.has("../lake") && !known.has("") && !known.has("pond"));
        let names: Vec<String> = known.all().into_iter().map(|[name, ..]| name).collect();
        assert_eq!(names[..3], ["duckdb", "wh", "lake"]);
    }
}
