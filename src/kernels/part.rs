//! The start of a kernel that is part of another one's notebook, made of that one's start.
//!
//! It has the same user, folder and variables. Blocks on the file system.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::catalog::Catalog;
use super::contract::{API, Around, Cull, JournalMode, JournalStart, Part, Start};
use super::kernelspecs::SearchPath;
use super::plan::{env_of, environment_of, transport_of};
use super::registry::derived_id;
use crate::env::{KernelEnvironment, Kind};
use crate::magics::OtherKernel;
use crate::protocol::connection_file::Transport;
use crate::protocol::kernelspec::InterruptMode;

/// It ends when the supervisor of its notebook has been away for so long: another one comes at once or never.
const LINGER_MS: u64 = 120_000;

/// The id of this kernel of a notebook, the same each time.
pub fn id(of: &str, kernel: &OtherKernel) -> Uuid {
    derived_id(&[
        of.as_bytes(),
        kernel.kind().as_bytes(),
        kernel.name().as_bytes(),
    ])
}

/// The start of another kernel of the notebook of `main`, or why there cannot be one, as a sentence.
pub fn start(main: &Start, kernel: &OtherKernel) -> Result<Start, String> {
    let Some(around) = &main.around else {
        return Err(
            "The gateway that started this kernel knows no other kernels in a notebook; start the kernel anew."
                .to_owned(),
        );
    };
    match kernel {
        OtherKernel::Venv(name) => Ok(venv(main, around, name)),
        OtherKernel::Kernel(name) => of_spec(main, around, name),
    }
}

fn venv(main: &Start, around: &Around, name: &str) -> Start {
    let argv = [
        "python",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ];
    Start {
        spec: name.to_owned(),
        argv: argv.map(str::to_owned).to_vec(),
        language: "python".to_owned(),
        interrupt_mode: InterruptMode::Signal,
        resource_dir: around.data.clone(),
        transport: Transport::Ipc,
        tcp_instead: false,
        environment: Some(KernelEnvironment {
            kind: Kind::Named,
            data: around.data.clone(),
            release: None,
            whose: name.to_owned(),
        }),
        ..part(main, &OtherKernel::Venv(name.to_owned()))
    }
}

fn of_spec(main: &Start, around: &Around, name: &str) -> Result<Start, String> {
    let catalog = Catalog::new(SearchPath::of(around.kernelspecs.clone()));
    let specs = catalog.read();
    let (name, listed) = specs.find(Some(name)).map_err(|why| {
        let known: Vec<&str> = specs.by_name.keys().map(String::as_str).collect();
        let known = known.join(", ");
        format!("It cannot be started: {why}. There is: {known}.")
    })?;
    if let Some(launcher) = listed.spec.foreign_launcher() {
        return Err(format!(
            "The kernelspec {name} is to be started by {launcher}, which nb does not have."
        ));
    }
    let base = part(main, &OtherKernel::Kernel(name.clone()));
    let notebook = main.environment.as_ref();
    let notebook = notebook.filter(|environment| environment.kind != Kind::Named);
    let notebook = notebook.map_or(&main.kernel_id, |environment| &environment.whose);
    let transport = transport_of(listed);
    let mut env = base.env.clone();
    env.extend(env_of(listed, &base.env).collect::<Vec<_>>());
    Ok(Start {
        spec: name,
        argv: listed.argv(),
        language: listed.spec.language.clone(),
        interrupt_mode: listed.spec.interrupt_mode,
        resource_dir: listed.folder.clone(),
        env,
        transport: transport.unwrap_or(Transport::Ipc),
        tcp_instead: transport.is_none(),
        environment: environment_of(listed, &around.data, notebook),
        ..base
    })
}

/// What all of them have of the main kernel's start.
fn part(main: &Start, kernel: &OtherKernel) -> Start {
    let id = id(&main.kernel_id, kernel);
    let mut env: BTreeMap<String, String> = main.env.clone();
    for (name, before) in main.around.iter().flat_map(|around| &around.env_before) {
        match before {
            Some(value) => env.insert(name.clone(), value.clone()),
            None => env.remove(name),
        };
    }
    env.insert("KERNEL_ID".to_owned(), id.to_string());
    Start {
        format: API,
        kernel_id: id.to_string(),
        env,
        cwd_note: None,
        // What the notebook's clients miss is in the journal of the main kernel.
        journal: JournalStart {
            mode: JournalMode::Memory,
            folder: main.journal.folder.with_file_name(id.to_string()),
            ..main.journal.clone()
        },
        journal_bytes_max: main.journal_bytes_max.min(main.journal.memory_bytes_max),
        cull: Cull::default(),
        part: Some(Part {
            of: main.kernel_id.clone(),
            kernel: kernel.clone(),
        }),
        linger_ms: Some(LINGER_MS),
        ..main.clone()
    }
}
