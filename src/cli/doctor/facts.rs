//! What the doctor knows of a machine, as plain values: nothing here looks anything up or judges.

use std::path::PathBuf;

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What is wrong with the configuration, as a sentence.
    pub(super) configuration: Result<(), String>,
    /// The user that asks, and that everything of nb runs as.
    pub(super) uid: u32,
    /// The address or the socket that the gateway would listen on.
    pub(super) address: String,
    pub(super) port: Port,
    pub(super) folders: Vec<Folder>,
    /// How many bytes the path of a kernel's socket is too long.
    pub(super) socket_path_excess: usize,
    pub(super) specs: Vec<Spec>,
    /// Whether there is a release of PyCX.
    pub(super) has_pycx: bool,
    pub(super) companions: Vec<Companion>,
    pub(super) limits: Limits,
    pub(super) supervisors: Vec<Supervisor>,
    /// What `python3 --version` says, as major and minor number.
    pub(super) python: Option<(u32, u32)>,
    /// The uv that would be used.
    pub(super) uv: Option<PathBuf>,
}

/// Whether the gateway could listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Free,
    /// A gateway of nb does already.
    Nb {
        pid: u32,
    },
    /// Somebody else does; who, where that can be known.
    Taken(Option<String>),
    /// There is no such address here, or it is not ours to use.
    Unusable(String),
}

/// A folder that nb keeps its things in.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// What it is for.
    pub(super) name: &'static str,
    /// What would choose another one.
    pub(super) setting: &'static str,
    pub(super) path: PathBuf,
    pub(super) state: FolderState,
    /// On its disk, for us; not known when absent.
    pub(super) free_bytes: Option<u64>,
}

/// What lies at a folder's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FolderState {
    /// Nothing yet, and whether it could be made.
    Missing {
        can_be_made: bool,
    },
    Link,
    NoFolder,
    Folder {
        uid: u32,
        mode: u32,
    },
}

/// A kernelspec.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) state: SpecState,
}

/// What would come of its start, as far as can be told without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SpecState {
    Startable,
    Broken(String),
    /// Its program is not there, or cannot be run.
    NoProgram(String),
    /// It is to be started by a class that nb does not have.
    Foreign(String),
}

/// A jupyter_server, and the companion in it.
#[derive(Clone, Debug)]
pub(super) struct Companion {
    /// The environment's folder.
    pub(super) environment: PathBuf,
    /// `nb up` keeps it up to date by itself.
    pub(super) of_up: bool,
    pub(super) state: CompanionState,
}

pub(super) use crate::env::CompanionState;

/// What a process may have; absent is unlimited or not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) descriptors: Option<u64>,
    pub(super) processes: Option<u64>,
    /// Left in our control group.
    pub(super) memory_bytes: Option<u64>,
    /// Left in our control group.
    pub(super) pids: Option<u64>,
    /// Free in `/dev/shm`.
    pub(super) shared_memory_bytes: Option<u64>,
}

/// A kernel's folder in the registry.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    pub(super) id: String,
    pub(super) state: SupervisorState,
}

/// What is known of its supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SupervisorState {
    /// It answers: the version of its API and of its nb.
    Answers {
        api: u32,
        nb: String,
    },
    Silent(String),
    /// Nobody holds the kernel any more.
    Dead,
    /// It has died, and another one is to take the kernel over.
    Lost,
    Starting,
}
