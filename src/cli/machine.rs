//! This machine as the place where a kernel of the caller's own starts, without a gateway.

use std::env;
use std::path::{Path, PathBuf};

use crate::config::{self, Places};
use crate::env::own_kernelspecs;
use crate::error::Error;
use crate::front::Machine;
use crate::kernels::catalog::Catalog;
use crate::kernels::environment::{Variables, WORKING_DIR, WORKSPACE, of_caller};
use crate::kernels::kernelspecs::SearchPath;
use crate::kernels::launch::{Launcher, Quota};
use crate::kernels::plan::{Asked, PlanError, Planner, Whose, Wishes};
use crate::kernels::registry::Registry;

/// What of this process's environment says where its kernel begins, as a client's would to a gateway: in the workspace that it names, unless it
/// stands in that already; `here` is where it begins else.
pub(super) fn begins_in(here: &Path) -> Variables {
    let named = env::var(WORKSPACE).ok().filter(|name| !name.is_empty());
    let Some(name) = named else {
        return Variables::new();
    };
    let here = here.to_string_lossy().into_owned();
    let both = [(WORKSPACE, name), (WORKING_DIR, here)];
    both.map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// Starts kernels of this kernelspec in this folder, with this process's environment and what a client asks for. They live on for so long without a
/// client.
pub(super) fn machine(
    config: config::Settings,
    spec: &str,
    folder: PathBuf,
    linger_ms: u64,
    variables: Variables,
) -> Result<Machine, Error> {
    let places = Places::from_env()?;
    let runtime_dir = config.server.runtime_dir.as_deref();
    let registry = Registry::open(runtime_dir.unwrap_or(&places.runtime))?;
    let search = SearchPath::from_env().and_own(own_kernelspecs(&places.data));
    let quota = Quota {
        max: config.kernels.max,
        max_per_user: config.kernels.max_per_user,
    };
    let log_format = config.server.log_format;
    let planner = Planner {
        catalog: Catalog::new(search),
        root: folder,
        home: env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
        inherited: of_caller(env::vars_os()),
        journals: places.journals(&config.journal)?,
        data: places.data,
        config,
    };
    let me = config::user_name();
    let whose = Whose {
        owner: me.clone(),
        started_by: me,
    };
    let asked = Asked {
        spec: Some(spec.to_owned()),
        env: variables,
        ..Asked::default()
    };
    let start =
        Wishes::read(&asked.env, &[]).and_then(|wishes| planner.plan(&asked, wishes, whose));
    let mut start = start.map_err(|error| match error {
        PlanError::BadRequest(message)
        | PlanError::UnknownSpec(message)
        | PlanError::NotImplemented(message) => Error::user(message),
    })?;
    start.linger_ms = Some(linger_ms);
    Ok(Machine {
        launcher: Launcher::new(registry.clone()).logging(log_format),
        registry,
        quota,
        start,
    })
}
