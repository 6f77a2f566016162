//! Looks at this machine. Judges nothing, changes nothing, and waits for nothing long.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};
use tokio::process::Command;
use tokio::time::timeout;

use super::checks::program_of;
use super::facts::{
    Companion, Facts, Folder, FolderState, Limits, Spec, SpecState, Supervisor, SupervisorState,
};
use super::ports;
use crate::config::{self, Places};
use crate::env::release::Releases;
use crate::env::{Environment, Uv, companion_in, own_kernelspecs};
use crate::error::Error;
use crate::kernels::catalog::{Catalog, Listed};
use crate::kernels::client;
use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::registry::{Registry, Standing, socket_path_excess};

/// How long a supervisor or a program may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// All facts.
pub(super) async fn facts() -> Result<Facts, Error> {
    let places = Places::from_env()?;
    let settled = config::load().and_then(config::Layers::settle);
    let (configuration, settings) = match settled {
        Ok(settled) => (Ok(()), settled.settings),
        Err(error) => (Err(error.message), config::Settings::default()),
    };
    let runtime = settings
        .server
        .runtime_dir
        .as_ref()
        .unwrap_or(&places.runtime);
    let (address, port) = match &settings.server.sock {
        Some(sock) => (sock.display().to_string(), ports::look_sock(sock)),
        None => {
            let address = SocketAddr::new(settings.server.ip, settings.server.port);
            (address.to_string(), ports::look(address))
        }
    };
    let search = SearchPath::from_env().and_own(own_kernelspecs(&places.data));
    let (supervisors, python, uv) =
        tokio::join!(supervisors(runtime), python(), Uv::look(&places.data));
    Ok(Facts {
        configuration,
        uid: rustix::process::geteuid().as_raw(),
        address,
        port,
        folders: folders(&places, runtime),
        socket_path_excess: socket_path_excess(runtime),
        has_pycx: Releases::pycx(&places.data).current().is_some(),
        specs: specs(&Catalog::new(search)),
        companions: companions(&places.data),
        limits: limits(),
        supervisors,
        python,
        uv,
    })
}

fn folders(places: &Places, runtime: &Path) -> Vec<Folder> {
    let folder = |name, setting, path: &Path| Folder {
        name,
        setting,
        state: state(path),
        free_bytes: free_bytes(existing(path)),
        path: path.to_owned(),
    };
    let mut folders = vec![
        folder("runtime", "NB_RUNTIME_DIR or server.runtime_dir", runtime),
        folder("state", "NB_STATE_DIR", &places.state),
        folder("data", "NB_DATA_DIR", &places.data),
    ];
    let config = config::own_folder().filter(|path| path.exists());
    folders.extend(config.map(|path| folder("configuration", "XDG_CONFIG_HOME", &path)));
    folders
}

fn state(path: &Path) -> FolderState {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        let can_be_made = access(existing(path), Access::WRITE_OK).is_ok();
        return FolderState::Missing { can_be_made };
    };
    if metadata.is_symlink() {
        FolderState::Link
    } else if !metadata.is_dir() {
        FolderState::NoFolder
    } else {
        let (uid, mode) = (metadata.uid(), metadata.mode());
        FolderState::Folder { uid, mode }
    }
}

/// The nearest folder above that there is.
fn existing(path: &Path) -> &Path {
    let mut above = path.ancestors();
    above.find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

fn free_bytes(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn specs(catalog: &Catalog) -> Vec<Spec> {
    let path = env::var("PATH").unwrap_or_default();
    let specs = catalog.read();
    let broken = specs.broken.iter().map(|(name, broken)| Spec {
        name: name.clone(),
        folder: broken.folder.clone(),
        state: SpecState::Broken(broken.error.clone()),
    });
    let listed = specs.by_name.iter().map(|(name, listed)| Spec {
        name: name.clone(),
        folder: listed.folder.clone(),
        state: startable(listed, &path),
    });
    let mut all: Vec<_> = broken.chain(listed).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn startable(listed: &Listed, path: &str) -> SpecState {
    if let Some(class) = listed.spec.foreign_launcher() {
        return SpecState::Foreign(class);
    }
    let argv = listed.argv();
    let program = argv.first().map_or("", String::as_str);
    // The spec's own folder is only known to it as a placeholder.
    let filled = program.replace("{resource_dir}", &listed.folder.to_string_lossy());
    let path = listed.spec.env.get("PATH").map_or(path, String::as_str);
    let can_run = |file: &Path| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    match program_of(&filled, path, can_run) {
        Some(_) => SpecState::Startable,
        None => SpecState::NoProgram(filled),
    }
}

/// The jupyter_servers that there are: of `nb up`, of the active environment, of the `jupyter` on the path.
fn companions(data: &Path) -> Vec<Companion> {
    let lab = Environment::lab(data);
    let prefix = |python: &Path| python.ancestors().nth(2).map(Path::to_owned);
    let path = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let on_path = program_of(
        "jupyter",
        &env::var("PATH").unwrap_or_default(),
        Path::is_file,
    );
    let others = [path("VIRTUAL_ENV"), path("CONDA_PREFIX")];
    let mut others: Vec<_> = others.into_iter().flatten().collect();
    others.extend(on_path.as_deref().and_then(prefix));
    others.dedup();
    let of_up = prefix(&lab.python()).map(|prefix| (prefix, true));
    let all = of_up
        .into_iter()
        .chain(others.into_iter().map(|prefix| (prefix, false)));
    all.filter_map(|(environment, of_up)| {
        let state = companion_in(&environment)?;
        Some(Companion {
            environment,
            of_up,
            state,
        })
    })
    .collect()
}

fn limits() -> Limits {
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = ours.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = group.map(|group| Path::new("/sys/fs/cgroup").join(group));
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(group.as_ref()?.join(name)).ok()?;
        // The word `max` is no number, and no limit.
        text.trim().parse().ok()
    };
    let left = |max, current| Some(number(max)?.saturating_sub(number(current).unwrap_or(0)));
    Limits {
        descriptors: getrlimit(Resource::Nofile).current,
        processes: getrlimit(Resource::Nproc).current,
        memory_bytes: left("memory.max", "memory.current"),
        pids: left("pids.max", "pids.current"),
        shared_memory_bytes: free_bytes(Path::new("/dev/shm")),
    }
}

async fn supervisors(runtime: &Path) -> Vec<Supervisor> {
    // To open one that is not there would make it.
    if !matches!(state(runtime), FolderState::Folder { .. }) {
        return Vec::new();
    }
    let Some(registry) = runtime
        .join("kernels")
        .is_dir()
        .then(|| Registry::open(runtime))
    else {
        return Vec::new();
    };
    let Ok(registry) = registry else {
        return Vec::new();
    };
    let ids = registry.ids().unwrap_or_default();
    let looks = ids.into_iter().map(|id| {
        let registry = registry.clone();
        async move {
            let state = match registry.standing(id) {
                Standing::Missing => return None,
                Standing::Starting => SupervisorState::Starting,
                Standing::Abandoned => SupervisorState::Dead,
                Standing::Orphaned => SupervisorState::Lost,
                Standing::Held => {
                    let supervisor = client::Supervisor::new(registry.socket(id));
                    match supervisor.about(ANSWER_WITHIN).await {
                        Ok(about) => SupervisorState::Answers {
                            api: about.api,
                            nb: about.nb,
                        },
                        Err(error) => SupervisorState::Silent(error.to_string()),
                    }
                }
            };
            let id = id.to_string();
            Some(Supervisor { id, state })
        }
    });
    join_all(looks).await.into_iter().flatten().collect()
}

async fn python() -> Option<(u32, u32)> {
    let mut command = Command::new("python3");
    command.arg("--version").kill_on_drop(true);
    let done = timeout(ANSWER_WITHIN, command.output()).await.ok()?.ok()?;
    let said = String::from_utf8(done.stdout).ok()?;
    let mut numbers = said.strip_prefix("Python ")?.split('.');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}
