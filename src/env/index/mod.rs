//! Package indexes: which ones, how they are got at, and who asks. The one place that tells uv, pip and git of it.
//!
//! `sources` is the pure core: a command line, variables, pip's files (`pip_conf`) and the site's settings in layers. `credentials`
//! asks for logins, `netrc` and `login` read and write them, `typed` keeps those that somebody typed. pex runs pip: with
//! `--use-pip-config` it has what [`Access::of_pip`] says. Knows nothing of environments, nor of what is installed.
//!
//! A secret reaches a tool by its environment or by a file of ours that goes (0600), never by an argument.

mod credentials;
mod from;
mod login;
mod netrc;
mod pip_conf;
mod refusal;
mod sources;
mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use self::credentials::Asks;
pub use self::credentials::printed_by;
pub use self::from::From;
use self::login::{Login, Server, apart, with_login};
use self::netrc::Netrc;
use self::sources::Sources;
use super::Bundle;
use super::failure::Failure;
use crate::config;
use crate::plain_file;

pub(super) use refusal::refusal;
pub(super) use typed::without_logins;

/// A larger file names no requirements, and has no logins.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How a file with logins is called that has to be found when its process was killed.
const NETRC_END: &str = ".nb-netrc";

/// Git asks for a login by running this.
const HELPER: &str = r#"!f() { test "$1" != get || printf 'username=%s\npassword=%s\n' "$NB_GIT_USER_N" "$NB_GIT_PASSWORD_N"; }; f"#;

/// For whom access is gained.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    /// What the command line says.
    pub(super) from: &'a From,
    /// All of the environment that the tool runs in.
    pub(super) env: &'a BTreeMap<String, String>,
    /// The folder that it runs in.
    pub(super) folder: &'a Path,
    /// The folder of what it changes, where a file of ours may be for a while.
    pub(super) own: &'a Path,
}

/// What a tool runs with so that it gets at packages.
#[derive(Default)]
pub(super) struct Access {
    sources: Sources,
    /// Of whatever tool.
    common: Vec<(String, String)>,
    /// Dropped, it is gone.
    _netrc: Option<NetrcFile>,
}

impl Access {
    /// For a tool with these arguments.
    pub(super) async fn gain(asker: Asker<'_>, arguments: &[&str]) -> Result<Self, Failure> {
        let site = config::packages()?;
        let conf = pip_conf::read(asker.env);
        let mut sources = Sources::settle(asker.from, asker.env, &conf, &site);
        sources.make_sound(asker.env);
        let bundle = Bundle::of_this_program().map(|bundle| bundle.wheels());
        let wheels = bundle.map(|folder| folder.to_string_lossy().into_owned());
        sources.find_links.extend(wheels);
        let mut common = Vec::new();
        set_paths(&sources, asker.env, &mut common);
        let asks_nobody = matches!(arguments.first(), Some(&"venv" | &"python"));
        if asks_nobody || arguments.contains(&"--offline") {
            return Ok(Self {
                sources,
                common,
                _netrc: None,
            });
        }
        let known = netrc(&sources, asker.env)?;
        let asks = Asks {
            sources: &sources,
            env: asker.env,
            folder: asker.folder,
        };
        let (mut more, mut of_git) = (Vec::new(), Vec::new());
        for (server, is_git) in servers(arguments, asker) {
            let login = match typed::login(&server) {
                Some(login) => Some(login),
                None if asks.somebody() => {
                    let login = asks.login(&server.to_string()).await?;
                    more.extend(login.clone().map(|login| (server.host.clone(), login)));
                    login
                }
                None => known.find(&server.host).cloned(),
            };
            of_git.extend(login.filter(|_| is_git).map(|login| (server, login)));
        }
        set_git(asker.env, &of_git, &mut common);
        let mut logged_in = Vec::new();
        if asks.somebody() {
            for url in sources
                .index
                .iter()
                .chain(&sources.extra)
                .chain(&sources.find_links)
            {
                logged_in.push(complete(url, &asks).await?);
            }
        }
        let mut logged_in = logged_in.into_iter();
        let places = sources
            .index
            .iter_mut()
            .chain(&mut sources.extra)
            .chain(&mut sources.find_links);
        for (url, whole) in places.zip(&mut logged_in) {
            *url = whole;
        }
        more.extend(typed::logins());
        let netrc = match more.is_empty() {
            true => None,
            false => {
                let file = NetrcFile::write(asker.own, &known.below(more));
                Some(file.map_err(|error| {
                    Failure::new(format!("No file could be written for a login: {error}."))
                })?)
            }
        };
        let path = netrc
            .as_ref()
            .map(|file| file.path.to_string_lossy().into_owned());
        common.extend(
            path.or_else(|| sources.netrc.clone())
                .map(|path| ("NETRC".to_owned(), path)),
        );
        Ok(Self {
            sources,
            common,
            _netrc: netrc,
        })
    }

    /// For a tool that is run by whoever runs this process.
    pub(super) async fn of_process(own: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let env = process_env();
        let asker = Asker {
            from: &From::default(),
            env: &env,
            folder: Path::new("/"),
            own,
        };
        Self::gain(asker, arguments).await
    }

    /// The variables of uv.
    pub(super) fn of_uv(&self) -> Vec<(String, String)> {
        let sources = &self.sources;
        let list =
            |words: &[String], between: &str| (!words.is_empty()).then(|| words.join(between));
        let yes = |is: bool| is.then(|| "1".to_owned());
        let strategy = (sources.strategy != config::IndexStrategy::default())
            .then(|| sources.strategy.name().to_owned());
        let own = [
            ("UV_DEFAULT_INDEX", sources.index.clone()),
            ("UV_INDEX", list(&sources.extra, " ")),
            ("UV_INDEX_STRATEGY", strategy),
            ("UV_FIND_LINKS", list(&sources.find_links, ",")),
            ("UV_NO_INDEX", yes(sources.no_index)),
            ("UV_INSECURE_HOST", list(&sources.trusted_hosts, " ")),
            ("UV_OFFLINE", yes(sources.offline)),
        ];
        self.with_common(own)
    }

    /// The variables of pip, which win over its files.
    pub(super) fn of_pip(&self) -> Vec<(String, String)> {
        let sources = &self.sources;
        // uv's `name=URL`
        let url = |url: &String| match url.find("://").and_then(|at| url[..at].find('=')) {
            Some(at) => url[at + 1..].to_owned(),
            None => url.clone(),
        };
        let list = |words: &[String]| {
            let words: Vec<String> = words.iter().map(url).collect();
            (!words.is_empty()).then(|| words.join(" "))
        };
        let own = [
            ("PIP_NO_INPUT", Some("1".to_owned())),
            ("PIP_INDEX_URL", sources.index.as_ref().map(url)),
            ("PIP_EXTRA_INDEX_URL", list(&sources.extra)),
            ("PIP_FIND_LINKS", list(&sources.find_links)),
            ("PIP_NO_INDEX", sources.no_index.then(|| "1".to_owned())),
            ("PIP_TRUSTED_HOST", list(&sources.trusted_hosts)),
            ("PIP_CERT", sources.cert.clone()),
            ("PIP_PROXY", sources.proxy.clone()),
        ];
        self.with_common(own)
    }

    /// The variables of git.
    pub(super) fn of_git(&self) -> Vec<(String, String)> {
        self.common.clone()
    }

    fn with_common<const N: usize>(
        &self,
        own: [(&str, Option<String>); N],
    ) -> Vec<(String, String)> {
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        own.chain(self.common.iter().cloned()).collect()
    }
}

fn process_env() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// An address without its login.
pub(super) fn bare(url: &str) -> String {
    apart(url, &BTreeMap::new()).0
}

/// Whether a text has a repository with a login.
pub(super) fn has_login_of_git(text: &str, env: &BTreeMap<String, String>) -> bool {
    let mut addresses = text.lines().flat_map(|line| apart(line, env).1);
    addresses.any(|address| address.is_git && address.login.is_some())
}

/// A requirement as it is kept: without a login, unless that is the name of a variable.
pub(super) fn kept(line: &str, env: &BTreeMap<String, String>) -> String {
    match line.contains("${") {
        true => line.to_owned(),
        false => without_logins(line, env),
    }
}

/// What the logins of a tool were for has worked, or has not.
pub(super) fn settle(worked: bool) {
    match worked {
        true => typed::proven(),
        false => {
            typed::refused();
            credentials::forget();
        }
    }
}

/// The variables of certificates and proxies, which all tools have in common.
fn set_paths(
    sources: &Sources,
    env: &BTreeMap<String, String>,
    common: &mut Vec<(String, String)>,
) {
    let mut set = |name: &str, value: &str| common.push((name.to_owned(), value.to_owned()));
    if let Some(cert) = &sources.cert {
        set("SSL_CERT_FILE", cert);
        if !env.contains_key("GIT_SSL_CAINFO") {
            set("GIT_SSL_CAINFO", cert);
        }
    }
    if let Some(proxy) = &sources.proxy {
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            set(name, proxy);
        }
    }
    if !sources.no_proxy.is_empty() {
        for name in ["NO_PROXY", "no_proxy"] {
            set(name, &sources.no_proxy.join(","));
        }
    }
}

/// Git asks nobody, and for these servers it has a login.
fn set_git(
    env: &BTreeMap<String, String>,
    logins: &[(Server, Login)],
    common: &mut Vec<(String, String)>,
) {
    let mut set = |name: String, value: &str| common.push((name, value.to_owned()));
    set("GIT_TERMINAL_PROMPT".to_owned(), "0");
    if !env.contains_key("GIT_ASKPASS") {
        set("GIT_ASKPASS".to_owned(), "");
    }
    if logins.is_empty() {
        return;
    }
    let before = env
        .get("GIT_CONFIG_COUNT")
        .and_then(|count| count.parse().ok());
    let mut count: usize = before.unwrap_or(0);
    for (n, (server, login)) in logins.iter().enumerate() {
        let key = format!("credential.{server}.helper");
        // Those that were set before are not asked.
        for value in ["", &HELPER.replace("_N", &format!("_{n}"))] {
            set(format!("GIT_CONFIG_KEY_{count}"), &key);
            set(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        set(format!("NB_GIT_USER_{n}"), &login.user);
        set(format!("NB_GIT_PASSWORD_{n}"), &login.password);
    }
    set("GIT_CONFIG_COUNT".to_owned(), &count.to_string());
}

/// An address with the login that somebody is asked for, unless it has one.
async fn complete(url: &str, asks: &Asks<'_>) -> Result<String, Failure> {
    let (_, addresses) = apart(url, asks.env);
    let login = addresses.first().and_then(|address| address.login.as_ref());
    if addresses.is_empty() || login.is_some_and(|login| !login.password.is_empty()) {
        return Ok(url.to_owned());
    }
    let found = asks.login(url).await?;
    Ok(found.map_or_else(|| url.to_owned(), |login| with_login(url, &login)))
}

/// The servers that these arguments name, and the requirement files among them.
fn servers(arguments: &[&str], asker: Asker<'_>) -> BTreeSet<(Server, bool)> {
    let named = arguments.windows(2).filter_map(|pair| {
        let options = ["-r", "--requirement", "-c", "--constraint"];
        options.contains(&pair[0]).then_some(pair[1])
    });
    let texts = named
        .chain(arguments.last().copied())
        .filter_map(|file| plain_file::text(&asker.folder.join(file), FILE_BYTES_MAX).ok());
    let words = arguments.iter().map(|word| (*word).to_owned());
    let addresses = texts.chain(words).flat_map(|text| {
        let lines = text.lines().flat_map(|line| apart(line, asker.env).1);
        lines.collect::<Vec<_>>()
    });
    addresses
        .map(|address| (address.server, address.is_git))
        .collect()
}

/// The logins that tools find by themselves, or are to find.
fn netrc(sources: &Sources, env: &BTreeMap<String, String>) -> Result<Netrc, Failure> {
    let own = env
        .get("HOME")
        .map(|home| PathBuf::from(home).join(".netrc"));
    let named = sources.netrc.as_ref().map(PathBuf::from);
    let Some(path) = named.clone().or(own) else {
        return Ok(Netrc::default());
    };
    match plain_file::text(&path, FILE_BYTES_MAX) {
        Ok(text) => Ok(Netrc::read(&text)),
        Err(error) if named.is_some() && error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!(
                "The file of logins {} cannot be read: {error}.",
                path.display()
            )))
        }
        Err(error) if named.is_some() && !env.contains_key("NETRC") => Err(Failure::new(format!(
            "The file of logins {} cannot be read: {error}; packages.netrc names it.",
            path.display()
        ))),
        Err(_) => Ok(Netrc::default()),
    }
}

/// A file of logins that goes when this is dropped.
struct NetrcFile {
    path: PathBuf,
}

impl NetrcFile {
    fn write(own: &Path, netrc: &Netrc) -> io::Result<Self> {
        let folder = match own.is_dir() {
            true => {
                sweep(own);
                own.to_owned()
            }
            false => std::env::temp_dir(),
        };
        let path = folder.join(format!("{}{NETRC_END}", uuid::Uuid::new_v4()));
        let mut options = fs::File::options();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        let written = Self { path };
        file.write_all(netrc.write().as_bytes())?;
        Ok(written)
    }
}

impl Drop for NetrcFile {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

/// Removes what processes that were killed have left in a folder, which only one at a time changes.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(NETRC_END) {
            let _gone = fs::remove_file(entry.path());
        }
    }
}
