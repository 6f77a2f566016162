//! A target of a repository as a pex: pants or bazel builds it, as the repository provides them.
//!
//! What they print streams into the cell; an interrupt ends them. The pex that comes of it is loaded as any other.

use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::{BuildTool, Mode};
use super::kernel::{self, Here};
use super::{failure, full, load_file};
use crate::env::build::{Ended, Tool, find, root};
use crate::magics::cell::{Cell, Place};
use crate::magics::failure::Failure;
use crate::magics::progress;

/// What is looked through for the pex of a target.
const DEPTH_MAX: usize = 16;

impl BuildTool {
    fn name(self) -> &'static str {
        match self {
            Self::Pants => "pants",
            Self::Bazel => "bazel",
        }
    }

    /// A repository's own before what is on the path.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Pants => &["./pants", "pants"],
            Self::Bazel => &["./bazel", "./tools/bazel", "bazelisk", "bazel"],
        }
    }

    /// What a repository has in its first folder.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Pants => &["pants.toml"],
            Self::Bazel => &["MODULE.bazel", "WORKSPACE.bazel", "WORKSPACE"],
        }
    }
}

/// Builds the target's pex and loads it.
pub(super) async fn load(
    cell: &dyn Cell,
    tool: BuildTool,
    target: &str,
    mode: Mode,
) -> Result<String, Failure> {
    let here = kernel::here(cell).await?;
    let place = cell.place();
    let folder = repository(tool, &here)?;
    let path = place.env.get("PATH").map_or("", String::as_str);
    let program = find(tool.programs(), &folder, path).ok_or_else(|| {
        let (name, folder) = (tool.name(), folder.display());
        failure(format!(
            "There is no {name}: neither in {folder} nor on the kernel's path."
        ))
    })?;
    let tool = Runner {
        cell,
        name: tool.name(),
        tool: Tool {
            program,
            folder: folder.clone(),
            env: place.env,
        },
    };
    match tool.name {
        "pants" => {
            let out = Out::make(&folder)?;
            let made_in = out.0.to_string_lossy().into_owned();
            tool.run(&[&format!("--pants-distdir={made_in}"), "package", target])
                .await?;
            let mut found = Vec::new();
            pexes(&out.0, DEPTH_MAX, &mut found);
            load_file(cell, &here, &only(target, found)?, mode).await
        }
        _ => {
            tool.run(&["build", target]).await?;
            let lines = tool.run(&["cquery", "--output=files", target]).await?;
            let files = lines.iter().map(|line| folder.join(line.trim()));
            let found = files.filter(|file| file.extension().is_some_and(|it| it == "pex"));
            load_file(cell, &here, &only(target, found.collect())?, mode).await
        }
    }
}

/// Notes the repository that pants is called in from now on.
pub(super) async fn set_repository(cell: &dyn Cell, folder: &str) -> Result<String, Failure> {
    let here = kernel::here(cell).await?;
    let Place { env, .. } = &cell.place();
    let folder = full(folder, &here.folder, &cell.place());
    let path = env.get("PATH").map_or("", String::as_str);
    let is_one = folder.join("pants.toml").is_file() || folder.join("pants").is_file();
    if !is_one {
        let folder = folder.display();
        return Err(failure(format!(
            "{folder} is no repository of pants: it has no pants.toml."
        )));
    }
    if find(BuildTool::Pants.programs(), &folder, path).is_none() {
        let folder = folder.display();
        return Err(failure(format!(
            "There is no pants: neither in {folder} nor on the kernel's path."
        )));
    }
    kernel::set_repository(cell, &folder).await?;
    Ok(format!(
        "Targets of pants are those of {}.\n",
        folder.display()
    ))
}

fn repository(tool: BuildTool, here: &Here) -> Result<PathBuf, Failure> {
    let told = here.repository.clone().filter(|_| tool == BuildTool::Pants);
    told.or_else(|| root(&here.folder, tool.marks()))
        .ok_or_else(|| {
            let how = match tool {
                BuildTool::Pants => "say which with `%pants_repo FOLDER`",
                BuildTool::Bazel => "change into it first (`%cd FOLDER`)",
            };
            let (name, folder) = (tool.name(), here.folder.display());
            failure(format!("{folder} is in no repository of {name}: {how}."))
        })
}

struct Runner<'a> {
    cell: &'a dyn Cell,
    name: &'static str,
    tool: Tool,
}

impl Runner<'_> {
    async fn run(&self, arguments: &[&str]) -> Result<Vec<String>, Failure> {
        let run = progress::lines(self.cell, async |say| {
            self.tool.run(arguments, say, self.cell.interrupted()).await
        });
        run.await.map_err(|ended| match ended {
            Ended::Interrupted => Failure::interrupted(),
            Ended::Failed(log) => {
                let name = self.name;
                let mut failure =
                    failure(format!("{name} could not do it; what it said is above."));
                // It was shown as it came: here is how it ended.
                log.lines()
                    .last()
                    .unwrap_or_default()
                    .clone_into(&mut failure.log);
                failure
            }
        })
    }
}

fn only(target: &str, found: Vec<PathBuf>) -> Result<PathBuf, Failure> {
    let [pex]: [PathBuf; 1] = found.try_into().map_err(|found: Vec<PathBuf>| {
        failure(match found.len() {
            0 => format!("No pex came of {target}: is it a target that is packaged as one?"),
            count => format!("{count} pexes came of {target}: name the target of one."),
        })
    })?;
    Ok(pex)
}

/// The pexes below a folder, files and folders.
fn pexes(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_some_and(|ending| ending == "pex") {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            pexes(&path, depth - 1, found);
        }
    }
}

/// A folder in the repository's `dist`, where pants wants it, that goes when this is dropped.
struct Out(PathBuf);

impl Out {
    fn make(repository: &Path) -> Result<Self, Failure> {
        let folder = repository
            .join("dist")
            .join(format!("nb-{}", uuid::Uuid::new_v4().simple()));
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| failure(format!("{} cannot be made: {error}.", folder.display())))?;
        Ok(Self(folder))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
