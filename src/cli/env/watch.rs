//! `nb env watch`: looks at a repository again and again, and tells what came of it.
//!
//! Knows nothing of what is followed, nor of how a release is made.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Name;
use crate::cli::progress::Progress;
use crate::cli::stop::Stop;
use crate::cli::{output, runtime};
use crate::config::Places;
use crate::env::watch::{Looked, Watch, Watched};
use crate::error::Error;

const WORK: &str = "making a release";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    name: Name,
    /// The git repository, as git takes it: a URL, HOST:PATH, or a folder
    repository: String,
    /// The branch to follow [default: the repository's own]
    #[arg(long = "ref", value_name = "BRANCH")]
    branch: Option<String>,
    /// The manifest, a path in the repository: requirements and folders of first-party packages, a line each
    #[arg(long, value_name = "PATH", default_value = "pycx.in")]
    manifest: String,
    /// The manifest's lock, a path in the repository [default: beside the manifest, pycx.txt of pycx.in; made where there is none]
    #[arg(long, value_name = "PATH")]
    lock: Option<String>,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// Looks once, and fails if that fails
    #[arg(long)]
    once: bool,
}

/// How it is told.
struct Teller {
    is_json: bool,
    progress: Progress,
}

impl Arguments {
    /// Runs until it is told to end.
    pub(super) fn run(&self, is_json: bool, places: &Places) -> Result<(), Error> {
        let teller = Teller {
            is_json,
            progress: Progress::new(),
        };
        runtime()?.block_on(async {
            let mut stop = Stop::new()?;
            let say = |line: &str| teller.progress.detail(WORK, line);
            let watched = Watched {
                repository: &self.repository,
                branch: self.branch.as_deref(),
                manifest: &self.manifest,
                lock: self.lock.as_deref(),
            };
            let releases = self.name.releases(places);
            let mut watch = tokio::select! {
                opened = Watch::open(&watched, releases, &places.data, &say) => opened?,
                () = stop.asked() => return self.ended(),
            };
            let ended = tokio::select! {
                ended = self.watch(&mut watch, &teller) => Some(ended),
                never = teller.progress.animate() => match never {},
                () = stop.asked() => None,
            };
            teller.progress.clear();
            match ended {
                Some(ended) => ended,
                None => watch.tidy(&say).await.and(self.ended()),
            }
        })
    }

    /// To be told to end is how watching ends, and no look that was asked for.
    fn ended(&self) -> Result<(), Error> {
        match self.once {
            true => Err(Error::user(
                "ended before it was done; the current release is what it was",
            )),
            false => Ok(()),
        }
    }

    async fn watch(&self, watch: &mut Watch, teller: &Teller) -> Result<(), Error> {
        let mut last = None;
        loop {
            let begins = |commit: &str| teller.begins(commit);
            let say = |line: &str| teller.progress.detail(WORK, line);
            let looked = watch.look(&begins, &say).await;
            teller.progress.clear();
            let is_news = last.as_ref() != Some(&looked);
            if is_news {
                teller.tell(&looked, self.once)?;
            }
            if self.once {
                return match looked {
                    Looked::Failed { why, .. } => Err(why),
                    _ => Ok(()),
                };
            }
            last = Some(looked);
            tokio::time::sleep(Duration::from_secs(self.every)).await;
        }
    }
}

impl Teller {
    fn begins(&self, commit: &str) {
        if self.is_json {
            let _next_will_tell = event("building", json!({"commit": commit}));
        } else {
            self.progress
                .line(&format!("{} has changes", short(commit)));
        }
        self.progress.begin(WORK);
    }

    /// A failure is told here unless it is what the command ends with.
    fn tell(&self, looked: &Looked, is_last: bool) -> Result<(), Error> {
        match looked {
            Looked::Unchanged { commit, release } => {
                let name = release.as_ref().map(|release| &release.name);
                if self.is_json {
                    return event("unchanged", json!({"commit": commit, "release": name}));
                }
                let which = match name {
                    Some(name) => format!("the release of that is {name}"),
                    None => "what failed is not tried again yet".to_owned(),
                };
                output::line(&format!(
                    "{} changes nothing that is followed; {which}",
                    short(commit)
                ))
            }
            Looked::Released {
                commit,
                release,
                is_new,
            } => {
                if self.is_json {
                    let told = json!({"commit": commit, "release": release, "new": is_new});
                    return event("released", told);
                }
                output::line(&super::told(release, *is_new))
            }
            Looked::Failed { commit, why } => {
                if self.is_json {
                    let told =
                        json!({"commit": commit, "why": why.message, "fault": why.fault.name()});
                    return event("failed", told);
                }
                if !is_last {
                    let of = commit
                        .as_deref()
                        .map_or(String::new(), |commit| format!("{}: ", short(commit)));
                    output::warn(&format!("{of}{why}"));
                }
                Ok(())
            }
        }
    }
}

fn short(commit: &str) -> &str {
    &commit[..commit.len().min(10)]
}

/// A line for programs.
fn event(name: &str, mut told: Value) -> Result<(), Error> {
    told["event"] = name.into();
    told["time"] = Timestamp::now().to_string().into();
    output::line(&told.to_string())
}
