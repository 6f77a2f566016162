//! Where packages come from: the word that counts of a command line, variables, pip's files and the site's settings. Pure.
//!
//! Knows nothing of tools' variables but those that people set.

use std::collections::BTreeMap;

use super::From;
use super::login::sound;
use super::pip_conf::PipConf;
use crate::config::{Credentials, IndexStrategy, Packages};

/// What counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) index: Option<String>,
    /// They are asked first.
    pub(super) extra: Vec<String>,
    pub(super) find_links: Vec<String>,
    pub(super) no_index: bool,
    pub(super) trusted_hosts: Vec<String>,
    pub(super) cert: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) no_proxy: Vec<String>,
    pub(super) netrc: Option<String>,
    pub(super) credentials: Credentials,
    pub(super) command: Vec<String>,
    pub(super) strategy: IndexStrategy,
    pub(super) offline: bool,
}

impl std::fmt::Debug for Sources {
    /// Without what may hold a login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What one layer says.
#[derive(Clone, Default)]
struct Said {
    index: Option<String>,
    extra: Option<Vec<String>>,
    find_links: Option<Vec<String>>,
    no_index: Option<bool>,
    trusted_hosts: Option<Vec<String>>,
    cert: Option<String>,
    /// Empty: what the tools themselves know.
    proxy: Option<String>,
    no_proxy: Option<Vec<String>>,
    netrc: Option<String>,
    keyring: Option<bool>,
}

impl Sources {
    /// The command line wins over variables, those over the user's pip files, those over the site, and that over the
    /// machine's pip files. What a command line adds, as in `--extra-index-url`, is beside what the others say, as for pip.
    pub(super) fn settle(
        from: &From,
        env: &BTreeMap<String, String>,
        (of_machine, own): &(PipConf, PipConf),
        site: &Packages,
    ) -> Self {
        let below = [
            Said::of_variables(env),
            Said::of_pip(own),
            Said::of_site(site),
            Said::of_pip(of_machine),
        ];
        fn first<T: Clone>(layers: &[Said], of: impl Fn(&Said) -> &Option<T>) -> Option<T> {
            layers.iter().find_map(|said| of(said).clone())
        }
        let added = |typed: &[String], below: Option<Vec<String>>| {
            let mut all = typed.to_vec();
            all.extend(below.unwrap_or_default());
            all
        };
        let home = |path: String| match (path.strip_prefix("~/"), env.get("HOME")) {
            (Some(rest), Some(home)) => format!("{home}/{rest}"),
            _ => path,
        };
        let is_set = |text: &String| !text.is_empty();
        Self {
            index: from.index.clone().or_else(|| first(&below, |s| &s.index)),
            extra: added(&from.extra_indexes, first(&below, |s| &s.extra)),
            find_links: added(&from.find_links, first(&below, |s| &s.find_links))
                .into_iter()
                .map(home)
                .collect(),
            no_index: from.no_index || first(&below, |s| &s.no_index).unwrap_or_default(),
            trusted_hosts: added(&from.trusted_hosts, first(&below, |s| &s.trusted_hosts)),
            cert: from
                .cert
                .clone()
                .or_else(|| first(&below, |s| &s.cert))
                .map(home),
            proxy: from
                .proxy
                .clone()
                .or_else(|| first(&below, |s| &s.proxy))
                .filter(is_set)
                .map(|proxy| match proxy.contains("://") {
                    true => proxy,
                    false => format!("http://{proxy}"),
                }),
            no_proxy: first(&below, |s| &s.no_proxy).unwrap_or_default(),
            netrc: first(&below, |s| &s.netrc).map(home),
            credentials: match first(&below, |s| &s.keyring) {
                Some(true) => Credentials::Keyring,
                Some(false) | None => site.credentials,
            },
            command: site.credentials_command.clone(),
            strategy: site.index_strategy,
            offline: site.offline,
        }
    }
}

impl Sources {
    /// Logins are written as every tool reads them, and are secrets from now on.
    pub(super) fn make_sound(&mut self, env: &BTreeMap<String, String>) {
        let urls = self.index.iter_mut().chain(&mut self.extra);
        for url in urls.chain(&mut self.find_links).chain(&mut self.proxy) {
            *url = sound(url, env);
        }
    }
}

impl Said {
    /// Whoever sets uv's own variables knows what they want.
    fn of_variables(env: &BTreeMap<String, String>) -> Self {
        let text = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| env.get(*name));
            values.find(|value| !value.is_empty()).cloned()
        };
        let list = |names: &[&str], between: &[char]| {
            let words = text(names)?;
            let words = words.split(|c: char| c.is_whitespace() || between.contains(&c));
            let words = words.filter(|word| !word.is_empty());
            Some(words.map(str::to_owned).collect())
        };
        let proxies = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
        let of_tools = || {
            text(&proxies)
                .or_else(|| text(&["ALL_PROXY", "all_proxy"]))
                .map(|_| String::new())
        };
        let keyring = text(&["UV_KEYRING_PROVIDER", "PIP_KEYRING_PROVIDER"]);
        Self {
            index: text(&["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]),
            extra: list(
                &["UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"],
                &[],
            ),
            find_links: list(&["UV_FIND_LINKS"], &[',']).or_else(|| list(&["PIP_FIND_LINKS"], &[])),
            no_index: text(&["UV_NO_INDEX", "PIP_NO_INDEX"]).map(|value| is_true(&value)),
            trusted_hosts: list(&["UV_INSECURE_HOST", "PIP_TRUSTED_HOST"], &[]),
            cert: text(&["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"]),
            proxy: text(&["PIP_PROXY"]).or_else(of_tools),
            no_proxy: list(&["NO_PROXY", "no_proxy"], &[',']),
            netrc: text(&["NETRC"]),
            keyring: keyring.map(|provider| is_keyring(&provider)),
        }
    }

    fn of_pip(conf: &PipConf) -> Self {
        let text = |option: &str| conf.get(option).map(str::to_owned);
        let list = |option: &str| {
            let words = conf.get(option)?.split_whitespace();
            Some(words.map(str::to_owned).collect())
        };
        Self {
            index: text("index-url"),
            extra: list("extra-index-url"),
            find_links: list("find-links"),
            no_index: conf.get("no-index").map(is_true),
            trusted_hosts: list("trusted-host"),
            cert: text("cert"),
            proxy: text("proxy"),
            keyring: conf.get("keyring-provider").map(is_keyring),
            ..Self::default()
        }
    }

    fn of_site(site: &Packages) -> Self {
        let list = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned())
        };
        Self {
            index: site.index_url.clone(),
            extra: list(&site.extra_index_urls),
            trusted_hosts: list(&site.trusted_hosts),
            cert: path(&site.ca_bundle),
            proxy: site.proxy.clone(),
            no_proxy: list(&site.no_proxy),
            netrc: path(&site.netrc),
            ..Self::default()
        }
    }
}

/// As pip reads it.
fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["y", "yes", "t", "true", "on", "1"].contains(&value.as_str())
}

/// `auto`, which is how pip is by itself, asks no keyring unless the site says so.
fn is_keyring(provider: &str) -> bool {
    ["subprocess", "import"].contains(&provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn settle(from: &From, env: &BTreeMap<String, String>, site: &Packages) -> Sources {
        let none = (PipConf::default(), PipConf::default());
        Sources::settle(from, env, &none, site)
    }

    #[test]
    fn each_layer_wins_over_those_below() {
        let conf = |text: &str| PipConf::parse(text);
        let of_machine = conf("[global]\nindex-url = machine\nproxy = p:1\ncert = ~/ca\n");
        let own = conf("[global]\nindex-url = own\nextra-index-url = e1 e2\n");
        let site = Packages {
            index_url: Some("site".to_owned()),
            extra_index_urls: words(&["e3"]),
            trusted_hosts: words(&["h"]),
            ..Packages::default()
        };
        let home = env(&[("HOME", "/h")]);
        let none = PipConf::default();
        let mut from = From::default();
        let confs = (of_machine.clone(), none);
        let sources = Sources::settle(&from, &home, &confs, &site);
        assert_eq!(sources.index.as_deref(), Some("site"));
        assert_eq!(sources.proxy.as_deref(), Some("http://p:1"));
        assert_eq!(sources.cert.as_deref(), Some("/h/ca"));
        let confs = (of_machine, own);
        let sources = Sources::settle(&from, &home, &confs, &site);
        assert_eq!(sources.index.as_deref(), Some("own"));
        assert_eq!(sources.extra, ["e1", "e2"]);
        let set = env(&[("PIP_INDEX_URL", "pip"), ("HTTPS_PROXY", "x")]);
        let sources = Sources::settle(&from, &set, &confs, &site);
        // Of a proxy that the tools know themselves nothing has to be said.
        assert_eq!(
            (sources.index.as_deref(), sources.proxy.as_deref()),
            (Some("pip"), None)
        );
        from.index = Some("typed".to_owned());
        from.extra_indexes = words(&["e0"]);
        let sources = Sources::settle(&from, &set, &confs, &site);
        assert_eq!(sources.index.as_deref(), Some("typed"));
        assert_eq!(sources.extra, ["e0", "e1", "e2"]);
        assert_eq!(sources.trusted_hosts, ["h"]);
    }

    #[test]
    fn uvs_variables_win_over_pips_and_empty_ones_say_nothing() {
        let site = Packages::default();
        let both = env(&[
            ("PIP_INDEX_URL", "https://a"),
            ("PIP_FIND_LINKS", "/x  /y"),
            ("PIP_CERT", ""),
        ]);
        let sources = settle(&From::default(), &both, &site);
        assert_eq!(sources.index.as_deref(), Some("https://a"));
        assert_eq!(sources.find_links, ["/x", "/y"]);
        assert_eq!(sources.cert, None);
        let own = env(&[
            ("PIP_INDEX_URL", "https://a"),
            ("UV_INDEX_URL", "https://c"),
            ("PIP_KEYRING_PROVIDER", "subprocess"),
            ("PIP_NO_INDEX", "0"),
        ]);
        let sources = settle(&From::default(), &own, &site);
        assert_eq!(sources.index.as_deref(), Some("https://c"));
        assert_eq!(sources.credentials, Credentials::Keyring);
        assert!(!sources.no_index);
    }
}
