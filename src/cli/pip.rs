//! `nb pip`, and the `pip` of a notebook's shell: pip's command line for an environment that nb keeps.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::stop::GivenUp;
use super::{output, runtime};
use crate::config::Places;
use crate::env::pip::{Command, Failure, Typed};
use crate::env::{BASE, ENVIRONMENT, KernelEnvironment};
use crate::error::Error;

/// pip's commands for an environment that nb keeps.
///
/// In a kernel it is that of the kernel. What is installed in a running kernel is there with its next cell.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Pip {
    /// The environment's Python [default: that of the kernel which this runs in]
    #[arg(long)]
    python: Option<PathBuf>,
    /// What pip is to do
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// A failure with what the tool said.
pub(super) fn failed(failure: Failure) -> Error {
    let log = failure.log.lines().map(|line| format!("\n{line}"));
    Error::user(failure.message + &log.collect::<String>())
}

impl Pip {
    /// These words, if this program is started by the name of pip.
    pub(super) fn by_name(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let name = PathBuf::from(arguments.next()?);
        let is_pip = ["pip", "pip3"]
            .iter()
            .any(|pip| name.file_name().is_some_and(|name| name == *pip));
        is_pip.then(|| Self {
            python: None,
            words: arguments
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        })
    }

    pub(super) fn run(self) -> Result<(), Error> {
        if crate::env::is_within_a_tool() {
            return Err(Error::user(
                "pip is at work in this environment, and what it builds cannot install into it; a package names what its build \
                 needs in its pyproject.toml",
            ));
        }
        let environment = self.environment()?;
        let command = Command::read(&self.words).map_err(Error::user)?;
        let folder = env::current_dir()
            .map_err(|error| Error::user(format!("there is no current folder: {error}")))?;
        let variables: BTreeMap<String, String> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let print = |text: &str| {
            let _gone = output::text(text);
        };
        let done = runtime()?.block_on(async {
            let typed = Typed {
                folder: &folder,
                env: &variables,
                stop: &GivenUp::new().map_err(Failure::from)?,
            };
            let done = environment.pip(&command, &typed, &print).await;
            environment.settle_files().await;
            done
        });
        done.map_err(failed)
    }

    fn environment(&self) -> Result<KernelEnvironment, Error> {
        if let Some(python) = &self.python {
            let data = Places::from_env()?.data;
            let found = KernelEnvironment::of_python(&data, python);
            return found.ok_or_else(|| {
                let python = python.display();
                Error::user(format!("{python} is in no environment that nb keeps"))
            });
        }
        if let Ok(title) = env::var(BASE) {
            return Err(Error::user(format!(
                "this kernel has {title} as its environment, which stays as it is; `%clean_path` restarts it in its own"
            )));
        }
        let told = env::var(ENVIRONMENT).ok();
        let environment = told.and_then(|told| serde_json::from_str(&told).ok());
        environment.ok_or_else(|| {
            Error::user("this does not run in a kernel of nb; say --python PATH, the Python of an environment that nb keeps")
        })
    }
}
