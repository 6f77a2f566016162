//! From the variables of jupyter_enterprise_gateway and jupyter_kernel_gateway (`EG_…`, `KG_…`) to our
//! settings. Pure: text in, text out.
//!
//! Nothing is passed over in silence: what has no counterpart is listed with what to do about it.

use std::fmt::Write;

use toml::Value;

use super::keys::{KEYS, Kind};

/// What became of a file of variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// A configuration file of ours.
    pub toml: String,
    /// Variables without a counterpart, each with what to do about it.
    pub notes: Vec<(String, String)>,
}

/// How a variable without its prefix is mapped.
enum Rule {
    /// To this setting, as it is.
    Same(&'static str),
    /// From seconds to a setting in milliseconds.
    Seconds(&'static str),
    /// A number for which -1 means no bound.
    Bound(&'static str),
    /// To nothing, for this reason.
    Note(&'static str),
}

fn rule(name: &str) -> Rule {
    match name {
        "IP" => Rule::Same("server.ip"),
        "PORT" => Rule::Same("server.port"),
        "ALLOW_ORIGIN" => Rule::Same("server.origins"),
        "AUTHORIZED_USERS" => Rule::Same("auth.users_allowed"),
        "UNAUTHORIZED_USERS" => Rule::Same("auth.users_denied"),
        "CLIENT_ENVS" | "ENV_WHITELIST" => Rule::Same("kernels.env_allowed"),
        "INHERITED_ENVS" | "ENV_PROCESS_WHITELIST" => Rule::Same("kernels.env_inherited"),
        "MAX_KERNELS" => Rule::Bound("kernels.max"),
        "MAX_KERNELS_PER_USER" => Rule::Bound("kernels.max_per_user"),
        "KERNEL_LAUNCH_TIMEOUT" => Rule::Seconds("kernels.launch_timeout_ms"),
        "AUTH_TOKEN" => Rule::Note(
            "a secret: write it into a file that only you can read and name that in auth.token_file, or give \
             each user a token with `nb token add`",
        ),
        "LIST_KERNELS" => Rule::Note("not needed: a token lists its user's kernels"),
        "KERNEL_SESSION_PERSISTENCE" | "AVAILABILITY_MODE" | "PERSISTENCE_ROOT" => {
            Rule::Note("not needed: kernels and sessions outlive the gateway")
        }
        "ALLOW_CREDENTIALS" | "ALLOW_HEADERS" | "ALLOW_METHODS" | "EXPOSE_HEADERS" | "MAX_AGE" => {
            Rule::Note("not needed: the headers follow from server.origins")
        }
        "PORT_RANGE" | "PORT_RETRIES" | "MIN_PORT_RANGE_SIZE" | "MAX_PORT_RANGE_RETRIES" => {
            Rule::Note("not needed: kernels are reached over Unix sockets")
        }
        "WS_PING_INTERVAL_SECS" => Rule::Note("not needed: a quiet client is pinged every 20 s"),
        "KERNELSPEC_CACHE_ENABLED" => Rule::Note("not needed: changes on disk count at once"),
        "CERTFILE" | "KEYFILE" | "CLIENT_CA" | "SSL_VERSION" => {
            Rule::Note("there is no TLS yet: put a proxy with it in front")
        }
        "BASE_URL" => Rule::Note("there is no prefix yet: let a proxy remove it"),
        "DEFAULT_KERNEL_NAME" => Rule::Note("the default is python3, and cannot be set yet"),
        _ => Rule::Note("has no counterpart"),
    }
}

/// Reads lines of `NAME=value`, as a shell or systemd has them.
pub fn import_eg(text: &str) -> Import {
    let mut import = Import::default();
    let mut settings: Vec<(&str, Value, String)> = Vec::new();
    for (name, value) in text.lines().filter_map(assignment) {
        let Some(short) = name
            .strip_prefix("EG_")
            .or_else(|| name.strip_prefix("KG_"))
        else {
            continue;
        };
        let mapped = match rule(short) {
            Rule::Note(note) => Err(note.to_owned()),
            Rule::Same(key) => typed(key, &value).map(|value| Some((key, value))),
            Rule::Bound(_) if value == "-1" => Ok(None),
            Rule::Bound(key) => typed(key, &value).map(|value| Some((key, value))),
            Rule::Seconds(key) => match value.parse::<f64>() {
                Ok(seconds) if seconds > 0.0 && seconds < 1e9 => {
                    typed(key, &format!("{:.0}", seconds * 1000.0)).map(|value| Some((key, value)))
                }
                _ => Err(format!("{value:?} is no number of seconds")),
            },
        };
        match mapped {
            Ok(Some((key, value))) => {
                // As there, the newer prefix wins.
                let known = settings.iter().any(|(other, _, _)| *other == key);
                if !known || name.starts_with("EG_") {
                    settings.retain(|(other, _, _)| *other != key);
                    settings.push((key, value, name.to_owned()));
                }
            }
            Ok(None) => {}
            Err(note) => import.notes.push((name.to_owned(), note)),
        }
    }
    settings.sort_by_key(|(key, _, _)| *key);
    for (key, value, from) in settings {
        let _infallible = writeln!(import.toml, "{key} = {value}  # {from}");
    }
    import
}

/// A value as the setting wants it.
fn typed(key: &str, text: &str) -> Result<Value, String> {
    let kind = KEYS
        .iter()
        .find(|known| known.name == key)
        .map(|known| known.kind);
    match kind {
        Some(Kind::Integer) => {
            let number = text.trim().parse();
            number
                .map(Value::Integer)
                .map_err(|_| format!("{text:?} is no whole number"))
        }
        Some(Kind::Texts) => {
            let items = text.trim_matches(['[', ']']).split(',');
            let items = items.map(|item| item.trim().trim_matches(['\'', '"']));
            let items = items.filter(|item| !item.is_empty());
            Ok(Value::Array(
                items.map(|item| Value::String(item.to_owned())).collect(),
            ))
        }
        Some(Kind::Text | Kind::Boolean) | None => Ok(Value::String(text.to_owned())),
    }
}

/// `export NAME="value"` and the like; comments and other lines are none.
fn assignment(line: &str) -> Option<(&str, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let line = line.strip_prefix("Environment=").unwrap_or(line);
    let (name, value) = line.trim_matches('"').split_once('=')?;
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let value = value.trim();
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    is_name(name).then(|| (name, quoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn what_has_a_counterpart_is_mapped_and_the_rest_is_listed() {
        let import = import_eg(
            "# ours\nexport EG_PORT=9000\nKG_PORT=1\nEG_IP='0.0.0.0'\nEG_MAX_KERNELS=-1\n\
             EG_MAX_KERNELS_PER_USER=4\nEnvironment=\"EG_AUTHORIZED_USERS=ada, bob\"\nKG_AUTH_TOKEN=hush\n\
             EG_KERNEL_LAUNCH_TIMEOUT=1.5\nEG_YARN_ENDPOINT=http://y\nEG_ALLOW_ORIGIN=*\nPATH=/bin\n\
             EG_CLIENT_ENVS=A,B_*\nKG_ENV_PROCESS_WHITELIST=['C']\n",
        );
        let mut layers = Layers::default();
        layers.add_file(Path::new("x"), &import.toml).unwrap();
        let settings = layers.settle().unwrap().settings;
        assert_eq!(
            (settings.server.port, settings.server.ip.to_string()),
            (9000, "0.0.0.0".into())
        );
        assert_eq!(
            (settings.kernels.max, settings.kernels.max_per_user),
            (None, Some(4))
        );
        assert_eq!(settings.auth.users.users_allowed, ["ada", "bob"]);
        assert_eq!(settings.kernels.launch_timeout_ms, 1500);
        assert_eq!(settings.server.origins, ["*"]);
        assert_eq!(settings.kernels.env_allowed, ["A", "B_*"]);
        assert_eq!(settings.kernels.env_inherited, ["C"]);
        let noted: Vec<_> = import.notes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(noted, ["KG_AUTH_TOKEN", "EG_YARN_ENDPOINT"]);
        assert!(!format!("{import:?}").contains("hush"));
    }

    #[test]
    fn what_cannot_be_used_is_listed_with_its_reason() {
        let import = import_eg("EG_PORT=x\nEG_KERNEL_LAUNCH_TIMEOUT=soon");
        assert_eq!(import.toml, "");
        assert_eq!(import.notes[0].1, "\"x\" is no whole number");
        assert_eq!(import.notes[1].1, "\"soon\" is no number of seconds");
    }

    proptest! {
        /// Any variables: what comes out is a file that can be read, and each variable is in it or listed.
        #[test]
        fn what_comes_out_can_be_read(
            lines in prop::collection::vec("(EG|KG)_(PORT|IP|MAX_KERNELS|ALLOW_ORIGIN|X)=[ -~]{0,20}", 0..6),
        ) {
            let import = import_eg(&lines.join("\n"));
            let mut layers = Layers::default();
            prop_assert!(layers.add_file(Path::new("x"), &import.toml).is_ok(), "{}", import.toml);
        }
    }
}
