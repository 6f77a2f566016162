//! Each fact that is wrong is told alone, with its fix; a machine on which all is well has no fault.

use std::path::PathBuf;

use super::*;

const UID: u32 = 7;

fn folder(state: FolderState) -> Folder {
    Folder {
        name: "state",
        setting: "NB_STATE_DIR",
        path: "/s".into(),
        state,
        free_bytes: Some(1 << 40),
    }
}

fn ours() -> FolderState {
    FolderState::Folder {
        uid: UID,
        mode: 0o040_700,
    }
}

fn spec(state: SpecState) -> Spec {
    Spec {
        name: "echo".to_owned(),
        folder: "/k/echo".into(),
        state,
    }
}

fn supervisor(state: SupervisorState) -> Supervisor {
    Supervisor {
        id: "the-id".to_owned(),
        state,
    }
}

fn answers(api: u32, nb: &str) -> SupervisorState {
    SupervisorState::Answers {
        api,
        nb: nb.to_owned(),
    }
}

fn facts() -> Facts {
    Facts {
        configuration: Ok(()),
        uid: UID,
        address: "127.0.0.1:8888".to_owned(),
        port: Port::Free,
        folders: vec![folder(ours())],
        socket_path_excess: 0,
        specs: vec![spec(SpecState::Startable)],
        has_pycx: false,
        companions: vec![Companion {
            environment: "/e".into(),
            of_up: false,
            state: CompanionState::Same,
        }],
        limits: Limits::default(),
        supervisors: vec![supervisor(answers(API, env!("CARGO_PKG_VERSION")))],
        python: Some((3, 11)),
        uv: Some("/bin/uv".into()),
    }
}

/// What is not well of otherwise good facts.
fn told(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = facts();
    change(&mut facts);
    let mut findings = check(&facts);
    findings.retain(|one| one.level != Level::Well);
    findings
}

#[test]
fn a_machine_on_which_all_is_well_has_nothing_to_tell() {
    assert_eq!(told(|_| ()), []);
    let findings = check(&facts());
    assert!(findings.len() >= 9 && !any_fault(&findings), "{findings:?}");
}

#[test]
fn each_fault_is_told_with_its_fix() {
    type Change = fn(&mut Facts);
    let faults: [(Change, &str, &str); 21] = [
        (
            |f| f.configuration = Err("there is no setting x".to_owned()),
            "no setting x",
            "configuration.md",
        ),
        (
            |f| f.port = Port::Taken(Some("python3 (pid 5)".to_owned())),
            "python3 (pid 5)",
            "--port",
        ),
        (|f| f.port = Port::Taken(None), "another user", "--port"),
        (
            |f| f.port = Port::Unusable("no such address".to_owned()),
            "no such address",
            "--ip",
        ),
        (
            |f| f.folders[0].state = FolderState::Link,
            "is a link",
            "NB_STATE_DIR",
        ),
        (
            |f| f.folders[0].state = FolderState::NoFolder,
            "no folder",
            "NB_STATE_DIR",
        ),
        (
            |f| f.folders[0].state = FolderState::Missing { can_be_made: false },
            "cannot be made",
            "NB_STATE_DIR",
        ),
        (
            |f| {
                f.folders[0].state = FolderState::Folder {
                    uid: 8,
                    mode: 0o700,
                }
            },
            "number 8, not to 7",
            "chown",
        ),
        (
            |f| {
                f.folders[0].state = FolderState::Folder {
                    uid: UID,
                    mode: 0o040_770,
                }
            },
            "by others (770)",
            "chmod 700 /s",
        ),
        (
            |f| f.folders[0].free_bytes = Some(5 << 20),
            "5 MiB free",
            "make room",
        ),
        (
            |f| f.socket_path_excess = 3,
            "3 bytes too long",
            "NB_RUNTIME_DIR",
        ),
        (
            |f| {
                f.specs
                    .push(spec(SpecState::Broken("expected value".to_owned())))
            },
            "expected value",
            "/k/echo/kernel.json",
        ),
        (
            |f| {
                f.specs
                    .push(spec(SpecState::NoProgram("/bin/k".to_owned())))
            },
            "no program /bin/k",
            "install it",
        ),
        (|f| f.specs.clear(), "no kernel to start", "nb up"),
        (
            |f| f.python = None,
            "not on the path",
            "install Python 3.11",
        ),
        (
            |f| f.python = Some((3, 9)),
            "Python 3.9, too old",
            "install Python 3.11",
        ),
        (
            |f| f.limits.descriptors = Some(256),
            "256 for a process",
            "ulimit -n",
        ),
        (
            |f| f.limits.memory_bytes = Some(1 << 20),
            "1 MiB left",
            "MemoryMax",
        ),
        (
            |f| f.supervisors = vec![supervisor(SupervisorState::Lost)],
            "lost its supervisor",
            "nb serve",
        ),
        (
            |f| f.supervisors = vec![supervisor(SupervisorState::Dead)],
            "has left",
            "nb kernel list",
        ),
        (
            |f| f.supervisors = vec![supervisor(answers(API + 1, "9.9"))],
            "of nb 9.9",
            "nb kernel stop the-id",
        ),
    ];
    for (change, what, fix) in faults {
        let findings = told(change);
        assert_eq!(findings.len(), 1, "{what}: {findings:?}");
        let finding = &findings[0];
        assert_eq!(finding.level, Level::Fault, "{finding:?}");
        assert!(finding.what.contains(what), "{what}: {finding:?}");
        assert!(finding.fix.contains(fix), "{fix}: {finding:?}");
    }
}

#[test]
fn what_only_deserves_a_note_is_no_fault() {
    type Change = fn(&mut Facts);
    let notes: [(Change, &str); 8] = [
        (
            |f| {
                f.specs
                    .push(spec(SpecState::Foreign("a.KubernetesProxy".to_owned())))
            },
            "a.KubernetesProxy",
        ),
        (
            |f| f.companions[0].state = CompanionState::Missing,
            "no binary buffers",
        ),
        (
            |f| f.companions[0].state = CompanionState::Other,
            "another nb",
        ),
        (|f| f.uv = None, "nor installed"),
        (|f| (f.python, f.has_pycx) = (None, true), "have their own"),
        (
            |f| (f.python, f.has_pycx) = (Some((3, 9)), true),
            "Python 3.9",
        ),
        (
            |f| f.limits.shared_memory_bytes = Some(64 << 20),
            "64 MiB free",
        ),
        (
            |f| f.supervisors = vec![supervisor(answers(API, "0.0.9"))],
            "of nb 0.0.9",
        ),
    ];
    for (change, what) in notes {
        let findings = told(change);
        assert_eq!(findings.len(), 1, "{what}: {findings:?}");
        assert_eq!(findings[0].level, Level::Note, "{findings:?}");
        assert!(findings[0].what.contains(what), "{findings:?}");
        assert!(
            !findings[0].fix.is_empty() && !any_fault(&findings),
            "{findings:?}"
        );
    }
    let running = told(|f| f.port = Port::Nb { pid: 3 });
    assert_eq!(running, []);
}

#[test]
fn a_program_is_one_of_the_path_or_one_by_its_place() {
    let there = |file: &Path| {
        ["/b/k", "/x/k"]
            .iter()
            .any(|known| file == Path::new(known))
    };
    assert_eq!(
        program_of("k", "/a:/b:/x", there),
        Some(PathBuf::from("/b/k"))
    );
    assert_eq!(program_of("k", "/a", there), None);
    assert_eq!(program_of("/x/k", "", there), Some(PathBuf::from("/x/k")));
    assert_eq!(program_of("", "/b", there), None);
}
