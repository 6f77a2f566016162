//! From facts to findings: what is well and what is not, each fault with its fix. Pure.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::facts::{
    Companion, CompanionState, Facts, Folder, FolderState, Limits, Port, Spec, SpecState,
    Supervisor, SupervisorState,
};
use crate::kernels::contract::API;

/// With fewer descriptors a gateway serves a handful of clients.
const DESCRIPTORS_MIN: u64 = 1024;

/// A kernel is a dozen threads, its supervisor a few.
const PROCESSES_MIN: u64 = 256;

/// Less than a kernel with pandas takes.
const MEMORY_BYTES_MIN: u64 = 256 << 20;

/// A folder needs room for logs, sockets and environments.
const DISK_BYTES_MIN: u64 = 100 << 20;

/// What data loaders of several processes and Arrow pass each other; docker's default is 64 MiB.
const SHARED_MEMORY_BYTES_MIN: u64 = 128 << 20;

/// The oldest Python that `nb up` makes environments with.
const PYTHON_OLDEST: (u32, u32) = (3, 11);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Well,
    /// Nothing that was asked for fails, but somebody may wonder.
    Note,
    Fault,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The kind of thing.
    pub(super) area: &'static str,
    pub(super) subject: String,
    pub(super) what: String,
    /// What to do; empty where nothing is to be done.
    pub(super) fix: String,
}

/// All that can be told, in the order in which a start would meet it.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![configuration(facts), port(facts)];
    findings.extend(facts.folders.iter().map(|one| folder(one, facts.uid)));
    findings.extend(socket_path(facts));
    findings.extend(facts.specs.iter().map(spec));
    findings.extend(no_spec(facts));
    findings.extend(python(facts));
    findings.extend(facts.companions.iter().map(companion));
    findings.extend(limits(&facts.limits));
    findings.extend(facts.supervisors.iter().map(supervisor));
    findings
}

fn well(area: &'static str, subject: impl Into<String>, what: impl Into<String>) -> Finding {
    Finding {
        level: Level::Well,
        area,
        subject: subject.into(),
        what: what.into(),
        fix: String::new(),
    }
}

fn note(
    area: &'static str,
    subject: impl Into<String>,
    what: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        level: Level::Note,
        fix: fix.into(),
        ..well(area, subject, what)
    }
}

fn fault(
    area: &'static str,
    subject: impl Into<String>,
    what: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        level: Level::Fault,
        ..note(area, subject, what, fix)
    }
}

fn configuration(facts: &Facts) -> Finding {
    match &facts.configuration {
        Ok(()) => well("settings", "file and environment", "are understood"),
        Err(error) => fault(
            "settings",
            "file and environment",
            error,
            "mend it; docs/configuration.md has all names (what follows is of the defaults)",
        ),
    }
}

fn port(facts: &Facts) -> Finding {
    let address = facts.address.as_str();
    match &facts.port {
        Port::Free => well("port", address, "can be listened on"),
        Port::Nb { pid } => well(
            "port",
            address,
            format!("a gateway of nb listens (pid {pid})"),
        ),
        Port::Taken(by) => fault(
            "port",
            address,
            match by {
                Some(by) => format!("is taken by {by}"),
                None => "is taken by another user's process".to_owned(),
            },
            "end that, or choose another with --port (server.port) or --sock (server.sock)",
        ),
        Port::Unusable(error) => fault(
            "port",
            address,
            error,
            "choose an address of this machine with --ip and a port from 1024 on, or another --sock",
        ),
    }
}

fn folder(folder: &Folder, uid: u32) -> Finding {
    let subject = format!("{} {}", folder.name, folder.path.display());
    let elsewhere = format!("choose another with {}", folder.setting);
    let bad = |what: String, fix: String| fault("folder", subject.clone(), what, fix);
    match folder.state {
        FolderState::Missing { can_be_made: true } => {}
        FolderState::Missing { can_be_made: false } => {
            return bad("is not there and cannot be made".to_owned(), elsewhere);
        }
        FolderState::Link => {
            return bad(
                "is a link, which others could have laid".to_owned(),
                format!("put a folder there, or {elsewhere}"),
            );
        }
        FolderState::NoFolder => return bad("is no folder".to_owned(), elsewhere),
        FolderState::Folder { uid: owner, .. } if owner != uid => {
            return bad(
                format!("belongs to the user with the number {owner}, not to {uid}"),
                format!("chown it, or {elsewhere}"),
            );
        }
        FolderState::Folder { mode, .. } if mode & 0o022 != 0 => {
            let path = folder.path.display();
            return bad(
                format!("can be written to by others ({:o})", mode & 0o777),
                format!("chmod 700 {path}"),
            );
        }
        FolderState::Folder { .. } => {}
    }
    if let Some(free) = folder.free_bytes.filter(|free| *free < DISK_BYTES_MIN) {
        return bad(
            format!("has {} free on its disk", mib(free)),
            format!("make room there, or {elsewhere}"),
        );
    }
    match folder.state {
        FolderState::Missing { .. } => well("folder", subject, "is made when it is needed"),
        _ => well("folder", subject, "is ours alone"),
    }
}

fn socket_path(facts: &Facts) -> Option<Finding> {
    let bytes = facts.socket_path_excess;
    (bytes > 0).then(|| {
        fault(
            "folder",
            "runtime",
            format!("its name is {bytes} bytes too long for sockets in it"),
            "choose a shorter one with NB_RUNTIME_DIR or server.runtime_dir",
        )
    })
}

fn spec(spec: &Spec) -> Finding {
    let file = spec.folder.join("kernel.json");
    let file = file.display();
    match &spec.state {
        SpecState::Startable => well("kernelspec", &spec.name, "can be started"),
        SpecState::Broken(error) => fault(
            "kernelspec",
            &spec.name,
            format!("is broken: {error}"),
            format!("mend or remove {file}"),
        ),
        SpecState::NoProgram(program) => fault(
            "kernelspec",
            &spec.name,
            format!("there is no program {program}"),
            format!("install it, or mend argv in {file}"),
        ),
        SpecState::Foreign(class) => note(
            "kernelspec",
            &spec.name,
            format!("is to be started by {class}, which nb does not have; starts are refused"),
            format!(
                "remove process_proxy or kernel_provisioner from {file} to run it on this machine"
            ),
        ),
    }
}

fn no_spec(facts: &Facts) -> Option<Finding> {
    let any = facts
        .specs
        .iter()
        .any(|one| one.state == SpecState::Startable);
    (!any).then(|| {
        fault(
            "kernelspec",
            "all",
            "there is no kernel to start",
            "run `nb up` once, or install ipykernel and put its kernelspec where Jupyter looks",
        )
    })
}

fn python(facts: &Facts) -> Vec<Finding> {
    let (major, minor) = PYTHON_OLDEST;
    let fix = format!("install Python {major}.{minor} or newer (on Debian: apt install python3)");
    let python = match facts.python {
        Some(found @ (a, b)) if found >= PYTHON_OLDEST => {
            well("python", "python3", format!("is Python {a}.{b}"))
        }
        // Whoever has its environments needs none.
        found if facts.has_pycx => note(
            "python",
            "python3",
            match found {
                Some((a, b)) => format!("is Python {a}.{b}; the environments of nb have their own"),
                None => "is not on the path; the environments of nb have their own".to_owned(),
            },
            fix,
        ),
        Some((a, b)) => fault(
            "python",
            "python3",
            format!("is Python {a}.{b}, too old for `nb up`"),
            fix,
        ),
        None => fault("python", "python3", "is not on the path", fix),
    };
    let uv = match &facts.uv {
        Some(path) => well("python", "uv", path.display().to_string()),
        None => note(
            "python",
            "uv",
            "is neither on the path nor installed by nb",
            "nothing: `nb up` installs one when it needs it",
        ),
    };
    vec![python, uv]
}

fn companion(companion: &Companion) -> Finding {
    let subject = companion.environment.display().to_string();
    let by_pip = "pip install ./extensions/nb-jupyter in that environment (docs/companion.md)";
    let fix = match companion.of_up {
        true => "nothing: `nb up` brings it",
        false => by_pip,
    };
    match companion.state {
        CompanionState::Same => well("companion", subject, "is there, of this nb"),
        CompanionState::Other => note("companion", subject, "is that of another nb", fix),
        CompanionState::Missing => note(
            "companion",
            subject,
            "is not in this jupyter_server: no binary buffers, nothing over 10 MiB",
            fix,
        ),
    }
}

fn limits(limits: &Limits) -> Vec<Finding> {
    let low = |value: Option<u64>, min| value.filter(|value| *value < min);
    let mut findings = Vec::new();
    if let Some(n) = low(limits.descriptors, DESCRIPTORS_MIN) {
        findings.push(fault(
            "limits",
            "open files",
            format!("{n} for a process: half as many clients at once"),
            format!("ulimit -n {DESCRIPTORS_MIN}, or LimitNOFILE= in the unit"),
        ));
    }
    if let Some(n) = low(limits.processes, PROCESSES_MIN) {
        findings.push(fault(
            "limits",
            "processes",
            format!("{n} for this user: a few kernels"),
            "ulimit -u, or nproc in /etc/security/limits.conf",
        ));
    }
    if let Some(n) = low(limits.pids, PROCESSES_MIN) {
        findings.push(fault(
            "limits",
            "processes",
            format!("{n} more in this control group"),
            "TasksMax= in the unit, or --pids-limit of the container",
        ));
    }
    if let Some(bytes) = low(limits.memory_bytes, MEMORY_BYTES_MIN) {
        findings.push(fault(
            "limits",
            "memory",
            format!("{} left in this control group", mib(bytes)),
            "end kernels, or raise MemoryMax= of the unit or --memory of the container",
        ));
    }
    if let Some(bytes) = low(limits.shared_memory_bytes, SHARED_MEMORY_BYTES_MIN) {
        findings.push(note(
            "limits",
            "/dev/shm",
            format!(
                "{} free: little for data loaders of several processes",
                mib(bytes)
            ),
            "--shm-size of the container",
        ));
    }
    if findings.is_empty() {
        let what = "files, processes and memory suffice";
        findings.push(well("limits", "this process", what));
    }
    findings
}

fn supervisor(supervisor: &Supervisor) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let id = &supervisor.id;
    match &supervisor.state {
        SupervisorState::Answers { api, nb } if *api != API => fault(
            "kernel",
            id,
            format!("its supervisor, of nb {nb}, speaks version {api}, this nb version {API}"),
            format!("use it with that nb, or end it with `nb kernel stop {id}`"),
        ),
        SupervisorState::Answers { nb, .. } if nb != own => note(
            "kernel",
            id,
            format!("its supervisor is of nb {nb}, this is {own}; they understand each other"),
            "nothing: the kernel's next start has the new one",
        ),
        SupervisorState::Answers { .. } => well("kernel", id, "its supervisor answers"),
        SupervisorState::Starting => well("kernel", id, "is being started"),
        SupervisorState::Silent(error) => fault(
            "kernel",
            id,
            error,
            format!("`nb kernel stop {id}` ends what hangs"),
        ),
        SupervisorState::Lost => fault(
            "kernel",
            id,
            "has lost its supervisor",
            "a gateway, which takes the kernel over within a second: `nb serve`",
        ),
        SupervisorState::Dead => fault(
            "kernel",
            id,
            "is what a killed supervisor has left",
            "`nb kernel list` at a running gateway removes it, and ends its process",
        ),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Whether something is wrong.
pub(super) fn any_fault(findings: &[Finding]) -> bool {
    findings.iter().any(|one| one.level == Level::Fault)
}

/// The program of a command, where it can be run.
pub(super) fn program_of(
    program: &str,
    path: &str,
    can_run: impl Fn(&Path) -> bool,
) -> Option<std::path::PathBuf> {
    if program.contains('/') {
        let program = Path::new(program);
        return can_run(program).then(|| program.to_owned());
    }
    let places = std::env::split_paths(path).map(|folder| folder.join(program));
    places.into_iter().find(|place| can_run(place))
}
