//! pip's commands on an environment of nb's. uv does the work; what is there is read from the environment itself.
//!
//! `arguments` reads the command line, `install` tells uv what to do, `show` is what people and programs read. Knows nothing of
//! kernels: whoever asks says where the words were typed, and is told what has changed.

mod arguments;
mod install;
mod show;
mod stub;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use futures_util::future::LocalBoxFuture;

use super::index::{self, Access, Asker, refusal};
use super::installed::Distribution;
use super::uv::OF_THE_SYSTEM;
use super::{Say, Uv, leftovers, tool};

pub use super::failure::Failure;
pub use super::index::From;
pub use arguments::{COMMANDS, Command, Format, Install};
pub(super) use install::{Asked, Requirements, read_requirements};
pub use show::{freeze, list, show, usage, version};
pub(super) use stub::put_pip;

/// What is installed, by normal name.
pub type Packages = BTreeMap<String, Distribution>;

/// Where a command line was typed.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    /// What relative paths are relative to.
    pub folder: &'a Path,
    /// All of the environment that the tools run in.
    pub env: &'a BTreeMap<String, String>,
    pub stop: &'a dyn Stop,
}

/// Tells when what was asked for is to be given up.
pub trait Stop {
    /// Ends when it is.
    fn stopped(&self) -> LocalBoxFuture<'_, ()>;
}

/// Nobody gives it up.
#[derive(Clone, Copy, Debug)]
pub struct Never;

impl Stop for Never {
    fn stopped(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

impl fmt::Debug for Typed<'_> {
    /// Without the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// What a command has changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub added: Packages,
    /// What was there of those that are gone or have another version or content.
    pub replaced: Packages,
    /// The modules of those that were replaced.
    pub modules: BTreeMap<String, BTreeSet<String>>,
    /// What was asked for and was there already.
    pub kept: Packages,
}

impl Changes {
    fn between(before: &Packages, after: &Packages) -> Self {
        let is_same = |name: &String, other: &Packages, one: &Distribution| {
            other.get(name).is_some_and(|other| {
                (&other.version, &other.origin, &other.packages)
                    == (&one.version, &one.origin, &one.packages)
            })
        };
        let differing = |of: &Packages, other: &Packages| {
            let differing = of.iter().filter(|(name, one)| !is_same(name, other, one));
            differing
                .map(|(name, one)| (name.clone(), one.clone()))
                .collect()
        };
        Self {
            added: differing(after, before),
            replaced: differing(before, after),
            ..Self::default()
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.replaced.is_empty()
    }
}

/// What there is before a change.
pub(super) struct State {
    pub(super) packages: Packages,
    modules: BTreeMap<String, BTreeSet<String>>,
}

impl State {
    /// `may_go` tells what may be gone afterwards, so that it has to be read now.
    pub(super) fn of(packages: Packages, may_go: impl Fn(&Distribution) -> bool) -> Self {
        let modules = packages.iter().filter(|(_, one)| may_go(one));
        Self {
            modules: modules
                .map(|(name, one)| (name.clone(), one.modules()))
                .collect(),
            packages,
        }
    }

    /// What has become of it.
    pub(super) fn changes(&self, after: &Packages) -> Changes {
        let mut changes = Changes::between(&self.packages, after);
        for (name, one) in &changes.replaced {
            let modules = self.modules.get(name).cloned();
            changes
                .modules
                .insert(name.clone(), modules.unwrap_or_else(|| one.modules()));
        }
        changes
    }
}

/// Runs uv as whoever typed something would.
pub(super) struct Tool<'a> {
    pub(super) uv: &'a Uv,
    pub(super) typed: &'a Typed<'a>,
    /// What it changes, which is the caller's.
    pub(super) folder: &'a Path,
    pub(super) from: &'a From,
    pub(super) say: Say<'a>,
}

impl Tool<'_> {
    /// Runs it; where it does not get to an index, from what is in its cache.
    pub(super) async fn run(&self, arguments: &[&str], prefer_cache: bool) -> Result<(), Failure> {
        let offline: Vec<&str> = arguments.iter().copied().chain(["--offline"]).collect();
        if prefer_cache && self.once(&offline, &|_| ()).await?.is_ok() {
            return Ok(());
        }
        // Why it failed is told with the failure, from the first word of it on.
        let has_failed = std::cell::Cell::new(false);
        let say = |line: &str| {
            let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
            has_failed.set(has_failed.get() || starts(&["error:", "×"]));
            let is_told = ["cause:", "hint:", "warning: The", USING, "╰", "│"];
            if !has_failed.get() && !starts(&is_told) {
                (self.say)(line);
            }
        };
        let said = match self.once(arguments, &say).await? {
            Ok(()) => {
                index::settle(true);
                return Ok(());
            }
            Err(said) => said,
        };
        if refusal(&said).is_some() || !is_unreachable(&said) {
            index::settle(false);
            return Err(failure(&said));
        }
        (self.say)("the package index cannot be reached, looking into the cache");
        match self.once(&offline, &say).await? {
            Ok(()) => Ok(()),
            Err(_) => Err(Failure {
                log: said,
                ..Failure::new(
                    "The package index cannot be reached, and the cache does not have what is needed.",
                )
            }),
        }
    }

    /// An error is that it was given up, the inner one is what it said.
    async fn once(&self, arguments: &[&str], say: Say<'_>) -> Result<Result<(), String>, Failure> {
        let asker = Asker {
            from: self.from,
            env: self.typed.env,
            folder: self.typed.folder,
            own: self.folder,
        };
        let access = tokio::select! {
            access = Access::gain(asker, arguments) => access?,
            () = self.typed.stop.stopped() => return Err(Failure::interrupt()),
        };
        let is_by_pip = arguments.first() == Some(&"tool");
        // What a file of requirements has is relative to where it is named. A kernel may be in a folder that is gone.
        let is_there = self.typed.folder.is_dir();
        let folder = match is_there && (is_by_pip || arguments.first() == Some(&"pip")) {
            true => self.typed.folder,
            false => Path::new(NO_PROJECT),
        };
        let mut command = self.uv.command();
        command
            .env_clear()
            .envs(OF_THE_SYSTEM)
            .envs(PATIENCE)
            .envs(self.typed.env)
            .envs(access.of_uv())
            .current_dir(folder)
            .env("UV_NO_PROGRESS", "1");
        if is_by_pip {
            command.envs(access.of_pip());
        }
        command.args(["--color", "never", "--project", NO_PROJECT]);
        command.args(arguments);
        tool::forget_misleading(&mut command);
        leftovers::mark(&mut command, self.folder);
        tokio::select! {
            done = tool::run(&mut command, say) => {
                return Ok(done.map(|_| ()).map_err(|failure| failure.to_string()));
            }
            () = self.typed.stop.stopped() => {}
        }
        // It is killed, and so is what it has started.
        leftovers::end(self.folder).await?;
        Err(Failure::interrupt())
    }
}

impl Typed<'_> {
    /// The distributions that are named, in these words and in these requirement files.
    pub(super) fn names(&self, names: &[String], files: &[String]) -> Result<Vec<String>, Failure> {
        let mut all = names.to_vec();
        for file in files {
            let lines = read_requirements(&absolute(self.folder, file, self.env))?;
            all.extend(
                lines
                    .iter()
                    .filter_map(|line| super::installed::name_of(line)),
            );
        }
        Ok(all)
    }
}

/// Lets pip itself do something, for the environment with this Python.
pub(super) async fn by_pip(
    uv: &Uv,
    python: &Path,
    words: &[String],
    typed: &Typed<'_>,
    say: Say<'_>,
) -> Result<(), Failure> {
    let (from, words) = From::taken(words);
    let words: Vec<String> = words
        .iter()
        .map(|word| index::without_logins(word, typed.env))
        .collect();
    // It changes nothing, so it has to be told from others that work here.
    let alone = typed.folder.join(uuid::Uuid::new_v4().to_string());
    let tool = Tool {
        uv,
        typed,
        folder: &alone,
        from: &from,
        say,
    };
    let python = python.to_string_lossy();
    let mut arguments = vec![
        "tool", "run", "--quiet", "--from", "pip", "pip", "--python", &python,
    ];
    arguments.push("--disable-pip-version-check");
    arguments.extend(words.iter().map(String::as_str));
    let done = tool.once(&arguments, say).await?;
    index::settle(done.is_ok());
    done.map_err(|said| failure(&said))
}

/// The notebook's folder may have settings for uv, which are of a project and no environment's: these are looked for here.
const NO_PROJECT: &str = "/";

/// How long uv waits for an index that is silent, and how often again: as long as pip does, and not for minutes. Who has set
/// these variables is followed.
const PATIENCE: [(&str, &str); 2] = [("UV_HTTP_TIMEOUT", "15"), ("UV_HTTP_RETRIES", "2")];

/// How a line of uv's begins that says what everybody knows.
const USING: &str = "Using Python";

/// Whether uv failed since it could not get to an index.
fn is_unreachable(said: &str) -> bool {
    let signs = [
        "error sending request",
        "dns error",
        "onnection refused",
        "Network is unreachable",
        "timed out",
        "Request failed after",
    ];
    signs.iter().any(|sign| said.contains(sign))
}

const NO_VERSIONS: &str = "No versions fit together";

/// A first line of uv's that is shorter names what was done and not what went wrong.
const SHORT: usize = 40;

/// Whether a line of uv's tells nothing of why it failed.
fn is_aside(line: &str) -> bool {
    line.starts_with(USING) || line.starts_with("warning:")
}

/// What uv said as one sentence, and the rest of it.
fn failure(said: &str) -> Failure {
    let plain = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || "×│╰─▶├".contains(c));
        let line = ["error: ", "ERROR: ", "cause: "]
            .iter()
            .find_map(|head| line.strip_prefix(head))
            .unwrap_or(line);
        line.trim().to_owned()
    };
    let lines: Vec<String> = said
        .lines()
        .map(plain)
        .filter(|line| !line.is_empty() && !is_aside(line))
        .collect();
    if let Some(message) = refusal(said) {
        let log: Vec<&str> = said.lines().filter(|line| !is_aside(line)).collect();
        return Failure {
            log: log.join("\n"),
            ..Failure::new(message)
        };
    }
    if let Some(what) = no_room(said) {
        return Failure {
            log: said.to_owned(),
            ..Failure::new(format!("{what}; nothing was changed."))
        };
    }
    let is_head = |line: &String| line.starts_with("No solution found");
    // "No solution found when resolving dependencies:" says nothing; why follows in one sentence over several lines.
    let (message, log) = match lines.iter().position(is_head) {
        Some(at) => {
            let is_hint = |line: &&String| line.starts_with("hint:");
            let why = lines[at + 1..].iter().map(String::as_str);
            let why: Vec<&str> = why.take_while(|line| !line.starts_with("hint:")).collect();
            let hints: Vec<String> = lines.iter().filter(is_hint).cloned().collect();
            let message = format!("{NO_VERSIONS}: {}", why.join(" "));
            (message, hints.join("\n"))
        }
        None => {
            let message = match lines.as_slice() {
                [] => "uv failed without a word".to_owned(),
                [first, .., last] if first.len() < SHORT => {
                    format!("{}: {last}", first.trim_end_matches(['.', ':']))
                }
                [first, ..] => first.clone(),
            };
            let log: Vec<&str> = said.lines().filter(|line| !is_aside(line)).collect();
            (message, log.join("\n"))
        }
    };
    let end = if message.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    Failure {
        log,
        is_final: message.starts_with(NO_VERSIONS),
        ..Failure::new(message + end)
    }
}

/// Whether a tool failed for want of a disk's room, as the system says it.
fn no_room(said: &str) -> Option<&'static str> {
    let all = [
        ("os error 28", "The disk is full"),
        ("No space left on device", "The disk is full"),
        ("os error 122", "Your quota of the disk is used up"),
    ];
    let mut found = all.iter().filter(|(sign, _)| said.contains(sign));
    found.next().map(|(_, what)| *what)
}

/// A path as an argument of a tool.
pub(super) fn argument(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path as it was typed, for whoever runs elsewhere.
pub(super) fn absolute(folder: &Path, path: &str, env: &BTreeMap<String, String>) -> PathBuf {
    let home = env.get("HOME").map(Path::new);
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => folder.join(path),
    }
}

/// The names among these that are not installed.
pub fn missing<'a>(names: &'a [String], packages: &Packages) -> BTreeSet<&'a str> {
    let names = names.iter().map(String::as_str);
    names
        .filter(|name| !packages.contains_key(&super::installed::normal(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uv_says_becomes_a_sentence() {
        let said = "  × No solution found when resolving dependencies:\n  ╰─▶ Because nosuch was not found in the\n      \
                    package registry and you require nosuch, we can conclude that your requirements are unsatisfiable.\n\n      \
                    hint: x";
        assert_eq!(
            failure(said).message,
            "No versions fit together: Because nosuch was not found in the package registry and you require nosuch, \
             we can conclude that your requirements are unsatisfiable."
        );
        assert_eq!(
            failure("error: File not found: `r.txt`").message,
            "File not found: `r.txt`."
        );
        assert!(failure("").message.ends_with('.'));
        let git = failure("error: Git operation failed\n  cause: x\n  fatal: no such host");
        assert_eq!(git.message, "Git operation failed: fatal: no such host.");
    }

    #[test]
    fn a_home_is_filled_in() {
        let env = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        for (path, full) in [
            ("~/x", "/h/x"),
            ("x", "/f/x"),
            ("/x", "/x"),
            ("~x", "/f/~x"),
        ] {
            assert_eq!(
                absolute(Path::new("/f"), path, &env),
                Path::new(full),
                "{path}"
            );
        }
    }
}
