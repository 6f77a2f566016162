//! `nb workspace`: private trees of git repositories. Thin: what one is belongs to `env::workspace`.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command as Process, Stdio};

use serde_json::{Value, json};

use super::progress::Progress;
use super::stop::Stop;
use super::{output, runtime};
use crate::config::Places;
use crate::env::workspace::{Asked, Completion, Look, Planned, Workspace, Workspaces};
use crate::error::Error;
use crate::table::table;

/// By what a process that completes a workspace is given the address with its login, which is in no argument and in no file.
const URL: &str = "NB_WORKSPACE_URL";

/// How many characters of a reason stand in a table.
const WHY_CHARS: usize = 60;

/// Makes, shows and deletes workspaces: private trees of git repositories that can be worked in after seconds.
///
/// A kernel that is started with KERNEL_WORKSPACE=NAME in its environment works in one.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// For programs: JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
    /// Lists the workspaces
    List,
    /// Tells of each workspace, or of one, what in it is nowhere else, its size, and how far it is complete
    Status {
        name: Option<String>,
    },
    /// Waits until a workspace has all history and all branches
    Complete {
        name: String,
    },
    Delete(Delete),
}

/// Makes a workspace of a git repository
///
/// The files come first, those of --paths alone if it is given. The history and all other branches and tags come in the background.
#[derive(Debug, clap::Args)]
struct Create {
    /// The repository, as git takes it: a URL, HOST:PATH, or a folder
    #[arg(value_name = "URL")]
    url: String,
    /// A branch, a tag or a whole commit hash [default: the repository's own branch]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// The folders that are wanted, from the root of the repository; `git sparse-checkout` changes them later
    #[arg(long, value_name = "PATH", num_args = 1..)]
    paths: Vec<String>,
    /// What it is called [default: as the repository]
    #[arg(long)]
    name: Option<String>,
}

/// Deletes a workspace, unless changes, commits or stashes in it are nowhere else
#[derive(Debug, clap::Args)]
struct Delete {
    name: String,
    /// Also what is nowhere else, and what a process works in
    #[arg(long)]
    force: bool,
    /// Keeps the mirror of the repository that no other workspace needs: the next one is made sooner
    #[arg(long)]
    keep_mirror: bool,
}

impl Arguments {
    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Error> {
        let places = Places::from_env()?;
        let workspaces = Workspaces::new(&places.data);
        match &self.command {
            Command::Create(create) => create.run(&workspaces, self.json),
            Command::List => list(&workspaces, self.json),
            Command::Status { name } => status(&workspaces, name.as_deref(), self.json),
            Command::Complete { name } => complete(&workspaces, name, self.json),
            Command::Delete(delete) => delete.run(&workspaces, self.json),
        }
    }
}

impl Create {
    fn run(&self, workspaces: &Workspaces, is_json: bool) -> Result<(), Error> {
        let made = make(
            workspaces,
            &Asked {
                url: &self.url,
                name: self.name.as_deref(),
                reference: self.reference.as_deref(),
                paths: &self.paths,
            },
        )?;
        match is_json {
            true => output::json(&shown(&made, workspaces)),
            false => output::line(&format!(
                "{} is {} of {}, in {}\nits history and other branches come in the background: `nb workspace status {0}`",
                made.name,
                made.reference(),
                made.url(),
                made.path.display()
            )),
        }
    }
}

/// Makes one, and begins to complete it in the background.
pub(super) fn make(workspaces: &Workspaces, asked: &Asked<'_>) -> Result<Workspace, Error> {
    let planned = Planned::read(asked)?;
    let work = format!("making the workspace {}", planned.name);
    let made = with_progress(
        &work,
        async |say| workspaces.create(&planned, say).await,
        || workspaces.give_up(&planned),
    )?;
    begin_completing(workspaces, &made, Some(asked.url))?;
    Ok(made)
}

impl Delete {
    fn run(&self, workspaces: &Workspaces, is_json: bool) -> Result<(), Error> {
        let say = |_: &str| ();
        let deleting = workspaces.delete(&self.name, self.force, self.keep_mirror, &say);
        let deleted = runtime()?.block_on(deleting)?;
        match (is_json, deleted.with_mirror) {
            (true, with_mirror) => {
                output::json(&json!({"deleted": self.name, "mirror": with_mirror}))
            }
            (false, true) => output::line(&format!(
                "deleted {}, and the mirror of its repository",
                self.name
            )),
            (false, false) => output::line(&format!("deleted {}", self.name)),
        }
    }
}

/// Runs what git does to its end and shows what it says; told to end, it undoes what was begun.
fn with_progress<T, U: Future<Output = Result<(), Error>>>(
    work: &str,
    run: impl AsyncFnOnce(crate::env::Say<'_>) -> Result<T, Error>,
    undo: impl FnOnce() -> U,
) -> Result<T, Error> {
    let progress = Progress::new();
    runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        let say = |line: &str| progress.detail(work, line);
        progress.begin(work);
        let ended = tokio::select! {
            ended = run(&say) => Some(ended),
            never = progress.animate() => match never {},
            () = stop.asked() => None,
        };
        if matches!(ended, Some(Ok(_))) {
            progress.end(work);
        }
        progress.clear();
        match ended {
            Some(ended) => ended,
            None => undo()
                .await
                .and(Err(Error::user("ended before it was done"))),
        }
    })
}

fn list(workspaces: &Workspaces, is_json: bool) -> Result<(), Error> {
    let all = workspaces.list()?;
    take_up(workspaces, &all)?;
    if is_json {
        let shown: Vec<Value> = all.iter().map(|one| shown(one, workspaces)).collect();
        return output::json(&json!(shown));
    }
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            [
                one.name.clone(),
                one.reference().to_owned(),
                made(one),
                completion(one),
                one.url().to_owned(),
                one.path.display().to_string(),
            ]
        })
        .collect();
    output::text(&table(
        ["name", "ref", "made", "complete", "repository", "folder"],
        &rows,
    ))
}

fn status(workspaces: &Workspaces, name: Option<&str>, is_json: bool) -> Result<(), Error> {
    let all = match name {
        Some(name) => vec![workspaces.find(name)?],
        None => workspaces.list()?,
    };
    take_up(workspaces, &all)?;
    let runtime = runtime()?;
    let looked: Vec<(Workspace, Result<Look, Error>)> = all
        .into_iter()
        .map(|one| {
            let look = runtime.block_on(workspaces.look(&one));
            (one, look)
        })
        .collect();
    if is_json {
        let shown: Vec<Value> = looked
            .iter()
            .map(|(one, look)| {
                let mut value = shown(one, workspaces);
                value["bytes"] = one.own_bytes().into();
                match look {
                    Ok(look) => value["git"] = json!(look),
                    Err(error) => value["error"] = error.message.clone().into(),
                }
                value
            })
            .collect();
        return output::json(&json!(shown));
    }
    let rows: Vec<_> = looked
        .iter()
        .map(|(one, look)| {
            let size = format!("{} MiB", one.own_bytes() >> 20);
            let (branch, upstream, own) = match look {
                Ok(look) => (branch(look), upstream(look), nowhere_else(look)),
                Err(error) => (
                    "-".to_owned(),
                    "-".to_owned(),
                    error.message.chars().take(WHY_CHARS).collect(),
                ),
            };
            [
                one.name.clone(),
                branch,
                upstream,
                own,
                size,
                completion(one),
            ]
        })
        .collect();
    output::text(&table(
        [
            "name",
            "branch",
            "upstream",
            "only here",
            "size",
            "complete",
        ],
        &rows,
    ))
}

fn complete(workspaces: &Workspaces, name: &str, is_json: bool) -> Result<(), Error> {
    // In the background it is no longer of the session that began it.
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    let _is_leader_already = rustix::process::setsid();
    let work = format!("completing {name}");
    let done = with_progress(
        &work,
        async |say| workspaces.complete(name, url.as_deref(), say).await,
        async || Ok(()),
    );
    done?;
    match is_json {
        true => output::json(&shown(&workspaces.find(name)?, workspaces)),
        false => output::line(&format!("{name} is complete")),
    }
}

/// Goes on with those whose process was killed.
fn take_up(workspaces: &Workspaces, all: &[Workspace]) -> Result<(), Error> {
    let mut due = all.iter().filter(|one| workspaces.is_to_be_completed(one));
    due.try_for_each(|one| begin_completing(workspaces, one, None))
}

/// Starts the process that completes a workspace, which outlives this one.
fn begin_completing(
    workspaces: &Workspaces,
    workspace: &Workspace,
    url: Option<&str>,
) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::nb(format!(
            "no process could be started that completes {}: {error}",
            workspace.name
        ))
    };
    let folder = workspaces.folder_of(workspace);
    let mut options = OpenOptions::new();
    let log = options
        .create(true)
        .append(true)
        .mode(0o600)
        .open(folder.join("completing.log"));
    let mut process = Process::new("/proc/self/exe");
    process
        .args(["workspace", "complete", &workspace.name])
        .env(URL, url.unwrap_or_default())
        .envs(workspaces.mark_of(workspace))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.map_err(failed)?);
    process.spawn().map(drop).map_err(failed)
}

fn shown(one: &Workspace, workspaces: &Workspaces) -> Value {
    json!({
        "name": one.name,
        "repository": one.url(),
        "ref": one.reference(),
        "paths": one.paths(),
        "folder": one.path,
        "made": one.made(),
        "completion": one.completion,
        "completing": workspaces.is_being_completed(&one.name),
    })
}

fn made(one: &Workspace) -> String {
    one.made().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn completion(one: &Workspace) -> String {
    let short = |text: &str| {
        text.lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(WHY_CHARS)
            .collect::<String>()
    };
    match &one.completion {
        Some(Completion::Complete { .. }) => "yes".to_owned(),
        Some(Completion::Running { step, .. }) => format!("on its way: {}", short(step)),
        Some(Completion::Failed { why, .. }) => format!("failed: {}", short(why)),
        None => "not begun".to_owned(),
    }
}

fn branch(look: &Look) -> String {
    let commit = || {
        look.commit
            .as_deref()
            .map(|commit| commit.chars().take(10).collect())
    };
    look.branch
        .clone()
        .or_else(commit)
        .unwrap_or_else(|| "-".to_owned())
}

fn upstream(look: &Look) -> String {
    match (&look.upstream, look.ahead, look.behind) {
        (Some(upstream), Some(ahead), Some(behind)) => format!("{upstream} +{ahead} -{behind}"),
        (Some(upstream), ..) => format!("{upstream} (gone)"),
        _ => "-".to_owned(),
    }
}

fn nowhere_else(look: &Look) -> String {
    let losses = look.losses();
    match losses.is_empty() {
        true => "nothing".to_owned(),
        false => losses.join(", "),
    }
}
