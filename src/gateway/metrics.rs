//! Numbers for Prometheus, in its text format: what this gateway has answered, and how the kernels are.
//!
//! Counters are this process's own and begin at zero with it; what is told of kernels is asked of their
//! supervisors. Knows nothing of HTTP but methods and statuses.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::kernels::contract::Kernel;

/// Upper bounds of the buckets in which starts are counted, in seconds.
const START_BUCKETS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What a gateway counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By method and status.
    answers: BTreeMap<(String, u16), u64>,
    /// Starts up to each bound, all of them last.
    starts: [u64; START_BUCKETS.len() + 1],
    start_seconds: f64,
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, method: &str, status: u16) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts
            .answers
            .entry((method.to_owned(), status))
            .or_default() += 1;
    }

    /// A kernel was ready this long after it was asked for.
    pub(crate) fn started(&self, after: Duration) {
        let seconds = after.as_secs_f64();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = START_BUCKETS.iter().copied().chain([f64::INFINITY]);
        for (count, bound) in counts.starts.iter_mut().zip(bounds) {
            *count += u64::from(seconds <= bound);
        }
        counts.start_seconds += seconds;
    }

    /// All of it, with these kernels.
    pub(crate) fn text(&self, kernels: &[Kernel]) -> String {
        let mut text = Text::default();
        self.counts(&mut text);
        of_kernels(kernels, &mut text);
        text.0
    }

    fn counts(&self, text: &mut Text) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        text.head(
            "nb_http_requests_total",
            "counter",
            "Requests answered by this gateway.",
        );
        for ((method, status), count) in &counts.answers {
            let labels = [("method", method.as_str()), ("status", &status.to_string())];
            text.line("nb_http_requests_total", &labels, *count);
        }
        let help = "From the request of a kernel to its being ready.";
        text.head("nb_kernel_start_seconds", "histogram", help);
        let bounds = START_BUCKETS.map(|bound| bound.to_string());
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bound, count) in bounds.zip(counts.starts) {
            text.line("nb_kernel_start_seconds_bucket", &[("le", bound)], count);
        }
        text.line("nb_kernel_start_seconds_sum", &[], counts.start_seconds);
        let all = counts.starts[START_BUCKETS.len()];
        text.line("nb_kernel_start_seconds_count", &[], all);
    }
}

/// Sums over kernels by their kernelspec: one line for each kernel would be too many.
fn of_kernels(kernels: &[Kernel], text: &mut Text) {
    let mut by_state: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for kernel in kernels {
        *by_state
            .entry((&kernel.name, &kernel.execution_state))
            .or_default() += 1;
    }
    text.head("nb_kernels", "gauge", "Kernels by kernelspec and state.");
    for ((spec, state), count) in by_state {
        text.line("nb_kernels", &[("spec", spec), ("state", state)], count);
    }
    let mut by_release: BTreeMap<&str, u64> = BTreeMap::new();
    let releases = kernels
        .iter()
        .filter_map(|kernel| kernel.nb.get("release")?.as_str());
    for release in releases {
        *by_release.entry(release).or_default() += 1;
    }
    let help = "Kernels by the release of PyCX that they run in.";
    text.head("nb_kernels_by_release", "gauge", help);
    for (release, count) in by_release {
        text.line("nb_kernels_by_release", &[("release", release)], count);
    }
    let number = |kernel: &Kernel, key| kernel.nb.get(key).and_then(Value::as_u64).unwrap_or(0);
    for (name, help, key) in [
        (
            "nb_client_sessions_away",
            "Client sessions whose output is kept for them.",
            "away",
        ),
        (
            "nb_journal_bytes",
            "Output that is kept for clients.",
            "journal_bytes",
        ),
        (
            "nb_lost_messages",
            "Messages dropped because a journal was full.",
            "lost_messages",
        ),
        (
            "nb_lost_bytes",
            "Bytes dropped because a journal was full.",
            "lost_bytes",
        ),
        (
            "nb_kernel_restarts",
            "Restarts of the kernels that there are.",
            "restarts",
        ),
    ] {
        sum(text, name, help, kernels, |kernel| number(kernel, key));
    }
    let help = "Clients connected to kernels.";
    sum(text, "nb_connections", help, kernels, |kernel| {
        kernel.connections as u64
    });
}

fn sum(text: &mut Text, name: &str, help: &str, kernels: &[Kernel], of: impl Fn(&Kernel) -> u64) {
    text.head(name, "gauge", help);
    let mut by_spec: BTreeMap<&str, u64> = BTreeMap::new();
    for kernel in kernels {
        *by_spec.entry(&kernel.name).or_default() += of(kernel);
    }
    for (spec, value) in by_spec {
        text.line(name, &[("spec", spec)], value);
    }
}

/// The text format, version 0.0.4.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let _infallible = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_starts_and_kernels_are_told() {
        let metrics = Metrics::default();
        metrics.answered("GET", 200);
        metrics.answered("GET", 200);
        metrics.started(Duration::from_millis(300));
        let kernel = |state: &str, lost: u64| {
            let kernel = json!({
                "id": "a", "name": "odd\"name", "execution_state": state, "last_activity": "",
                "connections": 2, "nb": {"lost_bytes": lost, "release": "2026.11.28-1a2b3c4d"},
            });
            serde_json::from_value::<Kernel>(kernel).unwrap()
        };
        let text = metrics.text(&[kernel("idle", 3), kernel("busy", 4)]);
        for line in [
            r#"nb_http_requests_total{method="GET",status="200"} 2"#,
            r#"nb_kernel_start_seconds_bucket{le="0.25"} 0"#,
            r#"nb_kernel_start_seconds_bucket{le="0.5"} 1"#,
            r#"nb_kernel_start_seconds_bucket{le="+Inf"} 1"#,
            "nb_kernel_start_seconds_sum 0.3",
            "nb_kernel_start_seconds_count 1",
            r#"nb_kernels{spec="odd\"name",state="busy"} 1"#,
            r#"nb_connections{spec="odd\"name"} 4"#,
            r#"nb_lost_bytes{spec="odd\"name"} 7"#,
            r#"nb_journal_bytes{spec="odd\"name"} 0"#,
            r#"nb_kernels_by_release{release="2026.11.28-1a2b3c4d"} 2"#,
            "# TYPE nb_kernel_start_seconds histogram",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
