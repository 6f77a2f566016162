//! Settings in layers: defaults below a file below the environment below flags. Pure.
//!
//! Every value keeps its origin, for errors and for `--print-config`; a name that nobody knows is an
//! error with the nearest name that somebody does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{KEYS, Key, Kind, OF_A_CONNECTION, OF_A_SPEC, OPTION, variable};
use super::settings::Settings;
use crate::error::Error;
use crate::redact::without_logins;

/// A name that is less like a known one than this is not offered instead.
const LIKENESS_MIN: f64 = 0.75;

/// The table of the tables of connections.
const CONNECTIONS: &str = "connections";

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    /// The variable of this name.
    Environment(String),
    /// The flag of this name, without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// The tables that lead to a value, and its name.
type Name = Vec<String>;

/// What was said so far, the last word of each name.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    said: BTreeMap<Name, (Value, Origin)>,
}

/// Settings, and where each that was said comes from.
#[derive(Clone, Debug)]
pub struct Settled {
    pub settings: Settings,
    said: BTreeMap<Name, (Value, Origin)>,
}

impl Layers {
    /// What the file at `path` says on top.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        self.add_tables(path, text, |_| true)
    }

    /// The same of one of its tables, the others unread.
    pub fn add_table(&mut self, path: &Path, text: &str, only: &str) -> Result<(), Error> {
        self.add_tables(path, text, |name| name == only)
    }

    fn add_tables(
        &mut self,
        path: &Path,
        text: &str,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let fault = |what: String| Error::user(format!("{}: {what}", path.display()));
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            fault(without_logins(error.to_string().trim_end()).into_owned())
        })?;
        let mut found = Vec::new();
        flatten(&mut Name::new(), table, &mut found);
        found.retain(|(name, _)| name.first().is_some_and(|first| is_meant(first)));
        for (name, value) in found {
            check(&name, &value).map_err(fault)?;
            let origin = Origin::File(path.to_owned());
            self.said.insert(name, (value, origin));
        }
        Ok(())
    }

    /// What variables say on top.
    pub fn add_environment(&mut self, var: impl Fn(&str) -> Option<OsString>) -> Result<(), Error> {
        for key in KEYS {
            let name = variable(key.name);
            let Some(value) = var(&name) else {
                continue;
            };
            let fault = |what| Error::user(format!("{name} {what}"));
            let text = value.into_string();
            let text = text.map_err(|_| fault("is not UTF-8"))?;
            let value = match key.kind {
                Kind::Text => Value::String(text),
                Kind::Texts => {
                    let items = text
                        .split(',')
                        .map(str::trim)
                        .filter(|item| !item.is_empty());
                    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
                }
                Kind::Boolean => {
                    let is = text.trim().to_ascii_lowercase().parse();
                    Value::Boolean(is.map_err(|_| fault("is neither true nor false"))?)
                }
                Kind::Integer => {
                    let number = text.trim().parse();
                    Value::Integer(number.map_err(|_| fault("is no whole number"))?)
                }
            };
            let origin = Origin::Environment(name.clone());
            self.said.insert(split(key.name), (value, origin));
        }
        Ok(())
    }

    /// What a flag says on top, if it was given.
    pub fn add_flag(&mut self, name: &str, flag: &'static str, value: Option<impl Into<Value>>) {
        debug_assert!(KEYS.iter().any(|key| key.name == name), "{name}");
        if let Some(value) = value {
            self.said
                .insert(split(name), (value.into(), Origin::Flag(flag)));
        }
    }

    /// Whether anything was said of this setting.
    pub fn say(&self, name: &str) -> bool {
        self.said.contains_key(&split(name))
    }

    /// The settings that this amounts to.
    pub fn settle(self) -> Result<Settled, Error> {
        let mut table = Table::new();
        for (name, (value, _)) in &self.said {
            put(&mut table, name, value.clone());
        }
        let settings = serde_path_to_error::deserialize(table).map_err(|error| {
            let path = error.path().to_string();
            let origin = self.said.get(&split(&path)).map(|(_, origin)| origin);
            let from = origin.map_or(String::new(), |origin| format!(", said by {origin},"));
            let what = error.inner().to_string();
            Error::user(format!(
                "the setting {path}{from} cannot be used: {}",
                what.trim_end()
            ))
        })?;
        Ok(Settled {
            settings,
            said: self.said,
        })
    }
}

impl Settled {
    /// All settings as a file that could be used, each with where it comes from and what it is.
    pub fn to_toml(&self) -> String {
        let mut found = Vec::new();
        if let Ok(table) = Table::try_from(&self.settings) {
            flatten(&mut Name::new(), table, &mut found);
        }
        let mut shown: BTreeMap<Name, Option<Value>> =
            KEYS.iter().map(|key| (split(key.name), None)).collect();
        shown.extend(found.into_iter().map(|(name, value)| (name, Some(value))));
        let mut lines: Vec<_> = shown
            .iter()
            .filter_map(|(name, value)| Some((name.split_last()?, name, value)))
            .collect();
        // A table's own values come before the tables in it.
        lines.sort_by_key(|((_, table), _, _)| *table);
        let mut text = String::new();
        let mut last_table: &[String] = &[];
        for ((key, table), name, value) in lines {
            if table != last_table {
                let blank = if text.is_empty() { "" } else { "\n" };
                let header: Vec<_> = table.iter().map(|part| quoted(part)).collect();
                let _infallible = writeln!(text, "{blank}[{}]", header.join("."));
                last_table = table;
            }
            let (key, what) = (quoted(key), known(name).map_or("", |key| key.what));
            let origin = self.said.get(name).map_or(&Origin::Default, |(_, o)| o);
            let _infallible = match value {
                Some(value) => {
                    let value = value.to_string();
                    writeln!(
                        text,
                        "{key} = {}  # {origin}: {what}",
                        without_logins(&value)
                    )
                }
                None => writeln!(text, "# {key} =  # not set: {what}"),
            };
        }
        text
    }
}

/// A part of a name as TOML writes it.
fn quoted(part: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !part.is_empty() && part.chars().all(is_bare) {
        true => part.to_owned(),
        false => Value::String(part.to_owned()).to_string(),
    }
}

fn split(name: &str) -> Name {
    name.split('.').map(str::to_owned).collect()
}

fn flatten(prefix: &mut Name, table: Table, found: &mut Vec<(Name, Value)>) {
    for (key, value) in table {
        prefix.push(key);
        match value {
            Value::Table(inner) => flatten(prefix, inner, found),
            value => found.push((prefix.clone(), value)),
        }
        prefix.pop();
    }
}

fn put(table: &mut Table, name: &[String], value: Value) {
    match name {
        [] => {}
        [key] => drop(table.insert(key.clone(), value)),
        [key, rest @ ..] => {
            let inner = table
                .entry(key.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// The names that there are where this one is, and its name there.
fn names_beside(name: &[String]) -> (&'static [Key], String) {
    match name {
        [table, _spec, key] if table == "kernels" => (OF_A_SPEC, key.clone()),
        [table, part, _connection, key] if table == "sql" && part == CONNECTIONS => {
            (OF_A_CONNECTION, key.clone())
        }
        _ => (KEYS, name.join(".")),
    }
}

fn known(name: &[String]) -> Option<&'static Key> {
    if let [table, part, _connection, options, _] = name
        && (&**table, &**part, &**options) == ("sql", CONNECTIONS, OPTION.name)
    {
        return Some(&OPTION);
    }
    let (keys, name) = names_beside(name);
    keys.iter().find(|key| key.name == name)
}

/// Whether anybody knows this name and its value is of its kind; else what to say.
fn check(name: &[String], value: &Value) -> Result<(), String> {
    if let Some(key) = known(name) {
        let of_kind = match key.kind {
            Kind::Text => value.is_str(),
            Kind::Integer => value.is_integer(),
            Kind::Boolean => value.is_bool(),
            Kind::Texts => value
                .as_array()
                .is_some_and(|items| items.iter().all(Value::is_str)),
        };
        let full = name.join(".");
        return match key.kind {
            _ if of_kind => Ok(()),
            Kind::Text => Err(format!("{full} is no text in quotes")),
            Kind::Integer => Err(format!("{full} is no whole number")),
            Kind::Boolean => Err(format!("{full} is neither true nor false")),
            Kind::Texts => Err(format!("{full} is no list of texts in quotes")),
        };
    }
    let (keys, asked) = names_beside(name);
    let likeness = |key: &&Key| strsim::jaro_winkler(key.name, &asked);
    let nearest = keys
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|key| likeness(key) >= LIKENESS_MIN);
    let full = name.join(".");
    Err(match nearest {
        Some(key) => format!("there is no setting {full}; did you mean {}?", key.name),
        None => format!("there is no setting {full}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settle(file: &str, variables: &[(&str, &str)]) -> Result<Settled, Error> {
        let mut layers = Layers::default();
        layers.add_file(Path::new("/etc/nb.toml"), file)?;
        layers.add_environment(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).into())
        })?;
        layers.add_flag("server.ip", "ip", Some("127.0.0.9"));
        layers.add_flag("server.root", "root", None::<String>);
        layers.settle()
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let file = "[server]\nip = \"127.0.0.2\"\nport = 1\nlist_deadline_ms = 7\n";
        let variables = [("NB_SERVER_PORT", "2"), ("NB_SERVER_IP", "127.0.0.3")];
        let settled = settle(file, &variables).unwrap();
        let server = &settled.settings.server;
        assert_eq!(server.ip.to_string(), "127.0.0.9");
        assert_eq!((server.port, server.list_deadline_ms), (2, 7));
        assert_eq!(server.drain_ms, 5_000);
        let shown = settled.to_toml();
        for line in [
            "[server]",
            "drain_ms = 5000  # default: ",
            "ip = \"127.0.0.9\"  # --ip: the address to listen on",
            "list_deadline_ms = 7  # /etc/nb.toml: ",
            "port = 2  # NB_SERVER_PORT: ",
            "# root =  # not set: ",
        ] {
            let is_shown = shown.lines().any(|shown| shown.starts_with(line));
            assert!(is_shown, "{line}\n{shown}");
        }
    }

    #[test]
    fn a_kernelspec_has_a_table_of_its_own() {
        let file =
            "[kernels]\nlaunch_timeout_ms = 5\n[kernels.\"my spec\"]\njournal_bytes_max = 6\n";
        let settled = settle(file, &[]).unwrap();
        let kernels = &settled.settings.kernels;
        assert_eq!(kernels.launch_timeout_ms, 5);
        assert_eq!(kernels.of_spec["my spec"].journal_bytes_max, Some(6));
        // What is printed is a file that says the same.
        let again = settle(&settled.to_toml(), &[]).unwrap();
        assert_eq!(again.settings, settled.settings);
    }

    #[test]
    fn one_table_is_read_without_the_others_and_no_login_is_printed() {
        let file = "[newer]\nx = 1\n[packages]\nindex_url = \"https://ada:secret@host/simple/\"\n";
        let mut layers = Layers::default();
        layers.add_table(Path::new("x"), file, "packages").unwrap();
        let settled = layers.settle().unwrap();
        let index = settled.settings.packages.index_url.as_deref();
        assert_eq!(index, Some("https://ada:secret@host/simple/"));
        let shown = settled.to_toml();
        assert!(shown.contains("\"https://***@host/simple/\"") && !shown.contains("secret"));
        let wrong = "[packages]\nindexurl = \"x\"\n";
        let error = Layers::default().add_table(Path::new("x"), wrong, "packages");
        assert!(error.unwrap_err().message.contains("packages.index_url"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (file, variables, told) in [
            (
                "[server]\nprot = 1",
                [].as_slice(),
                "/etc/nb.toml: there is no setting server.prot; did you mean server.port?",
            ),
            (
                "[kernels.a]\njournal_max = 1",
                &[],
                "did you mean journal_bytes_max?",
            ),
            ("[zzz]\nx = 1", &[], "there is no setting zzz.x"),
            (
                "[sql.connections.a]\npasword_env = \"x\"",
                &[],
                "did you mean password_env?",
            ),
            (
                "[server]\nport = 70000",
                &[],
                "server.port, said by /etc/nb.toml,",
            ),
            ("[server]\nport = \"x\"", &[], "server.port"),
            ("[server\n", &[], "/etc/nb.toml: "),
            ("server = 1", &[], "there is no setting server"),
            (
                "",
                &[("NB_SERVER_PORT", "x")],
                "NB_SERVER_PORT is no whole number",
            ),
            (
                "",
                &[("NB_SERVER_HANDOVER", "x")],
                "server.handover, said by NB_SERVER_HANDOVER,",
            ),
        ] {
            let error = settle(file, variables).unwrap_err().message;
            assert!(error.contains(told), "{file:?}: {error}");
        }
    }

    /// The table of names and the settings themselves say the same.
    #[test]
    fn every_name_is_a_setting_and_every_setting_has_a_name() {
        let mut layers = Layers::default();
        let samples = |key: &Key| match (key.name, key.kind) {
            ("server.ip", _) => "\"127.0.0.1\"",
            ("server.handover", _) => "\"never\"",
            ("server.log_format", _) => "\"json\"",
            ("server.on_stop", _) => "\"end\"",
            ("packages.credentials", _) => "\"keyring\"",
            ("packages.index_strategy", _) => "\"unsafe-best-match\"",
            ("journal.mode" | "journal_mode", _) => "\"memory\"",
            (_, Kind::Integer) => "3",
            (_, Kind::Boolean) => "true",
            (_, Kind::Text) => "\"/x\"",
            (_, Kind::Texts) => "[\"a\", \"b\"]",
        };
        let mut file = String::new();
        for key in KEYS {
            let _infallible = writeln!(file, "{} = {}", key.name, samples(key));
        }
        for key in OF_A_SPEC {
            let _infallible = writeln!(file, "kernels.spec.{} = {}", key.name, samples(key));
        }
        for key in OF_A_CONNECTION {
            let value = samples(key);
            let _infallible = writeln!(file, "sql.connections.a.{} = {value}", key.name);
        }
        file += "sql.connections.a.options.\"adbc.x.y\" = \"1\"\n";
        layers.add_file(Path::new("x"), &file).unwrap();
        let settled = layers.settle().unwrap();
        let mut found = Vec::new();
        flatten(
            &mut Name::new(),
            Table::try_from(&settled.settings).unwrap(),
            &mut found,
        );
        let all = KEYS.len() + OF_A_SPEC.len() + OF_A_CONNECTION.len() + 1;
        assert_eq!(found.len(), all);
        for (name, value) in found {
            assert_eq!(settled.said[&name].0, value, "{name:?}");
        }
    }

    #[test]
    fn every_name_is_documented() {
        let page = include_str!("../../docs/configuration.md");
        for key in KEYS {
            let row = format!("| `{}` | `{}` |", key.name, variable(key.name));
            assert!(page.contains(&row), "{row}");
        }
        for key in OF_A_SPEC.iter().chain(OF_A_CONNECTION) {
            assert!(page.contains(&format!("`{}`", key.name)), "{}", key.name);
        }
    }

    proptest! {
        #[test]
        fn any_file_is_answered_without_a_panic(text in "[\\[\\]a-z.=\" 0-9\n{},#]{0,200}") {
            let mut layers = Layers::default();
            let _any = layers.add_file(Path::new("x"), &text);
            let _any = layers.settle();
        }
    }
}
