//! SQL as text: where its statements end, which names of the kernel they bind. Pure.
//!
//! Knows what the dialects share, and no more: comments (`--`, nested `/* */`), strings (`''` within, `E'…'` with
//! backslashes, `$tag$…$tag$`) and quoted names (`"…"`, `` `…` ``). Whether it is SQL at all is the database's to say.

use std::ops::Range;

/// How a database is told where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholders {
    /// `$1`, again for the same name.
    Dollar,
    /// `?1`, again for the same name.
    Numbered,
    /// `?`, one for each time.
    Question,
}

impl Placeholders {
    /// Those of the driver with this name.
    pub(super) fn of(driver: &str) -> Self {
        match driver {
            "duckdb" | "postgresql" | "redshift" => Self::Dollar,
            "sqlite" => Self::Numbered,
            _ => Self::Question,
        }
    }
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    text: &'a str,
    /// Each `:name` in it.
    parameters: Vec<Range<usize>>,
    /// So many lines stand above it.
    lines_above: usize,
    /// What its strings and quoted names say.
    pub(super) quoted: Vec<&'a str>,
}

/// A statement as a database takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) sql: String,
    /// For each placeholder the index of its name among all.
    pub(super) values: Vec<usize>,
}

impl<'a> Statement<'a> {
    /// The names that it binds, each as often as it stands there.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        let ranges = self.parameters.iter();
        ranges.map(move |range| &text[range.start + 1..range.end])
    }

    /// With placeholders for the names, whose order among all is `names`. Below as many blank lines as there are above it, so that
    /// a database's errors tell the line in the cell.
    pub(super) fn sent(&self, placeholders: Placeholders, names: &[&str]) -> Sent {
        let mut sql = "\n".repeat(self.lines_above);
        let (mut values, mut end) = (Vec::new(), 0);
        for (range, name) in self.parameters.iter().zip(self.names()) {
            sql.push_str(&self.text[end..range.start]);
            end = range.end;
            let value = names.iter().position(|known| *known == name);
            let value = value.unwrap_or_default();
            let before = values.iter().position(|known| *known == value);
            let number = match (placeholders, before) {
                (Placeholders::Dollar | Placeholders::Numbered, Some(at)) => at + 1,
                _ => {
                    values.push(value);
                    values.len()
                }
            };
            match placeholders {
                Placeholders::Dollar => sql.push_str(&format!("${number}")),
                Placeholders::Numbered => sql.push_str(&format!("?{number}")),
                Placeholders::Question => sql.push('?'),
            }
        }
        sql.push_str(&self.text[end..]);
        Sent { sql, values }
    }
}

/// The statements of a text, which has so many lines of its cell above it; what is blank or only comments is none.
pub(super) fn split(sql: &str, lines_above: usize) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut open = Open::default();
    let mut at = 0;
    while at < sql.len() {
        let token = token(sql, at);
        let end = at + token.bytes;
        match token.kind {
            Kind::Blank => {}
            Kind::End => {
                statements.extend(open.take(sql, lines_above));
            }
            kind => {
                let start = *open.start.get_or_insert(at);
                match kind {
                    Kind::Parameter => open.parameters.push(at - start..end - start),
                    Kind::Quoted => open.quoted.push(within_quotes(&sql[at..end])),
                    _ => {}
                }
                open.end = end;
            }
        }
        at = end;
    }
    statements.extend(open.take(sql, lines_above));
    statements
}

/// A statement that has begun.
#[derive(Default)]
struct Open<'a> {
    start: Option<usize>,
    /// Of its last token that is not blank.
    end: usize,
    parameters: Vec<Range<usize>>,
    quoted: Vec<&'a str>,
}

impl<'a> Open<'a> {
    fn take(&mut self, sql: &'a str, lines_above: usize) -> Option<Statement<'a>> {
        let Self {
            start,
            end,
            parameters,
            quoted,
        } = std::mem::take(self);
        let start = start?;
        Some(Statement {
            text: &sql[start..end],
            parameters,
            lines_above: lines_above + sql[..start].matches('\n').count(),
            quoted,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// White space and comments.
    Blank,
    /// `;`
    End,
    Parameter,
    /// A string or a name in quotes of one character.
    Quoted,
    Other,
}

struct Token {
    kind: Kind,
    bytes: usize,
}

fn token(sql: &str, at: usize) -> Token {
    let rest = &sql[at..];
    let of = |kind, bytes| Token { kind, bytes };
    let mut chars = rest.chars();
    let Some(first) = chars.next() else {
        return of(Kind::Other, 0);
    };
    match (first, chars.next()) {
        (c, _) if c.is_whitespace() => of(Kind::Blank, c.len_utf8()),
        ('-', Some('-')) => of(Kind::Blank, rest.find('\n').unwrap_or(rest.len())),
        ('/', Some('*')) => of(Kind::Blank, comment(rest)),
        (';', _) => of(Kind::End, 1),
        ('\'' | '"' | '`', _) => of(Kind::Quoted, quoted(rest, first, false)),
        ('e' | 'E', Some('\'')) if !is_in_word(sql, at) => {
            of(Kind::Other, 1 + quoted(&rest[1..], '\'', true))
        }
        ('$', _) if !is_in_word(sql, at) => of(Kind::Other, dollar_quoted(rest).unwrap_or(1)),
        (':', Some(c)) if is_name_start(c) && may_bind_after(&sql[..at]) => {
            let name = rest[1..].find(|c| !is_of_name(c));
            of(Kind::Parameter, name.map_or(rest.len(), |end| end + 1))
        }
        (c, _) => of(Kind::Other, c.len_utf8()),
    }
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_in_word(sql: &str, at: usize) -> bool {
    sql[..at].ends_with(|c| is_of_name(c) || c == '$')
}

/// `a::int`, `a[1:b]`, `a[b:c]`, `{'k':v}` and `f(x):y` bind nothing.
fn may_bind_after(before: &str) -> bool {
    !before.ends_with(|c| is_of_name(c) || matches!(c, ':' | ']' | ')' | '}' | '\'' | '"' | '`'))
}

/// The bytes of a comment with those in it; all that is left where it does not end.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = rest.as_bytes();
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// The bytes of what begins with this quote. Twice the quote is one of it; a backslash takes the next character.
fn quoted(rest: &str, quote: char, with_backslash: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && with_backslash {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

/// Without the quotes; the last one may be missing.
fn within_quotes(token: &str) -> &str {
    let mut chars = token.chars();
    let quote = chars.next();
    let inner = chars.as_str();
    inner.strip_suffix(|c| Some(c) == quote).unwrap_or(inner)
}

/// The bytes of `$tag$…$tag$`, if it is one.
fn dollar_quoted(rest: &str) -> Option<usize> {
    let tag_end = rest[1..].find('$')? + 2;
    let tag = &rest[..tag_end];
    let name = &tag[1..tag_end - 1];
    let is_tag = name.chars().all(is_of_name) && !name.starts_with(|c: char| c.is_ascii_digit());
    let end = rest[tag_end..].find(tag);
    is_tag.then(|| end.map_or(rest.len(), |end| tag_end + end + tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(sql: &str, placeholders: Placeholders) -> Vec<(String, Vec<usize>)> {
        let statements = split(sql, 0);
        let mut names: Vec<&str> = Vec::new();
        for name in statements.iter().flat_map(Statement::names) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let sent = statements.iter().map(|one| one.sent(placeholders, &names));
        sent.map(|sent| (sent.sql, sent.values)).collect()
    }

    #[test]
    fn statements_end_where_a_database_sees_their_end() {
        let texts = |sql| -> Vec<String> {
            split(sql, 0)
                .iter()
                .map(|one| one.text.to_owned())
                .collect()
        };
        assert_eq!(texts(" select 1 ;\n-- no; more\n"), ["select 1"]);
        assert_eq!(
            texts("a;b /* ; /* ; */ ; */ c;;"),
            ["a", "b /* ; /* ; */ ; */ c"]
        );
        assert_eq!(
            texts("select ';', \";\", `;`, 'it''s;', e'\\';', $$;$$, $a$;$$;$a$ -- ;"),
            ["select ';', \";\", `;`, 'it''s;', e'\\';', $$;$$, $a$;$$;$a$"]
        );
        assert_eq!(texts("-- nothing"), [""; 0]);
        assert_eq!(texts("select '"), ["select '"]);
    }

    #[test]
    fn names_are_bound_and_what_looks_like_them_is_not() {
        let sql = "select :a, :b::int from t where x = :a and y in (:_c1)";
        assert_eq!(
            sent(sql, Placeholders::Dollar),
            [(
                "select $1, $2::int from t where x = $1 and y in ($3)".to_owned(),
                vec![0, 1, 2]
            )]
        );
        assert_eq!(
            sent(sql, Placeholders::Question),
            [(
                "select ?, ?::int from t where x = ? and y in (?)".to_owned(),
                vec![0, 1, 0, 2]
            )]
        );
        assert_eq!(
            sent("select :b; select :a, ?", Placeholders::Numbered),
            [
                ("select ?1".to_owned(), vec![0]),
                ("select ?1, ?".to_owned(), vec![1])
            ]
        );
        for plain in [
            "select x::int, x[1:2], x[:2], x[a:b], {'k':v}, {k: v}, ':a', \":a\", $$ :a $$",
            "select '{\"a\":b}', e'\\':a', 12:30 /* :a */, a",
        ] {
            assert_eq!(
                sent(plain, Placeholders::Dollar),
                [(plain.to_owned(), vec![])]
            );
        }
    }

    #[test]
    fn lines_are_those_of_the_cell() {
        let statements = split("\nselect 1;\nselect\n :a", 1);
        let sent: Vec<String> = statements
            .iter()
            .map(|one| one.sent(Placeholders::Dollar, &["a"]).sql)
            .collect();
        assert_eq!(sent, ["\n\nselect 1", "\n\n\nselect\n $1"]);
    }

    #[test]
    fn what_is_in_quotes_is_known() {
        let statements = split("select * from 'a b.arrow' join \"c\" where x = 'it''s'", 0);
        assert_eq!(statements[0].quoted, ["a b.arrow", "c", "it''s"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_nothing_of_it_is_lost(sql in "[a:;'\"$/*\\-e\\\\\n é1_?`{}\\[\\]]{0,60}") {
            for statement in split(&sql, 0) {
                let names: Vec<&str> = statement.names().collect();
                let sent = statement.sent(Placeholders::Question, &names);
                prop_assert_eq!(sent.values.len(), names.len());
                if names.is_empty() {
                    prop_assert_eq!(sent.sql.trim_start_matches('\n'), statement.text);
                }
                prop_assert!(sql.contains(statement.text));
            }
        }
    }
}
