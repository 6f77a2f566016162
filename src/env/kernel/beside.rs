//! An environment with a name that a notebook uses beside its own: made when it is first used, brought to what a cell asks for.

use std::path::Path;
use std::time::Duration;

use super::{KernelEnvironment, Kind};
use crate::env::installed::normal;
use crate::env::interpreters::Interpreters;
use crate::env::named::Named;
use crate::env::pip::{Failure, Typed};
use crate::env::version::{Specifiers, Version};
use crate::env::{Say, Uv};

/// Interpreters that have not answered by then are not found.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

impl KernelEnvironment {
    /// The one of this name, which may not be there yet.
    pub fn with_name(data: &Path, name: &str) -> Self {
        Self {
            kind: Kind::Named,
            data: data.to_owned(),
            release: None,
            whose: name.to_owned(),
        }
    }

    /// Makes sure that the one of a name is there, with this version of Python if one is asked for; whether it was made now.
    pub async fn make(
        &self,
        python: Option<&str>,
        typed: &Typed<'_>,
        say: Say<'_>,
    ) -> Result<bool, Failure> {
        let named = Named::new(&self.data, &self.whose);
        let asked = match python {
            Some(asked) => {
                let variable = |name: &str| typed.env.get(name).map(Into::into);
                let all = Interpreters::look(&self.data, variable, LOOK_WITHIN).await;
                Some(all.find(asked)?.clone())
            }
            None => None,
        };
        if named.is_there() {
            let is = named.python_version();
            let differs =
                |asked: &Version, is: &Version| (0..2).any(|at| asked.number(at) != is.number(at));
            return match (asked, is) {
                (Some(asked), Some(is)) if differs(&asked.about.version, &is) => {
                    let name = &self.whose;
                    Err(Failure::new(format!(
                        "{name} is there with Python {is}; `%venv delete {name}` first, or choose another name."
                    )))
                }
                _ => Ok(false),
            };
        }
        let path = asked.as_ref().map(|python| python.path.to_string_lossy());
        let find_uv = async || Ok(Uv::find(&self.data, say).await?);
        named
            .make(None, path.as_deref(), typed, find_uv, say)
            .await?;
        Ok(true)
    }

    /// What of these requirements is not installed, as far as that can be told without looking anything up.
    pub fn lacks(&self, requirements: &[String]) -> Vec<String> {
        let packages = self.packages();
        let is_there = |requirement: &&String| {
            let requirement = requirement.trim();
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let end = requirement
                .find(|c| !is_name(c))
                .unwrap_or(requirement.len());
            let (name, versions) = requirement.split_at(end);
            let one = packages.get(&normal(name));
            let version = one.and_then(|one| one.version.parse::<Version>().ok());
            match (version, versions.trim().parse::<Specifiers>()) {
                (Some(_), _) if versions.trim().is_empty() => true,
                (Some(version), Ok(versions)) => versions.allow(&version),
                _ => false,
            }
        };
        requirements
            .iter()
            .filter(|one| !is_there(one))
            .cloned()
            .collect()
    }
}
