//! Whose kernel a start is for, and whether they may start it.
//!
//! How it is started is planned by `kernels::plan`, to which this hands an owner.

use super::Gateway;
use super::identity::Identity;
use crate::config;
use crate::kernels::contract::Start;
use crate::kernels::plan::{Asked, PlanError, Planner, Whose, Wishes};

/// Why a start is not tried.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(String),
    UnknownSpec(String),
    NotImplemented(String),
    Forbidden(String),
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::BadRequest(message) => Self::BadRequest(message),
            PlanError::UnknownSpec(message) => Self::UnknownSpec(message),
            PlanError::NotImplemented(message) => Self::NotImplemented(message),
        }
    }
}

/// The start that `identity` asks for, if it may. Blocks on the file system.
pub(crate) fn plan(
    planner: &Planner,
    asked: &Asked,
    identity: &Identity,
) -> Result<Start, Refusal> {
    let wishes = Wishes::read(&asked.env, &planner.config.kernels.env_allowed)?;
    let owner = identity
        .acts_for(wishes.username())
        .map_err(Refusal::Forbidden)?;
    let whose = Whose {
        owner,
        started_by: identity.name.to_string(),
    };
    let start = planner.plan(asked, wishes, whose)?;
    if !may_start(&planner.config, &start.owner, &start.spec) {
        let (owner, spec) = (&start.owner, &start.spec);
        let message = format!("the user {owner:?} may not start the kernel {spec:?} here");
        return Err(Refusal::Forbidden(message));
    }
    Ok(start)
}

/// Whether this user may start kernels of this kernelspec.
fn may_start(config: &config::Settings, user: &str, spec: &str) -> bool {
    let of_spec = config.kernels.of_spec.get(spec);
    config.auth.users.may(user) && of_spec.is_none_or(|of_spec| of_spec.users.may(user))
}

impl Gateway {
    /// Whether this user may start kernels of this kernelspec.
    pub(crate) fn may_start(&self, user: &str, spec: &str) -> bool {
        may_start(&self.config, user, spec)
    }
}
