//! Figures of several rounds as one table: medians, their ratios to that of raw ZeroMQ, goals.
//!
//! Knows nothing of how they were measured.

use std::fmt::Write;

use crate::report;

/// The ways to a kernel, in the order of the columns.
pub(crate) const WAYS: [&str; 4] = ["raw ZeroMQ", "v1", "legacy", "v1, spliced"];

/// The column that the others are held to.
pub(crate) const RAW: usize = 0;

/// What the ratio of a metric to raw ZeroMQ is to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    None,
    /// For v1 and legacy, both handed over.
    AtMost([f64; 2]),
    AtLeast([f64; 2]),
}

impl Goal {
    /// Whether a ratio in this column is no better than it may be.
    fn is_missed(self, way: usize, ratio: f64) -> bool {
        let goal = |goals: [f64; 2]| way.checked_sub(1).and_then(|n| goals.get(n).copied());
        match self {
            Self::None => false,
            Self::AtMost(goals) => goal(goals).is_some_and(|goal| ratio > goal),
            Self::AtLeast(goals) => goal(goals).is_some_and(|goal| ratio < goal),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost([v1, legacy]) => format!("<= {v1}, {legacy}"),
            Self::AtLeast([v1, legacy]) => format!(">= {v1}, {legacy}"),
        }
    }
}

struct Row {
    name: &'static str,
    goal: Goal,
    /// By way, then by round.
    values: [Vec<f64>; WAYS.len()],
}

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Takes the value of one round in; rows stand in the order in which they were first named.
    pub(crate) fn add(&mut self, name: &'static str, goal: Goal, way: usize, value: f64) {
        let known = self.rows.iter().position(|row| row.name == name);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row {
                name,
                goal,
                values: Default::default(),
            });
            self.rows.len() - 1
        });
        self.rows[at].values[way].push(value);
    }

    /// Prints it; each value with its ratio to raw ZeroMQ, `!` where that misses its goal.
    pub(crate) fn print(&self) {
        let mut head = format!("{:<30}{:>10}", "", WAYS[RAW]);
        for way in &WAYS[RAW + 1..] {
            let _written = write!(head, "{way:>19}");
        }
        report(&format!("{head}   goal (v1, legacy)"));
        for row in &self.rows {
            let raw = &row.values[RAW];
            let shown = if raw.is_empty() {
                "-".to_owned()
            } else {
                short(median(raw.clone()))
            };
            let mut line = format!("{:<30}{shown:>10}", row.name);
            for (way, values) in row.values.iter().enumerate().skip(RAW + 1) {
                let value = median(values.clone());
                let shown = short(value);
                let _written = if raw.is_empty() {
                    write!(line, "{shown:>11}        ")
                } else {
                    let ratio = value / median(raw.clone());
                    let missed = if row.goal.is_missed(way, ratio) {
                        '!'
                    } else {
                        ' '
                    };
                    write!(line, "{shown:>11}{ratio:>6.2}x{missed}")
                };
            }
            report(format!("{line}   {}", row.goal.shown()).trim_end());
        }
    }
}

pub(crate) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of the values is.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}

/// A number in about three digits.
pub(crate) fn short(value: f64) -> String {
    match value {
        100_000.0.. => format!("{:.0}k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
