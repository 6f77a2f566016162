//! A report as people read it: rows of a label and a text, as text and as HTML.
//!
//! Pure. What comes from outside cannot leave its place in the table.

use super::{OtherKernel, Report};

pub(super) type Row = (&'static str, String);

pub(super) fn rows(report: &Report) -> Vec<Row> {
    let Report {
        kernel,
        environment,
        machine,
        memory,
        clients,
        lost,
        journal,
        others,
        nb,
    } = report;
    let mut process = match kernel.pid {
        Some(pid) => format!("pid {pid}"),
        None => "none".to_owned(),
    };
    if let Some(age) = &kernel.age {
        process += &format!(", up {age}");
    }
    process += &match kernel.restarts {
        0 => ", never restarted".to_owned(),
        1 => ", restarted once".to_owned(),
        n => format!(", restarted {n} times"),
    };
    let mut program = match &environment.program {
        Some(program) => program.display().to_string(),
        None => "unknown".to_owned(),
    };
    if let Some(version) = &environment.python_version {
        program += &format!(" (Python {version})");
    }
    let of_nb = environment
        .title
        .as_ref()
        .map(|title| match environment.added.as_slice() {
            [] => title.clone(),
            added => format!("{title} with {}", added.join(", ")),
        });
    let mut place = vec![machine.hostname.clone().unwrap_or("unknown".to_owned())];
    place.extend(machine.cores.map(|n| counted(n as u64, "core")));
    place.extend(
        machine
            .load
            .map(|[a, b, c]| format!("load {a:.2} {b:.2} {c:.2}")),
    );
    let mut used = vec![
        format!("kernel {}", known(memory.kernel_bytes)),
        format!("supervisor {}", known(memory.supervisor_bytes)),
    ];
    used.push(format!(
        "{} of {} free on the machine",
        known(memory.machine_available_bytes),
        known(memory.machine_total_bytes),
    ));
    used.extend(
        memory
            .limit_bytes
            .map(|limit| format!("limit {}", size(limit))),
    );
    let missed = match lost.messages {
        0 => "nothing".to_owned(),
        n => format!("{} ({})", counted(n, "message"), size(lost.bytes)),
    };
    let named = |one: &OtherKernel| {
        let OtherKernel {
            kind,
            name,
            language,
            execution_state,
            ..
        } = one;
        format!("%%{kind} {name} ({language}), {execution_state}")
    };
    let others: Vec<String> = others.iter().map(named).collect();
    let others = (!others.is_empty()).then(|| ("others", others.join("; ")));
    let mut rows = vec![
        (
            "kernel",
            format!(
                "{} ({}), {}",
                kernel.spec, kernel.language, kernel.execution_state
            ),
        ),
        ("id", kernel.id.clone()),
        ("process", process),
        (
            "environment",
            of_nb.map_or(program.clone(), |title| format!("{title}, {program}")),
        ),
        ("folder", environment.folder.display().to_string()),
        ("machine", place.join(", ")),
        ("memory", used.join(", ")),
        (
            "clients",
            format!("{} connected, {} away", clients.connected, clients.away),
        ),
        ("lost", missed),
        (
            "journal",
            format!("{} of {}", size(journal.bytes), size(journal.bytes_max)),
        ),
        ("nb", format!("{}, supervisor pid {}", nb.version, nb.pid)),
    ];
    rows.splice(3..3, others);
    rows
}

/// Two columns, aligned.
pub(super) fn text(rows: &[Row]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(label, value)| format!("{label:width$}  {}", one_line(value)))
        .collect();
    lines.join("\n")
}

pub(super) fn html(rows: &[Row]) -> String {
    let mut html = "<table>".to_owned();
    for (label, value) in rows {
        html += &format!(
            "<tr><th style=\"text-align:left\">{label}</th><td style=\"text-align:left\">{}</td></tr>",
            escape(&one_line(value))
        );
    }
    html + "</table>"
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// Folders may have any name: no line breaks and no terminal sequences from there.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

fn known(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), size)
}

/// Bytes with a binary unit, to one decimal.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return counted(bytes, "byte");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

/// Seconds as the two largest units.
pub(super) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let sizes = [0, 1, 1023, 1024, 1_048_575, 1_048_576, u64::MAX].map(size);
        assert_eq!(
            sizes,
            [
                "0 bytes",
                "1 byte",
                "1023 bytes",
                "1.0 KiB",
                "1023.9 KiB",
                "1.0 MiB",
                "16777215.9 TiB"
            ]
        );
        let durations = [-5, 59, 61, 3661, 90_000].map(duration);
        assert_eq!(
            durations,
            ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
    }
}
