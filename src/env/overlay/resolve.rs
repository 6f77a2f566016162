//! Which versions an overlay has: all of the release is resolved together with what was asked for, and what differs from the
//! release is the overlay's.
//!
//! Changes nothing.

use std::fs;
use std::io;

use super::{Overlay, Record};
use crate::env::index;
use crate::env::installed::{Distribution, installed, normal};
use crate::env::pip::{Asked, Failure, Requirements, Tool, argument};

const NO_DEPS: &str = "--no-deps";

impl Overlay {
    /// The pins of what differs from what lies below.
    pub(super) async fn resolve(
        &self,
        record: &Record,
        asked: &Asked,
        tool: &Tool<'_>,
    ) -> Result<Vec<String>, Failure> {
        let below = installed(&self.below);
        let is_alone = |name: &&String| record.no_deps.contains(name);
        let (alone, together): (Vec<&String>, Vec<&String>) =
            record.requirements.keys().partition(is_alone);
        let lines = |names: &[&String]| -> Vec<String> {
            names
                .iter()
                .filter_map(|name| record.requirements.get(*name))
                .cloned()
                .collect()
        };
        let mut pins = Vec::new();
        if !together.is_empty() {
            let mut wanted = lines(&together);
            // All of the release, so that what is added goes with it.
            let named = |name: &String| !record.requirements.contains_key(name);
            let from_index = below
                .iter()
                .filter(|(name, one)| one.origin.is_none() && named(name));
            wanted.extend(from_index.map(|(name, _)| name.clone()));
            pins.extend(self.compile(&wanted, &[], asked, tool).await?);
        }
        if !alone.is_empty() {
            pins.extend(
                self.compile(&lines(&alone), &[NO_DEPS], asked, tool)
                    .await?,
            );
        }
        let differs = |pin: &String| {
            let parts = pin.split_once("==");
            let known =
                parts.and_then(|(name, version)| Some((below.get(&normal(name))?, version)));
            known.is_none_or(|(known, version)| {
                known.version != version.trim() || known.origin.is_some()
            })
        };
        pins.retain(differs);
        Ok(pins)
    }

    /// What uv picks for these requirements, near to what is there.
    async fn compile(
        &self,
        wanted: &[String],
        more: &[&str],
        asked: &Asked,
        tool: &Tool<'_>,
    ) -> Result<Vec<String>, Failure> {
        let broken = |error: io::Error| self.unusable(&error);
        let bare = |line: &String| index::without_logins(line, tool.typed.env);
        let wanted: Vec<String> = wanted.iter().map(bare).collect();
        let input = Requirements::write(&self.folder, &wanted).map_err(broken)?;
        let packages = self.packages();
        let from_index = packages.values().filter(|one| one.origin.is_none());
        let there: Vec<String> = from_index.map(Distribution::pin).collect();
        // uv takes what the file has that it is to write as what to prefer.
        let output = Requirements::write(&self.folder, &there).map_err(broken)?;
        let (python, from, to) = (
            argument(&self.python),
            argument(input.path()),
            argument(output.path()),
        );
        let mut arguments = vec![
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--no-annotate",
            "--python",
            &python,
        ];
        arguments.extend(more);
        let resolving = asked.resolving.iter().filter(|option| *option != NO_DEPS);
        arguments.extend(resolving.chain(&asked.building).map(String::as_str));
        let constraints: Vec<String> = asked
            .constraints
            .iter()
            .map(|path| argument(path))
            .collect();
        for constraint in &constraints {
            arguments.extend(["--constraint", constraint]);
        }
        arguments.extend(["--output-file", &to, &from]);
        tool.run(&arguments, asked.is_pinned).await?;
        let pins = fs::read_to_string(output.path()).map_err(broken)?;
        let pins = pins
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(pins.map(str::to_owned).collect())
    }
}
