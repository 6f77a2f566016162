//! `nb doctor`: what is wrong with this machine for nb, each fault with its fix.
//!
//! `probe` looks, `facts` is what it saw, `checks` judges (pure). Changes nothing.

mod checks;
mod facts;
mod ports;
mod probe;

use std::process::ExitCode;

use serde_json::json;

use self::checks::{Finding, Level};
use super::output;
use crate::error::Error;
use crate::table::table;

/// Looks for what would keep nb from working, and says what to do about it
///
/// Looks at the settings, the port, the folders, the kernelspecs, Python and uv, the companion of
/// JupyterLab's server, the limits of this process and the kernels that run. Changes nothing. Ends with 0
/// when all is well (notes included) and with 1 when there is a fault.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Only what is wrong or worth a note
    #[arg(long, short)]
    quiet: bool,
    /// For programs: JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let facts = super::runtime()?.block_on(probe::facts())?;
        let mut findings = checks::check(&facts);
        if self.quiet {
            findings.retain(|one| one.level != Level::Well);
        }
        match self.json {
            true => output::json(&findings.iter().map(shown).collect())?,
            false => output::text(&text(&findings))?,
        }
        Ok(match checks::any_fault(&findings) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
}

fn shown(finding: &Finding) -> serde_json::Value {
    json!({
        "level": finding.level.name(), "area": finding.area, "subject": finding.subject,
        "what": finding.what, "fix": finding.fix,
    })
}

fn text(findings: &[Finding]) -> String {
    let rows: Vec<_> = (findings.iter())
        .map(|one| {
            let level = one.level.name().to_owned();
            let fix = one.fix.clone();
            [
                level,
                one.area.to_owned(),
                one.subject.clone(),
                one.what.clone(),
                fix,
            ]
        })
        .collect();
    table(["level", "area", "subject", "what", "fix"], &rows)
}
