//! `%nb status`: the kernel, what it runs in, the machine, memory, clients, what was lost.
//!
//! Gathers once and shows the same numbers to a program (JSON) and to the eye (a table).

mod show;

use std::path::{Path, PathBuf};

use futures_util::future::{self, LocalBoxFuture};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::call::{At, Call};
use super::cell::{Answer, Bundle, Cell, Facts, Given, Output, Place};
use super::failure::Failure;
use super::machine::{self, Machine, Memory, Sources};
use super::magic::Magic;
use super::other::Running;
use crate::env::KernelEnvironment;
use crate::env::pex::Base;
use show::{duration, html, rows, text};

/// The magic.
#[derive(Debug, Default)]
pub(super) struct Status {
    sources: Sources,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: Kernel,
    environment: Environment,
    machine: Machine,
    memory: Memory,
    clients: Clients,
    lost: Lost,
    journal: Journal,
    /// The other kernels of the notebook.
    others: Vec<OtherKernel>,
    nb: Nb,
}

#[derive(Debug, Serialize)]
struct OtherKernel {
    kind: &'static str,
    name: String,
    language: String,
    execution_state: String,
    pid: Option<u32>,
}

impl From<Running> for OtherKernel {
    fn from(one: Running) -> Self {
        Self {
            kind: one.kernel.kind(),
            name: one.kernel.name().to_owned(),
            language: one.language,
            execution_state: one.execution_state,
            pid: one.pid,
        }
    }
}

#[derive(Debug, Serialize)]
struct Kernel {
    id: String,
    spec: String,
    language: String,
    execution_state: String,
    pid: Option<u32>,
    started: Option<String>,
    /// For how long it has run.
    #[serde(skip)]
    age: Option<String>,
    restarts: u64,
}

#[derive(Debug, Serialize)]
struct Environment {
    /// The first word of the kernelspec's command, found on the kernel's path.
    program: Option<PathBuf>,
    /// The root of the virtual environment that the program belongs to.
    prefix: Option<PathBuf>,
    python_version: Option<String>,
    folder: PathBuf,
    /// What of nb's it is.
    title: Option<String>,
    /// What was added to it, as it was asked for.
    added: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Clients {
    connected: usize,
    away: usize,
}

#[derive(Debug, Serialize)]
struct Lost {
    messages: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Journal {
    bytes: u64,
    bytes_max: u64,
}

#[derive(Debug, Serialize)]
struct Nb {
    version: &'static str,
    pid: u32,
}

impl Magic for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn help(&self) -> &'static str {
        "how this kernel, its machine and its clients are (--json: as JSON)"
    }

    fn run<'a>(
        &'a self,
        call: &'a Call,
        cell: &'a dyn Cell,
    ) -> LocalBoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let words = call.words()?;
            let as_json = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [] => false,
                ["--json"] => true,
                _ => {
                    return Err(Failure::usage(format!(
                        "`%nb status` takes --json or nothing, not `{}`.",
                        call.line
                    )));
                }
            };
            if call
                .cell
                .as_deref()
                .is_some_and(|body| !body.trim().is_empty())
            {
                return Err(Failure::usage(
                    "`%%nb status` takes no lines below it; write `%nb status` for a line of its own.",
                ));
            }
            let report = self.gather(cell.facts(), cell.place(), cell.base());
            let mut report = report.await?;
            let others = cell.others().running().await;
            report.others = others.into_iter().map(OtherKernel::from).collect();
            let value = serde_json::to_value(&report)
                .map_err(|error| Failure::new("RuntimeError", format!("No status: {error}.")))?;
            if as_json {
                cell.emit(Output::stdout(format!("{value:#}\n"))).await;
                return Ok(Answer::nothing());
            }
            let rows = rows(&report);
            let shown = Bundle::from_iter([
                ("text/plain".to_owned(), Value::String(text(&rows))),
                ("text/html".to_owned(), Value::String(html(&rows))),
            ]);
            Ok(Answer {
                given: Given::Json(value),
                shown: Some(shown),
                ..Answer::nothing()
            })
        })
    }

    fn complete<'a>(&'a self, _: &'a At, _: &'a dyn Cell) -> LocalBoxFuture<'a, Vec<String>> {
        Box::pin(future::ready(vec!["--json".to_owned()]))
    }
}

impl Status {
    async fn gather(
        &self,
        facts: Facts,
        place: Place,
        base: Option<Base>,
    ) -> Result<Report, Failure> {
        let sources = self.sources.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let memory = machine::memory(&sources, facts.pid);
            (machine::machine(&sources), memory, environment(place, base))
        });
        let (machine, memory, environment) = asked.await.map_err(|_| {
            Failure::new(
                "RuntimeError",
                "The machine could not be asked for its status.",
            )
        })?;
        Ok(Report {
            kernel: Kernel {
                id: facts.kernel_id,
                spec: facts.spec,
                language: facts.language,
                execution_state: facts.execution_state,
                pid: facts.pid,
                started: facts
                    .started
                    .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()),
                age: facts
                    .started
                    .map(|time| duration(Timestamp::now().as_second() - time.as_second())),
                restarts: facts.restarts,
            },
            environment,
            machine,
            memory,
            clients: Clients {
                connected: facts.connected,
                away: facts.away,
            },
            lost: Lost {
                messages: facts.lost_messages,
                bytes: facts.lost_bytes,
            },
            journal: Journal {
                bytes: facts.journal_bytes,
                bytes_max: facts.journal_bytes_max,
            },
            others: Vec::new(),
            nb: Nb {
                version: env!("CARGO_PKG_VERSION"),
                pid: std::process::id(),
            },
        })
    }
}

fn environment(place: Place, base: Option<Base>) -> Environment {
    let of_nb = match &base {
        Some(base) => Some(base.python.clone()),
        None => place
            .environment
            .as_ref()
            .and_then(KernelEnvironment::python),
    };
    let program = place.argv.first().map(|program| {
        if let Some(python) = of_nb {
            return python;
        }
        let path = place.env.get("PATH").map_or("", String::as_str);
        find_program(program, path, &place.cwd)
    });
    let prefix = program
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
        .filter(|prefix| prefix.join("pyvenv.cfg").is_file())
        .map(Path::to_owned);
    let python_version = prefix
        .as_ref()
        .and_then(|prefix| std::fs::read_to_string(prefix.join("pyvenv.cfg")).ok())
        .and_then(|text| parse_version(&text));
    Environment {
        program,
        prefix,
        python_version,
        folder: place.cwd,
        title: match base {
            Some(base) => Some(base.title),
            None => place.environment.as_ref().map(KernelEnvironment::title),
        },
        added: place
            .environment
            .map(|environment| environment.added())
            .unwrap_or_default(),
    }
}

/// Where a program is that was started from `folder` with this `PATH`; its bare name when nowhere.
fn find_program(program: &str, path: &str, folder: &Path) -> PathBuf {
    if program.contains('/') {
        return folder.join(program);
    }
    std::env::split_paths(path)
        .map(|entry| folder.join(entry).join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| PathBuf::from(program))
}

/// The Python version that `pyvenv.cfg` notes: `version` by venv, `version_info` by uv and virtualenv.
fn parse_version(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::test_cell::TestCell;

    fn call(line: &str, cell: Option<&str>) -> Call {
        Call {
            magic: "status".to_owned(),
            line: line.to_owned(),
            cell: cell.map(str::to_owned),
        }
    }

    async fn answer(cell: &TestCell) -> (Value, String, String) {
        let answer = Status::default().run(&call("", None), cell).await.unwrap();
        let shown = answer.shown.unwrap();
        let part = |key: &str| shown[key].as_str().unwrap().to_owned();
        let Given::Json(value) = answer.given else {
            panic!("status gives JSON");
        };
        (value, part("text/plain"), part("text/html"))
    }

    #[tokio::test]
    async fn status_is_a_value_and_a_table() {
        let mut cell = TestCell::default();
        cell.facts.lost_messages = 1;
        cell.facts.lost_bytes = 1536;
        cell.facts.pid = Some(u32::MAX);
        let (value, text, html) = answer(&cell).await;
        assert_eq!(value["kernel"]["spec"], "python3");
        assert_eq!(value["kernel"]["started"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(value["environment"]["program"], "/no/such/bin/python");
        assert!(value["memory"]["supervisor_bytes"].as_u64().unwrap() > 0);
        assert!(value["memory"]["kernel_bytes"].is_null());
        let line = |label: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(label));
            line.unwrap().trim_start().to_owned()
        };
        assert_eq!(line("kernel"), "python3 (python), busy");
        assert!(line("process").ends_with(" h, restarted 2 times"));
        assert_eq!(line("clients"), "1 connected, 3 away");
        assert_eq!(line("lost"), "1 message (1.5 KiB)");
        assert_eq!(line("journal"), "2.0 KiB of 64.0 MiB");
        assert!(html.contains("<td style=\"text-align:left\">1 message (1.5 KiB)</td>"));
    }

    #[tokio::test]
    async fn json_is_printed() {
        let cell = TestCell::default();
        let answer = Status::default().run(&call("--json", None), &cell).await;
        assert_eq!(answer, Ok(Answer::nothing()));
        let shown = cell.shown.borrow();
        let [Output::Stream { text, .. }] = &shown[..] else {
            panic!("one stream: {shown:?}");
        };
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["clients"]["away"], 3);
    }

    #[tokio::test]
    async fn what_it_does_not_take_is_refused() {
        for (line, body) in [
            ("--yaml", None),
            ("--json x", None),
            ("'", None),
            ("", Some("1")),
        ] {
            let cell = TestCell::default();
            let failure = Status::default().run(&call(line, body), &cell).await;
            assert_eq!(failure.unwrap_err().ename, "UsageError");
        }
    }

    #[tokio::test]
    async fn names_from_outside_cannot_break_out_of_the_table() {
        let mut cell = TestCell::default();
        cell.place.cwd = PathBuf::from("/<b>&\n\u{1b}[31m");
        let (_, text, html) = answer(&cell).await;
        assert!(html.contains("/&lt;b&gt;&amp;\u{fffd}\u{fffd}[31m"));
        assert_eq!(text.lines().count(), 11);
    }

    #[test]
    fn a_virtual_environment_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("python3"), "").unwrap();
        std::fs::write(
            folder.path().join("pyvenv.cfg"),
            "home = /usr\nversion_info = 3.11.7\n",
        )
        .unwrap();
        let mut place = TestCell::default().place;
        place.argv[0] = "python3".to_owned();
        place
            .env
            .insert("PATH".to_owned(), format!("/no:{}", bin.display()));
        let found = environment(place, None);
        assert_eq!(found.program, Some(bin.join("python3")));
        assert_eq!(found.prefix.as_deref(), Some(folder.path()));
        assert_eq!(found.python_version.as_deref(), Some("3.11.7"));
    }
}
