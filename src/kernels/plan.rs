//! From what somebody asks for to a kernel's start: its command, environment and working directory.
//!
//! Knows nothing of who may ask: whose kernel it is comes as a value.
//! One start's environment is made here from its own request and goes into its own `Start` alone;
//! nothing is shared between starts and nothing is written back. Blocks on the file system.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;
use serde_json::Value;
use uuid::Uuid;

use super::catalog::{Catalog, Listed};
use super::contract::{API, Around, Cull, JournalMode, JournalStart, Start};
use super::environment::{self, SESSION_NAME, Variables, WORKING_DIR, WORKSPACE};
use super::registry::parse_id;
use crate::config;
use crate::env::release::RELEASE;
use crate::env::workspace::Workspaces;
use crate::env::{KernelEnvironment, Kind};
use crate::error::Error;
use crate::protocol::connection_file::Transport;
use crate::protocol::kernelspec::is_valid_name;

/// The longest variable: well below what one may have in an `execve`.
const VARIABLE_BYTES_MAX: usize = 64 * 1024;

/// What somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The kernelspec.
    pub spec: Option<String>,
    pub place: Option<Place>,
    pub env: BTreeMap<String, String>,
}

/// Where a client says that the kernel belongs, as a path below the root folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder, or a file in it.
    Path(String),
    /// A notebook, which need not exist.
    Notebook(String),
}

/// Whose a kernel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    pub owner: String,
    /// The user whose credential starts it.
    pub started_by: String,
}

/// Why a start cannot be tried.
#[derive(Debug, PartialEq, Eq)]
pub enum PlanError {
    BadRequest(String),
    UnknownSpec(String),
    /// The kernel is to run where nb cannot start any.
    NotImplemented(String),
}

/// Makes starts out of requests.
#[derive(Clone, Debug)]
pub struct Planner {
    pub catalog: Catalog,
    pub root: PathBuf,
    pub home: PathBuf,
    /// What every kernel gets of the gateway's own environment, by [`environment::inherited`].
    pub inherited: BTreeMap<String, String>,
    /// nb's data folder, with its environments.
    pub data: PathBuf,
    /// The folder of the journals of all kernels.
    pub journals: PathBuf,
    pub config: config::Settings,
}

impl Planner {
    /// The start of a new kernel, `wishes` being what the request's environment asks for.
    pub fn plan(&self, asked: &Asked, wishes: Wishes, whose: Whose) -> Result<Start, PlanError> {
        let specs = self.catalog.read();
        let (name, listed) = specs
            .find(asked.spec.as_deref())
            .map_err(PlanError::UnknownSpec)?;
        if let Some(launcher) = listed.spec.foreign_launcher() {
            return Err(PlanError::NotImplemented(format!(
                "the kernelspec {name:?} is to be started by {launcher}, which nb does not have: it starts \
                 processes of this machine; without that entry in its metadata it is one"
            )));
        }
        let workspace = self.workspace_of(&wishes)?;
        let folder = wishes.folder.as_ref().map(PathBuf::from);
        // Clients send where the notebook is; who names a workspace wants that.
        let is_there = |folder: &PathBuf| {
            workspace
                .as_ref()
                .is_none_or(|workspace| folder.starts_with(workspace))
        };
        let folder = folder.filter(is_there).or(workspace);
        let place = asked.place.as_ref().map(|place| self.folder_of(place));
        let asked_for: Vec<PathBuf> = folder.into_iter().chain(place).collect();
        let (cwd, cwd_note) = choose_folder(&asked_for, &[&self.root, &self.home]);

        let mut env = self.inherited.clone();
        if let Some(Place::Notebook(path)) = &asked.place {
            env.insert(SESSION_NAME.to_owned(), path.clone());
        }
        let of_client: BTreeSet<String> = wishes.env.keys().cloned().collect();
        env.extend(wishes.env);
        // What the client asks for wins over the spec.
        let of_spec = env_of(listed, &env).filter(|(name, _)| !of_client.contains(name));
        let of_spec: Vec<_> = of_spec.collect();
        let before = |(name, _): &(String, String)| (name.clone(), env.get(name).cloned());
        let env_before = of_spec.iter().map(before).collect();
        env.extend(of_spec);
        let notebook = env.get(SESSION_NAME).filter(|path| !path.is_empty());
        let whose_environment = notebook.map_or_else(
            || wishes.id.to_string(),
            |path| {
                let path = self.root.join(path.trim_start_matches("./"));
                path.to_string_lossy().into_owned()
            },
        );
        let environment = environment_of(listed, &self.data, &whose_environment);

        let kernels = &self.config.kernels;
        let of_spec = kernels.of_spec.get(&name).cloned().unwrap_or_default();
        let launch_timeout_ms = wishes
            .launch_timeout_ms
            .or(of_spec.launch_timeout_ms)
            .unwrap_or(kernels.launch_timeout_ms)
            .min(kernels.launch_timeout_ms_max);
        let (own, all) = (&of_spec.cull, &kernels.cull);
        let yes = |own: Option<bool>, all: Option<bool>| own.or(all).unwrap_or(false);
        let cull = Cull {
            idle_s: least(own.cull_idle_s.or(all.cull_idle_s), wishes.cull_idle_s),
            connected: yes(own.cull_connected, all.cull_connected),
            busy: yes(own.cull_busy, all.cull_busy),
            age_max_s: own.age_max_s.or(all.age_max_s),
        };
        let (journal_bytes_max, journal) = self.journal(&of_spec, wishes.id);
        let transport = transport_of(listed);
        Ok(Start {
            format: API,
            kernel_id: wishes.id.to_string(),
            spec: name,
            argv: listed.argv(),
            language: listed.spec.language.clone(),
            interrupt_mode: listed.spec.interrupt_mode,
            resource_dir: listed.folder.clone(),
            env,
            cwd,
            cwd_note,
            transport: transport.unwrap_or(Transport::Ipc),
            tcp_instead: transport.is_none(),
            launch_timeout_ms,
            journal_bytes_max,
            journal,
            message_bytes_max: self.config.limits.message_bytes_max,
            cull,
            environment,
            around: Some(Around {
                data: self.data.clone(),
                kernelspecs: self.catalog.folders(),
                env_before,
            }),
            part: None,
            owner: whose.owner,
            started_by: whose.started_by,
            linger_ms: wishes.linger_ms,
        })
    }

    /// The tree of the workspace that the kernel is to work in.
    fn workspace_of(&self, wishes: &Wishes) -> Result<Option<PathBuf>, PlanError> {
        let Some(name) = &wishes.workspace else {
            return Ok(None);
        };
        let found = Workspaces::new(&self.data).find(name);
        let bad = |error: Error| PlanError::BadRequest(format!("{WORKSPACE}: {error}"));
        found.map(|found| Some(found.path)).map_err(bad)
    }

    /// How much the journal of this kernel may have, and where.
    fn journal(&self, of_spec: &config::OfSpec, id: Uuid) -> (u64, JournalStart) {
        let all = &self.config.journal;
        let mode = match of_spec.journal_mode.unwrap_or(all.mode) {
            config::JournalMode::Disk => JournalMode::Disk,
            config::JournalMode::Memory => JournalMode::Memory,
            config::JournalMode::Off => JournalMode::Off,
        };
        let bytes_max = of_spec.journal_bytes_max.unwrap_or(all.bytes_max);
        let in_memory = bytes_max.min(all.memory_bytes_max);
        let journal = JournalStart {
            mode,
            folder: self.journals.join(id.to_string()),
            memory_bytes_max: in_memory,
            user_bytes_max: all.user_bytes_max,
            retention_s: all.retention_s,
        };
        match mode {
            JournalMode::Disk => (bytes_max, journal),
            JournalMode::Memory | JournalMode::Off => (in_memory, journal),
        }
    }

    /// The folder that a place means; one that would lead out of the root is as good as none.
    fn folder_of(&self, place: &Place) -> PathBuf {
        let (Place::Path(path) | Place::Notebook(path)) = place;
        let relative = Path::new(path.trim_start_matches('/'));
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !relative.components().all(inside) {
            return self.root.clone();
        }
        let full = self.root.join(relative);
        let is_file = match place {
            Place::Notebook(_) => true,
            Place::Path(_) => full.is_file(),
        };
        match full.parent() {
            Some(parent) if is_file => parent.to_owned(),
            _ => full,
        }
    }
}

/// The environment of nb's that a spec names; one of a notebook's own is of `notebook`.
pub(super) fn environment_of(
    listed: &Listed,
    data: &Path,
    notebook: &str,
) -> Option<KernelEnvironment> {
    let nb = listed.spec.metadata.get("nb")?;
    let text = |key: &str| nb.get(key).and_then(Value::as_str);
    let kind = Kind::named(text("environment")?)?;
    let whose = match kind {
        Kind::Named => text("name").filter(|name| is_valid_name(name))?,
        Kind::Pycx | Kind::Pip => notebook,
    };
    Some(KernelEnvironment {
        kind,
        data: data.to_owned(),
        release: text(RELEASE).map(str::to_owned),
        whose: whose.to_owned(),
    })
}

/// What a spec adds to an environment.
pub(super) fn env_of(listed: &Listed, env: &Variables) -> impl Iterator<Item = (String, String)> {
    let sound = (listed.spec.env.iter())
        .filter(|(name, _)| is_sound_name(name) && !environment::is_withheld(name));
    sound.map(|(name, value)| (name.clone(), substitute(value, env)))
}

/// The transport that a spec asks for.
pub(super) fn transport_of(listed: &Listed) -> Option<Transport> {
    let nb = listed.spec.metadata.get("nb")?;
    match nb.get("transport")?.as_str()? {
        "tcp" => Some(Transport::Tcp),
        "ipc" => Some(Transport::Ipc),
        _ => None,
    }
}

/// What the environment of a request says: what is for the kernel, and what `KERNEL_*` names mean to us.
#[derive(Debug)]
pub struct Wishes {
    id: Uuid,
    folder: Option<String>,
    workspace: Option<String>,
    launch_timeout_ms: Option<u64>,
    cull_idle_s: Option<u64>,
    linger_ms: Option<u64>,
    /// All of them, for the kernel.
    env: BTreeMap<String, String>,
}

impl Wishes {
    /// Reads the environment of a request: of the names those with `KERNEL_` count and the `allowed` ones.
    pub fn read(asked: &Variables, allowed: &[String]) -> Result<Self, PlanError> {
        let bad = |message: String| PlanError::BadRequest(message);
        let mut env = BTreeMap::new();
        for (name, value) in asked {
            if !environment::may_be_set(name, allowed) {
                // As the other gateways do: clients send what they have.
                tracing::debug!(
                    name,
                    "a client may not set this variable, it is passed over"
                );
                continue;
            }
            if !is_sound_name(name) || value.contains('\0') {
                return Err(bad(format!(
                    "the variable {name:?} cannot be in an environment"
                )));
            }
            if name.len() + value.len() > VARIABLE_BYTES_MAX {
                return Err(bad(format!(
                    "a variable of the environment is over {VARIABLE_BYTES_MAX} bytes"
                )));
            }
            env.insert(name.clone(), value.clone());
        }
        let id = match env.get("KERNEL_ID") {
            Some(text) => parse_id(text)
                .ok_or_else(|| bad(format!("KERNEL_ID {text:?} is no UUID in lower case")))?,
            None => Uuid::new_v4(),
        };
        env.insert("KERNEL_ID".to_owned(), id.to_string());
        let launch_timeout_ms = match env.get("KERNEL_LAUNCH_TIMEOUT") {
            Some(text) => Some(milliseconds(text).ok_or_else(|| {
                bad(format!(
                    "KERNEL_LAUNCH_TIMEOUT {text:?} is no number of seconds over zero"
                ))
            })?),
            None => None,
        };
        let cull_idle_s = match env.get("KERNEL_CULL_IDLE_TIMEOUT") {
            Some(text) => {
                let seconds = milliseconds(text).map(|ms| ms.div_ceil(1000));
                Some(seconds.ok_or_else(|| {
                    bad(format!(
                        "KERNEL_CULL_IDLE_TIMEOUT {text:?} is no number of seconds over zero"
                    ))
                })?)
            }
            None => None,
        };
        let linger_ms = match env.get("KERNEL_LINGER") {
            Some(text) => Some(milliseconds(text).ok_or_else(|| {
                bad(format!(
                    "KERNEL_LINGER {text:?} is no number of seconds over zero"
                ))
            })?),
            None => None,
        };
        let text = |name: &str| env.get(name).filter(|text| !text.is_empty()).cloned();
        Ok(Self {
            id,
            folder: text(WORKING_DIR),
            workspace: text(WORKSPACE),
            launch_timeout_ms,
            cull_idle_s,
            linger_ms,
            env,
        })
    }

    /// The user that the kernel is to be for, as the request claims.
    pub fn username(&self) -> Option<&str> {
        self.env.get("KERNEL_USERNAME").map(String::as_str)
    }
}

/// What a client wishes, within what the server allows.
fn least(server: Option<u64>, client: Option<u64>) -> Option<u64> {
    match (server, client) {
        (Some(server), Some(client)) => Some(server.min(client)),
        (server, client) => server.or(client),
    }
}

/// A number of seconds as text, whole or not.
fn milliseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text
        .trim()
        .parse()
        .ok()
        .filter(|seconds: &f64| !seconds.is_nan())?;
    let duration = Duration::try_from_secs_f64(seconds.min(1e6)).ok()?;
    let ms = u64::try_from(duration.as_millis()).ok()?;
    (ms > 0).then_some(ms)
}

fn is_sound_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// The first folder that can be worked in, with a note if it is not the first that was asked for.
fn choose_folder(asked: &[PathBuf], others: &[&Path]) -> (PathBuf, Option<String>) {
    let mut all = asked
        .iter()
        .map(PathBuf::as_path)
        .chain(others.iter().copied());
    let chosen = all.find(|folder| is_usable(folder));
    let chosen = chosen.unwrap_or(Path::new("/")).to_owned();
    let missed = asked.first().filter(|asked| **asked != chosen);
    let note = missed.map(|asked| {
        let (asked, chosen) = (asked.display(), chosen.display());
        format!("The folder {asked} cannot be worked in here; this kernel works in {chosen}.")
    });
    (chosen, note)
}

fn is_usable(folder: &Path) -> bool {
    folder.is_absolute() && folder.is_dir() && rustix::fs::access(folder, Access::EXEC_OK).is_ok()
}

/// Fills `$NAME` and `${NAME}` in as Python's `Template.safe_substitute` does: `$$` is a dollar,
/// and what is not known stays as it is.
fn substitute(template: &str, env: &BTreeMap<String, String>) -> String {
    let mut output = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            output.push('$');
            rest = tail;
            continue;
        }
        let braced = after.strip_prefix('{');
        let name = identifier(braced.unwrap_or(after));
        let tail = &braced.unwrap_or(after)[name.len()..];
        let tail = match braced {
            Some(_) => tail.strip_prefix('}'),
            None => Some(tail),
        };
        match (env.get(name), tail) {
            (Some(value), Some(tail)) => {
                output.push_str(value);
                rest = tail;
            }
            _ => {
                output.push('$');
                rest = after;
            }
        }
    }
    output + rest
}

/// The name that a text begins with; it may be empty.
fn identifier(text: &str) -> &str {
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_alphabetic() || *c == '_' || *at > 0 && c.is_ascii_digit()))
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests;
