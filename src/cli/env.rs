//! `nb env`: what Python kernels run in, made and kept by nb.

mod notebook;
mod venvs;
mod watch;

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::pip::failed;
use super::progress::Progress;
use super::stop::Stop;
use super::{output, runtime};
use crate::config::Places;
use crate::env::release::{Recipe, Release, Releases};
use crate::env::{Say, Uv, collect_layers};
use crate::error::Error;
use crate::table::table;

/// Makes, lists and removes what Python kernels run in: releases of PyCX, environments of notebooks, your own.
///
/// A release is an environment that is tested and never changed. Kernels of PyCX are started in the current one, and stay in
/// theirs when another one becomes current. Each notebook with the kernel `pip` has an environment of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Env {
    #[command(subcommand)]
    command: Command,
    /// For programs: JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists all environments: releases, those of notebooks, and your own that were added
    List,
    /// Pins what a notebook asks for, with hashes, in its metadata
    ///
    /// That is what the `# /// script` blocks in its cells ask for, else requirements.txt beside it, else what was installed into
    /// its environment.
    Lock {
        #[command(flatten)]
        of: notebook::Of,
        /// To the newest versions, also of what is locked already
        #[arg(long)]
        upgrade: bool,
    },
    /// Makes a notebook's environment exactly what its lock says
    Sync(notebook::Of),
    /// Writes a notebook's lock for people without nb
    Export(notebook::Export),
    /// Makes an environment that you have (venv, conda) a kernel
    Add(venvs::Add),
    /// Removes an environment of a notebook, or forgets one that was added
    Remove(venvs::Remove),
    /// Lists the releases, the newest first
    Releases { name: Name },
    /// Makes a release, tests it and makes it the current one
    Release {
        name: Name,
        /// What has to work: requirements, a line each [default: nb's own]
        #[arg(long, value_name = "FILE", requires = "lock")]
        manifest: Option<PathBuf>,
        /// All that is installed, with hashes, as `uv pip compile --generate-hashes` makes it of the manifest
        #[arg(long, value_name = "FILE", requires = "manifest")]
        lock: Option<PathBuf>,
    },
    /// Follows a git repository: a commit that changes the manifest, its lock or a first-party package that it names makes
    /// a release
    Watch(watch::Arguments),
    /// Makes the release before the current one the current one, or the one that is named
    Rollback { name: Name, release: Option<String> },
    /// Tells in which packages two releases differ [default: the newest two]
    Diff {
        name: Name,
        #[arg(requires = "to")]
        from: Option<String>,
        to: Option<String>,
    },
    /// Removes old releases, or environments of notebooks that are gone and those that kernels were rebased onto; none in which a
    /// process runs
    Gc {
        what: What,
        /// How many of the newest releases stay, beside the current one
        #[arg(long, value_name = "COUNT", default_value_t = 3)]
        keep: usize,
        /// Removes environments of notebooks without a question
        #[arg(long)]
        yes: bool,
        /// Tells what would be removed, and removes nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Of what.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    Pycx,
}

/// What is removed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    Pycx,
    Notebooks,
}

impl Name {
    fn releases(self, places: &Places) -> Releases {
        match self {
            Self::Pycx => Releases::pycx(&places.data),
        }
    }
}

impl Env {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Error> {
        let places = Places::from_env()?;
        match &self.command {
            Command::Releases { name } => self.list(&name.releases(&places)),
            Command::Release {
                name,
                manifest,
                lock,
            } => {
                let recipe = match (manifest, lock) {
                    (Some(manifest), Some(lock)) => Recipe::read(manifest, lock)?,
                    _ => Recipe::pycx()?,
                };
                self.release(&name.releases(&places), &recipe, &places)
            }
            Command::Watch(arguments) => arguments.run(self.json, &places),
            Command::Rollback { name, release } => {
                let release = name.releases(&places).roll_back(release.as_deref())?;
                match self.json {
                    true => output::json(&json!(release)),
                    false => output::line(&sentence(&release, "is the current one")),
                }
            }
            Command::Diff { name, from, to } => {
                self.diff(&name.releases(&places), from.as_deref(), to.as_deref())
            }
            Command::List => venvs::list(self.json, &places),
            Command::Lock { of, upgrade } => of.lock(*upgrade, self.json, &places),
            Command::Sync(of) => of.sync(self.json, &places),
            Command::Export(export) => export.run(&places),
            Command::Add(add) => add.run(self.json, &places),
            Command::Remove(remove) => remove.run(self.json, &places),
            Command::Gc {
                what: What::Notebooks,
                yes,
                dry_run,
                ..
            } => venvs::collect(*yes, *dry_run, self.json, &places),
            Command::Gc {
                what: What::Pycx,
                keep,
                dry_run,
                ..
            } => {
                let releases = Name::Pycx.releases(&places);
                let (gone, layers) = working("removing releases", &releases, async |say| {
                    let gone = releases.collect(*keep, !dry_run, say).await?;
                    let layers = collect_layers(&places.data, &gone, !dry_run, say).await;
                    Ok((gone, layers.map_err(failed)?))
                })?;
                let all: Vec<&String> = gone.iter().chain(&layers).collect();
                match (self.json, dry_run) {
                    (true, _) => output::json(&json!(all)),
                    (false, true) => all.iter().try_for_each(|one| output::line(one)),
                    (false, false) => output::line(&format!(
                        "removed {} releases, and {} of what was added to such",
                        gone.len(),
                        layers.len()
                    )),
                }
            }
        }
    }

    fn list(&self, releases: &Releases) -> Result<(), Error> {
        let (all, current) = (releases.list(), releases.current());
        let is_current = |release: &Release| current.as_ref() == Some(release);
        if self.json {
            let shown = all.iter().map(|release| {
                json!({
                    "name": release.name, "created": release.created, "python": release.python,
                    "packages": release.packages, "commit": release.commit, "current": is_current(release),
                })
            });
            return output::json(&shown.collect());
        }
        let rows: Vec<_> = all
            .iter()
            .map(|release| {
                [
                    release.name.clone(),
                    if is_current(release) { "current" } else { "" }.to_owned(),
                    minute(release.created),
                    release.python.clone(),
                    release.packages.len().to_string(),
                ]
            })
            .collect();
        output::text(&table(["release", "", "made", "python", "packages"], &rows))
    }

    fn release(&self, releases: &Releases, recipe: &Recipe, places: &Places) -> Result<(), Error> {
        let (release, is_new) = working("making a release", releases, async |say| {
            let uv = Uv::find(&places.data, say).await?;
            releases.build(recipe, &uv, say).await
        })?;
        match self.json {
            true => output::json(&json!(release)),
            false => output::line(&told(&release, is_new)),
        }
    }

    fn diff(&self, releases: &Releases, from: Option<&str>, to: Option<&str>) -> Result<(), Error> {
        let all = releases.list();
        let pick = |name: Option<&str>, n: usize| {
            let found = match name {
                Some(name) => all.iter().find(|release| release.name == name),
                None => all.get(n),
            };
            found.ok_or_else(|| {
                let what = name.unwrap_or("two to compare");
                Error::user(format!(
                    "there is no release {what}: `nb env releases` lists them"
                ))
            })
        };
        let changes = pick(from, 1)?.changes(pick(to, 0)?);
        if self.json {
            return output::json(&json!(changes));
        }
        let or_none = |version: Option<String>| version.unwrap_or_else(|| "-".to_owned());
        let rows: Vec<_> = changes
            .into_iter()
            .map(|change| [change.package, or_none(change.from), or_none(change.to)])
            .collect();
        output::text(&table(["package", "from", "to"], &rows))
    }
}

/// What became of a release that was asked for.
fn told(release: &Release, is_new: bool) -> String {
    sentence(
        release,
        match is_new {
            true => "is made, tested and the current one",
            false => "was there with this content, and is the current one",
        },
    )
}

fn sentence(release: &Release, how: &str) -> String {
    format!(
        "{} {how}: Python {}, {} packages",
        release.name,
        release.python,
        release.packages.len()
    )
}

/// Shows how the work goes on, and leaves nothing of it when it is to end.
fn working<T>(
    what: &str,
    releases: &Releases,
    work: impl AsyncFnOnce(Say<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let progress = Progress::new();
    let say = |line: &str| progress.detail(what, line);
    progress.begin(what);
    let done = runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        tokio::select! {
            done = work(&say) => return done,
            never = progress.animate() => match never {},
            () = stop.asked() => {}
        }
        releases.tidy(&say).await?;
        Err(Error::user(
            "ended before it was done; the current release is what it was",
        ))
    });
    match done {
        Ok(_) => progress.end(what),
        Err(_) => progress.clear(),
    }
    done
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
