//! The other kernels of a notebook, as a magic sees them: one in an environment with a name, one of a kernelspec.
//!
//! The supervisor implements [`Others`]. Knows nothing of how a kernel is started or talked to.

use std::fmt;

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;

/// Which kernel of the notebook it is, beside the one that its clients see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherKernel {
    /// The Python of nb's environment of this name.
    Venv(String),
    /// That of this kernelspec.
    Kernel(String),
}

impl OtherKernel {
    /// The name without what it is of.
    pub fn name(&self) -> &str {
        let (Self::Venv(name) | Self::Kernel(name)) = self;
        name
    }

    /// What has one of these: the name of its magic.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Venv(_) => "venv",
            Self::Kernel(_) => "kernel",
        }
    }
}

impl fmt::Display for OtherKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub kernel: OtherKernel,
    /// As its kernel_info says it.
    pub language: String,
    /// As REST shows it.
    pub execution_state: String,
    pub pid: Option<u32>,
}

/// The other kernels of the notebook.
pub trait Others {
    /// Starts it unless it runs.
    fn start<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, Result<(), Failure>>;

    /// Those that run.
    fn running(&self) -> LocalBoxFuture<'_, Vec<Running>>;

    /// Runs code in one that runs, unseen, and gives what it printed to stdout.
    fn run_hidden<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        code: String,
    ) -> LocalBoxFuture<'a, Result<String, Failure>>;

    /// Asks one that runs on its shell channel; the content of the reply.
    fn ask<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        msg_type: &'a str,
        content: Value,
    ) -> LocalBoxFuture<'a, Result<Value, Failure>>;

    /// Restarts one that runs.
    fn restart<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, Result<(), Failure>>;

    /// Ends it, if it runs; whether it did.
    fn end<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, bool>;
}
