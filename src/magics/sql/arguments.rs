//! What stands behind `%%sql` and `%sql`: which connection, into which name, what SQL. Pure.

use crate::magics::call::Call;
use crate::magics::failure::Failure;

/// A cell of SQL, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The database that is nobody's but this notebook's, when absent.
    pub connection: Option<String>,
    pub into: Option<Target>,
    pub sql: String,
    /// So many lines of the cell are above the SQL.
    pub lines_above: usize,
}

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    /// `=<<`: it is shown as well.
    pub is_shown: bool,
}

/// Reads `[CONNECTION] [NAME <<]` and the SQL, which is the cell's body, or the rest of the line. What of the line is a
/// connection is asked where it might be SQL as well.
pub fn parse(call: &Call, is_connection: impl Fn(&str) -> bool) -> Result<Asked, Failure> {
    let body = call.cell.as_deref().unwrap_or_default();
    let has_body = !body.trim().is_empty();
    let mut asked = Asked::default();
    let mut line = call.line.trim();
    if let Some(flag) = line.split_whitespace().next().filter(|word| is_flag(word)) {
        return Err(Failure::usage(format!(
            "There is no `{flag}` here: it is `%%sql [CONNECTION] [NAME <<]`, with the SQL below it."
        )));
    }
    let into = take_target(&mut line);
    if let Some((word, rest)) = first_word(line) {
        let is_alone = rest.is_empty() || take_target(&mut { rest }).is_some();
        if is_connection(word) || has_body && is_alone && into.is_none() {
            asked.connection = Some(word.to_owned());
            line = rest;
        }
    }
    asked.into = match into {
        None => take_target(&mut line),
        into => into,
    };
    // The line of the magic is the first one of a cell.
    (asked.sql, asked.lines_above) = match (line.is_empty(), has_body) {
        (true, _) => (body.to_owned(), usize::from(call.cell.is_some())),
        (false, false) => (line.to_owned(), 0),
        (false, true) => (format!("{line}\n{body}"), 0),
    };
    match asked.sql.contains('\0') {
        false => Ok(asked),
        true => Err(Failure::usage(
            "The SQL has the character NUL: drivers take it for the end, and would run half a statement.",
        )),
    }
}

/// Two dashes and a space are a comment.
fn is_flag(word: &str) -> bool {
    word.starts_with('-') && word != "--"
}

fn first_word(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    (end > 0).then(|| (&line[..end], line[end..].trim_start()))
}

/// `NAME <<`, `NAME=<<`, off the front of the line.
fn take_target(line: &mut &str) -> Option<Target> {
    let (name, rest) = line.split_once("<<")?;
    let (name, is_shown) = match name.trim_end().strip_suffix('=') {
        Some(name) => (name.trim(), true),
        None => (name.trim(), false),
    };
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !is_name {
        return None;
    }
    *line = rest.trim_start();
    Some(Target {
        name: name.to_owned(),
        is_shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, cell: Option<&str>) -> Asked {
        let call = Call {
            magic: "sql".to_owned(),
            line: line.to_owned(),
            cell: cell.map(str::to_owned),
        };
        parse(&call, |name| name == "wh").unwrap()
    }

    fn asked(connection: &str, into: &str, sql: &str, lines_above: usize) -> Asked {
        Asked {
            connection: (!connection.is_empty()).then(|| connection.to_owned()),
            into: (!into.is_empty()).then(|| Target {
                name: into.trim_end_matches('=').to_owned(),
                is_shown: into.ends_with('='),
            }),
            sql: sql.to_owned(),
            lines_above,
        }
    }

    #[test]
    fn a_cell_says_connection_and_name() {
        let body = Some("select 1\n");
        for (line, connection, into) in [
            ("", "", ""),
            ("wh", "wh", ""),
            ("typo", "typo", ""),
            ("df <<", "", "df"),
            ("df<<", "", "df"),
            ("df =<<", "", "df="),
            ("wh df <<", "wh", "df"),
            ("wh é1 =<<", "wh", "é1="),
            ("typo df <<", "typo", "df"),
            ("df << wh", "wh", "df"),
        ] {
            assert_eq!(
                read(line, body),
                asked(connection, into, "select 1\n", 1),
                "{line}"
            );
        }
        assert_eq!(
            read("select 0,", body),
            asked("", "", "select 0,\nselect 1\n", 0)
        );
    }

    #[test]
    fn a_line_says_its_sql_too() {
        for (line, connection, into, sql) in [
            ("select 1", "", "", "select 1"),
            ("wh select 1", "wh", "", "select 1"),
            ("wh df << select 1 << 2", "wh", "df", "select 1 << 2"),
            ("df << select 1", "", "df", "select 1"),
            ("select 1 << 2", "", "", "select 1 << 2"),
            ("wh", "wh", "", ""),
            ("-- a comment", "", "", "-- a comment"),
        ] {
            assert_eq!(read(line, None), asked(connection, into, sql, 0), "{line}");
        }
        assert_eq!(read("", None), Asked::default());
    }

    #[test]
    fn what_a_driver_would_run_half_of_is_refused() {
        let call = Call {
            cell: Some("delete from t \0 where x".to_owned()),
            ..Call::default()
        };
        let failure = parse(&call, |_| false).unwrap_err();
        assert!(failure.message.contains("NUL"), "{failure}");
    }

    #[test]
    fn a_flag_that_there_is_not_is_named() {
        let call = Call {
            line: "--persist df".to_owned(),
            ..Call::default()
        };
        let failure = parse(&call, |_| false).unwrap_err();
        assert!(failure.message.contains("`--persist`"), "{failure}");
    }
}
