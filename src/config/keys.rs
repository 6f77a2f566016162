//! The names of all settings, each with what it is for: what a file may say, what a variable may be
//! called, what the documentation lists.
//!
//! A setting `server.port` is `port` in the table `[server]` of the file and `NB_SERVER_PORT` in the
//! environment.

use self::Kind::{Boolean, Integer, Text, Texts};

/// What a setting's value is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    /// A list in the file, separated by commas in a variable.
    Texts,
}

/// One setting.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) what: &'static str,
}

const fn key(name: &'static str, kind: Kind, what: &'static str) -> Key {
    Key { name, kind, what }
}

/// All settings that are not of one kernelspec.
pub(super) const KEYS: &[Key] = &[
    key("server.ip", Text, "the address to listen on"),
    key(
        "server.port",
        Integer,
        "the port to listen on; 0 takes any that is free",
    ),
    key(
        "server.sock",
        Text,
        "a Unix socket to listen on instead of address and port",
    ),
    key(
        "server.user",
        Text,
        "whom a gateway that is started as root runs for, and its kernels",
    ),
    key(
        "server.root",
        Text,
        "the folder that paths of clients are below of",
    ),
    key(
        "server.runtime_dir",
        Text,
        "sockets and the registry of kernels; a short path",
    ),
    key(
        "server.handover",
        Text,
        "auto, or never: every byte of a WebSocket goes through the gateway",
    ),
    key(
        "server.origins",
        Texts,
        "pages of which other origins may connect, or *",
    ),
    key(
        "server.audit_file",
        Text,
        "where each start, stop, connect and refusal is noted",
    ),
    key(
        "server.log_format",
        Text,
        "text, or json: each line of the log is an object",
    ),
    key(
        "server.log_level",
        Text,
        "what is logged: error, warn, info, debug, or as RUST_LOG; NB_LOG wins",
    ),
    key(
        "server.list_deadline_ms",
        Integer,
        "how long a listing waits for one kernel's supervisor",
    ),
    key(
        "server.drain_ms",
        Integer,
        "how long requests may take when the gateway ends",
    ),
    key(
        "server.on_stop",
        Text,
        "keep, or end: what becomes of kernels when the gateway is told to end",
    ),
    key("auth.token_file", Text, "a file that holds the token"),
    key(
        "auth.users_allowed",
        Texts,
        "who may start kernels; everybody when empty",
    ),
    key(
        "auth.users_denied",
        Texts,
        "who may not, whatever else is said",
    ),
    key("kernels.max", Integer, "so many kernels at once"),
    key(
        "kernels.max_per_user",
        Integer,
        "so many kernels of one user at once",
    ),
    key(
        "kernels.cull_idle_s",
        Integer,
        "a kernel that was not used for so long is ended",
    ),
    key(
        "kernels.cull_connected",
        Boolean,
        "also while clients are connected",
    ),
    key("kernels.cull_busy", Boolean, "also while it is busy"),
    key(
        "kernels.age_max_s",
        Integer,
        "a kernel of this age is ended, whatever it does",
    ),
    key(
        "kernels.launch_timeout_ms",
        Integer,
        "how long a kernel's start may take",
    ),
    key(
        "kernels.launch_timeout_ms_max",
        Integer,
        "how long a client may make it take",
    ),
    key(
        "kernels.linger_ms",
        Integer,
        "how long a kernel of nb launch lives on without a client",
    ),
    key(
        "kernels.env_allowed",
        Texts,
        "what clients may set in a kernel's environment beside KERNEL_*",
    ),
    key(
        "kernels.env_inherited",
        Texts,
        "what kernels get of the gateway's environment beside the usual",
    ),
    key(
        "journal.mode",
        Text,
        "disk, memory or off: where output is kept for clients that are away",
    ),
    key(
        "journal.dir",
        Text,
        "the folder of the journals; no tmpfs, and not of another machine",
    ),
    key(
        "journal.bytes_max",
        Integer,
        "how much of a kernel's output is kept for clients that are away",
    ),
    key(
        "journal.memory_bytes_max",
        Integer,
        "how much of that may be in memory",
    ),
    key(
        "journal.user_bytes_max",
        Integer,
        "how much all kernels of one user may have in files",
    ),
    key(
        "journal.retention_s",
        Integer,
        "how long files stay that no client needs any more",
    ),
    key(
        "packages.index_url",
        Text,
        "where packages come from; PyPI when nothing says it",
    ),
    key(
        "packages.extra_index_urls",
        Texts,
        "further indexes, which are asked first",
    ),
    key(
        "packages.index_strategy",
        Text,
        "first-index, unsafe-first-match or unsafe-best-match: which of several indexes counts",
    ),
    key(
        "packages.credentials",
        Text,
        "netrc, keyring or command: who is asked for logins",
    ),
    key(
        "packages.credentials_command",
        Texts,
        "the program and its arguments; it gets the URL and prints user:password or a token",
    ),
    key("packages.netrc", Text, "another file than ~/.netrc"),
    key(
        "packages.ca_bundle",
        Text,
        "a PEM file of the certificates that are trusted",
    ),
    key(
        "packages.proxy",
        Text,
        "the proxy to packages and repositories",
    ),
    key("packages.no_proxy", Texts, "hosts that are had without it"),
    key(
        "packages.trusted_hosts",
        Texts,
        "hosts whose certificates are not looked at",
    ),
    key("packages.offline", Boolean, "nothing but the cache is used"),
    key(
        "sql.result_bytes_max",
        Integer,
        "a larger result of a query is an error",
    ),
    key(
        "limits.message_bytes_max",
        Integer,
        "a larger message of a client is refused",
    ),
    key(
        "limits.body_bytes_max",
        Integer,
        "a larger body of a request is refused",
    ),
    key(
        "limits.head_timeout_ms",
        Integer,
        "how long the head of a request may take",
    ),
];

/// What a table `[kernels.<spec>]` may say, for the kernels of that kernelspec alone.
pub(super) const OF_A_SPEC: &[Key] = &[
    key("launch_timeout_ms", Integer, "as kernels.launch_timeout_ms"),
    key("journal_bytes_max", Integer, "as journal.bytes_max"),
    key("journal_mode", Text, "as journal.mode"),
    key("cull_idle_s", Integer, "as kernels.cull_idle_s"),
    key("cull_connected", Boolean, "as kernels.cull_connected"),
    key("cull_busy", Boolean, "as kernels.cull_busy"),
    key("age_max_s", Integer, "as kernels.age_max_s"),
    key("users_allowed", Texts, "as auth.users_allowed"),
    key("users_denied", Texts, "as auth.users_denied"),
];

/// What a table `[sql.connections.<name>]` may say.
pub(super) const OF_A_CONNECTION: &[Key] = &[
    key(
        "driver",
        Text,
        "duckdb, sqlite, postgresql, or what the ADBC driver manager finds",
    ),
    key("uri", Text, "what the driver connects to"),
    key("user", Text, "who logs in"),
    key(
        "password_env",
        Text,
        "the variable of the kernel that holds the password",
    ),
    key("password_file", Text, "the file that holds the password"),
    key(
        "password_command",
        Texts,
        "the program and its arguments that prints the password",
    ),
];

/// What stands in a table `[sql.connections.<name>.options]`, whatever it is called.
pub(super) const OPTION: Key = key("options", Text, "an option of the driver");

/// The variable of a setting.
pub fn variable(name: &str) -> String {
    format!("NB_{}", name.replace('.', "_").to_ascii_uppercase())
}
