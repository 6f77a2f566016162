//! What is seen of a query: how far it is, how it ended, and the first rows of its result. Pure.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use crate::magics::cell::Bundle;
use crate::workers::sql::wire::{Done, Progress};

/// So many rows of a result are shown.
pub(super) const ROWS_SHOWN: usize = 20;

/// How far a run is.
pub(super) fn progress(elapsed: Duration, progress: Progress) -> String {
    let mut parts = vec![format!("{:.1} s", elapsed.as_secs_f64())];
    if let Some(fraction) = progress.fraction {
        parts.push(format!("{:.0} %", fraction.clamp(0.0, 1.0) * 100.0));
    }
    if progress.rows > 0 {
        parts.push(rows(progress.rows));
    }
    parts.join(", ")
}

/// `1 row`, `3,214,556 rows`.
pub(super) fn rows(count: u64) -> String {
    match count {
        1 => "1 row".to_owned(),
        count => format!("{} rows", grouped(count)),
    }
}

/// With a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A result where no kernel makes a frame of it: as a table of text, and one of HTML.
pub fn table(done: &Done) -> Bundle {
    let names: Vec<&str> = done.columns.iter().map(|(name, _)| name.as_str()).collect();
    let shown = done.preview.first().map_or(names.len(), Vec::len);
    let mut foot = match done.rows {
        all if all > done.preview.len() as u64 => {
            format!("{} of {}", grouped(done.preview.len() as u64), rows(all))
        }
        all => rows(all),
    };
    if shown < names.len() {
        let _infallible = write!(foot, ", {shown} of {} columns", names.len());
    }
    let names = &names[..shown.min(names.len())];
    Bundle::from_iter([
        (
            "text/plain".to_owned(),
            Value::String(text(names, &done.preview, &foot)),
        ),
        (
            "text/html".to_owned(),
            Value::String(html(names, &done.preview, &foot)),
        ),
    ])
}

fn text(names: &[&str], rows: &[Vec<String>], foot: &str) -> String {
    let one_line = |value: &str| value.replace(['\n', '\r', '\t'], " ");
    let heads = names.iter().map(|name| one_line(name)).collect();
    let mut lines: Vec<Vec<String>> = vec![heads];
    lines.extend(
        rows.iter()
            .map(|row| row.iter().map(|value| one_line(value)).collect()),
    );
    let widths: Vec<usize> = (0..names.len())
        .map(|at| {
            let cells = lines.iter().filter_map(|line| line.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text + foot
}

fn html(names: &[&str], rows: &[Vec<String>], foot: &str) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        cells
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect()
    };
    let head = cells("th", &mut names.iter().copied());
    let body: String = rows
        .iter()
        .map(|row| {
            format!(
                "<tr>{}</tr>",
                cells("td", &mut row.iter().map(String::as_str))
            )
        })
        .collect();
    format!("<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{foot}</p>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_known() {
        let said =
            |fraction, rows| progress(Duration::from_millis(12_340), Progress { fraction, rows });
        assert_eq!(said(None, 0), "12.3 s");
        assert_eq!(said(Some(0.421), 1_234_567), "12.3 s, 42 %, 1,234,567 rows");
        assert_eq!(rows(1), "1 row");
        assert_eq!(
            [999, 1000, 100_000].map(grouped),
            ["999", "1,000", "100,000"]
        );
    }

    #[test]
    fn a_table_tells_how_much_of_it_is_shown() {
        let done = Done {
            rows: 3_214_556,
            columns: [("id", "int32"), ("text", "string"), ("more", "string")]
                .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
                .to_vec(),
            preview: vec![vec!["1".to_owned(), "<b>\n".to_owned()]],
            ..Done::default()
        };
        let bundle = table(&done);
        assert_eq!(
            bundle["text/plain"],
            "id  text\n1   <b>\n1 of 3,214,556 rows, 2 of 3 columns"
        );
        let html = bundle["text/html"].as_str().unwrap();
        assert!(html.contains("<td>&lt;b&gt;\n</td>") && !html.contains("<b>"));
        let none = Done {
            columns: vec![("a".to_owned(), "int32".to_owned())],
            ..Done::default()
        };
        assert_eq!(table(&none)["text/plain"], "a\n0 rows");
    }
}
