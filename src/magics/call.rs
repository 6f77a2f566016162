//! What a cell asks of us: its magic, the rest of that line, its body.
//!
//! Pure text. Does not know which magics there are.

use super::failure::Failure;

/// One use of a magic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The name as it was typed, without `%`.
    pub magic: String,
    /// What follows the name on its line, trimmed.
    pub line: String,
    /// What stands below the line of a `%%` cell, exactly as it was typed.
    pub cell: Option<String>,
}

impl Call {
    /// The line as a shell would split it: quotes keep a word together, a backslash takes the next
    /// character as it is (inside double quotes only before `"` and `\`).
    pub fn words(&self) -> Result<Vec<String>, Failure> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote: Option<char> = None;
        let mut chars = self.line.chars().peekable();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (None, '\\') => word.get_or_insert_default().push(chars.next().unwrap_or(c)),
                (Some('"'), '\\') if matches!(chars.peek(), Some('"' | '\\')) => {
                    word.get_or_insert_default().extend(chars.next());
                }
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        if let Some(open) = quote {
            return Err(Failure::usage(format!(
                "The quote {open} in `{}` is not closed.",
                self.line
            )));
        }
        words.extend(word);
        Ok(words)
    }
}

/// A call at the head of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) call: Call,
    /// What stands below a `%` line, with the lines above it blank so that line numbers in the
    /// kernel's errors stay true. Nothing when that is blank, or for a `%%` cell, whose body it is.
    pub(super) rest: Option<String>,
}

/// The call that a cell begins with: its first line that is not blank starts, without indentation,
/// with `%NAME` or `%%NAME`.
pub(super) fn head(source: &str) -> Option<Head> {
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let below = start + line.len();
        if line.trim().is_empty() {
            start = below;
            continue;
        }
        let (is_cell, text) = sigil(line)?;
        let (magic, line) = split_name(text)?;
        let (line, below) = (line.trim(), &source[below..]);
        let rest = (!is_cell && !below.trim().is_empty()).then(|| {
            let above = source[..start].matches('\n').count() + 1;
            "\n".repeat(above) + below
        });
        return Some(Head {
            call: Call {
                magic: magic.to_owned(),
                line: line.to_owned(),
                cell: is_cell.then(|| below.to_owned()),
            },
            rest,
        });
    }
    None
}

/// The `%%` call that IPython sees in a cell: below blank lines, with no indentation but one that all of the cell has, and
/// a name that only a space ends. What stands behind a prompt (`>>> %%nb`) is none here, nor what is indented unlike the
/// rest: there IPython's versions differ, and it calls us itself.
pub(super) fn cell_head(source: &str) -> Option<Call> {
    let mut lines = source.split_inclusive('\n');
    let first = lines.find(|line| !line.trim().is_empty())?;
    let indentation = &first[..first.len() - first.trim_start_matches([' ', '\t']).len()];
    let mut body = String::new();
    for line in lines {
        match line.strip_prefix(indentation) {
            Some(line) => body += line,
            None if line.trim().is_empty() => body += line.trim_start_matches([' ', '\t']),
            None => return None,
        }
    }
    let text = first[indentation.len()..].trim_end().strip_prefix("%%")?;
    let (magic, line) = text.split_once(' ').unwrap_or((text, ""));
    (!magic.is_empty()).then(|| Call {
        magic: magic.to_owned(),
        line: line.trim().to_owned(),
        cell: Some(body),
    })
}

/// Splits the first word off.
pub(super) fn split_name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn sigil(line: &str) -> Option<(bool, &str)> {
    let text = line.strip_prefix('%')?;
    Some(match text.strip_prefix('%') {
        Some(text) => (true, text),
        None => (false, text),
    })
}

/// A cursor in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The whole call, as far as it is typed.
    pub call: Call,
    /// What stands before the cursor, in the line after the name or in the body.
    pub before: String,
    /// Whether the cursor is in the body of a `%%` cell.
    pub in_cell: bool,
}

impl At {
    /// What is typed of the word at the cursor.
    pub fn word(&self) -> &str {
        let start = self
            .before
            .char_indices()
            .rev()
            .find(|(_, c)| c.is_whitespace());
        start.map_or(&self.before, |(at, c)| &self.before[at + c.len_utf8()..])
    }
}

/// The call around a cursor, counted in characters as the messaging protocol does. A `%NAME` line may
/// stand anywhere in the cell and may be assigned (`x = %NAME …`); the cursor is behind the name.
pub(super) fn at(source: &str, cursor: usize) -> Option<At> {
    let offset = source
        .char_indices()
        .nth(cursor)
        .map_or(source.len(), |(at, _)| at);
    let before = &source[..offset];
    if let Some(Head { call, .. }) = head(source)
        && let Some(body) = &call.cell
        && offset >= source.len() - body.len()
        && source[..source.len() - body.len()].ends_with('\n')
    {
        return Some(At {
            before: source[source.len() - body.len()..offset].to_owned(),
            in_cell: true,
            call,
        });
    }
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line_end = source[offset..]
        .find('\n')
        .map_or(source.len(), |at| offset + at);
    let line = &source[line_start..line_end];
    let text = line.trim_start();
    let text = match text.split_once('=') {
        Some((name, value)) if is_name(name.trim()) => value.trim_start(),
        _ => text,
    };
    let (is_cell, named) = sigil(text)?;
    let (magic, arguments) = split_name(named)?;
    let arguments_at = line_end - arguments.len();
    let before = source.get(arguments_at..offset)?;
    if before.is_empty() {
        return None;
    }
    Some(At {
        call: Call {
            magic: magic.to_owned(),
            line: arguments.trim().to_owned(),
            cell: is_cell.then(|| source[line_end..].trim_start_matches('\n').to_owned()),
        },
        before: before.to_owned(),
        in_cell: false,
    })
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | ',' | ' ' | '.');
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(magic: &str, line: &str, cell: Option<&str>) -> Call {
        Call {
            magic: magic.to_owned(),
            line: line.to_owned(),
            cell: cell.map(str::to_owned),
        }
    }

    #[test]
    fn a_line_magic_heads_a_cell() {
        let parsed = head("\n%nb  status --json \r\n").unwrap();
        assert_eq!(parsed.call, call("nb", "status --json", None));
        assert_eq!(parsed.rest, None);
        assert_eq!(head("%nb").unwrap().call, call("nb", "", None));
    }

    #[test]
    fn what_follows_a_line_magic_keeps_its_line_numbers() {
        let parsed = head("\n\n%nb status\nx <- 1\n").unwrap();
        assert_eq!(parsed.rest.as_deref(), Some("\n\n\nx <- 1\n"));
    }

    #[test]
    fn a_cell_magic_owns_all_below_it() {
        let parsed = head("%%sql warehouse\n\n  select 1\n").unwrap();
        assert_eq!(
            parsed.call,
            call("sql", "warehouse", Some("\n  select 1\n"))
        );
        assert_eq!(parsed.rest, None);
        assert_eq!(head("%%nb").unwrap().call, call("nb", "", Some("")));
    }

    #[test]
    fn other_cells_have_no_head() {
        for source in [
            "",
            "\n \n",
            "1\n%nb status",
            "% nb",
            "%",
            "%%",
            "  %nb",
            "x = %nb",
        ] {
            assert_eq!(head(source), None, "{source:?}");
        }
    }

    #[test]
    fn a_cell_magic_is_where_ipython_sees_it() {
        for source in [
            "%%sql a\nb\n c",
            "\n \n  %%sql  a \n  b\n   c",
            "\t%%sql a\n\tb\n\t c",
        ] {
            let seen = call("sql", "a", Some("b\n c"));
            assert_eq!(cell_head(source), Some(seen), "{source:?}");
        }
        let blank = cell_head("  %%sql\n\n  b\n \n").unwrap();
        assert_eq!(blank, call("sql", "", Some("\nb\n\n")));
        let other = cell_head("%%sql\ta\nb").unwrap();
        assert_eq!(other, call("sql\ta", "", Some("b")));
        for source in [
            "",
            "%sql a\nb",
            "  %%sql a\nb",
            "%% sql",
            "%%",
            ">>> %%sql a",
            "1\n%%sql a",
        ] {
            assert_eq!(cell_head(source), None, "{source:?}");
        }
    }

    #[test]
    fn words_split_as_in_a_shell() {
        let words = |line: &str| call("nb", line, None).words();
        assert_eq!(
            words(r#"a  "b c" d\ e '' "x\"y" 'a'b"#).unwrap(),
            ["a", "b c", "d e", "", "x\"y", "ab"]
        );
        assert_eq!(words("  ").unwrap(), [""; 0]);
        assert_eq!(
            words("it's").unwrap_err().message,
            "The quote ' in `it's` is not closed."
        );
    }

    #[test]
    fn a_cursor_is_found_in_lines_assignments_and_bodies() {
        let found = at("y = 1\nx = %nb stat", 18).unwrap();
        assert_eq!((found.call.magic.as_str(), found.word()), ("nb", "stat"));
        assert_eq!(at("%nb ", 4).unwrap().word(), "");
        assert_eq!(at("é\n%nb é st", 9).unwrap().word(), "s");
        let body = at("%%sql db\nselect a", 17).unwrap();
        assert!(body.in_cell);
        assert_eq!((body.before.as_str(), body.word()), ("select a", "a"));
        assert_eq!(body.call.line, "db");
        let line = at("%%sql d\nselect a", 7).unwrap();
        assert_eq!((line.in_cell, line.word()), (false, "d"));
        assert_eq!(line.call.cell.as_deref(), Some("select a"));
        for (source, cursor) in [
            ("%nb", 3),
            ("%nb st", 2),
            ("a % b", 5),
            ("a == %nb ", 9),
            ("", 0),
        ] {
            assert_eq!(at(source, cursor), None, "{source:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(source in "[%nb=a é\n\r'\"\\\\]{0,40}", cursor in 0usize..50) {
            at(&source, cursor);
            if let Some(head) = head(&source) {
                let _: Result<_, _> = head.call.words();
                if let Some(rest) = head.rest {
                    prop_assert_eq!(rest.lines().count(), source.lines().count());
                }
            }
        }
    }
}
