//! What the gateway can be told, with its defaults. Each number has its unit in its name.
//!
//! Knows nothing of where a value came from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub server: Server,
    pub auth: Auth,
    pub kernels: Kernels,
    pub journal: Journal,
    pub packages: Packages,
    pub sql: Sql,
    pub limits: Limits,
}

/// Where and how the gateway serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    pub ip: IpAddr,
    pub port: u16,
    /// A Unix socket to listen on instead.
    pub sock: Option<PathBuf>,
    /// Whom a gateway that is started as root runs for.
    pub user: Option<String>,
    /// The current folder when absent.
    pub root: Option<PathBuf>,
    /// That of [`super::Places`] when absent.
    pub runtime_dir: Option<PathBuf>,
    pub handover: Handover,
    /// Origins of pages that may connect besides our own, as browsers write them, or `*`.
    pub origins: Vec<String>,
    /// The log when absent.
    pub audit_file: Option<PathBuf>,
    pub log_format: LogFormat,
    /// What is logged, as `tracing` filters have it; `NB_LOG` wins over it.
    pub log_level: String,
    pub list_deadline_ms: u64,
    pub drain_ms: u64,
    pub on_stop: OnStop,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8888,
            sock: None,
            user: None,
            root: None,
            runtime_dir: None,
            handover: Handover::default(),
            origins: Vec::new(),
            audit_file: None,
            log_format: LogFormat::default(),
            log_level: "info".to_owned(),
            list_deadline_ms: 100,
            drain_ms: 5_000,
            on_stop: OnStop::default(),
        }
    }
}

/// What lines of a log are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object each.
    Json,
}

impl LogFormat {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What becomes of kernels when the gateway is told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum OnStop {
    /// They live on.
    #[default]
    Keep,
    /// They end too.
    End,
}

/// How client connections reach their supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Handover {
    /// As a descriptor where that works: the gateway leaves the path.
    #[default]
    Auto,
    /// Every byte through the gateway.
    Never,
}

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// `NB_TOKEN`, else a token that is made and kept, when absent.
    pub token_file: Option<PathBuf>,
    #[serde(flatten)]
    pub users: Users,
}

/// Who may start kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Users {
    /// Everybody when empty.
    pub users_allowed: Vec<String>,
    /// Wins over `users_allowed`.
    pub users_denied: Vec<String>,
}

impl Users {
    /// Whether this user may.
    pub fn may(&self, user: &str) -> bool {
        let is_in = |users: &[String]| users.iter().any(|name| name == user);
        !is_in(&self.users_denied) && (self.users_allowed.is_empty() || is_in(&self.users_allowed))
    }
}

/// How kernels are started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kernels {
    /// Kernels at once; no bound when absent.
    pub max: Option<u64>,
    /// Kernels of one user at once; no bound when absent.
    pub max_per_user: Option<u64>,
    #[serde(flatten)]
    pub cull: Culling,
    pub launch_timeout_ms: u64,
    /// No client can make a start wait longer.
    pub launch_timeout_ms_max: u64,
    /// Of `nb launch`, whose client is gone without having ended it.
    pub linger_ms: u64,
    /// Variables that a client may set beside `KERNEL_*`; `*` in one stands for any text.
    pub env_allowed: Vec<String>,
    /// Variables of the gateway's own that kernels have beside the usual ones, likewise.
    pub env_inherited: Vec<String>,
    /// What differs for the kernels of one kernelspec.
    #[serde(flatten)]
    pub of_spec: BTreeMap<String, OfSpec>,
}

impl Default for Kernels {
    fn default() -> Self {
        Self {
            max: None,
            max_per_user: None,
            cull: Culling::default(),
            launch_timeout_ms: 60_000,
            launch_timeout_ms_max: 600_000,
            linger_ms: 600_000,
            env_allowed: Vec::new(),
            env_inherited: Vec::new(),
            of_spec: BTreeMap::new(),
        }
    }
}

/// The table `[kernels.<spec>]`; what is absent is as for all kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfSpec {
    #[serde(flatten)]
    pub users: Users,
    #[serde(flatten)]
    pub cull: Culling,
    pub launch_timeout_ms: Option<u64>,
    pub journal_bytes_max: Option<u64>,
    pub journal_mode: Option<JournalMode>,
}

/// When kernels are ended by themselves; what is absent is never, or no.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Culling {
    pub cull_idle_s: Option<u64>,
    pub cull_connected: Option<bool>,
    pub cull_busy: Option<bool>,
    pub age_max_s: Option<u64>,
}

/// What is kept for clients that are away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    pub mode: JournalMode,
    /// A folder of the state folder when absent.
    pub dir: Option<PathBuf>,
    /// For each kernel.
    pub bytes_max: u64,
    /// For each kernel, in memory.
    pub memory_bytes_max: u64,
    /// In files, all kernels of one user together.
    pub user_bytes_max: u64,
    /// How long files stay that nobody needs any more.
    pub retention_s: u64,
}

/// Where what kernels say is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalMode {
    /// In files, as far as clients are away.
    #[default]
    Disk,
    Memory,
    /// Not at all: a client that was away has missed what was said.
    Off,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            mode: JournalMode::default(),
            dir: None,
            bytes_max: 512 * 1024 * 1024,
            memory_bytes_max: 128 * 1024 * 1024,
            user_bytes_max: 8 * 1024 * 1024 * 1024,
            retention_s: 3600,
        }
    }
}

/// What cells with SQL may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sql {
    /// Of one result, in Arrow's form.
    pub result_bytes_max: u64,
    pub connections: BTreeMap<String, Connection>,
}

impl Default for Sql {
    fn default() -> Self {
        Self {
            result_bytes_max: 4 * 1024 * 1024 * 1024,
            connections: BTreeMap::new(),
        }
    }
}

/// The table `[sql.connections.<name>]`: a database. The password is elsewhere.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    pub driver: String,
    pub uri: Option<String>,
    pub user: Option<String>,
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
    /// A program and its arguments.
    pub password_command: Option<Vec<String>>,
    /// As the driver has them.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for Connection {
    /// Without what may hold a login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

/// Where packages come from, as a site says it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Packages {
    /// As the tools have it when absent.
    pub index_url: Option<String>,
    pub extra_index_urls: Vec<String>,
    pub index_strategy: IndexStrategy,
    pub credentials: Credentials,
    /// A program and its arguments.
    pub credentials_command: Vec<String>,
    /// `$NETRC`, else `~/.netrc`, when absent.
    pub netrc: Option<PathBuf>,
    /// The certificates of the machine when absent.
    pub ca_bundle: Option<PathBuf>,
    pub proxy: Option<String>,
    pub no_proxy: Vec<String>,
    pub trusted_hosts: Vec<String>,
    pub offline: bool,
}

impl std::fmt::Debug for Packages {
    /// Without what may hold a login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packages")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Who is asked for the login of an index that says none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    #[default]
    Netrc,
    /// The program of the keyring.
    Keyring,
    Command,
}

/// Which of several indexes counts for a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexStrategy {
    /// The first one that has it.
    #[default]
    FirstIndex,
    /// The first one with a version that fits.
    UnsafeFirstMatch,
    /// All of them, as for pip.
    UnsafeBestMatch,
}

impl IndexStrategy {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstIndex => "first-index",
            Self::UnsafeFirstMatch => "unsafe-first-match",
            Self::UnsafeBestMatch => "unsafe-best-match",
        }
    }
}

/// What clients may send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// One message on a WebSocket.
    pub message_bytes_max: u64,
    /// The body of a request.
    pub body_bytes_max: u64,
    /// Until the head of a request is there.
    pub head_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 256 * 1024 * 1024,
            body_bytes_max: 1024 * 1024,
            head_timeout_ms: 60_000,
        }
    }
}
