//! The runtime folder as the registry of this machine's kernels: one folder each, named by its id.
//!
//! Owns what lies where and who may remove it. Knows nothing of HTTP and asks no supervisor; all
//! of it blocks on the file system.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::contract::{self, JournalStart, Kernel};
use super::journals;
use super::kept_pid::KeptPid;
use super::shared_memory;
use crate::config::private_folder;
use crate::error::Error;

/// The longest path that a Unix socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A larger `state.json` is not read.
const STATE_BYTES_MAX: u64 = 1024 * 1024;

/// A folder in which no supervisor appeared for so long is not being started any more.
const START_MAX: Duration = Duration::from_secs(15 * 60);

/// The folder that holds all kernels' folders.
#[derive(Clone, Debug)]
pub struct Registry {
    kernels: PathBuf,
}

/// What is known of a kernel without asking its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Missing,
    /// A supervisor is about to take it.
    Starting,
    /// A living process holds it.
    Held,
    /// Its supervisor is gone, and its kernel was never ready: nobody can have it any more.
    Abandoned,
    /// Its supervisor is gone, and another one is to take the kernel over.
    Orphaned,
}

impl Registry {
    /// The registry in a runtime folder, which is made if it is not there.
    pub fn open(runtime: &Path) -> Result<Self, Error> {
        private_folder(runtime)?;
        let runtime = runtime
            .canonicalize()
            .map_err(|error| Error::user(format!("{}: {error}", runtime.display())))?;
        let kernels = runtime.join("kernels");
        private_folder(&kernels)?;
        match socket_path_excess(&runtime) {
            0 => Ok(Self { kernels }),
            bytes => Err(Error::user(format!(
                "the runtime folder {} has a name too long for sockets in it, by {bytes} bytes; \
                 choose a shorter one with --runtime-dir or NB_RUNTIME_DIR",
                runtime.display(),
            ))),
        }
    }

    /// The runtime folder itself.
    pub fn runtime(&self) -> &Path {
        self.kernels.parent().unwrap_or(&self.kernels)
    }

    /// A kernel's folder; it may not exist.
    pub fn folder(&self, id: Uuid) -> PathBuf {
        self.kernels.join(id.hyphenated().to_string())
    }

    /// The socket of a kernel's supervisor; it may not exist.
    pub fn socket(&self, id: Uuid) -> PathBuf {
        self.folder(id).join(contract::file::SOCKET)
    }

    /// Makes the folder of a new kernel; fails with `AlreadyExists` when the id is taken.
    pub fn create(&self, id: Uuid) -> io::Result<PathBuf> {
        let folder = self.folder(id);
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Until it is dropped nobody else, in whatever process, makes a folder for a kernel.
    pub fn turn_to_start(&self) -> io::Result<File> {
        let turn = File::open(&self.kernels)?;
        rustix::fs::flock(&turn, FlockOperation::LockExclusive)?;
        Ok(turn)
    }

    /// Whose the kernels are, one name for each that is there or is being started, but for those that are part of
    /// another one's notebook.
    pub fn owners(&self) -> io::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Owned {
            owner: String,
            #[serde(default)]
            part: Option<IgnoredAny>,
        }
        let owner = |id| {
            let start = File::open(self.folder(id).join(contract::file::START)).ok()?;
            let owned: Owned = serde_json::from_reader(BufReader::new(start)).ok()?;
            owned.part.is_none().then_some(owned.owner)
        };
        Ok(self.ids()?.into_iter().filter_map(owner).collect())
    }

    /// Whether a kernel ends by itself when its client has gone: one of `nb launch`.
    pub fn goes_with_its_client(&self, id: Uuid) -> bool {
        #[derive(Deserialize)]
        struct Lingers {
            #[serde(default)]
            linger_ms: Option<u64>,
        }
        let start = File::open(self.folder(id).join(contract::file::START));
        let lingers =
            start.map(|start| serde_json::from_reader::<_, Lingers>(BufReader::new(start)));
        matches!(lingers, Ok(Ok(Lingers { linger_ms: Some(_) })))
    }

    /// All kernels that have a folder.
    pub fn ids(&self) -> io::Result<Vec<Uuid>> {
        let mut ids: Vec<Uuid> = fs::read_dir(&self.kernels)?
            .flatten()
            .filter_map(|entry| parse_id(entry.file_name().to_str()?))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// What the supervisor last wrote down of its kernel.
    pub fn last_known(&self, id: Uuid) -> Option<Kernel> {
        let mut content = Vec::new();
        File::open(self.folder(id).join(contract::file::STATE))
            .ok()?
            .take(STATE_BYTES_MAX)
            .read_to_end(&mut content)
            .ok()?;
        serde_json::from_slice(&content)
            .inspect_err(|error| tracing::debug!(kernel = %id, %error, "state.json is not read"))
            .ok()
    }

    /// Whether somebody holds a kernel.
    ///
    /// The lock is only tried where a supervisor has been: one that is about to start must find it free.
    pub fn standing(&self, id: Uuid) -> Standing {
        let folder = self.folder(id);
        let Ok(metadata) = fs::metadata(&folder) else {
            return Standing::Missing;
        };
        let traces = [contract::file::STATE, contract::file::SOCKET];
        if !traces.iter().any(|name| folder.join(name).exists()) {
            let age = metadata
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_none_or(|age| age < START_MAX) {
                return Standing::Starting;
            }
        }
        match lock(&folder) {
            Ok(_free) if self.was_ready(id) => Standing::Orphaned,
            Ok(_free) => Standing::Abandoned,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Standing::Missing,
            Err(_) => Standing::Held,
        }
    }

    /// Whether somebody can have been told of the kernel.
    fn was_ready(&self, id: Uuid) -> bool {
        self.last_known(id).is_some_and(|kernel| {
            let is = |key: &str, test: fn(&Value) -> bool| kernel.nb.get(key).is_some_and(test);
            // Releases before these keys wrote their state down once the kernel was ready.
            is("kernel_started", |started| !started.is_null())
                || is("epoch", |epoch| {
                    epoch.as_u64().is_some_and(|epoch| epoch > 1)
                })
                || matches!(kernel.execution_state.as_str(), "idle" | "busy")
        })
    }

    /// Kernels whose supervisor has died and that another one is to take over.
    ///
    /// A lock is tried only where the process that held it is gone.
    pub fn orphaned(&self) -> io::Result<Vec<Uuid>> {
        let is_orphaned = |id: &Uuid| {
            let process = self.process(*id, contract::SUPERVISOR_PROCESS);
            process.is_some_and(|process| !process.is_alive())
                && self.standing(*id) == Standing::Orphaned
        };
        Ok(self.ids()?.into_iter().filter(is_orphaned).collect())
    }

    /// Kills a kernel's supervisor, which does not answer; false when it is not known who that is.
    pub fn kill_supervisor(&self, id: Uuid) -> bool {
        let process = self.process(id, contract::SUPERVISOR_PROCESS);
        process.is_some_and(KeptPid::kill_group)
    }

    /// Where a kernel's journal is.
    fn journal(&self, id: Uuid) -> Option<JournalStart> {
        #[derive(Deserialize)]
        struct Keeps {
            journal: JournalStart,
        }
        let start = File::open(self.folder(id).join(contract::file::START)).ok()?;
        let keeps: Keeps = serde_json::from_reader(BufReader::new(start)).ok()?;
        Some(keeps.journal)
    }

    fn process(&self, id: Uuid, key: &str) -> Option<KeptPid> {
        let kernel = self.last_known(id)?;
        serde_json::from_value(kernel.nb.get(key)?.clone()).ok()
    }

    /// Removes what is left of a kernel whose supervisor is gone, its process included; fails when
    /// one holds it.
    pub fn remove(&self, id: Uuid) -> io::Result<()> {
        let folder = self.folder(id);
        let _lock = lock(&folder)?;
        let process = self.process(id, contract::KERNEL_PROCESS);
        if process.is_some_and(KeptPid::kill_group) {
            tracing::warn!(kernel = %id, "ended a kernel that had lost its supervisor");
        }
        if let Some(start) = self.journal(id) {
            journals::remove_of(&start);
        }
        shared_memory::remove(&folder.join(contract::file::REQUESTS));
        fs::remove_dir_all(&folder)
    }
}

/// By how many bytes the sockets of kernels in this runtime folder have too long a path.
pub fn socket_path_excess(runtime: &Path) -> usize {
    let kernels = runtime.join("kernels");
    let socket = Registry { kernels }.socket(Uuid::nil());
    socket
        .as_os_str()
        .len()
        .saturating_sub(SOCKET_PATH_BYTES_MAX)
}

/// Takes the lock that a supervisor holds for life; it is free again when the file is closed.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// The id that these parts have, each time.
pub fn derived_id(parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
    Builder::from_random_bytes(head).into_uuid()
}

/// A kernel's id: a UUID in lower case with hyphens and nothing else.
pub fn parse_id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    #[test]
    fn an_id_is_taken_once_and_only_kernels_are_listed() {
        let runtime = tempfile::tempdir().unwrap();
        let registry = Registry::open(runtime.path()).unwrap();
        registry.create(ID).unwrap();
        let again = registry.create(ID).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        fs::create_dir(runtime.path().join("kernels/other")).unwrap();
        assert_eq!(registry.ids().unwrap(), [ID]);
        assert!(registry.last_known(ID).is_none());
    }

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let runtime = tempfile::tempdir().unwrap();
        let registry = Registry::open(runtime.path()).unwrap();
        assert_eq!(registry.standing(ID), Standing::Missing);
        let folder = registry.create(ID).unwrap();
        assert_eq!(registry.standing(ID), Standing::Starting);
        fs::write(folder.join(contract::file::STATE), "{}").unwrap();
        let held = lock(&folder).unwrap();
        assert_eq!(registry.standing(ID), Standing::Held);
        assert!(registry.remove(ID).is_err());
        drop(held);
        assert_eq!(registry.standing(ID), Standing::Abandoned);
        registry.remove(ID).unwrap();
        assert_eq!(registry.standing(ID), Standing::Missing);
    }

    #[test]
    fn a_runtime_folder_too_long_for_sockets_is_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let error = Registry::open(&root.path().join("x".repeat(60))).unwrap_err();
        assert!(error.message.contains("--runtime-dir"), "{error}");
    }

    #[test]
    fn other_spellings_of_an_id_are_none() {
        let id = "00000000-0000-4000-8000-00000000000a";
        assert!(parse_id(id).is_some());
        for other in [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            String::new(),
        ] {
            assert!(parse_id(&other).is_none(), "{other}");
        }
    }
}
