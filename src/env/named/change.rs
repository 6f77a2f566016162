//! pip's commands on an environment: what changes it is whole or taken back.

use std::io;

use super::super::changes::{self, Added};
use super::super::held::Held;
use super::super::installed::{normal, site_packages};
use super::super::pip::{
    Asked, Changes, Failure, From, Install, Packages, Requirements, State, Tool, Typed, argument,
    put_pip,
};
use super::super::undo::Undo;
use super::super::{Say, Uv, index, unshare};
use super::{Named, kernel_lock};

impl Named {
    /// `pip install`. When that fails, nothing has changed.
    pub(in crate::env) async fn install(
        &self,
        install: &Install,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        let mut asked = Asked::new(install, typed);
        let mut from = install.from.clone();
        from.add(asked.take_logins(typed)?);
        let broken = |error: io::Error| self.unusable(&error);
        let held = self.hold(typed.stop, say).await?;
        let bare = |line: &String| index::without_logins(line, typed.env);
        let lines: Vec<String> = asked.lines.iter().map(bare).collect();
        let lines = Requirements::write(&self.folder, &lines).map_err(broken)?;
        let (python, lines) = (argument(&self.python()), argument(lines.path()));
        let mut arguments = vec!["pip", "install", "--python", &python];
        if !asked.lines.is_empty() {
            arguments.extend(["--requirement", &lines]);
        }
        let files: Vec<String> = asked.files.iter().map(|path| argument(path)).collect();
        for file in &files {
            arguments.extend(["--requirement", file]);
        }
        let constraints: Vec<String> = asked
            .constraints
            .iter()
            .map(|path| argument(path))
            .collect();
        for constraint in &constraints {
            arguments.extend(["--constraint", constraint]);
        }
        for (is, option) in [
            (install.reinstall, "--reinstall"),
            (install.dry_run, "--dry-run"),
            (install.require_hashes, "--require-hashes"),
        ] {
            arguments.extend(is.then_some(option));
        }
        let options = asked.resolving.iter().chain(&asked.building);
        arguments.extend(options.map(String::as_str));
        let tool = self.tool(uv, typed, &from, say);
        let mut changes = self
            .change(&arguments, asked.is_pinned, &tool, &held)
            .await?;
        let after = self.packages_aside(&held).await?;
        for name in asked.names() {
            if !changes.added.contains_key(&name)
                && let Some(one) = after.get(&name)
            {
                changes.kept.insert(name, one.clone());
            }
        }
        Ok(changes)
    }

    /// `pip uninstall`. What is not there is passed over, as pip does.
    pub(in crate::env) async fn uninstall(
        &self,
        names: &[String],
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        let held = self.hold(typed.stop, say).await?;
        let packages = self.packages_aside(&held).await?;
        let mut arguments = vec!["pip", "uninstall", "--python"];
        let python = argument(&self.python());
        arguments.push(&python);
        let known = names.iter().filter(|name| {
            let is_known = packages.contains_key(&normal(name));
            if !is_known {
                say(&format!("WARNING: Skipping {name} as it is not installed."));
            }
            is_known
        });
        let before = arguments.len();
        arguments.extend(known.map(String::as_str));
        if arguments.len() == before {
            return Ok(Changes::default());
        }
        let from = From::default();
        let silent = |_: &str| ();
        let tool = self.tool(uv, typed, &from, &silent);
        self.change(&arguments, true, &tool, &held).await
    }

    /// Takes away all that a kernel does not need; the names of what that was.
    pub(in crate::env) async fn reset(
        &self,
        typed: &Typed<'_>,
        uv: &Uv,
        say: Say<'_>,
    ) -> Result<Changes, Failure> {
        if self.is_foreign() {
            return Err(Failure::new(
                "This environment is your own, and nb does not know what in it was added here; `%pip uninstall` removes packages.",
            ));
        }
        let held = self.hold(typed.stop, say).await?;
        let broken = |error: io::Error| self.unusable(&error);
        let lock = Requirements::write(&self.folder, &kernel_lock()).map_err(broken)?;
        let (python, lock) = (argument(&self.python()), argument(lock.path()));
        let from = From::default();
        let silent = |_: &str| ();
        let tool = self.tool(uv, typed, &from, &silent);
        let sync = [
            "pip",
            "sync",
            "--require-hashes",
            "--python",
            &python,
            &lock,
        ];
        let changes = self.change(&sync, true, &tool, &held).await?;
        let mut record = self.record().unwrap_or_default();
        record.requirements = None;
        record.locked = None;
        self.keep(&record).map_err(broken)?;
        Ok(changes)
    }

    pub(super) async fn change(
        &self,
        arguments: &[&str],
        prefer_cache: bool,
        tool: &Tool<'_>,
        held: &Held,
    ) -> Result<Changes, Failure> {
        let broken = |error: io::Error| self.unusable(&error);
        // What somebody shares in an environment of their own stays shared; what comes is a copy from the start.
        let is_foreign = self.is_foreign();
        let mut arguments = arguments.to_vec();
        if is_foreign && arguments.get(1) == Some(&"install") {
            arguments.extend(["--link-mode", "copy"]);
        }
        let this = self.clone();
        let begun = held.aside(move || this.begin(is_foreign)).await;
        let (before, undo) = begun.map_err(broken)?;
        if let Err(failure) = tool.run(&arguments, prefer_cache).await {
            let back = held.aside(move || undo.roll_back()).await;
            back.map_err(broken)?;
            return Err(failure);
        }
        let this = self.clone();
        let done = held.aside(move || this.finish(&before, undo, is_foreign));
        let (changes, added) = done.await.map_err(broken)?;
        changes::tell(held, &self.folder, &changes, added).await;
        Ok(changes)
    }

    async fn packages_aside(&self, held: &Held) -> Result<Packages, Failure> {
        let this = self.clone();
        let packages = held.aside(move || Ok(this.packages())).await;
        packages.map_err(|error| self.unusable(&error))
    }

    /// What there is, kept. Blocks.
    fn begin(&self, is_foreign: bool) -> io::Result<(State, Undo)> {
        let environment = self.environment();
        let before = State::of(self.packages(), |_| true);
        if !is_foreign {
            unshare::expect(&environment)?;
        }
        Ok((before, Undo::begin(&environment)?))
    }

    /// What was done stays; what has changed, and what of that a process that runs has to add to its path. Blocks.
    fn finish(
        &self,
        before: &State,
        undo: Undo,
        is_foreign: bool,
    ) -> io::Result<(Changes, Option<Added>)> {
        undo.commit()?;
        let changes = before.changes(&self.packages());
        if !is_foreign {
            let environment = self.environment();
            // What has just come is what somebody edits next.
            let new = changes.added.values().flat_map(|one| {
                let modules = one.modules().into_iter();
                modules.map(|module| one.packages.join(module))
            });
            unshare::first(new);
            unshare::at_once(&environment);
            // Another pip than ours may have come.
            put_pip(&environment)?;
        }
        // That of an editable project has one.
        let is_path_file = |file: &String| file.ends_with(".pth");
        let mut new = changes.added.values();
        let has_path = new.any(|one| one.files().iter().any(is_path_file));
        let packages = site_packages(&self.environment()).filter(|_| has_path);
        let added = packages.map(|packages| Added {
            packages,
            python: self.python(),
        });
        Ok((changes, added))
    }
}
