//! An environment as a lock says, and the lock of what is asked for: both by uv.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::super::notebook::{Asks, Lock, logical};
use super::super::pip::{Changes, Failure, From, Requirements, Typed, argument};
use super::super::spares::Content;
use super::super::version::{Specifiers, Version};
use super::super::whole::replace;
use super::super::{Say, Uv, hex, tool};
use super::{KERNEL_LOCK, LOCKED_PYTHONS, Named, Record};
use crate::redact::without_logins;

/// What may be done to have what a lock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::env) enum Trust {
    /// Somebody asked for it.
    Asked,
    /// A kernel starts, maybe since somebody looks at a notebook: nothing is built, and all comes from the index.
    Opened,
}

/// The lock that an environment was made of, in its folder.
const LOCK: &str = "nb-lock.txt";

/// A file for another tool that takes locks.
const PYLOCK: &str = "pylock.toml";

impl Named {
    /// Exactly what the lock says, and what a kernel needs beside it. When that fails, nothing has changed.
    pub(in crate::env) async fn sync(
        &self,
        lock: &Lock,
        trust: Trust,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        if let Some(python) = self.python_version() {
            lock.goes_with(&python).map_err(Failure::new)?;
        }
        let is_opened = trust == Trust::Opened;
        if let Some(name) = lock.elsewhere().filter(|_| is_opened) {
            return Err(Failure::new(format!(
                "{name} has an address of its own, from which nothing is installed by opening a notebook; `nb env sync` does."
            )));
        }
        let held = self.hold(typed.stop, say).await?;
        let broken = |error| self.unusable(&error);
        let lines = lock.with_rest_of(KERNEL_LOCK);
        let file = Requirements::write(&self.folder, &lines).map_err(broken)?;
        let (python, file) = (argument(&self.python()), argument(file.path()));
        let mut arguments = vec!["pip", "sync", "--require-hashes", "--python", &python];
        arguments.extend(is_opened.then_some("--no-build"));
        arguments.push(&file);
        let from = From::default();
        let tool = self.tool(uv, typed, &from, say);
        let changes = self.change(&arguments, true, &tool, &held).await?;
        let mut record = self.record().unwrap_or_default();
        record.requirements = None;
        record.locked = Some(hash(lock));
        self.keep(&record).map_err(broken)?;
        self.keep_lock(lock);
        Ok(changes)
    }

    /// Makes it of a lock from the start, unless it is there; whether it was not. Where somebody has not asked for it only
    /// what is there already is taken.
    pub(in crate::env) async fn make_locked(
        &self,
        lock: &Lock,
        trust: Trust,
        notebook: &str,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<bool, Failure> {
        let content = Content {
            is_wheels: trust == Trust::Opened,
            ..locked_content(lock)?
        };
        if trust == Trust::Opened && (!is_common(lock) || !self.spares.has(&content)) {
            return Ok(false);
        }
        let record = Record {
            created: Timestamp::now(),
            notebook: Some(notebook.to_owned()),
            locked: Some(hash(lock)),
            ..Record::default()
        };
        let find_uv = async || Ok(uv.clone());
        let is_new = self.make_of(&content, &record, typed, find_uv, say).await?;
        if is_new {
            self.keep_lock(lock);
        }
        Ok(is_new)
    }

    /// What a lock has brought to one that was made of it.
    pub(in crate::env) fn locked_packages(&self, lock: &Lock) -> Changes {
        let mut added = self.packages();
        added.retain(|name, _| lock.names().contains(name));
        Changes {
            added,
            ..Changes::default()
        }
    }

    /// The lock that it was made of, if others may be made of it unasked.
    pub(super) fn kept_lock(&self) -> Option<Lock> {
        let text = fs::read_to_string(self.folder.join(LOCK)).ok()?;
        let lock = Lock::read(&text).ok().filter(is_common)?;
        (self.record()?.locked == Some(hash(&lock))).then_some(lock)
    }

    fn keep_lock(&self, lock: &Lock) {
        // Without it there is no spare.
        if !is_common(lock) {
            return;
        }
        if let Err(error) = replace(&self.folder.join(LOCK), lock.text().as_bytes()) {
            tracing::debug!(%error, "the lock of an environment is not kept");
        }
    }

    /// [`Self::sync`] for a kernel that starts, unless that was done with this lock: what was installed since stays.
    pub(in crate::env) async fn follow_lock(
        &self,
        lock: &Lock,
        typed: &Typed<'_>,
        find_uv: impl AsyncFnOnce() -> Result<Uv, Failure>,
        say: Say<'_>,
    ) -> Result<(), Failure> {
        let locked = self.record().and_then(|record| record.locked);
        if locked == Some(hash(lock)) {
            return Ok(());
        }
        let uv = find_uv().await?;
        self.sync(lock, Trust::Opened, typed, &uv, say).await?;
        Ok(())
    }

    /// The lock of what a notebook asks for, or else of what was installed here. What it pinned `before` stays, as far as
    /// that goes.
    pub(in crate::env) async fn resolve(
        &self,
        asks: &Asks,
        before: Option<&Lock>,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Lock, Failure> {
        let _held = self.hold(typed.stop, say).await?;
        let (lines, asked) = self.asked(asks)?;
        let (python, version) = self.python_for(asks, uv).await?;
        let version = format!("{}.{}", version.number(0), version.number(1));
        let pins = logical(KERNEL_LOCK).into_iter().map(|line| {
            let pin = line.split(" --hash=").next();
            pin.unwrap_or_default().to_owned()
        });
        let output = self.put(before.map_or(&[], Lock::lines))?;
        let constraints = self.put(&pins.collect::<Vec<_>>())?;
        let (output_path, constraints) = (argument(output.path()), argument(constraints.path()));
        let file = asks.requirements.as_deref().map(argument);
        let from = From::default();
        let tool = self.tool(uv, typed, &from, say);
        let compile = async |lines: &[String], constraint: Option<&str>| {
            let lines = self.put(lines)?;
            let lines = argument(lines.path());
            let mut arguments = vec![
                "pip",
                "compile",
                "--quiet",
                "--universal",
                "--generate-hashes",
            ];
            arguments.extend(["--no-header", "--no-annotate", "--python", &python]);
            arguments.extend(["--python-version", &version, "--output-file", &output_path]);
            arguments.extend(before.is_none().then_some("--upgrade"));
            arguments.extend(
                constraint
                    .into_iter()
                    .flat_map(|file| ["--constraint", file]),
            );
            arguments.push(&lines);
            arguments.extend(file.as_deref());
            tool.run(&arguments, false).await
        };
        // What does not go with the kernel that nb has brings one that it goes with.
        match compile(&lines, Some(&constraints)).await {
            Ok(()) => {}
            Err(failure) if failure.is_interrupt => return Err(failure),
            Err(_) => {
                let kernel = ["ipykernel".to_owned()];
                compile(&[&lines[..], &kernel].concat(), None).await?;
            }
        }
        let resolved = fs::read_to_string(output.path()).map_err(|error| self.unusable(&error))?;
        let mut pythons = format!(">={version}");
        if let Some(asked) = &asks.requires_python {
            pythons = format!("{pythons},{asked}");
        }
        let lock = Lock::new(&resolved, &pythons, &asked).map_err(|why| {
            Failure::new(format!(
                "No lock can be made, {why}: what is in a folder or comes from git cannot be locked."
            ))
        })?;
        match lock.text().lines().all(|line| without_logins(line) == line) {
            true => Ok(lock),
            false => Err(Failure::new(
                "No lock can be made: an address has a login in it, which would be in the notebook.",
            )),
        }
    }

    /// A lock as a `pylock.toml` (PEP 751).
    pub(in crate::env) async fn pylock(
        &self,
        lock: &Lock,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<String, Failure> {
        let _held = self.hold(typed.stop, say).await?;
        let broken = |error| self.unusable(&error);
        let lines = self.put(lock.lines())?;
        let output = self.folder.join(PYLOCK);
        let (path, lines) = (argument(&output), argument(lines.path()));
        let from = From::default();
        let python = lock.requires_python().unwrap_or_default();
        let python = python.split(',').next().unwrap_or_default();
        let version = python.trim_start_matches(['>', '=', ' ']);
        let mut arguments = vec!["pip", "compile", "--quiet", "--universal", "--no-deps"];
        arguments.extend(["--no-header", "--no-annotate", "--format", PYLOCK]);
        arguments.extend(["--output-file", &path, &lines]);
        if !version.is_empty() {
            arguments.extend(["--python-version", version]);
        }
        let compiled = self
            .tool(uv, typed, &from, say)
            .run(&arguments, false)
            .await;
        let read = compiled.and_then(|()| fs::read_to_string(&output).map_err(broken));
        let _none_if_it_failed = fs::remove_file(&output);
        read
    }

    /// Lines for uv, and what they are called to people.
    fn asked(&self, asks: &Asks) -> Result<(Vec<String>, Vec<String>), Failure> {
        if !asks.dependencies.is_empty() {
            return Ok((asks.dependencies.clone(), asks.dependencies.clone()));
        }
        if let Some(file) = &asks.requirements {
            let name = file.file_name().unwrap_or_default();
            return Ok((Vec::new(), vec![name.to_string_lossy().into_owned()]));
        }
        let kernel = logical(KERNEL_LOCK);
        let packages = self.packages().into_iter().filter(|(name, one)| {
            let pin = format!("{name}=={}", one.version);
            let is_it = |line: &String| line.split(' ').next() == Some(&pin);
            !kernel.iter().any(is_it)
        });
        let pins: Vec<String> = packages
            .map(|(name, one)| match one.origin {
                Some(origin) => format!("{name} @ {}", origin.url),
                None => format!("{name}=={}", one.version),
            })
            .collect();
        match pins.is_empty() {
            true => Err(Failure::new(
                "This notebook asks for no packages: no cell has a `# /// script` block, there is no requirements.txt beside \
                 it, and nothing was installed into its environment.",
            )),
            false => Ok((pins, vec!["what was installed".to_owned()])),
        }
    }

    /// A Python that the notebook's code runs on, and its version: the environment's where there is one.
    async fn python_for(&self, asks: &Asks, uv: &Uv) -> Result<(String, Version), Failure> {
        let requires = asks.requires_python.as_deref();
        if self.is_there()
            && let Some(version) = self.python_version()
        {
            let is_fine = requires
                .and_then(|asked| asked.parse::<Specifiers>().ok())
                .is_none_or(|asked| asked.allow(&version));
            return match is_fine {
                true => Ok((argument(&self.python()), version)),
                false => Err(Failure::new(format!(
                    "The notebook's environment has Python {version}, and its cells ask for {}; `nb env remove NOTEBOOK` \
                     removes it, and the next one is made with another.",
                    requires.unwrap_or_default()
                ))),
            };
        }
        let python = uv.find_python(&pythons(requires)?).await?;
        let version = version(Path::new(&python)).await?;
        Ok((python, version))
    }

    fn put(&self, lines: &[String]) -> Result<Requirements, Failure> {
        Requirements::write(&self.folder, lines).map_err(|error| self.unusable(&error))
    }
}

/// The versions of Python that may have a kernel, and are as asked.
pub(in crate::env) fn pythons(requires: Option<&str>) -> Result<String, Failure> {
    Ok(match requires {
        Some(asked) => {
            let _sound: Specifiers = asked.parse().map_err(|_| {
                Failure::new(format!(
                    "`requires-python = \"{asked}\"` is not understood."
                ))
            })?;
            format!("{LOCKED_PYTHONS},{asked}")
        }
        None => LOCKED_PYTHONS.to_owned(),
    })
}

/// What an interpreter says.
async fn version(python: &Path) -> Result<Version, Failure> {
    let mut command = tool::command(python);
    let code = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let said = tool::run(command.args(["-I", "-S", "-c", code]), &|_| ()).await;
    let version = said.ok().and_then(|said| said.trim().parse().ok());
    version.ok_or_else(|| Failure::new(format!("{} is no Python that runs.", python.display())))
}

/// Whether all of it is from the index, whoever asks.
fn is_common(lock: &Lock) -> bool {
    lock.elsewhere().is_none()
}

/// What an environment of a lock has.
pub(super) fn locked_content(lock: &Lock) -> Result<Content, Failure> {
    Ok(Content {
        python: pythons(lock.requires_python())?,
        lock: lock.with_rest_of(KERNEL_LOCK),
        is_wheels: true,
    })
}

fn hash(lock: &Lock) -> String {
    hex(&Sha256::digest(lock.text()))
}
