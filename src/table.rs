//! Tables for people: columns as wide as their widest cell, no borders, so that they can be cut and grepped.

use std::fmt::Write;

/// Lays rows out below their heads. Text that could steer a terminal is shown escaped.
pub fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escaped(cell)))
        .collect();
    let width = |n: usize| {
        let cells = rows.iter().map(|row| row[n].chars().count());
        cells.chain([heads[n].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let heads = heads.map(str::to_ascii_uppercase);
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _infallible = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn escaped(cell: &str) -> String {
    let is_plain = |c: char| !c.is_control();
    match cell.chars().all(is_plain) {
        true => cell.to_owned(),
        false => cell.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "b\n".to_owned()],
            ["ccc".to_owned(), String::new()],
        ];
        assert_eq!(table(["x", "y"], &rows), "X    Y\na    b\\n\nccc\n");
    }
}
