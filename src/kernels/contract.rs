//! What a gateway and a supervisor say to each other: the files of a kernel's folder and the bodies
//! of the supervisor's API, version 1.
//!
//! Supervisors outlive gateways, so both sides pass over keys that they do not know, and a key once
//! given keeps its meaning. Knows nothing of how either side works.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::env::KernelEnvironment;
use crate::magics::OtherKernel;
use crate::protocol::connection_file::Transport;
use crate::protocol::kernelspec::InterruptMode;

/// The version of this contract.
pub const API: u32 = 1;

/// The files in a kernel's folder, `<runtime>/kernels/<id>/`.
pub mod file {
    /// The start's request, 0600: it holds the kernel's environment.
    pub const START: &str = "start.json";
    /// What the supervisor knows of its kernel, written whole and renamed.
    pub const STATE: &str = "state.json";
    /// The Unix socket that the supervisor serves HTTP on.
    pub const SOCKET: &str = "supervisor.sock";
    /// The kernel's connection file.
    pub const CONNECTION: &str = "connection.json";
    /// What the kernel's process wrote itself, not by messages; of much the end alone is kept.
    pub const STDOUT: &str = "stdout";
    pub const STDERR: &str = "stderr";
    /// Requests that the kernel has not done, and client sessions: for whoever takes over. A link into shared memory,
    /// where there is some.
    pub const REQUESTS: &str = "requests";
    /// What the supervisor logs.
    pub const LOG: &str = "log";
    /// The environment that the kernel was rebased onto, 0600; there is none where it was not.
    pub const BASE: &str = "base.json";
}

/// How a kernel is to be started; kept for its restarts, never listed or logged.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// [`API`] of the writer.
    pub format: u32,
    pub kernel_id: String,
    /// The kernelspec's name, as REST shows it.
    pub spec: String,
    /// The command, with `{connection_file}` and `{resource_dir}` still to be filled in.
    pub argv: Vec<String>,
    pub language: String,
    pub interrupt_mode: InterruptMode,
    pub resource_dir: PathBuf,
    /// All of the kernel's environment: nothing is inherited.
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    /// Said once with the first cell when the working directory is not the one that was asked for.
    #[serde(default)]
    pub cwd_note: Option<String>,
    pub transport: Transport,
    /// Nobody has said that it must be that transport: a kernel that ends before it has bound a Unix socket is
    /// started again over TCP.
    #[serde(default)]
    pub tcp_instead: bool,
    pub launch_timeout_ms: u64,
    pub journal_bytes_max: u64,
    #[serde(default)]
    pub journal: JournalStart,
    /// A larger message of a client is refused.
    #[serde(default = "message_bytes_max")]
    pub message_bytes_max: u64,
    #[serde(default)]
    pub cull: Cull,
    /// Which of nb's environments it runs in; nothing where it is not one.
    #[serde(default)]
    pub environment: Option<KernelEnvironment>,
    /// What else can be started beside it; nothing where an older gateway has started it.
    #[serde(default)]
    pub around: Option<Around>,
    /// Whose other kernel it is, if it is one: then no listing has it.
    #[serde(default)]
    pub part: Option<Part>,
    /// The user whose kernel it is.
    pub owner: String,
    /// The user whose token started it; another one where that token acts for others.
    #[serde(default)]
    pub started_by: String,
    /// Once a client has been there, the kernel ends itself when it has had none for so long; it lives on
    /// when absent.
    #[serde(default)]
    pub linger_ms: Option<u64>,
}

/// Where kernels and environments are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// nb's data folder.
    pub data: PathBuf,
    /// The folders of kernelspecs, the first one wins.
    pub kernelspecs: Vec<PathBuf>,
    /// The variables that the kernelspec has set, as they were before: other kernels have those.
    #[serde(default)]
    pub env_before: BTreeMap<String, Option<String>>,
}

/// A kernel beside another one, behind that one's id: clients do not see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The id of the kernel that clients see.
    pub of: String,
    pub kernel: OtherKernel,
}

/// The key in [`Kernel::nb`] of the [`Part`] that a kernel is.
pub const PART: &str = "part";

/// Where what the kernel says is kept for clients that are away, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalStart {
    pub mode: JournalMode,
    /// The folder of this kernel's journal.
    pub folder: PathBuf,
    /// In memory where it is also in files; else `journal_bytes_max` is the bound.
    pub memory_bytes_max: u64,
    /// In files, all kernels of the owner together.
    pub user_bytes_max: u64,
    pub retention_s: u64,
}

/// Where a journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalMode {
    Disk,
    /// What starts of gateways that did not say it mean.
    #[default]
    Memory,
    /// Nothing is kept for clients that are away.
    Off,
}

/// When a kernel is ended by itself; never where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cull {
    /// It was not used for so long.
    pub idle_s: Option<u64>,
    /// Also while clients are connected.
    pub connected: bool,
    /// Also while it is busy.
    pub busy: bool,
    /// It is so old, whatever it does.
    pub age_max_s: Option<u64>,
}

/// What starts of gateways that did not say it mean.
fn message_bytes_max() -> u64 {
    256 * 1024 * 1024
}

impl fmt::Debug for Start {
    /// Without the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("kernel_id", &self.kernel_id)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// The one JSON line that a supervisor writes to its stdout once the first start has succeeded, has
/// failed or was ended by somebody; stdout is closed after it. A supervisor whose first start failed exits and removes its
/// folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "start", rename_all = "snake_case")]
pub enum Announcement {
    Ready,
    Failed(StartFailure),
    /// Its folder goes, and may be another's by the time that this is read.
    Ended,
}

/// Why a kernel did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    pub kind: StartFailureKind,
    /// One sentence.
    pub message: String,
    /// The end of what the kernel wrote to stderr.
    #[serde(default)]
    pub stderr_tail: String,
}

/// What went wrong with a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailureKind {
    /// The program could not be run.
    NotRun,
    /// It ended before it answered.
    Died,
    /// It did not answer in time.
    Deadline,
    /// Neither the asker nor the kernel could help it: no disk, no descriptors, a bug of ours.
    Internal,
}

/// The body of `GET /v1/about`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    pub api: u32,
    /// The version of nb.
    pub nb: String,
    pub kernel_id: String,
    /// The supervisor's own.
    pub pid: u32,
    /// In the format of `last_activity`.
    pub started: String,
}

/// The body of `GET /v1/kernel[?wait_ms=]`: answered at once, or with `wait_ms` when the kernel is
/// ready or dead or the time is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    pub id: String,
    /// The kernelspec's name.
    pub name: String,
    /// `starting`, `idle`, `busy`, `restarting` or `dead`.
    pub execution_state: String,
    /// `%Y-%m-%dT%H:%M:%S.%6fZ`.
    pub last_activity: String,
    pub connections: usize,
    #[serde(default)]
    pub notebook_sessions: Vec<NotebookSession>,
    #[serde(default)]
    pub owner: String,
    #[serde(default)]
    pub started_by: String,
    /// Anything more: reason, pids, what was lost.
    #[serde(default)]
    pub nb: Map<String, Value>,
}

/// The body of `GET /v1/logs/{stdout|stderr}[?after=][&bytes=]`: what the kernel's process wrote, from the
/// byte `after` on, or the last `bytes` when that is absent. At most `bytes` at once, 64 KiB unless said,
/// 512 KiB in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// What is no UTF-8 is replaced.
    pub text: String,
    /// To be asked for next.
    pub after: u64,
    /// Bytes after the asked one that are not kept any more.
    pub lost: u64,
}

/// The body of `GET /v1/journal[?after=][&msg_id=][&limit=]`: what the kernel has said, and is still held, after the
/// entry `after`; with `msg_id` only what answers that request, from its begin on when `after` is absent. A page is
/// about 1 MiB or `limit` entries, 100 unless said, 1000 in any case.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct JournalPage {
    /// To be asked for next; the last number that was looked at.
    pub after: u64,
    /// The newest number: there is no more when `after` is that.
    #[serde(default)]
    pub last: u64,
    /// Of the request that was asked for, as of before the entries were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestState>,
    pub entries: Vec<JournalEntry>,
}

/// One message in a [`JournalPage`].
#[derive(Debug, Serialize, Deserialize)]
pub struct JournalEntry {
    pub seq: u64,
    /// The client session whose it is alone; everybody's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// As in the legacy framing, without buffers.
    pub message: Box<RawValue>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestState {
    pub state: RequestPhase,
    /// Of what it has said, nothing is missing in this page.
    pub whole: bool,
    /// What it has said follows this entry; absent when nothing has come of it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// Where a request is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestPhase {
    /// It never came, or is long over.
    Unknown,
    /// Behind others.
    Waiting,
    Running,
    /// Its reply and its idle are there.
    Over,
}

/// The body of `POST /v1/requests`: the msg_ids of requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestsAsked {
    pub msg_ids: Vec<String>,
}

/// The answer to [`RequestsAsked`]. One that is over and that its client may not have the answer of is [`RequestPhase::Over`].
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestsKnown {
    /// Of each that was asked for, in their order.
    pub phases: Vec<RequestPhase>,
    /// The newest entry of the journal.
    pub last: u64,
}

/// The key in [`Kernel::nb`] of the supervisor's process as a `KeptPid`.
pub const SUPERVISOR_PROCESS: &str = "supervisor_process";

/// The key in [`Kernel::nb`] of the kernel's process as a `KeptPid`.
pub const KERNEL_PROCESS: &str = "kernel_process";

/// Jupyter's session object, without its kernel: the body of `PUT /v1/notebook-sessions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotebookSession {
    pub id: String,
    pub path: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub owner: String,
    /// When it was last written, in the format of `last_activity`: of two with one id the newer counts.
    pub updated: String,
}

/// How a client talks on its WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    V1,
    Legacy,
}

/// How the client's bytes reach the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// The client's socket comes as a file descriptor with the first byte of this record.
    Fd,
    /// The stream that this record came on goes on as the client's.
    Splice,
}

/// What follows the 101 of `POST /v1/attach` (`Connection: Upgrade`, `Upgrade: nb-attach`): the
/// supervisor sends the byte [`ATTACH_READY`], the gateway answers with four bytes of length, big-endian,
/// this as JSON, then `left` bytes that the client sent early.
///
/// Without the byte a descriptor could reach the supervisor's HTTP parser, which would drop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub session_id: String,
    pub framing: Framing,
    /// Who the client is, from its credential.
    pub identity: String,
    /// Names the credential, whose end ends the connection.
    #[serde(default)]
    pub credential: String,
    /// When the credential ends, in seconds since 1970; never when absent.
    #[serde(default)]
    pub expires: Option<u64>,
    pub left: usize,
    pub mode: AttachMode,
    /// The client breaks on binary frames and on text over 10 MiB: a stock jupyter_server.
    #[serde(default)]
    pub text_only: bool,
    /// The client named no session, so nobody comes back for the one that was made for it.
    #[serde(default)]
    pub unnamed: bool,
    /// What moves the client's cursor; records of older gateways mean pongs.
    #[serde(default)]
    pub acknowledges: Acknowledges,
    /// It looks for the cell that an earlier session of its user was watching, some seconds after it has
    /// come: VS Code.
    #[serde(default)]
    pub resumes: bool,
}

/// By what a client says how far it has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledges {
    /// A pong brings back the number that its ping carried.
    #[default]
    Pong,
    /// It forwards to somebody else and says `{"nb":{"ack":N}}` in a TEXT frame when that one has what came
    /// before the ping with N. Its pongs only say that it is there.
    Client,
}

/// The supervisor is ready for the record.
pub const ATTACH_READY: u8 = b'+';

/// The value of `Upgrade` in `POST /v1/attach`.
pub const ATTACH_PROTOCOL: &str = "nb-attach";

/// A record over this many bytes is refused.
pub const ATTACH_BYTES_MAX: usize = 16 * 1024;

/// More bytes than these do not travel with a handshake.
pub const LEFT_BYTES_MAX: usize = 64 * 1024;

/// The body of every answer of the supervisor that is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    pub reason: String,
    pub message: String,
    /// `user`, `kernel` or `nb`.
    pub fault: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
}
